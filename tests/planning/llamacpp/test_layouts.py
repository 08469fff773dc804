"""Layers as older files and other converters lay them out: what they compute in, told by what they write out."""

from dataclasses import replace
from typing import Any

import pytest

from tests.planning.things import info
from uml.core.model import ModelInfo, Shape, TensorGroup
from uml.core.options import LoadOptions
from uml.planning.llamacpp.rules import compute

TOKENS, WIDTH, HEADS, HEAD, CTX = 512, 256, 4, 64, 4096
OPTIONS = LoadOptions(ctx=CTX, parallel=1, batch=TOKENS, ubatch=TOKENS, device="cpu", gpu_layers=0)
F32 = 4

SQUARE, NORM = (WIDTH, WIDTH), (WIDTH,)
ATTENTION = {"attn_norm": NORM, "attn_q": SQUARE, "attn_k": SQUARE, "attn_v": SQUARE, "attn_output": SQUARE}
FORWARD = {"ffn_norm": NORM, "ffn_gate": (WIDTH, 512), "ffn_up": (WIDTH, 512), "ffn_down": (512, WIDTH)}


def computed(
    sizes: dict[str, tuple[int, ...]],
    options: LoadOptions = OPTIONS,
    architecture: str = "llama",
    metadata: dict[str, int] | None = None,
    **rest: Any,
) -> int:
    """The likely buffer of four layers with these tensors."""
    groups = tuple(TensorGroup(f"{name}.weight", "F16", dims, (0, 1, 2, 3), 1, 0, 1) for name, dims in sizes.items())
    shape = Shape(4, WIDTH, 512, HEADS, (HEADS,) * 4, HEAD, HEAD, 1000, tensors=groups)
    about: ModelInfo = info(architecture, shape=replace(shape, **rest), metadata=metadata or {})
    assert about.shape is not None
    found = compute(about, about.shape, options)
    assert found.low <= found.likely <= found.high
    return found.likely


def test_one_matrix_for_queries_keys_and_values_needs_as_much_as_three() -> None:
    fused = {name: dims for name, dims in ATTENTION.items() if name not in ("attn_q", "attn_k", "attn_v")}
    one, three = computed({**fused, "attn_qkv": (WIDTH, 3 * WIDTH), **FORWARD}), computed({**ATTENTION, **FORWARD})
    assert one == pytest.approx(three, rel=0.2)


def test_without_flash_attention_the_scores_of_every_head_are_written_out() -> None:
    usual = computed({**ATTENTION, **FORWARD})
    scores = HEADS * CTX * TOKENS * F32
    assert computed({**ATTENTION, **FORWARD}, replace(OPTIONS, flash_attention="off")) - usual == pytest.approx(
        scores + CTX * TOKENS * 2, rel=0.15
    )


def test_an_encoder_without_flash_attention_scores_its_batch() -> None:
    layers = {**ATTENTION, "attn_output_norm": NORM, "layer_output_norm": NORM, "ffn_up": (WIDTH, 512)}
    layers |= {"ffn_down": (512, WIDTH)}
    whole = replace(OPTIONS, ctx=2048, batch=2048, ubatch=2048, embeddings=True)
    usual = computed(layers, whole, "bert")
    assert computed(layers, replace(whole, flash_attention="off"), "bert") > usual + HEADS * 2048 * 2048 * F32 // 2


def test_latent_attention_that_is_expanded_writes_out_keys_of_every_head() -> None:
    rank, rope, heads = 64, 32, 32
    pressed = {"attn_norm": NORM, "attn_q": (WIDTH, heads * (HEAD + rope)), "attn_kv_a_mqa": (WIDTH, rank + rope)}
    pressed |= {"attn_output": (heads * HEAD, WIDTH), **FORWARD}
    about = {"rope.dimension_count": rope}
    old = computed({**pressed, "attn_kv_b": (rank, heads * 2 * HEAD)}, metadata=about, heads=heads)
    keys, values = heads * (HEAD + rope) * TOKENS * F32, heads * HEAD * TOKENS * F32
    assert old > 2 * keys + values
    new = {"attn_k_b": (HEAD, rank, heads), "attn_v_b": (rank, HEAD, heads)}
    assert computed({**pressed, **new}, metadata=about, heads=heads) > 0


def test_the_first_mamba_has_matrices_for_its_steps() -> None:
    inner, state, step = 512, 16, 16
    layer = {"attn_norm": NORM, "ssm_in": (WIDTH, 2 * inner), "ssm_x": (inner, step + 2 * state)}
    layer |= {"ssm_dt": (step, inner), "ssm_out": (inner, WIDTH)}
    about = {"ssm.inner_size": inner, "ssm.state_size": state, "ssm.conv_kernel": 4, "ssm.time_step_rank": step}
    found = computed(layer, architecture="mamba", metadata=about, kv_heads=(0,) * 4)
    # What is mixed, and of that the part that goes on, are there at once.
    assert found > (2 * inner + inner + inner) * TOKENS * F32


def test_experts_with_gate_and_up_in_one_matrix_or_without_a_gate() -> None:
    each, count, used = 128, 8, 4
    router = {"ffn_norm": NORM, "ffn_gate_inp": (WIDTH, count), "ffn_down_exps": (each, WIDTH, count)}
    up = {"ffn_up_exps": (WIDTH, each, count)}
    mixture: dict[str, Any] = {"experts": count, "experts_used": used}
    both = computed({**ATTENTION, **router, **up, "ffn_gate_exps": (WIDTH, each, count)}, **mixture)
    joined = computed({**ATTENTION, **router, "ffn_gate_up_exps": (WIDTH, 2 * each, count)}, **mixture)
    plain = computed({**ATTENTION, **router, **up}, **mixture)
    assert joined == pytest.approx(both, rel=0.2) and plain == pytest.approx(both, rel=0.2)
    single = computed({**ATTENTION, **router, **up}, experts=count, experts_used=1)
    assert single < plain


def test_a_layer_that_nobody_has_drawn_goes_by_its_widest_matrices() -> None:
    wide = 8192
    found = computed({"attn_norm": NORM, "time_mix_key": (WIDTH, wide), **FORWARD}, architecture="rwkv7")
    assert found > wide * TOKENS * F32


def test_feed_forward_without_a_gate_may_be_wider_than_what_goes_down() -> None:
    halved = {**ATTENTION, "ffn_norm": NORM, "ffn_up": (WIDTH, 4096), "ffn_down": (2048, WIDTH)}
    assert computed(halved) > (4096 + 2048) * TOKENS * F32
