"""What to ask for when memory ran out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.planning.things import model
from uml.core.options import OPTIONS, LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.planning.degrade import degrade

ALL = frozenset(option.name for option in OPTIONS)


def plan(gpu_layers: int = 0, **options: Any) -> LoadPlan:
    """A model of 32 layers, with options as they are after resolving."""
    known = {"ctx": 4096, "parallel": 4, "cache_type_k": "f16", "cache_type_v": "f16"}
    devices = {"cuda:0": 10, "cpu": 1} if gpu_layers else {"cpu": 11}
    resolved = LoadOptions.parse({**known, **options})
    return LoadPlan(model(), "llamacpp", resolved, Footprint(11, 0, 0), Placement(devices, gpu_layers, 32))


def test_fewer_layers_first_then_the_cache_then_the_context() -> None:
    asked = given = LoadOptions()
    done, had = [], plan(gpu_layers=32)
    while less := degrade(asked, given, had, "cuda:0", ALL):
        given = less.options
        done.append((given.gpu_layers, given.cache_type_k, given.ctx))
        layers = given.gpu_layers
        had = plan(gpu_layers=layers, ctx=given.ctx or 4096, cache_type_k=given.cache_type_k if layers == 0 else "f16")
        had = replace(had, options=replace(had.options, cache_type_v=had.options.cache_type_k.replace("auto", "f16")))
    assert done[:4] == [(24, "auto", 0), (16, "auto", 0), (8, "auto", 0), (0, "auto", 0)]
    assert done[4:] == [(0, "q8_0", 0), (0, "q8_0", 2048), (0, "q8_0", 1024), (0, "q8_0", 512)]


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({}, "the cache is q8_0 in place of f16 and f16"),
        ({"cache_type_k": "f16"}, "ctx is 2048 in place of 4096"),
        ({"cache_type_k": "f16", "degrade": "cache"}, "the cache is q8_0"),
        ({"cache_type_k": "f16", "ctx": 4096}, None),
        ({"cache_type_k": "f16", "ctx": 4096, "degrade": "context"}, "the cache is q8_0"),
        ({"degrade": "layers"}, None),
        ({"degrade": "none"}, None),
    ],
)
def test_as_far_as_the_options_allow(options: dict[str, Any], step: str | None) -> None:
    asked = LoadOptions.parse(options)
    less = degrade(asked, asked, plan(), "cpu", ALL)
    assert (less is None) == (step is None)
    assert less is None or step in less.sentence  # type: ignore[operator]


def test_layers_in_memory_are_no_help_where_memory_ran_out() -> None:
    less = degrade(LoadOptions(), LoadOptions(), plan(gpu_layers=32), "cpu", ALL)
    assert less is not None
    assert less.options.gpu_layers == -1


def test_layers_that_were_given_stay_unless_they_may_not() -> None:
    fixed = LoadOptions(gpu_layers=30, cache_type_k="f16", ctx=4096)
    assert degrade(fixed, fixed, plan(gpu_layers=30), "cuda:0", ALL) is None
    loose = replace(fixed, degrade="layers")
    less = degrade(loose, loose, plan(gpu_layers=30), "cuda:0", ALL)
    assert less is not None
    assert less.options.gpu_layers == 22


def test_a_step_that_the_engine_does_not_know_is_left_out() -> None:
    less = degrade(LoadOptions(), LoadOptions(), plan(gpu_layers=32), "cuda:0", {"ctx"})
    assert less is not None
    assert less.options == LoadOptions(ctx=2048)
    assert degrade(LoadOptions(), LoadOptions(), plan(flash_attention="off"), "cpu", ALL - {"ctx"}) is None
