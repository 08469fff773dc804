"""Options that say how a model is kept are no engine's business."""

from __future__ import annotations

from tests.planning.things import spec
from uml.core.options import OPTIONS, LoadOptions
from uml.planning.resolve import unhonoured


def test_no_engine_is_blamed_for_what_is_ours() -> None:
    ours = {option.name for option in OPTIONS if option.ours}
    assert ours == {"keep_alive", "keep_weight", "degrade"}
    kept = LoadOptions.parse({"keep_alive": "5m", "keep_weight": 2, "degrade": "none"})
    assert unhonoured(kept, spec(options=frozenset())) == ()
    assert kept.changed_for_engine() == ()
