"""What loads took, remembered: the same load, its neighbours, and everything that makes it another one."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tests.registry.conftest import Shelfless, gguf
from uml.core.options import LoadOptions
from uml.core.plan import Buffer, Taken
from uml.formats import inspect
from uml.planning.refine import Figures
from uml.registry import Registry, measurements
from uml.registry.measurements import Load, Measurement, identity

MIB = 1 << 20
BUILDS = {"llamacpp": "embedded 1", "fake": "hosted 1"}
OPTIONS = LoadOptions(ctx=4096, parallel=2, cache_type_k="f16", cache_type_v="f16", device="cpu", gpu_layers=0)
FIGURES = Figures("measured", 500 * MIB, 96 * MIB, 40 * MIB, 60 * MIB, 480 * MIB, 7 * MIB, 7 * MIB)
TAKEN = Taken(660 * MIB, 500 * MIB, 670 * MIB, 3 * MIB, {"cuda:0": 5}, (Buffer("cpu", "kv_cache", 96 * MIB),))
LOAD = Load("some model", "llamacpp", "embedded 1", OPTIONS)


def kept(
    registry: Registry, at_s: float = 1.0, taken: Taken = TAKEN, figures: Figures = FIGURES, **load: object
) -> None:
    registry.measurements.keep(replace(LOAD, **load), Measurement(at_s, 1, taken, figures))  # type: ignore[arg-type]


def told(registry: Registry, options: LoadOptions = OPTIONS, engine: str = "llamacpp") -> Figures | None:
    return registry.measurements.known("some model", BUILDS)(engine, options)


def test_the_same_load_is_known_in_every_process(tmp_path: Path) -> None:
    with Shelfless(tmp_path / "r.sqlite") as one, Shelfless(tmp_path / "r.sqlite") as two:
        assert told(two) is None
        kept(one)
        found = told(two)
        assert found is not None and replace(found, source="") == FIGURES
        assert found.source.startswith("the same load took this on ")
        kept(one, 2.0, figures=replace(FIGURES, other_bytes=61 * MIB))
        assert (again := told(two)) is not None and again.other_bytes == 61 * MIB
    with Shelfless(tmp_path / "r.sqlite") as later:
        assert told(later) is not None


def test_what_does_not_matter_for_memory_makes_no_other_load(registry: Registry) -> None:
    kept(registry)
    assert told(registry, replace(OPTIONS, threads=7, reasoning_format="none")) is not None
    for other in ({"parallel": 4}, {"mlock": True}, {"extra_flags": ("--x",)}, {"repack": False}):
        assert told(registry, replace(OPTIONS, **other)) is None
    assert told(registry, engine="fake") is None
    assert registry.measurements.known("another model", BUILDS)("llamacpp", OPTIONS) is None
    assert registry.measurements.known("some model", {"llamacpp": "embedded 2"})("llamacpp", OPTIONS) is None


def test_what_use_has_added_is_told_of_the_same_load_only(registry: Registry) -> None:
    assert registry.measurements.grown(LOAD) == 0
    kept(registry)
    kept(registry, options=replace(OPTIONS, parallel=4), taken=replace(TAKEN, grown_bytes=9 * MIB))
    assert registry.measurements.grown(LOAD) == 3 * MIB
    assert registry.measurements.grown(replace(LOAD, build="embedded 2")) == 0


def test_another_context_is_corrected_by_the_nearest(registry: Registry) -> None:
    kept(registry)
    kept(registry, options=replace(OPTIONS, ctx=32_768), figures=replace(FIGURES, other_bytes=90 * MIB))
    found = told(registry, replace(OPTIONS, ctx=8192))
    assert found is not None and found.method == "corrected" and "another context" in found.source
    assert (found.weight_bytes, found.other_bytes, found.mapped_bytes) == (500 * MIB, 60 * MIB, 480 * MIB)
    assert found.kv_bytes is None and found.compute_bytes is None
    assert found.above_bytes == 17 * MIB, "what was measured, and a quarter of what is reckoned"
    far = told(registry, replace(OPTIONS, ctx=65_536, cache_type_k="q8_0"))
    assert far is not None and far.other_bytes == 90 * MIB


def test_a_load_of_which_only_the_sum_was_seen_corrects_nothing(registry: Registry) -> None:
    kept(registry, taken=replace(TAKEN, buffers=()))
    assert told(registry) is not None
    assert told(registry, replace(OPTIONS, ctx=8192)) is None


def test_a_model_is_the_same_wherever_it_lies_and_another_with_other_files_beside_it(folder: Path) -> None:
    one, same = (inspect(gguf(folder / name, name="yi")) for name in ("a/yi.gguf", "b/yi.gguf"))
    other = inspect(gguf(folder / "c.gguf", name="c"))
    assert identity(one, {}) == identity(same, {}) != identity(other, {})
    assert identity(one, {"p": other}) == identity(same, {"p": other}) != identity(one, {})
    assert identity(one, {"p": other}) != identity(one, {"p": one})


def test_the_oldest_are_forgotten(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "KEPT_LIMIT", 3)
    for ctx in range(256, 256 * 6, 256):
        kept(registry, float(ctx), options=replace(OPTIONS, ctx=ctx))
    methods = [told(registry, replace(OPTIONS, ctx=ctx)) for ctx in range(256, 256 * 6, 256)]
    assert [found.method for found in methods if found] == ["corrected"] * 2 + ["measured"] * 3


def test_a_row_of_another_version_is_measured_again(tmp_path: Path) -> None:
    with Shelfless(tmp_path / "r.sqlite") as registry:
        kept(registry)
        with sqlite3.connect(tmp_path / "r.sqlite") as raw:
            raw.execute("""UPDATE measurements SET found = replace(found, '"measured"', '"guessed"')""")
        raw.close()
        assert told(registry) is None
        kept(registry)
        assert told(registry) is not None
