"""From a model and a machine to a decision."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.things import (
    GIB,
    LLAMACPP,
    MIB,
    SHAPE,
    SPECS,
    info,
    installed,
    machine,
    missing,
    model,
    small,
    spec,
)
from uml.core.engine import Availability
from uml.core.errors import BadOption, DoesNotFit, EngineNotInstalled, UnsupportedFormat, gib
from uml.core.machine import Machine
from uml.core.model import Format, Model, ModelInfo, Quantization, Role, Shape, TensorGroup
from uml.core.options import LoadOptions
from uml.planning import Running, plan
from uml.planning.budget import room
from uml.planning.rank import Specs

AUTO = LoadOptions()


def test_everything_is_decided() -> None:
    found = plan(model(), AUTO, machine(), SPECS)
    assert found.engine == "llamacpp"
    assert (found.options.ctx, found.options.parallel) == (16384, 4)
    assert found.placement.device_bytes == {"cpu": found.footprint.total_bytes}
    assert found.evict == ()
    assert "llamacpp runs gguf on the processor; installed; all in memory" in found.reason
    assert found.warnings == ("ctx is 16384 of 131072 trained, so that memory is left for others; set ctx for another",)


def test_planning_what_was_planned_changes_nothing() -> None:
    for where in (machine(), machine(gpus=(24 * GIB,)), machine(gpus=(5 * GIB, 7 * GIB)), machine(gpus=(4 * GIB,))):
        found = plan(model(), AUTO, where, SPECS)
        again = plan(model(), found.options, where, SPECS)
        assert again.options == found.options
        assert again.placement.gpu_layers == found.placement.gpu_layers


# --- who runs it ---


def test_an_engine_by_name() -> None:
    specs = {**SPECS, **installed(spec("other"))}
    found = plan(model(), LoadOptions(engine="other"), machine(), specs)
    assert found.engine == "other"
    assert found.reason.startswith("other was asked for")


def test_what_a_request_wants_decides_between_engines_and_a_name_overrides_it() -> None:
    specs = {**SPECS, **installed(spec("first", dialect={"regex": None}), spec("second"))}
    del specs["llamacpp"]
    assert plan(model(), AUTO, machine(), specs).engine == "first"
    found = plan(model(), AUTO, machine(), specs, wants=["regex"])
    assert (found.engine, found.choice) == ("second", "second runs gguf on the processor; installed")
    assert plan(model(), LoadOptions(engine="first"), machine(), specs, wants=["regex"]).engine == "first"


def test_an_engine_that_takes_anything_runs_when_it_is_asked_for() -> None:
    specs = {**SPECS, **installed(spec("fake", formats=frozenset(Format)))}
    assert plan(model(), LoadOptions(engine="fake"), machine(), specs).engine == "fake"
    assert plan(model(), AUTO, machine(), specs).engine == "llamacpp"


def test_an_unknown_engine_is_answered_with_the_known_ones() -> None:
    for typed in ("lamacpp", "llama", "llama.cpp"):
        with pytest.raises(BadOption, match=r"auto or one of llamacpp.*; did you mean llamacpp\?"):
            plan(model(), LoadOptions(engine=typed), machine(), SPECS)
    with pytest.raises(BadOption, match=r"auto or one of llamacpp$"):
        plan(model(), LoadOptions(engine="koboldcpp?"), machine(), SPECS)


def test_a_missing_engine_is_answered_with_the_command() -> None:
    for options in (AUTO, LoadOptions(engine="llamacpp")):
        with pytest.raises(EngineNotInstalled, match="uml engine install llamacpp"):
            plan(model(), options, machine(), missing(LLAMACPP))
    with pytest.raises(EngineNotInstalled, match="not here"):
        plan(model(), AUTO, machine(), missing(spec(install_command="")))


def test_an_engine_that_does_not_run_the_format() -> None:
    transformers = spec("transformers", title="Transformers", formats=frozenset({Format.SAFETENSORS}))
    wanted = LoadOptions(engine="transformers")
    with pytest.raises(BadOption, match="one of llamacpp: Transformers does not run gguf, only safetensors"):
        plan(model(), wanted, machine(), {**SPECS, **installed(transformers)})
    with pytest.raises(UnsupportedFormat, match=r"Transformers does not run gguf.*llama.cpp runs it"):
        plan(model(), wanted, machine(), installed(transformers))


def test_an_engine_for_devices_that_are_not_there() -> None:
    exl = spec("exl", title="Exl", devices=frozenset({"cuda"}))
    with pytest.raises(UnsupportedFormat, match="Exl needs a device of cuda"):
        plan(model(), LoadOptions(engine="exl"), machine(), installed(exl))
    with pytest.raises(BadOption, match="Exl runs on cuda"):
        plan(model(), LoadOptions(device="cpu"), machine(gpus=(24 * GIB,)), installed(exl))
    assert plan(model(), AUTO, machine(gpus=(24 * GIB,)), installed(exl)).placement.device == "cuda:0"
    with pytest.raises(DoesNotFit):
        plan(model(), AUTO, machine(gpus=(4 * GIB,)), installed(exl))


def test_a_format_that_nothing_runs_is_named_with_what_would() -> None:
    exl3 = info(format=Format.EXL3, quantization=Quantization("exl3", "EXL3 4.0 bpw", 4.0))
    with pytest.raises(
        UnsupportedFormat, match=r"no engine here runs exl3 \(EXL3 4.0 bpw\); ExLlamaV3 runs it"
    ) as caught:
        plan(model(exl3), AUTO, machine(), SPECS)
    assert caught.value.details["quantization"] == "EXL3 4.0 bpw"
    known_to_a_plugin = info(format=Format.UNKNOWN, version="abc", quantization=None)
    with pytest.raises(UnsupportedFormat, match="no engine here runs unknown; a GGUF"):
        plan(model(known_to_a_plugin), AUTO, machine(), SPECS)


def test_what_is_no_model_is_told_as_what_was_seen_of_it() -> None:
    with pytest.raises(UnsupportedFormat, match="not a model that can be told: a text file, beginning"):
        plan(model(info(format=Format.UNKNOWN, reason="a text file, beginning with 61")), AUTO, machine(), SPECS)


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (Role.PROJECTOR, "options.mmproj=/m/x.gguf"),
        (Role.ADAPTER, "options.lora=/m/x.gguf"),
        (Role.VOCABULARY, "without weights"),
    ],
)
def test_what_cannot_be_served_alone_is_told_how_to_be_used(role: Role, words: str) -> None:
    with pytest.raises(UnsupportedFormat, match=words):
        plan(model(info(role=role, path=Path("/m/x.gguf"))), AUTO, machine(), SPECS)


# --- where it goes ---


def test_on_a_gpu_the_place_is_written_into_the_options() -> None:
    one = plan(model(), AUTO, machine(gpus=(24 * GIB,)), SPECS)
    assert (one.options.device, one.options.gpu_layers) == ("cuda:0", -1), "-1: the output layer too"
    assert one.footprint.mapped_bytes == 0

    two = plan(model(), LoadOptions(ctx=8192), machine(gpus=(7 * GIB, 7 * GIB)), SPECS)
    assert two.options.device == "cuda:0,cuda:1"
    assert two.placement.gpu_split == (16, 16)
    assert two.options.tensor_split == (16.0, 17.0), "llama.cpp counts the output as a layer"

    some = plan(model(), LoadOptions(ctx=8192), machine(gpus=(6 * GIB,)), SPECS)
    assert 0 < some.options.gpu_layers == some.placement.gpu_layers < 32
    assert some.options.device == "cuda:0"


AMX = installed(LLAMACPP, way="external")


def with_amx(about: Machine) -> Machine:
    return replace(about, instructions=frozenset({"amx_int8"}))


def test_layers_that_stay_on_the_processor_may_be_copied() -> None:
    wanted = LoadOptions(ctx=8192)
    found = plan(model(), wanted, with_amx(machine(gpus=(6 * GIB,))), AMX)
    plain = plan(model(), replace(wanted, repack=False), with_amx(machine(gpus=(6 * GIB,))), AMX)
    assert found.placement.device_bytes["cpu"] > plain.placement.device_bytes["cpu"]
    assert sum(found.placement.device_bytes.values()) >= found.footprint.total_bytes

    tight = with_amx(machine(plain.placement.device_bytes["cpu"] + 257 * MIB, gpus=(6 * GIB,)))
    plan(model(), replace(wanted, repack=False), tight, AMX)
    pinned = replace(wanted, parallel=found.options.parallel, cache_type_k="f16", cache_type_v="f16")
    with pytest.raises(DoesNotFit, match="repack=false"):
        plan(model(), pinned, tight, AMX)


def test_a_model_of_two_thirds_of_the_memory_fits() -> None:
    found = plan(model(info(weights={"Q4_K": 5 * GIB})), AUTO, machine(8 * GIB, total=8 * GIB), SPECS)
    assert found.options.ctx >= 2048


def test_a_gpu_too_small_leaves_it_in_memory() -> None:
    found = plan(model(info(weights={"Q4_K": 8 * GIB})), AUTO, machine(gpus=(256 * MIB,)), SPECS)
    assert (found.options.device, found.options.gpu_layers) == ("cpu", 0)
    assert found.footprint.mapped_bytes == 0, "copied, as on any processor"
    assert found.placement.device_bytes == {"cpu": found.footprint.total_bytes}


def test_a_gpu_that_holds_some_layers_does_not_make_the_context_small() -> None:
    found = plan(model(), AUTO, machine(gpus=(2 * GIB,)), SPECS)
    assert found.options.ctx >= 8192
    assert 0 < found.options.gpu_layers < 32
    whole = installed(spec(split="whole"))
    assert plan(model(), AUTO, machine(gpus=(2 * GIB,)), whole).options.device == "cpu"
    apple = machine(32 * GIB, gpus=(16 * GIB,), kind="metal")
    metal = installed(spec(devices=frozenset({"cpu", "metal"})))
    assert plan(model(), AUTO, apple, metal).placement.gpu_layers == 32


def test_open_options_shrink_before_a_model_is_refused() -> None:
    """The copies on the processor leave little of memory."""
    grown = with_amx(machine(7 * GIB, gpus=(4 * GIB,)))
    found = plan(model(info(weights={"Q8_0": 8 * GIB})), AUTO, grown, AMX)
    assert (found.options.ctx, found.options.parallel, found.options.cache_type_k) == (4096, 1, "q8_0")
    assert "the cache is q8_0, for f16 would not fit as well" in found.warnings


def test_a_gpu_that_the_install_cannot_use_is_told() -> None:
    wheel = {"llamacpp": (LLAMACPP, Availability(True, devices=frozenset({"cpu"})))}
    found = plan(model(), LoadOptions(gpu_layers=10), machine(gpus=(24 * GIB,)), wheel)
    assert found.placement.device == "cpu"
    assert "GPU 0 cannot be used by this install of llamacpp" in found.warnings
    assert "gpu_layers 10 was asked for, and there is no GPU to use" in found.warnings
    found = plan(model(), LoadOptions(main_gpu=1), machine(gpus=(24 * GIB, 24 * GIB)), wheel)
    assert "main_gpu 1 was asked for, and no GPU is used" in found.warnings


def test_a_native_build_with_amx_copies_more() -> None:
    amx = with_amx(machine())
    assert plan(model(), AUTO, amx, SPECS).footprint.weight_bytes < 8.5 * GIB
    assert plan(model(), AUTO, amx, AMX).footprint.weight_bytes > 8.9 * GIB


def test_what_the_user_should_know() -> None:
    simple = installed(spec(title="Simple", options=frozenset({"ctx", "mmproj", "lora"})))
    wanted = LoadOptions(ctx=512, mlock=True, mmproj="/p.gguf", lora=("/a.gguf=0.5",))
    found = plan(model(info(shape=None)), wanted, machine(), simple, companions={"/a.gguf": small(role=Role.ADAPTER)})
    assert found.warnings == (
        "Simple does not honour the option mlock",
        "the memory of /p.gguf is not counted in the estimate",
        "its header does not tell its shape: the estimate is rough",
    )


@pytest.mark.parametrize(
    ("batch", "ubatch", "told"),
    [
        (1024, 512, ()),
        (8192, 0, ("batch 8192 was asked for, and ctx is 1024: no more can be read at once",)),
        (0, 2048, ("ubatch 2048 was asked for, and ctx is 1024: no more can be computed at once",)),
        (256, 2048, ("ubatch 2048 was asked for, and batch 256: no more can be computed at once",)),
        (
            *(8192, 2048),
            (
                "batch 8192 was asked for, and ctx is 1024: no more can be read at once",
                "ubatch 2048 was asked for, and ctx is 1024: no more can be computed at once",
            ),
        ),
    ],
)
def test_a_batch_that_is_smaller_than_was_asked_for_is_told_with_what_limits_it(
    batch: int, ubatch: int, told: tuple[str, ...]
) -> None:
    asked = LoadOptions(ctx=1024, batch=batch, ubatch=ubatch)
    assert plan(model(), asked, machine(), SPECS).warnings == told
    deaf = installed(spec(title="Deaf", options=frozenset({"ctx"})))
    warned = plan(model(), asked, machine(), deaf).warnings
    assert all(text.startswith("Deaf does not honour the option ") for text in warned), "and not a second time"


@pytest.mark.parametrize("about", [info(), info("bert", role=Role.EMBEDDING), info(role=Role.RERANKER)])
def test_what_embeds_tells_which_of_two_batches_counts(about: ModelInfo) -> None:
    asked = LoadOptions(ctx=1024, batch=512, ubatch=128, embeddings=about.role is Role.TEXT)
    found = plan(model(about), asked, machine(), SPECS)
    assert (found.options.batch, found.options.ubatch) == (128, 128)
    assert found.warnings == (
        "batch 512 was asked for, and ubatch 128: no more is read at once than is computed at once where texts are "
        "embedded",
    )
    assert plan(model(about), replace(asked, ubatch=0), machine(), SPECS).warnings == ()
    assert plan(model(about), replace(asked, batch=0), machine(), SPECS).warnings == ()


# --- who leaves ---


def idle(name: str, count: int, order: int = 1, **rest: object) -> Running:
    return Running(name, count, order, **rest)  # type: ignore[arg-type]


FIXED = LoadOptions(ctx=8192, parallel=1)
"""8 GiB of weights and 1 of cache."""


def test_idle_models_leave_until_it_fits() -> None:
    running = [idle("new", 6 * GIB, 3), idle("old", 6 * GIB, 1), idle("busy", 30 * GIB, 0, busy=True)]
    found = plan(model(), FIXED, machine(5 * GIB), SPECS, running)
    assert found.evict == ("old",)


def test_whoever_leaves_makes_room_for_more_than_the_least() -> None:
    alone = plan(model(), AUTO, machine(3 * GIB), SPECS, [idle("old", 40 * GIB)])
    assert alone.evict == ("old",)
    assert alone.options.ctx > 2048


def test_pages_of_a_mapped_file_are_free_already() -> None:
    mapped = idle("old", 10 * GIB, mapped_bytes=8 * GIB)
    with pytest.raises(DoesNotFit):
        plan(model(), FIXED, machine(5 * GIB), SPECS, [mapped])
    assert plan(model(), FIXED, machine(5 * GIB), SPECS, [replace(mapped, mapped_bytes=0)]).evict == ("old",)


def test_a_model_on_a_gpu_leaves_for_a_better_place() -> None:
    there = idle("there", 20 * GIB, device_bytes={"cuda:0": 19 * GIB, "cpu": GIB})
    beside = idle("beside", 20 * GIB, 0)
    found = plan(model(), FIXED, replace(machine(gpus=(24 * GIB,))), SPECS)
    assert found.placement.gpu_layers == 32

    full = machine(40 * GIB, gpus=(24 * GIB,))
    full = replace(full, gpus=(replace(full.gpus[0], free_bytes=5 * GIB),))
    found = plan(model(), FIXED, full, SPECS, [there, beside])
    assert found.evict == ("there",), "the other one takes no memory of the GPU"
    assert found.placement.gpu_layers == 32
    assert plan(model(), FIXED, full, SPECS, [replace(there, busy=True)]).placement.gpu_layers < 32


def test_the_budget_counts_what_was_handed_out() -> None:
    roomy = machine(60 * GIB)
    running = [idle("old", 6 * GIB)]
    assert plan(model(), FIXED, roomy, SPECS, running, budget=20 * GIB).evict == ()
    assert plan(model(), FIXED, roomy, SPECS, running, budget=12 * GIB).evict == ("old",)
    with pytest.raises(DoesNotFit) as caught:
        plan(model(), FIXED, roomy, SPECS, running, budget=8 * GIB)
    assert caught.value.details["free"] == 8 * GIB


# --- what does not fit ---


F16 = LoadOptions(cache_type_k="f16", cache_type_v="f16")


def refusal(about: Model, options: LoadOptions, where: Machine, specs: Specs = SPECS, **rest: Any) -> DoesNotFit:
    """What is said when a model does not fit; all of it holds."""
    with pytest.raises(DoesNotFit) as caught:
        plan(about, options, where, specs, **rest)
    error = caught.value
    for change in error.details["would_fit"]:
        plan(about, replace(options, **change), where, specs)
    for other in error.details["smaller"]:
        (named,) = (one for one in rest["others"] if one.id == other["model"])
        assert plan(named, options, where, specs).footprint.total_bytes <= other["needed"] * 2
    assert error.message.endswith(error.details["advice"])
    return error


def test_what_would_fit_is_data_and_a_sentence() -> None:
    where = machine(18 * GIB)
    error = refusal(model(), replace(F16, ctx=65536, parallel=2), where)
    assert error.details["needed"] > error.details["free"] == room(where.memory)
    by_option = {key: change for change in error.details["would_fit"] for key in change}
    assert by_option["parallel"] == {"parallel": 1}
    smaller = by_option["ctx"]["ctx"]
    assert f"ctx={smaller}" in error.message
    with pytest.raises(DoesNotFit):
        plan(model(), replace(F16, ctx=smaller + 256, parallel=2), where, SPECS)


def test_who_is_refused_for_what_is_pinned_is_told() -> None:
    where = machine(4 * GIB)
    kept = [idle("large", 16 * GIB, 1, pinned=True), idle("small", GIB, 2, pinned=True, busy=True)]
    error = refusal(model(), replace(F16, ctx=4096, parallel=1), where, running=kept)
    assert error.details["unpin"] == ["large"] and error.message.endswith("let go what is pinned: uml unpin large")
    never = refusal(model(), replace(F16, ctx=65536, parallel=256), where, running=kept)
    assert never.details["unpin"] == [] and "unpin" not in never.message


def test_as_many_requests_as_fit_are_advised() -> None:
    where = machine(18 * GIB)
    error = refusal(model(), replace(F16, ctx=4096, parallel=64), where)
    (most,) = (change["parallel"] for change in error.details["would_fit"] if "parallel" in change)
    assert 1 < most < 64
    with pytest.raises(DoesNotFit):
        plan(model(), replace(F16, ctx=4096, parallel=most + 1), where, SPECS)


def test_a_coarser_cache_or_no_copy_may_do() -> None:
    error = refusal(model(), replace(F16, ctx=65536, parallel=1), machine(14 * GIB))
    assert "it fits with cache_type_k=q8_0 cache_type_v=q8_0 or ctx=" in error.message
    assert plan(model(), LoadOptions(ctx=65536), machine(14 * GIB), SPECS).options.cache_type_k == "q8_0", "left open"
    flash = replace(F16, ctx=65536, parallel=1, flash_attention="off")
    assert {"cache_type_k": "q8_0"} not in refusal(model(), flash, machine(13 * GIB)).details["would_fit"]
    tight = with_amx(machine(9 * GIB + 256 * MIB))
    assert "repack=false" in refusal(model(), LoadOptions(ctx=2048), tight, AMX).message


def test_fewer_layers_or_another_device_may_do() -> None:
    where = machine(gpus=(4 * GIB, 24 * GIB))
    error = refusal(model(), LoadOptions(ctx=4096, gpu_layers=30, device="cuda:0"), where)
    assert {"device": "auto"} in error.details["would_fit"]
    assert {"gpu_layers": -1} in error.details["would_fit"]
    (layers,) = (one["gpu_layers"] for one in error.details["would_fit"] if one.get("gpu_layers", 0) > 0)
    assert 0 < layers < 30
    with pytest.raises(DoesNotFit):
        plan(model(), LoadOptions(ctx=4096, gpu_layers=layers + 1, device="cuda:0"), where, SPECS)
    shares = LoadOptions(ctx=4096, gpu_layers=32, tensor_split=(3.0, 1.0))
    assert {"tensor_split": ()} in refusal(model(), shares, where).details["would_fit"]
    alone = LoadOptions(ctx=4096, gpu_layers=32, split_mode="none")
    assert {"split_mode": "layer"} in refusal(model(), alone, where).details["would_fit"]


def test_all_of_it_together_may_do_and_nothing_in_vain() -> None:
    small_machine = with_amx(machine(9 * GIB))
    wanted = replace(F16, ctx=131_072, parallel=4)
    (change,) = refusal(model(), wanted, small_machine, AMX).details["would_fit"]
    assert {"repack", "ctx"} <= set(change)
    for key in change:
        less = {name: value for name, value in change.items() if name != key}
        with pytest.raises(DoesNotFit):
            plan(model(), replace(wanted, **less), small_machine, AMX)


def test_a_context_too_small_to_talk_in_is_the_last_advice() -> None:
    wanted = LoadOptions(ctx=131_072, parallel=1, repack=False, cache_type_k="q4_0", cache_type_v="q4_0")
    (change,) = refusal(model(), wanted, machine(8 * GIB + 424 * MIB)).details["would_fit"]
    assert 0 < change["ctx"] < 2048


def test_a_smaller_file_of_the_same_model_is_named() -> None:
    def file(name: str, count: int, **rest: Any) -> Model:
        weights = {"Q4_K": count}
        return Model(name.lower(), info(path=Path(f"/m/{name}.gguf"), weights=weights, **({"name": ""} | rest)))

    big = file("Llama-3.1-8B-Q8_0", 8 * GIB)
    others = [
        big,
        file("Llama-3.1-8B-Q4_K_M", 5 * GIB),
        file("Llama-3.1-8B.Q2_K", 3 * GIB),
        file("Llama-3.1-8B-Q6_K", 6 * GIB),
        file("Llama-3.1-8B-Instruct-Q2_K", 3 * GIB),
        file("Llama-3.1-8B-Q3_K_S", 3 * GIB, architecture="qwen3"),
        file("Llama-3.1-8B-IQ1_S", 2 * GIB, shape=replace(SHAPE, layers=31)),
        replace(file("Llama-3.1-8B-Q5_K_M", 4 * GIB), present=False),
    ]
    error = refusal(big, LoadOptions(ctx=4096), machine(6 * GIB), others=others)
    assert [one["model"] for one in error.details["smaller"]] == ["llama-3.1-8b-q4_k_m", "llama-3.1-8b.q2_k"]
    assert "what fits is the same model in a smaller file: llama-3.1-8b-q4_k_m (5." in error.message
    both = refusal(big, replace(F16, ctx=131_072), machine(12 * GIB), others=others).message
    assert "it fits with" in both


def test_a_smaller_file_that_the_options_rule_out_is_not_named() -> None:
    big = Model("some-q8_0", info(weights={"Q8_0": 8 * GIB}, name="", path=Path("/m/some-q8_0.gguf")))
    short = replace(big, id="some-q4_0", info=info(weights={"Q4_K": GIB}, context_length=1024))
    strange = replace(short, id="some-q2_k", info=info(weights={"Q2_K": GIB}, quantization=Quantization("odd", "odd")))
    specs = installed(spec(quantizations=frozenset({"gguf"})))
    error = refusal(big, LoadOptions(ctx=2048), machine(4 * GIB), specs, others=[short, strange])
    assert error.details["smaller"] == []
    deep = replace(big, info=replace(big.info, shape=None))
    flat = replace(short, info=replace(short.info, shape=None, context_length=4096))
    shapeless = refusal(deep, LoadOptions(ctx=2048), machine(6 * GIB), others=[flat])
    assert [one["model"] for one in shapeless.details["smaller"]] == ["some-q4_0"]


def tabled(rows: int = 4096, **rest: Any) -> Model:
    """8 billion parameters in Q8_0, with a table of tensors."""

    def group(name: str, columns: int, layers: tuple[int, ...] = ()) -> TensorGroup:
        return TensorGroup(name, "Q8_0", (rows, columns), layers, rows * columns * 34 // 32, 0, 0)

    layers = tuple(range(32))
    vector = TensorGroup("attn_norm.weight", "F32", (rows,), layers, 4 * rows, 0, 0)
    tensors = (group("token_embd.weight", 128_256), group("ffn_up.weight", 57_344, layers), vector)
    weights = {"Q8_0": sum(one.count * one.each_bytes for one in tensors[:2]), "F32": 32 * 4 * rows}
    return model(info(weights=weights, shape=replace(SHAPE, tensors=tensors), **rest))


def test_where_no_smaller_file_is_there_one_that_can_be_made_is_advised() -> None:
    tight = LoadOptions(ctx=2048, parallel=1)
    error = refusal(tabled(), tight, machine(11 * GIB // 2))
    made = error.details["quantize"]
    assert (made["to"], made["command"]) == ("q4_k_m", "uml quantize some --to q4_k_m")
    assert made["needed"] <= error.details["free"] < error.details["needed"]
    assert error.message.endswith(f"make it smaller: uml quantize some --to q4_k_m ({gib(made['needed'])})")
    assert refusal(tabled(), tight, machine(6 * GIB)).details["quantize"]["to"] == "q5_k_m"
    # Rows that are no multiple of 256 are kept in larger types.
    assert refusal(tabled(4064), tight, machine(11 * GIB // 2)).details["quantize"]["to"] == "q3_k_m"


def test_no_file_is_advised_that_does_not_fit_or_cannot_be_made() -> None:
    tight, where = LoadOptions(ctx=2048, parallel=1), machine(6 * GIB)
    there = Model("some-q4_k_m", info(weights={"Q4_K": 4 * GIB}))
    for about, others, free in (
        (tabled(), [], machine(2 * GIB)),
        (tabled(), [there], where),
        (replace(tabled(), source="net"), [], where),
        (model(info(shape=replace(SHAPE, tensors=()))), [], where),
    ):
        assert refusal(about, tight, free, others=others).details["quantize"] is None


def test_a_draft_model_may_be_what_is_too_much() -> None:
    wanted = LoadOptions(ctx=2048, draft_model="/draft.gguf")
    where = machine(9 * GIB + 512 * MIB)
    draft = {"/draft.gguf": info(weights={"Q8_0": 4 * GIB})}
    assert {"draft_model": ""} in refusal(model(), wanted, where, companions=draft).details["would_fit"]


def test_absurd_numbers_are_refused_at_once() -> None:
    """As a stranger's header may hold them: 4,096 layers, and everything else as large as 32 bits go."""
    most = (1 << 32) - 1
    shape = Shape(4096, most, most, most, (most,) * 4096, most, most, most)
    about = info(shape=shape, context_length=1 << 62)
    start_s = time.process_time()
    with pytest.raises(DoesNotFit, match="needs more than an exabyte"):
        plan(model(about), LoadOptions(parallel=64), machine(gpus=(80 * GIB,) * 8), SPECS)
    assert time.process_time() - start_s < 1, "60 ms on an idle machine"


def test_a_long_context_for_many_is_decided_at_once() -> None:
    about = info(context_length=1 << 20, shape=replace(SHAPE, vocabulary=1 << 20, layers=128, kv_heads=(8,) * 128))
    start_s = time.process_time()
    found = plan(model(about), LoadOptions(ctx=1 << 20, parallel=64), machine(1 << 50, gpus=(80 * GIB,) * 8), SPECS)
    assert time.process_time() - start_s < 0.5, "3 ms on an idle machine"
    assert found.footprint.kv_bytes == 64 * 128 * (1 << 20) * 8 * 128 * 2 * 2


def test_nothing_would_do() -> None:
    with pytest.raises(DoesNotFit, match="use a smaller quantization") as caught:
        plan(model(), AUTO, machine(GIB), SPECS)
    assert caught.value.details["would_fit"] == []
    bare = LoadOptions(ctx=2048, parallel=1, repack=False, cache_type_k="q8_0")
    with pytest.raises(DoesNotFit, match="use a smaller quantization"):
        plan(model(), bare, machine(GIB), SPECS)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            Running,
            model=st.uuids().map(str),
            bytes=st.integers(0, 20 * GIB),
            idle_order=st.integers(0, 9),
            busy=st.booleans(),
            pinned=st.booleans(),
        ),
        max_size=6,
    ),
    st.integers(GIB, 64 * GIB),
    st.integers(0, 64 * GIB),
    st.sampled_from([AUTO, LoadOptions(ctx=4096), LoadOptions(parallel=2, cache_type_k="q8_0")]),
    st.sampled_from([info(), small(), info(weights={"Q4_K": 5 * GIB}), info(shape=None)]),
)
def test_no_plan_exceeds_the_budget_or_stops_a_busy_model(
    running: list[Running], budget: int, free: int, options: LoadOptions, about: object
) -> None:
    where = machine(free)
    known = {one.model: one for one in running}
    try:
        found = plan(model(about), options, where, SPECS, running, budget)  # type: ignore[arg-type]
    except DoesNotFit:
        return
    gone = set(found.evict)
    assert not any(known[name].busy or known[name].pinned for name in gone)
    stay = sum(one.bytes for one in running if one.model not in gone)
    needed = found.placement.device_bytes["cpu"]
    assert needed == found.footprint.total_bytes
    assert stay + needed <= budget
    assert needed <= free + sum(known[name].bytes for name in gone)
