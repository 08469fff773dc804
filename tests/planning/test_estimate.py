"""How many bytes a model takes, before it is loaded."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uml.models
from tests.builders import write_tiny_gguf
from tests.planning.things import GIB, LLAMACPP, MIB, SHAPE, info, small, spec
from uml.core.model import Format, Role
from uml.core.options import LoadOptions
from uml.core.plan import Footprint
from uml.formats.gguf.file import inspect_gguf
from uml.planning import estimate
from uml.planning.cache import CACHE_BLOCKS
from uml.planning.refine import Figures, refine

ON_CPU = LoadOptions(ctx=4096, parallel=1, batch=512, ubatch=512, device="cpu", gpu_layers=0)
DEMO = Path(next(iter(uml.models.__path__))) / "demo.gguf"


def likely(options: LoadOptions = ON_CPU, **about: object) -> Footprint:
    return estimate(info(**about), options, LLAMACPP)  # type: ignore[arg-type]


LOAD_IN_A_CHILD = """
import json, os, sys
import xllamacpp
wanted = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = wanted["path"]
params.n_ctx = wanted["ctx"] * wanted["parallel"]
params.n_parallel = wanted["parallel"]
params.cache_type_k = getattr(xllamacpp.ggml_type, "GGML_TYPE_" + wanted["cache_type_k"].upper())
params.verbosity, params.warmup, params.fit_params, params.cache_ram_mib = 4, False, False, 0
params.hostnames = [wanted["socket"]]
server = xllamacpp.Server(params)
os._exit(0)
"""
"""Ends without taking the server down: what it allocated is in the log by then."""


def test_the_engine_allocates_what_was_estimated(tmp_path: Path) -> None:
    about = inspect_gguf(DEMO)
    options = replace(ON_CPU, ctx=1500, parallel=3, cache_type_k="q8_0")
    wanted = {"path": str(DEMO), "ctx": 1500, "parallel": 3, "cache_type_k": "q8_0", "socket": str(tmp_path / "s.sock")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD_IN_A_CHILD, json.dumps(wanted)], capture_output=True, text=True, timeout=50
    )
    log = done.stdout + done.stderr
    real = {
        part: sum(float(size) for size in re.findall(rf"\S+ +{part} buffer size = +([\d.]+) MiB", log)) * MIB
        for part in ("model", "KV", "compute")
    }
    assert done.returncode == 0, log[-2000:]

    found = estimate(about, options, LLAMACPP)
    assert found.weight_bytes == pytest.approx(real["model"], rel=0.005)
    assert found.kv_bytes == pytest.approx(real["KV"], rel=0.005)
    assert found.compute_bytes == pytest.approx(real["compute"], rel=0.03)


def test_the_parts_add_up_and_lie_in_the_range() -> None:
    found = likely()
    assert sum(found.parts.values()) == found.total_bytes
    assert found.low_bytes < found.total_bytes < found.high_bytes
    assert found.weight_bytes == 8 * GIB + MIB, "Q8_0 is used as it lies in the file"
    assert found.mapped_bytes == found.weight_bytes
    assert found.kv_bytes == 512 * MIB
    assert found.method == "header"


def test_weights_of_some_types_are_copied_on_a_processor() -> None:
    """After the copy its pages of the file are not read any more: with all marks cleared, twenty tokens of a
    Q4_0 model of 257 MiB touched 22 of them."""
    weights = {"Q4_K": 4 * GIB, "Q6_K": GIB}
    found = likely(weights=weights)
    assert (found.weight_bytes, found.mapped_bytes) == (5 * GIB, GIB)
    assert found.high_bytes > found.total_bytes + 4 * GIB, "resident until memory gets short"

    locked = likely(replace(ON_CPU, mlock=True), weights=weights)
    assert (locked.weight_bytes, locked.mapped_bytes) == (9 * GIB, 5 * GIB)
    assert locked.high_bytes < locked.total_bytes + GIB

    as_it_lies = likely(replace(ON_CPU, repack=False), weights=weights)
    assert (as_it_lies.weight_bytes, as_it_lies.mapped_bytes) == (5 * GIB, 5 * GIB)
    on_gpu = likely(replace(ON_CPU, gpu_layers=-1, device="auto"), weights=weights)
    assert (on_gpu.weight_bytes, on_gpu.mapped_bytes) == (5 * GIB, 0)
    half = likely(replace(ON_CPU, gpu_layers=16, device="auto"), weights=weights)
    assert (half.weight_bytes, half.mapped_bytes) == (5 * GIB, GIB // 2)


@pytest.mark.parametrize("option", ["mmap", "direct_io"])
def test_what_is_not_mapped_is_held_once(option: str) -> None:
    read = replace(ON_CPU, **{option: option == "direct_io"})  # type: ignore[arg-type]
    found = likely(read, weights={"Q4_K": 4 * GIB})
    assert (found.weight_bytes, found.mapped_bytes) == (4 * GIB, 0)


def test_a_build_for_amx_copies_more() -> None:
    found = estimate(info(weights={"Q8_0": 34 * MIB, "F32": MIB}), ON_CPU, LLAMACPP, amx=True)
    assert found.weight_bytes == (38 + 1) * MIB
    plain = replace(ON_CPU, mmap=False)
    assert estimate(info(weights={"Q8_0": 34 * MIB}), plain, LLAMACPP, amx=True).weight_bytes == 38 * MIB


def test_compute_buffers_as_measured() -> None:
    demo = replace(SHAPE, layers=6, embedding=256, feed_forward=768, heads=4, kv_heads=(2,) * 6, key_length=64)
    demo = replace(demo, value_length=64, vocabulary=2000)

    def mib(options: LoadOptions) -> float:
        return round(likely(options, shape=demo).compute_bytes / MIB, 1)

    assert mib(replace(ON_CPU, ctx=256)) == 3.6
    assert mib(replace(ON_CPU, ctx=1024, parallel=4)) == 8.0
    assert mib(replace(ON_CPU, ctx=2048, parallel=4, kv_unified=True)) == 9.0
    assert mib(replace(ON_CPU, ctx=2048, flash_attention="off")) == 23.5
    assert mib(replace(ON_CPU, ctx=2048, ubatch=64)) == 1.1


def test_compute_buffers_of_other_kinds_of_model() -> None:
    sliding = replace(SHAPE, embedding=640, feed_forward=2048, sliding_window=512, kv_heads=(1,) * 32)
    sliding = replace(sliding, heads=4, key_length=256, value_length=256)
    wide = replace(ON_CPU, ctx=8192)
    assert round(likely(wide, architecture="gemma3", shape=sliding).compute_bytes / MIB, 1) == 27.3
    full = replace(wide, swa_full=True)
    assert round(likely(full, architecture="gemma3", shape=sliding).compute_bytes / MIB, 1) == 34.3

    experts = replace(SHAPE, embedding=768, feed_forward=3072, experts=16, experts_used=4)
    experts = replace(experts, heads=12, key_length=64, value_length=64)
    small_ctx = replace(ON_CPU, ctx=512)
    mixture = {"expert_feed_forward_length": 512}
    about = {"architecture": "qwen3moe", "shape": experts, "metadata": mixture}
    assert round(likely(small_ctx, **about).compute_bytes / MIB, 1) == 20.0

    bert = replace(SHAPE, embedding=384, feed_forward=1536, heads=12, kv_heads=(12,) * 32)
    bert = replace(bert, key_length=32, value_length=32)
    encoder = replace(ON_CPU, ctx=4096, batch=4096, ubatch=4096)
    assert round(likely(encoder, architecture="bert", shape=bert).compute_bytes / MIB) == 86
    slow = replace(encoder, flash_attention="off")
    assert round(likely(slow, architecture="bert", shape=bert).compute_bytes / MIB) == 874


def test_an_architecture_nobody_measured_gets_a_wide_range(tmp_path: Path) -> None:
    known, new, bare = (
        estimate(about, ON_CPU, LLAMACPP)
        for about in (
            inspect_gguf(write_tiny_gguf(tmp_path / "known.gguf", embedding=4096)),
            inspect_gguf(write_tiny_gguf(tmp_path / "new.gguf", architecture="brand-new", embedding=4096)),
            small(),
        )
    )
    assert new.total_bytes == known.total_bytes, "it is drawn as what its tensors look like"
    assert new.high_bytes > known.high_bytes
    assert bare.high_bytes - bare.compute_bytes > 16 * MIB, "nobody has listed its tensors"


def test_a_text_model_that_embeds_needs_the_logits_of_a_whole_batch() -> None:
    logits = 512 * 128_256 * 4
    assert likely(replace(ON_CPU, embeddings=True)).compute_bytes > logits > likely().compute_bytes


def test_what_is_resident_grows_with_use() -> None:
    found = likely(replace(ON_CPU, context_checkpoints=2))
    assert found.used_bytes - found.loaded_bytes == found.compute_bytes
    assert found.loaded_bytes + found.mapped_bytes + found.compute_bytes == found.total_bytes
    read = likely(replace(ON_CPU, mmap=False))
    assert read.loaded_bytes == found.loaded_bytes + found.weight_bytes


def test_checkpoints_and_the_prompt_cache_count() -> None:
    sliding = replace(SHAPE, sliding_window=512)
    with_them = likely(replace(ON_CPU, context_checkpoints=8), architecture="gemma3", shape=sliding)
    without = likely(replace(ON_CPU, context_checkpoints=0), architecture="gemma3", shape=sliding)
    assert with_them.other_bytes > without.other_bytes
    assert with_them.low_bytes == without.low_bytes, "they come with use"
    cached = likely(replace(ON_CPU, cache_ram_mib=100))
    assert cached.other_bytes - likely().other_bytes == 100 * MIB


def test_companions_count_where_they_are_known() -> None:
    projector = info(weights={"F16": 600 * MIB}, shape=None, role=Role.PROJECTOR)
    adapter = info(weights={"F16": 50 * MIB}, shape=None, role=Role.ADAPTER)
    draft = small()
    options = replace(ON_CPU, mmproj="/p.gguf", lora=("/a.gguf=0.5", "/b=c.gguf"), draft_model="/d.gguf")
    known = {"/p.gguf": projector, "/a.gguf": adapter, "/d.gguf": draft}

    alone = likely().other_bytes
    found = estimate(info(), options, LLAMACPP, companions=known)
    assert found.other_bytes - alone > (900 + 50 + 100) * MIB
    assert estimate(info(), options, LLAMACPP).other_bytes == alone
    assert estimate(info(), options, LLAMACPP, companions={"/b=c.gguf": adapter}).other_bytes == alone + 50 * MIB


def test_what_the_other_part_is_made_of_is_told() -> None:
    adapter = info(weights={"F16": 50 * MIB}, shape=None, role=Role.ADAPTER)
    options = replace(ON_CPU, lora=("/a.gguf", "/b.gguf=0.5"), draft_model="/d.gguf", cache_ram_mib=64)
    known = {"/a.gguf": adapter, "/b.gguf": adapter, "/d.gguf": small()}
    for about in (info(), info(shape=None)):
        found = estimate(about, options, LLAMACPP, companions=known)
        assert sum(found.other_parts.values()) == found.other_bytes
        assert found.other_parts["lora"] == 100 * MIB
        assert found.other_parts["prompt_cache"] == 64 * MIB
        assert {"process", "draft_model"} < set(found.other_parts)
        whole = refine(found, Figures("measured", other_bytes=found.other_bytes + MIB))
        assert set(whole.other_parts) == {"lora", "draft_model"}, "the rest was measured in one piece"
        assert refine(found, Figures("dry run", kv_bytes=MIB)).other_parts == found.other_parts


def test_the_cache_of_a_draft_model_is_plain_whatever_that_of_the_model_is() -> None:
    known = {"/d.gguf": small()}
    plain, coarse = ON_CPU, replace(ON_CPU, cache_type_k="q8_0", cache_type_v="q8_0")
    added = [
        estimate(info(), replace(options, draft_model="/d.gguf"), LLAMACPP, companions=known).other_bytes
        - estimate(info(), options, LLAMACPP).other_bytes
        for options in (plain, coarse)
    ]
    assert added[0] == added[1]


def test_other_formats_go_by_weights_cache_and_activations() -> None:
    transformers = spec("transformers", formats=frozenset({Format.SAFETENSORS}))
    about = info("LlamaForCausalLM", weights={"BF16": 16 * GIB}, format=Format.SAFETENSORS)
    found = estimate(about, ON_CPU, transformers)
    assert found.weight_bytes == 16 * GIB
    assert found.kv_bytes == 512 * MIB
    assert found.low_bytes < found.total_bytes < found.high_bytes


def test_an_unknown_shape_goes_by_size_with_a_wide_range() -> None:
    found = estimate(info(weights={}, shape=None, size_bytes=4 * GIB), LoadOptions(), LLAMACPP)
    assert found.weight_bytes == 4 * GIB
    assert found.low_bytes == 4 * GIB
    assert found.high_bytes > 9 * GIB


def test_options_that_say_nothing_still_give_a_figure() -> None:
    found = estimate(small(), LoadOptions(), LLAMACPP)
    assert found == estimate(small(), LoadOptions(ctx=4096, parallel=1), LLAMACPP)
    assert estimate(small(context_length=None), LoadOptions(), LLAMACPP) == found


kinds = st.sampled_from(
    [
        info(),
        info("gemma3", shape=replace(SHAPE, sliding_window=1024)),
        info("bert", role=Role.EMBEDDING),
        info(
            "mamba2", shape=replace(SHAPE, kv_heads=(0,) * 32), metadata={"ssm.inner_size": 8192, "ssm.state_size": 16}
        ),
        info("LlamaForCausalLM", format=Format.SAFETENSORS),
        small(),
    ]
)
contexts = st.integers(1, 1 << 18)
slots = st.integers(1, 64)
types = st.sampled_from([name for name in CACHE_BLOCKS if name != "auto"])


@settings(max_examples=200, deadline=None)
@given(kinds, contexts, contexts, slots, slots, types, st.booleans())
def test_more_context_and_more_slots_never_take_less(
    about: object, ctx: int, ctx2: int, parallel: int, parallel2: int, kind: str, unified: bool
) -> None:
    options = replace(ON_CPU, cache_type_k=kind, cache_type_v=kind, kv_unified=unified)
    less = replace(options, ctx=min(ctx, ctx2), parallel=min(parallel, parallel2))
    more = replace(options, ctx=max(ctx, ctx2), parallel=max(parallel, parallel2))
    small_one, large_one = (estimate(about, each, LLAMACPP) for each in (less, more))  # type: ignore[arg-type]
    assert small_one.kv_bytes <= large_one.kv_bytes
    # A batch is rounded up to as many tokens from every slot: 23 slots compute 529 at once, 27 compute 513.
    longer = estimate(about, replace(more, parallel=less.parallel), LLAMACPP)  # type: ignore[arg-type]
    assert small_one.total_bytes <= longer.total_bytes
    for found in (small_one, large_one):
        assert found.low_bytes <= found.total_bytes <= found.high_bytes


@settings(max_examples=100, deadline=None)
@given(kinds, contexts, slots, types, types)
def test_a_finer_cache_never_takes_less(about: object, ctx: int, parallel: int, kind: str, kind2: str) -> None:
    coarse, fine = sorted((kind, kind2), key=lambda name: CACHE_BLOCKS[name][1] / CACHE_BLOCKS[name][0])
    found = [
        estimate(about, replace(ON_CPU, ctx=ctx, parallel=parallel, cache_type_k=each, cache_type_v=each), LLAMACPP)  # type: ignore[arg-type]
        for each in (coarse, fine)
    ]
    assert found[0].kv_bytes <= found[1].kv_bytes
