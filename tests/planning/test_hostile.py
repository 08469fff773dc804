"""Headers that make no sense: planning runs on the event loop, and may neither raise nor take its time over them."""

import sys
from dataclasses import replace
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planning.things import GIB, MIB, SPECS, info, machine
from tests.planning.things import model as registered
from uml.core.errors import UmlError
from uml.core.machine import Machine
from uml.core.model import Format, ModelInfo, Role, Scalar, Shape, TensorGroup
from uml.core.options import LoadOptions
from uml.planning import plan
from uml.planning.elsewhere import outlook

MOST_CALLS = 1_000_000
"""Of functions, for one plan: 0.1 s of an idle processor. Counted and not timed, so that it fails for its own sake."""

MOST = (1 << 32) - 1
numbers = st.one_of(st.integers(0, 300), st.integers(0, MOST), st.sampled_from((0, 1, 64, 4096, MOST)))
layer_counts = st.one_of(st.integers(1, 64), st.sampled_from((1, 1000, 4096)))
"""What a reader lets through: numbers are u32, layers at most 4096."""

ARCHITECTURES = (
    "llama",
    "gemma3",
    "qwen3moe",
    "deepseek2",
    "mamba2",
    "falcon-h1",
    "bert",
    "command-r",
    "rwkv7",
    "none",
)
NAMES = (
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "attn_q_norm", "attn_k_norm"),
    *("attn_output_norm", "layer_output_norm", "post_attention_norm", "post_ffw_norm", "attn_kv_a_mqa"),
    *("attn_kv_a_norm", "attn_kv_b", "attn_k_b", "attn_v_b", "attn_q_a", "attn_q_b", "ssm_in", "ssm_x", "ssm_dt"),
    *("ssm_out", "ssm_norm", "time_mix_r", "ffn_norm", "ffn_up", "ffn_gate", "ffn_down", "ffn_gate_inp"),
    *("ffn_up_exps", "ffn_gate_exps", "ffn_gate_up_exps", "ffn_down_exps", "ffn_up_shexp", "ffn_down_shexp"),
    *("exp_probs_b", "odd_one"),
)
KEYS = (
    *("rope.dimension_count", "ssm.inner_size", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank"),
    *("ssm.conv_kernel", "attention.kv_lora_rank", "attention.key_length_mla", "attention.shared_kv_layers"),
    *("attention.sliding_window_pattern", "full_attention_interval", "expert_feed_forward_length"),
    *("leading_dense_block_count", "wkv.head_size", "shortconv.l_cache", "pooling_type"),
)


@st.composite
def tensors(draw: st.DrawFn, layers: int) -> TensorGroup:
    name = draw(st.sampled_from(NAMES)) + draw(st.sampled_from((".weight", ".weight", ".bias", "")))
    inside = draw(st.sampled_from(("every", "every", "some", "none")))
    among = tuple(range(layers)) if inside == "every" else tuple(range(0, layers, 3)) if inside == "some" else ()
    size = draw(st.integers(0, GIB))
    kind = draw(st.sampled_from(("F32", "Q4_K", "Q8_0", "IQ4_NL", "type 999")))
    return TensorGroup(name, kind, tuple(draw(st.lists(numbers, min_size=1, max_size=4))), among, size, 0, size)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    layers = draw(layer_counts)
    heads = draw(st.lists(numbers, min_size=1, max_size=4))
    kinds = draw(st.lists(st.booleans(), max_size=4))
    return Shape(
        layers=layers,
        embedding=draw(numbers.filter(bool)),
        feed_forward=draw(numbers),
        heads=draw(numbers),
        kv_heads=tuple((heads * layers)[:layers]),
        key_length=draw(numbers),
        value_length=draw(numbers),
        vocabulary=draw(numbers),
        sliding_window=draw(st.none() | numbers.filter(bool)),
        experts=draw(numbers),
        experts_used=draw(numbers),
        sliding=tuple((kinds * layers)[:layers]) if kinds else (),
        tensors=tuple(draw(st.lists(tensors(layers), max_size=24))),
    )


@st.composite
def headers(draw: st.DrawFn) -> ModelInfo:
    said: dict[str, Scalar] = dict(draw(st.dictionaries(st.sampled_from(KEYS), numbers)))
    return info(
        draw(st.sampled_from(ARCHITECTURES)),
        weights=draw(st.dictionaries(st.sampled_from(("Q4_K", "F16", "odd")), st.integers(0, 40 * GIB), max_size=3)),
        shape=draw(st.none() | shapes()),
        metadata=said,
        size_bytes=draw(st.integers(0, 1 << 42)),
        parameters=draw(st.none() | st.integers(0, 1 << 62)),
        context_length=draw(st.none() | numbers.filter(bool)),
        format=draw(st.sampled_from((Format.GGUF, Format.GGUF, Format.SAFETENSORS, Format.ONNX))),
        role=draw(st.sampled_from((Role.TEXT, Role.TEXT, Role.EMBEDDING, Role.RERANKER, Role.UNKNOWN))),
    )


wishes = st.builds(
    LoadOptions,
    ctx=st.sampled_from((0, 0, 1, 1000, 1 << 20)),
    parallel=st.sampled_from((0, 1, 3, 64)),
    cache_type_k=st.sampled_from(("auto", "q8_0")),
    flash_attention=st.sampled_from(("auto", "off")),
    kv_unified=st.booleans(),
    cpu_moe_layers=st.sampled_from((-1, 0, 7)),
)
grounds = st.sampled_from((machine(), machine(free=GIB), machine(gpus=(24 * GIB, 8 * GIB)), machine(gpus=(256 * MIB,))))


def calls(about: ModelInfo, options: LoadOptions, ground: Machine) -> int:
    """Functions that were called for a plan; an error of ours is an answer."""
    count = 0

    def seen(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")
        if count > MOST_CALLS:
            sys.setprofile(None)
            raise TimeoutError(f"{count} calls")

    sys.setprofile(seen)
    try:
        if about.format is Format.GGUF:
            found = plan(registered(about), options, ground, SPECS).footprint
        else:
            other = outlook(registered(about), options, ground)
            assert other is not None
            found = other.plan.footprint
    except UmlError:
        return count
    finally:
        sys.setprofile(None)
    assert min(found.parts.values()) >= 0
    assert 0 <= found.low_bytes <= found.high_bytes
    return count


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(headers(), wishes, grounds)
def test_no_header_makes_planning_slow_or_fail(about: ModelInfo, options: LoadOptions, ground: Machine) -> None:
    assert calls(about, options, ground) < MOST_CALLS


def drawn(names: str, embedding: int = 64, heads: int = 4, **rest: Any) -> ModelInfo:
    """Two layers of square matrices with these names; `name:2` has two dimensions fewer than it should."""
    groups = tuple(
        TensorGroup(
            f"{name.rstrip('!')}.weight",
            "F16",
            (embedding,) if name.endswith("!") else (embedding,) * 2,
            (0, 1),
            1,
            0,
            1,
        )
        for name in names.split()
    )
    shape = Shape(2, embedding, 128, heads, (heads,) * 2, 16, 16, 1000, tensors=groups, experts=8, experts_used=2)
    return info(weights={"F16": MIB}, shape=replace(shape, **rest))


def test_tensors_that_make_no_graph_are_reckoned_by_hand() -> None:
    whole = drawn("attn_norm! attn_q attn_k attn_v attn_output ffn_norm! ffn_up ffn_down")
    options = LoadOptions(ctx=512, parallel=1)
    exact = plan(registered(whole), options, machine(), SPECS).footprint
    for names, rest in (
        ("attn_norm! attn_k attn_output", {}),  # no queries
        ("attn_q! attn_output", {}),  # a matrix with one side
        ("ffn_norm! ffn_gate_inp ffn_down_exps", {}),  # a router without experts
        ("attn_q attn_kv_a_mqa attn_kv_b attn_output", {"heads": 0}),  # no heads to share it
    ):
        found = plan(registered(drawn(names, **rest)), options, machine(), SPECS).footprint
        assert found.compute_bytes == 4 * (512 * (5 * 64 + 3 * 128) + 1000)
        assert found.high_bytes - found.total_bytes > exact.high_bytes - exact.total_bytes


def test_a_header_with_billions_of_experts_and_thousands_of_kinds_of_layers_is_no_work() -> None:
    experts = drawn(
        "attn_q attn_output ffn_norm! ffn_gate_inp ffn_up_exps ffn_down_exps", experts_used=MOST, experts=MOST
    )
    assert experts.shape is not None
    kinds = tuple(TensorGroup("attn_output.weight", "F16", (64, width), (width,), 1, 0, 1) for width in range(512))
    layers = replace(experts.shape, layers=4096, kv_heads=(1,) * 4096, tensors=kinds)
    for about in (experts, replace(experts, shape=layers)):
        assert calls(about, LoadOptions(), machine()) < MOST_CALLS
