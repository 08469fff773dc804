"""What was told of a load beats what its header lets us reckon, part by part."""

from dataclasses import replace

from tests.planning.things import GIB, MIB, info, installed, machine, model, spec
from uml.core.options import LoadOptions
from uml.core.plan import Buffer, Footprint
from uml.planning import plan
from uml.planning.refine import Figures, fingerprint, first_of, refine

HEADER = Footprint(100, 50, 30, 20, low_bytes=120, high_bytes=400, mapped_bytes=80)
TOLD = Figures("dry run", kv_bytes=60, compute_bytes=10, below_bytes=5, above_bytes=40)


def test_nothing_told_changes_nothing() -> None:
    assert refine(HEADER, None) == HEADER


def test_parts_that_were_told_take_the_place_of_those_of_the_header() -> None:
    found = refine(HEADER, TOLD)
    assert found.parts == {"weights": 100, "kv_cache": 60, "compute": 10, "other": 20}
    assert (found.low_bytes, found.total_bytes, found.high_bytes) == (185, 190, 230)
    assert found.method == "dry run"
    assert found.mapped_bytes == 80


def test_the_first_lookup_that_knows_has_the_word() -> None:
    measured = Figures("measured", kv_bytes=61)

    def of_engine(name: str, figures: Figures) -> object:
        return lambda engine, options: figures if engine == name else None

    both = first_of(of_engine("a", measured), of_engine("b", TOLD))  # type: ignore[arg-type]
    assert both("a", LoadOptions()) == measured
    assert both("b", LoadOptions()) == TOLD
    assert both("c", LoadOptions()) is None


def test_a_model_is_the_same_under_another_path_and_another_with_another_header() -> None:
    one = info()
    assert fingerprint(one) == fingerprint(info(path=one.path.with_name("moved.gguf")))
    assert fingerprint(one) != fingerprint(info(metadata={"rope.freq_base": 1e6}))
    assert fingerprint(one) != fingerprint(info(weights={"Q4_0": GIB}))


def test_a_plan_goes_by_what_is_known_of_the_options_it_decides() -> None:
    asked: list[LoadOptions] = []

    def known(engine: str, options: LoadOptions) -> Figures | None:
        asked.append(options)
        return Figures("dry run", kv_bytes=7 * MIB) if engine == "llamacpp" else None

    decided = plan(model(info()), LoadOptions(ctx=4096), machine(), installed(spec()), known=known)
    assert decided.footprint.kv_bytes == 7 * MIB
    assert decided.footprint.method == "dry run"
    assert decided.placement.device_bytes["cpu"] == decided.footprint.total_bytes
    assert all(options.ctx == 4096 and options.parallel for options in asked)


def test_what_the_engine_is_going_to_say_follows_from_what_is_known() -> None:
    span, copy = Buffer("cpu", "weights", 90, "mapped"), Buffer("cpu", "weights", 20, "copy")
    said = (span, copy, Buffer("cpu", "kv_cache", 50), Buffer("cpu", "compute", 30), Buffer("cpu", "other", 2))
    header = replace(HEADER, buffers=said, loaded_bytes=72, used_bytes=102)
    found = refine(header, replace(TOLD, weight_bytes=105, mapped_bytes=80))
    assert {(one.part, one.kind): one.bytes for one in found.buffers} == {
        ("weights", "mapped"): 90,
        ("weights", "copy"): 25,
        ("kv_cache", "own"): 60,
        ("compute", "own"): 10,
        ("other", "own"): 2,
    }
    assert (found.loaded_bytes, found.used_bytes) == (72 + 5 + 10, 102 + 5 + 10 - 20)
    unmapped = refine(replace(header, buffers=said[1:], mapped_bytes=0), TOLD)
    assert [one.bytes for one in unmapped.buffers if one.kind == "copy"] == [20]


def test_what_a_projector_computes_in_stays_beside_a_dry_run_of_the_model() -> None:
    said = (Buffer("cpu", "kv_cache", 50), Buffer("cpu", "compute", 30), Buffer("cpu", "other", 2))
    projector = (Buffer("cpu", "weights", 11), Buffer("cpu", "compute", 7), Buffer("cpu", "kv_cache", 3))
    found = refine(replace(HEADER, buffers=(*said, *projector), loaded_bytes=72, used_bytes=102), TOLD)
    parts = [(one.part, one.bytes) for one in found.buffers]
    assert parts == [("other", 2), ("weights", 11), ("kv_cache", 60 + 3), ("compute", 10 + 7)]
    assert found.other_bytes == HEADER.other_bytes, "which has them already"
