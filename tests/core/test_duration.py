"""How long something may stay."""

from __future__ import annotations

import math

import pytest

from uml.core.duration import duration_s
from uml.core.errors import BadOption
from uml.core.options import LoadOptions


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (300, 300.0), (2.5, 2.5), (0, 0.0), (-1, math.inf), (-0.5, math.inf), ("0", 0.0), ("300", 300.0), ("5m", 300.0),
        (" 5m ", 300.0), ("1h30m", 5400.0), ("1.5h", 5400.0), (".5s", 0.5), ("300ms", 0.3), ("-1", math.inf),
        ("-1m", math.inf), ("2d", 172_800.0), ("0s", 0.0),
    ],
)  # fmt: skip
def test_as_ollama_reads_it(written: object, seconds: float) -> None:
    assert duration_s(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "m", "5 m", "5x", "m5", "--1", "1e5", "5m3", True, None, [], math.nan, 10**400, "9" * 100, "½"]
)
def test_what_is_none(written: object) -> None:
    with pytest.raises(ValueError):  # it says no more
        duration_s(written)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (300, "300"), (2.5, "2.5"), (0.1, "0.1"), (0, "0"), (-0.0, "0"), (1e-5, "0.00001"), (1e-300, "0"), (100, "100"),
        (86_400.0, "86400"), (1e11, "1" + 11 * "0"), (-1, "-1"), (-0.5, "-1"), (1e16, "-1"), (10**300, "-1"),
        (math.inf, "-1"),
    ],
)  # fmt: skip
def test_a_number_is_kept_as_a_text_that_can_be_given_again(number: float, text: str) -> None:
    options = LoadOptions.parse({"keep_alive": number})
    assert options.keep_alive == text
    assert LoadOptions.parse({"keep_alive": text}) == options


def test_as_a_load_option() -> None:
    assert LoadOptions.parse({"keep_alive": 300}).keep_alive == "300"
    assert LoadOptions.parse({"keep-alive": "5m"}).changed() == {"keep_alive": "5m"}
    assert LoadOptions.parse({"keep_alive": ""}) == LoadOptions()
    with pytest.raises(BadOption, match="keep_alive is 'soon'; expected seconds, a duration"):
        LoadOptions.parse({"keep_alive": "soon"})
