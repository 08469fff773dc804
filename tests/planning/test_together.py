"""Figures of a measured load that was not quite the same, over those of a dry run."""

from uml.core.options import LoadOptions
from uml.planning.refine import Figures, Known, together

NEAR = Figures(
    "corrected", weight_bytes=90, other_bytes=25, mapped_bytes=80, below_bytes=9, above_bytes=9, source="near"
)
DRY = Figures("dry run", weight_bytes=100, kv_bytes=60, compute_bytes=10, below_bytes=5, above_bytes=40)


def always(figures: Figures | None) -> Known:
    return lambda engine, options: figures


def ask(best: Figures | None, other: Figures | None) -> Figures | None:
    return together(always(best), always(other))("llamacpp", LoadOptions())


def test_each_tells_the_parts_that_it_knows() -> None:
    found = ask(NEAR, DRY)
    assert found == Figures(
        *("corrected", 90, 60, 10, 25, 80, 5, 9),
        source="near; cache and buffers by dry run",
    )


def test_whoever_knows_all_or_is_alone_has_the_word() -> None:
    measured = Figures("measured", 1, 2, 3, 4)
    assert ask(measured, DRY) == measured
    assert ask(NEAR, None) == NEAR
    assert ask(None, DRY) == DRY
    assert ask(None, None) is None
