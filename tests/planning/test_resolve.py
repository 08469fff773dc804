"""Nothing left to guess."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.things import GIB, LLAMACPP, MIB, SHAPE, info, machine, small, spec
from uml.core.errors import BadOption
from uml.core.machine import Machine
from uml.core.model import Format, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.planning import estimate, resolve_options
from uml.planning.batches import SHORT_BATCH
from uml.planning.budget import room
from uml.planning.resolve import unhonoured

AUTO = LoadOptions()


def resolved(about: ModelInfo, options: LoadOptions = AUTO, where: Machine | None = None) -> LoadOptions:
    return resolve_options(about, options, where or machine(), LLAMACPP)


def test_a_small_model_gets_all_it_was_trained_for() -> None:
    found = resolved(small())
    assert (found.ctx, found.parallel) == (4096, 4)
    assert (found.threads, found.threads_batch) == (8, 8)
    assert (found.cache_type_k, found.cache_type_v, found.flash_attention) == ("f16", "f16", "auto")
    assert (found.device, found.gpu_layers) == ("cpu", 0)
    assert (found.batch, found.ubatch) == (64, 64)


def test_the_cache_takes_no_more_than_the_weights() -> None:
    found = resolved(info(), where=machine(64 * GIB))
    assert (found.ctx, found.parallel) == (16384, 4), "8 GiB of cache for 8 GiB of weights, whatever is free"
    found = resolved(small(context_length=131_072), where=machine(64 * GIB))
    assert estimate(small(), found, LLAMACPP).kv_bytes == 512 * MIB, "or half a gigabyte for a model with less"


def test_the_context_stays_within_half_of_what_is_free() -> None:
    where = machine(28 * GIB)
    found = resolved(info(), where=where)
    assert found.ctx % 256 == 0
    assert (found.parallel, found.cache_type_k) == (4, "f16")
    half = room(where.memory) // 2
    assert estimate(info(), found, LLAMACPP).total_bytes <= half
    assert estimate(info(), replace(found, ctx=found.ctx + 256), LLAMACPP).total_bytes > half


def test_a_large_model_gets_a_comfortable_context_where_memory_allows() -> None:
    found = resolved(info(), where=machine(14 * GIB))
    assert (found.ctx, found.parallel) == (8192, 1), "8.6 GiB of weights are over half, and 10 GiB under three quarters"
    assert found.cache_type_k == "f16"


def test_a_coarser_cache_comes_before_a_shorter_context() -> None:
    def at(free: int, options: LoadOptions = AUTO) -> tuple[int, str, str]:
        found = resolved(info(), options, machine(free))
        return found.ctx, found.cache_type_k, found.cache_type_v

    assert at(12 * GIB + 256 * MIB) == (8192, "q8_0", "q8_0")
    assert at(9 * GIB) == (4096, "q8_0", "q8_0")
    assert at(8 * GIB + 544 * MIB) == (2048, "q8_0", "q8_0")
    assert at(4 * GIB) == (2048, "q4_0", "q4_0"), "whether it fits or not"
    assert at(12 * GIB + 256 * MIB, LoadOptions(cache_type_k="f16", cache_type_v="f16")) == (4096, "f16", "f16")
    assert at(12 * GIB + 256 * MIB, LoadOptions(flash_attention="off"))[2] == "f16", "quantized values need it"
    assert at(24 * GIB, LoadOptions(ctx=65536)) == (65536, "f16", "f16"), "who asks may fill the memory"
    assert at(14 * GIB, LoadOptions(ctx=65536)) == (65536, "q8_0", "q8_0")


def test_slots_are_fewer_where_memory_is_short() -> None:
    asked = LoadOptions(ctx=16384)
    assert [resolved(info(), asked, machine(free * GIB)).parallel for free in (40, 28, 20)] == [4, 2, 1]


def test_what_was_said_stays() -> None:
    asked = LoadOptions(ctx=300, parallel=3, threads=2, threads_batch=6, cache_type_k="q8_0", batch=64)
    found = resolved(small(), asked)
    assert (found.ctx, found.parallel, found.threads, found.threads_batch) == (300, 3, 2, 6)
    assert (found.cache_type_k, found.batch, found.ubatch) == ("q8_0", 64, 64)


def test_a_batch_is_no_longer_than_the_context() -> None:
    found = resolved(small(), LoadOptions(ctx=256, batch=300))
    assert (found.batch, found.ubatch) == (256, 256)
    assert resolved(small(), LoadOptions(ctx=32)).batch == 32


@pytest.mark.parametrize(
    ("about", "asked", "batch"),
    [
        ({}, {}, 64),
        ({}, {"parallel": 200}, 200),
        ({}, {"batch": 256}, 256),
        ({}, {"batch": 512}, 512),
        ({}, {"batch": 16}, 16),
        ({}, {"ubatch": 16}, 64),
        ({}, {"ubatch": 128}, 128),
        # What must be in one batch: an image, a text to embed, guesses; and experts, which get few tokens of a batch.
        ({}, {"mmproj": "/p.gguf"}, 512),
        ({}, {"embeddings": True}, 512),
        ({}, {"spec_type": "ngram-mod"}, 512),
        ({"shape": replace(SHAPE, layers=2, kv_heads=(8,) * 2, experts=8, experts_used=2)}, {}, 512),
        ({"format": Format.SAFETENSORS}, {}, 512),
    ],
)
def test_a_processor_reads_in_short_batches_where_that_is_as_fast(
    about: dict[str, Any], asked: dict[str, Any], batch: int
) -> None:
    options = LoadOptions(ctx=1024, **asked)
    companions = {"mmproj": info()} if options.mmproj else {}
    where = machine(64 * GIB)
    found = resolve_options(small(**about), options, where, LLAMACPP, companions=companions)
    assert found.batch == batch
    again = resolve_options(small(**about), found, where, LLAMACPP, companions=companions)
    assert again == found


def test_a_context_that_is_no_multiple_of_256() -> None:
    assert resolved(small(context_length=2000)).ctx == 2000
    assert resolved(small(context_length=77)).ctx == 77
    assert resolved(small(context_length=2500)).ctx == 2500
    assert resolved(small(context_length=None)).ctx == 4096


def test_more_context_than_trained_needs_to_be_stretched() -> None:
    with pytest.raises(BadOption, match="a whole number from 0 to 4096, the context some was trained for"):
        resolved(small(), LoadOptions(ctx=4097))
    for stretched in (
        LoadOptions(ctx=8192, rope_scaling="yarn"),
        LoadOptions(ctx=8192, rope_freq_base=1e6),
        LoadOptions(ctx=8192, rope_freq_scale=0.5),
        LoadOptions(ctx=8192, yarn_orig_ctx=4096),
        LoadOptions(ctx=8192, override_kv=("llama.context_length=int:8192",)),
    ):
        assert resolved(small(), stretched).ctx == 8192
    with pytest.raises(BadOption):
        resolved(small(), LoadOptions(ctx=8192, rope_scaling="none", override_kv=("a.b=int:1",)))
    assert resolved(small(context_length=None), LoadOptions(ctx=100_000)).ctx == 100_000


@pytest.mark.parametrize(
    ("options", "option"),
    [
        (LoadOptions(cache_type_v="q8_0", flash_attention="off"), "cache_type_v"),
        (LoadOptions(cache_type_k="q4_0"), "cache_type_k"),
        (LoadOptions(cache_type_v="iq4_nl"), "cache_type_v"),
    ],
)
def test_cache_types_that_the_engine_would_refuse(options: LoadOptions, option: str) -> None:
    odd = small(shape=replace(SHAPE, key_length=80, value_length=80))
    with pytest.raises(BadOption) as caught:
        resolved(odd, options)
    assert caught.value.param == f"options.{option}"
    assert "f16" in caught.value.message


def test_embedding_models_embed_and_rerankers_rank() -> None:
    bert = info("bert", role=Role.EMBEDDING, context_length=2048, weights={"F16": 100 * MIB})
    found = resolved(bert)
    assert found.embeddings
    assert (found.ctx, found.batch, found.ubatch) == (2048, 2048, 2048), "it cannot be fed in pieces"
    said = resolved(bert, LoadOptions(ubatch=128, batch=256))
    assert (said.batch, said.ubatch) == (128, 128), "but for who says otherwise"
    for asked in (LoadOptions(batch=512), LoadOptions(ubatch=512)):
        found = resolved(bert, asked)
        assert (found.batch, found.ubatch) == (512, 512), "longer texts are refused then"

    ranker = resolved(info(role=Role.RERANKER, weights={"F16": 100 * MIB}, context_length=1024))
    assert (ranker.pooling, ranker.embeddings) == ("rank", True)


def test_what_embeds_computes_as_much_at_once_as_it_is_handed() -> None:
    def sizes(**asked: int) -> tuple[int, int]:
        found = resolved(small(), LoadOptions.parse({"embeddings": True, "ctx": 4096, **asked}))
        return found.batch, found.ubatch

    assert sizes() == (512, 512)
    assert sizes(batch=2048) == (2048, 2048), "what was asked for is what there is"
    assert sizes(ubatch=128) == sizes(batch=256, ubatch=128) == (128, 128)
    assert sizes(batch=128, ubatch=256) == (128, 128)
    elsewhere = resolved(small(format=Format.ONNX), LoadOptions(embeddings=True, ctx=4096, batch=256, ubatch=128))
    assert (elsewhere.batch, elsewhere.ubatch) == (256, 128), "that is how llama.cpp does it"


def test_a_decoder_that_pools_the_last_token_takes_pieces() -> None:
    last = info(role=Role.EMBEDDING, metadata={"pooling_type": 3}, context_length=4096)
    assert resolved(last).ubatch == 512
    assert resolved(last, LoadOptions(batch=2048)).ubatch == 2048
    assert resolved(last, LoadOptions(pooling="mean")).ubatch == 4096
    mean = info(role=Role.EMBEDDING, metadata={"pooling_type": 1}, context_length=4096)
    assert resolved(mean).ubatch == 4096
    assert resolved(mean, LoadOptions(pooling="last")).ubatch == 512


def test_with_a_gpu_the_place_decides_later_and_its_memory_counts() -> None:
    where = machine(8 * GIB, gpus=(48 * GIB,))
    found = resolved(info(), where=where)
    assert (found.device, found.gpu_layers) == ("auto", -1)
    assert found.ctx > resolved(info(), where=machine(8 * GIB)).ctx
    assert resolved(info(), LoadOptions(device="cpu"), where).gpu_layers == 0
    with pytest.raises(BadOption, match="auto, or one or more, with commas, of cpu; no GPU is found here"):
        resolved(info(), LoadOptions(device="cuda:0"))


def test_options_that_an_engine_does_not_know_are_told() -> None:
    simple = spec(title="Simple", options=frozenset({"ctx"}))
    warnings = unhonoured(LoadOptions(ctx=512, engine="simple", device="cpu", mlock=True), simple)
    assert warnings == ("Simple does not honour the option mlock",)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([info(), small(), info("bert", role=Role.EMBEDDING), info(shape=None), small(context_length=None)]),
    st.builds(
        LoadOptions,
        ctx=st.sampled_from([0, 8, 300, 2048, 4096]),
        parallel=st.sampled_from([0, 1, 3, 16]),
        batch=st.sampled_from([0, 0, 1, 64, 512, 2048, 9999]),
        ubatch=st.sampled_from([0, 0, 1, 512, 4096]),
        threads=st.integers(0, 3),
        cache_type_k=st.sampled_from(["auto", "q8_0"]),
        gpu_layers=st.integers(-1, 3),
        embeddings=st.booleans(),
    ),
    st.integers(0, 80 * GIB),
    st.lists(st.integers(1, 48 * GIB), max_size=2),
)
def test_resolving_again_changes_nothing(about: ModelInfo, options: LoadOptions, free: int, gpus: list[int]) -> None:
    where = machine(free, gpus=tuple(gpus))
    once = resolve_options(about, options, where, LLAMACPP)
    assert resolve_options(about, once, where, LLAMACPP) == once
    assert once.ctx > 0
    assert once.parallel > 0
    assert once.threads > 0
    assert 0 < once.ubatch <= once.batch <= once.ctx
    together = about.role is Role.EMBEDDING or options.embeddings
    if options.batch:
        most = min(options.batch, options.ubatch) if together and options.ubatch else options.batch
        assert once.batch == min(most, once.ctx), "what was asked for is what there is"
    assert once.batch == once.ubatch or not together
    if options.ubatch:
        assert once.ubatch == min(options.ubatch, once.batch)
        assert options.batch or once.batch >= min(options.ubatch, once.ctx), "an open batch makes room for it"
    elif not options.batch and about.role is Role.TEXT:
        assert once.batch >= min(SHORT_BATCH, once.ctx)
    assert "auto" not in (once.cache_type_k, once.cache_type_v)
    if about.context_length:
        assert once.ctx <= about.context_length
