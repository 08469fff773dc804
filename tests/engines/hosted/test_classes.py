"""Labels, as a configuration names them and means their scores."""

from __future__ import annotations

from typing import Any

import pytest

from uml.core.host import Classes
from uml.engines.hosted.classes import classes_of


@pytest.mark.parametrize(
    ("config", "count", "expected"),
    [
        ({}, 2, Classes(("LABEL_0", "LABEL_1"), "softmax")),
        ({"id2label": {"0": "no", "1": "yes"}}, 2, Classes(("no", "yes"), "softmax")),
        ({"id2label": {0: "no", 1: "yes"}}, 2, Classes(("no", "yes"), "softmax")),
        ({"id2label": {"1": "yes"}}, 2, Classes(("LABEL_0", "yes"), "softmax")),
        ({"id2label": "odd"}, 1, Classes(("LABEL_0",), "sigmoid")),
        ({"problem_type": "multi_label_classification"}, 2, Classes(("LABEL_0", "LABEL_1"), "sigmoid")),
        ({"problem_type": "regression"}, 1, Classes(("LABEL_0",), "none")),
    ],
)
def test_labels_and_their_meaning(config: dict[str, Any], count: int, expected: Classes) -> None:
    assert classes_of(config, count) == expected
