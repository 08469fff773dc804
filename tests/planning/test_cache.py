"""Keys, values and states by kind of layer. Figures are those that llama.cpp's log gave for such files."""

from dataclasses import replace

import pytest

from tests.planning.things import GIB, MIB, SHAPE, SPECS, info, machine, model
from uml.core.errors import BadOption
from uml.core.options import LoadOptions
from uml.planning import plan
from uml.planning.cache import cache, is_encoder

DEMO = replace(SHAPE, layers=6, embedding=256, feed_forward=768, heads=4, kv_heads=(2,) * 6, key_length=64)
DEMO = replace(DEMO, value_length=64)
GEMMA3 = replace(SHAPE, layers=18, embedding=640, heads=4, kv_heads=(1,) * 18, key_length=256, value_length=256)
GEMMA3 = replace(GEMMA3, sliding_window=512)


def options(ctx: int, parallel: int = 1, **rest: object) -> LoadOptions:
    return LoadOptions.parse({"ctx": ctx, "parallel": parallel, "batch": 512, "ubatch": 512, **rest})


@pytest.mark.parametrize(
    ("wanted", "mib"),
    [
        (options(256), 0.75),
        (options(1024, 4), 12.0),
        (options(300, 2), 3.0),  # rounded up to 512 cells a slot
        (options(2048, 4, kv_unified=True), 6.0),
        (options(2048, 2, cache_type_k="q8_0", cache_type_v="q4_0"), 4.875),
        (options(2048, 1, cache_type_k="f32", cache_type_v="bf16"), 9.0),
    ],
)
def test_every_layer_with_full_attention(wanted: LoadOptions, mib: float) -> None:
    assert cache(info(shape=DEMO), DEMO, wanted).kv_bytes == mib * MIB


@pytest.mark.parametrize(
    ("wanted", "mib"),
    [
        (options(512), 9.0),
        (options(8192), 39.0),
        (options(8192, 4), 156.0),
        (options(2048, 4, kv_unified=True), 36.0),
        (options(8192, 1, swa_full=True), 144.0),
        (options(8192, 1, cache_type_k="q8_0", cache_type_v="q8_0"), 20.71875),
    ],
)
def test_five_of_six_layers_with_a_window(wanted: LoadOptions, mib: float) -> None:
    assert cache(info("gemma3", shape=GEMMA3), GEMMA3, wanted).kv_bytes == mib * MIB


LATENT = info("deepseek2", metadata={"attention.kv_lora_rank": 512, "attention.key_length_mla": 192})


@pytest.mark.parametrize(
    ("wanted", "had"),
    [
        ({"cache_type_k": "q8_0"}, "q8_0"),
        ({"cache_type_v": "q8_0"}, "q8_0"),
        ({"cache_type_k": "bf16"}, "bf16"),
        ({"flash_attention": "off"}, "f16"),
        ({}, "f16"),
    ],
)
def test_keys_and_values_in_one_row_have_one_type(wanted: dict[str, str], had: str) -> None:
    found = plan(model(LATENT), LoadOptions.parse({"ctx": 8192, **wanted}), machine(), SPECS).options
    assert (found.cache_type_k, found.cache_type_v) == (had, had)


def test_open_types_of_one_row_become_coarser_together() -> None:
    tight = plan(model(LATENT), LoadOptions(ctx=131_072), machine(12 * GIB), SPECS).options
    assert (tight.cache_type_k, tight.cache_type_v) == ("q8_0", "q8_0")


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"cache_type_k": "q8_0", "cache_type_v": "q4_0"}, "cache_type_v is 'q4_0'; expected auto or q8_0"),
        ({"cache_type_k": "f16", "cache_type_v": "bf16"}, "cache_type_v is 'bf16'; expected auto or f16"),
        ({"cache_type_k": "q8_0", "flash_attention": "off"}, "cache_type_k is 'q8_0'; expected auto, f16, bf16 or f32"),
    ],
)
def test_two_types_for_one_row_are_refused_before_any_engine_starts(wanted: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadOption, match=sentence):
        plan(model(LATENT), LoadOptions.parse({"ctx": 8192, **wanted}), machine(), SPECS)
    plan(model(info()), LoadOptions.parse({"ctx": 8192, **wanted}), machine(), SPECS)


def test_a_checkpoint_of_sliding_layers_is_one_window() -> None:
    kept = cache(info("gemma3", shape=GEMMA3), GEMMA3, options(8192))
    assert (kept.window_layers, kept.full_layers) == (15, 3)
    assert kept.checkpoint_bytes == 7.5 * MIB


def test_the_file_may_say_how_often_a_layer_is_full() -> None:
    about = info("gemma3", shape=GEMMA3, metadata={"attention.sliding_window_pattern": 2})
    assert cache(about, GEMMA3, options(8192)).full_layers == 9


def test_the_first_layer_of_a_period_is_the_full_one_in_some() -> None:
    shape = replace(GEMMA3, layers=5, kv_heads=(1,) * 5)
    assert cache(info("smallthinker", shape=shape), shape, options(8192)).full_layers == 2
    assert cache(info("cohere2", shape=shape), shape, options(8192)).full_layers == 1


def test_a_window_in_the_header_of_llama_is_ignored() -> None:
    shape = replace(DEMO, sliding_window=128)
    assert cache(info("phi3", shape=shape), shape, options(2048)).kv_bytes == 6 * MIB


def test_layers_that_share_a_cache_have_none() -> None:
    shape = replace(DEMO, layers=35, kv_heads=(2,) * 35)
    kept = cache(info("gemma3n", shape=shape), shape, options(2048))
    assert kept.full_layers + kept.window_layers == 20
    told = info("gemma3n", shape=shape, metadata={"attention.shared_kv_layers": 10})
    assert cache(told, shape, options(2048)).full_layers == 25


def test_latent_attention_keeps_one_row_for_all_heads() -> None:
    shape = replace(SHAPE, layers=27, kv_heads=(1,) * 27, key_length=576, value_length=512)
    latent = {"attention.kv_lora_rank": 512, "rope.dimension_count": 64, "attention.key_length_mla": 192}
    kept = cache(info("deepseek2", shape=shape, metadata=latent), shape, options(1024))
    assert kept.kv_bytes == 27 * 1024 * 576 * 2


def test_recurrent_layers_keep_a_state_whatever_the_context() -> None:
    mamba2 = {"ssm.inner_size": 1536, "ssm.state_size": 128, "ssm.conv_kernel": 4, "ssm.group_count": 1}
    shape = replace(SHAPE, layers=12, embedding=768, kv_heads=(0,) * 12)
    about = info("mamba2", shape=shape, metadata=mamba2)
    kept = cache(about, shape, options(512))
    assert kept == cache(about, shape, options(65536))
    assert kept.kv_bytes == 0
    assert round(kept.state_bytes / MIB, 2) == 9.25


def test_hybrids_have_both() -> None:
    ssm = {"ssm.inner_size": 4096, "ssm.state_size": 128, "ssm.conv_kernel": 4, "ssm.group_count": 16}
    shape = replace(SHAPE, layers=8, kv_heads=(2,) * 8)

    delta = cache(info("qwen3next", shape=shape, metadata=ssm | {"full_attention_interval": 4}), shape, options(512))
    assert (delta.full_layers, delta.state_layers) == (2, 6)

    beside = cache(info("falcon-h1", shape=shape, metadata=ssm), shape, options(512))
    assert (beside.full_layers, beside.state_layers) == (8, 8)

    jamba = replace(shape, kv_heads=(0, 0, 0, 8) * 2)
    told = cache(info("jamba", shape=jamba, metadata=ssm), jamba, options(512))
    assert (told.full_layers, told.state_layers) == (2, 6)


def test_short_convolutions_and_rwkv() -> None:
    lfm2 = replace(SHAPE, layers=4, embedding=1024, kv_heads=(0, 0, 8, 0))
    kept = cache(info("lfm2", shape=lfm2, metadata={"shortconv.l_cache": 3}), lfm2, options(512))
    assert kept.state_bytes == 3 * 2 * 1024 * 4

    rwkv = replace(SHAPE, layers=4, embedding=1024, kv_heads=(0,) * 4)
    kept = cache(info("rwkv7", shape=rwkv, metadata={"wkv.head_size": 64}), rwkv, options(512))
    assert kept.state_bytes == 4 * (2 + 64) * 1024 * 4


def test_encoders_keep_nothing() -> None:
    assert is_encoder(info("bert"))
    assert is_encoder(info("llama", metadata={"attention.causal": False}))
    assert cache(info("bert"), SHAPE, options(512)).kv_bytes == 0
