"""What a configuration says of a model that sorts texts: the names of its labels, and how its scores are meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from uml.core.host import Classes


def classes_of(config: Mapping[str, Any], count: int) -> Classes:
    """Labels and meaning, of a `config.json`; `count` labels. One without names has those of Transformers, `LABEL_0`.

    As the pipelines of Transformers read it: one label, or `multi_label_classification`: each by itself; `regression`:
    the number as it is; else one of several.
    """
    named = config.get("id2label")
    names = {str(key): str(value) for key, value in named.items()} if isinstance(named, Mapping) else {}
    kind = config.get("problem_type")
    way: Literal["softmax", "sigmoid", "none"] = "softmax"
    if kind == "regression":
        way = "none"
    elif count == 1 or kind == "multi_label_classification":
        way = "sigmoid"
    return Classes(tuple(names.get(str(place), f"LABEL_{place}") for place in range(count)), way)
