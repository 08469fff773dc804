"""Room for adapters that an engine makes before it reads any."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.planning.things import MIB, SHAPE, info, spec
from uml.core.model import Format, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.planning import estimate
from uml.planning.adapter_room import rank_of, suiting

RANKS = (1, 8, 16, 512)
VLLM = spec(formats=frozenset({Format.SAFETENSORS}), options=frozenset({"ctx", "parallel", "lora"}))
MODEL = info(format=Format.SAFETENSORS)


def adapter(rank: int) -> ModelInfo:
    return replace(info(weights={"F16": 50 * MIB}, shape=None, role=Role.ADAPTER), metadata={"r": rank})


def counted(
    ranks: tuple[int, ...], *, parallel: int = 4, model: ModelInfo = MODEL, allowed: tuple[int, ...] = RANKS
) -> int:
    """Bytes that adapters of these ranks take, beside their own weights."""
    known = {f"/{place}": adapter(rank) for place, rank in enumerate(ranks)}
    options = LoadOptions(ctx=4096, parallel=parallel, lora=tuple(known))
    found = estimate(model, options, replace(VLLM, adapter_ranks=allowed), companions=known)
    return found.other_parts["lora"] - len(ranks) * 50 * MIB


def test_room_is_made_in_every_layer_for_the_greatest_rank() -> None:
    dense = replace(SHAPE, layers=1, kv_heads=(2,), embedding=64, feed_forward=128, heads=4, key_length=16,
                    value_length=16, vocabulary=32, experts=0)  # fmt: skip
    # Beside queries and outputs 64 + 64 each, keys and values 64 + 32, three of 64 + 128, and 64 + 32 at either end.
    sides = 2 * 128 + 2 * 96 + 3 * 192 + 2 * 96
    tiny = replace(MODEL, shape=dense)
    assert counted((8,), model=tiny) == 2 * 8 * sides
    assert counted((4, 9), model=tiny) == 2 * 2 * 16 * sides, "two, of which each has as much as the greater needs"
    assert counted((4, 9), parallel=1, model=tiny) == 2 * 16 * sides, "one answer has one of them"
    mixed = replace(MODEL, shape=replace(dense, experts=4))
    assert counted((8,), model=mixed) == 2 * 8 * (sides + 3 * 3 * 192), "experts have their own"


def test_none_is_counted_where_none_is_made_or_nothing_tells() -> None:
    assert counted((8,), allowed=()) == 0
    assert counted((8,), model=replace(MODEL, shape=None)) == 0
    assert counted((513,)) == 0, "no such rank is loaded"


@pytest.mark.parametrize(
    ("config", "rank"),
    [({"r": 8}, 8), ({"r": 8, "rank_pattern.q_proj": 32}, 32), ({}, 0), ({"r": "8"}, 0), ({"r": True}, 0)],
)
def test_the_rank_of_an_adapter_is_the_greatest_that_it_names(config: dict[str, object], rank: int) -> None:
    assert rank_of(config) == rank


def test_the_smallest_rank_that_suits_is_taken() -> None:
    assert [suiting(rank, RANKS) for rank in (0, 1, 2, 8, 17, 513)] == [1, 1, 8, 8, 512, 0]
