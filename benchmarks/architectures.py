"""Models of 14 architectures with random weights: small enough to load in a second, of real proportions.

Each is what a converter of llama.cpp writes for a model of that family, with fewer and narrower layers. Its header is
that of its family, its weights are noise; nothing sensible comes out, and memory is what it would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from benchmarks.sketch import KINDS, Dims, Sketch


def _common(architecture: str, dims: Dims, *, tied: bool = False, norm: str = "rms", bpe: bool = True) -> Sketch:
    sketch = Sketch(architecture, dims)
    sketch.say(
        context_length=dims.context,
        embedding_length=dims.embedding,
        block_count=dims.layers,
        feed_forward_length=dims.feed_forward,
        attention__head_count=dims.heads,
        attention__head_count_kv=dims.kv_heads,
        attention__key_length=dims.head,
        attention__value_length=dims.head,
        rope__dimension_count=dims.head,
    )
    sketch.say(**{"attention__layer_norm_rms_epsilon" if norm == "rms" else "attention__layer_norm_epsilon": 1e-5})
    if dims.experts:
        sketch.say(expert_count=dims.experts, expert_used_count=dims.used)
    if dims.window:
        sketch.say(attention__sliding_window=dims.window)
    sketch.matrix("token_embd", dims.embedding, dims.vocabulary)
    if not tied:
        sketch.matrix("output", dims.embedding, dims.vocabulary, kind=KINDS.Q6_K)
    sketch.vector("output_norm", dims.embedding)
    return sketch


def _attention(
    sketch: Sketch, block: str, *, bias: bool = False, output_bias: bool = False, norms: bool = False
) -> None:
    dims = sketch.dims
    wide, narrow = dims.heads * dims.head, dims.kv_heads * dims.head
    for name, rows in (("q", wide), ("k", narrow), ("v", narrow)):
        sketch.matrix(f"{block}.attn_{name}", dims.embedding, rows)
        if bias:
            sketch.vector(f"{block}.attn_{name}.bias", rows)
    sketch.matrix(f"{block}.attn_output", wide, dims.embedding)
    if output_bias:
        sketch.vector(f"{block}.attn_output.bias", dims.embedding)
    if norms:
        sketch.vector(f"{block}.attn_q_norm", dims.head)
        sketch.vector(f"{block}.attn_k_norm", dims.head)


def _forward(sketch: Sketch, block: str, width: int = 0, suffix: str = "") -> None:
    dims = sketch.dims
    width = width or dims.feed_forward
    sketch.matrix(f"{block}.ffn_gate{suffix}", dims.embedding, width)
    sketch.matrix(f"{block}.ffn_up{suffix}", dims.embedding, width)
    sketch.matrix(f"{block}.ffn_down{suffix}", width, dims.embedding)


def _experts(sketch: Sketch, block: str, kind: KINDS | None = None) -> None:
    dims = sketch.dims
    width = dims.expert_forward or dims.feed_forward
    sketch.vector(f"{block}.ffn_gate_inp", dims.embedding, dims.experts)
    sketch.matrix(f"{block}.ffn_gate_exps", dims.embedding, width, dims.experts, kind=kind)
    sketch.matrix(f"{block}.ffn_up_exps", dims.embedding, width, dims.experts, kind=kind)
    sketch.matrix(f"{block}.ffn_down_exps", width, dims.embedding, dims.experts, kind=kind)


def _blocks(sketch: Sketch, *norms: str) -> Iterator[str]:
    """Names of the layers, with norms of the embedding's length in each."""
    for layer in range(sketch.dims.layers):
        for norm in norms or ("attn_norm", "ffn_norm"):
            sketch.vector(f"blk.{layer}.{norm}", sketch.dims.embedding)
        yield f"blk.{layer}"


def llama(dims: Dims = Dims()) -> Sketch:
    """Llama 3: grouped queries, untied output."""
    sketch = _common("llama", dims)
    for block in _blocks(sketch):
        _attention(sketch, block)
        _forward(sketch, block)
    return sketch


def qwen2(dims: Dims = Dims(embedding=896, heads=14, kv_heads=2, feed_forward=4864, vocabulary=32_000)) -> Sketch:
    """Qwen 2.5: biases, tied output, wide feed-forward, in Q8_0."""
    sketch = replace(_common("qwen2", dims, tied=True), quantized=KINDS.Q8_0)
    sketch.tensors["token_embd.weight"] = ((dims.embedding, dims.vocabulary), KINDS.Q8_0)
    for block in _blocks(sketch):
        _attention(sketch, block, bias=True)
        _forward(sketch, block)
    return sketch


def qwen3(dims: Dims = Dims(heads=16, kv_heads=8, head=128, vocabulary=32_000)) -> Sketch:
    """Qwen 3: keys and queries are normed, heads wider than the embedding; Q4_K with Q6_K."""
    sketch = replace(_common("qwen3", dims, tied=True), quantized=KINDS.Q4_K)
    for block in _blocks(sketch):
        _attention(sketch, block, norms=True)
        _forward(sketch, block)
        sketch.tensors[f"{block}.attn_v.weight"] = (
            (dims.embedding, dims.kv_heads * dims.head),
            KINDS.Q6_K,
        )
    return sketch


def gemma2(
    dims: Dims = Dims(layers=10, heads=8, head=128, window=1024, feed_forward=3072, vocabulary=64_000),
) -> Sketch:
    """Gemma 2: every other layer slides, norms before and after, capped scores, a large vocabulary."""
    sketch = _common("gemma2", dims, tied=True)
    sketch.say(attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
    for block in _blocks(sketch, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
        _attention(sketch, block)
        _forward(sketch, block)
    return sketch


def gemma3(dims: Dims = Dims(layers=12, heads=4, kv_heads=1, head=256, window=512, vocabulary=64_000)) -> Sketch:
    """Gemma 3: five of six layers slide."""
    sketch = replace(_common("gemma3", dims, tied=True), quantized=KINDS.Q8_0)
    for block in _blocks(sketch, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
        _attention(sketch, block, norms=True)
        _forward(sketch, block)
    return sketch


def phi3(dims: Dims = Dims(kv_heads=12, vocabulary=32_000)) -> Sketch:
    """Phi 3: one matrix for queries, keys and values, one for gate and up."""
    sketch = _common("phi3", dims)
    sketch.say(rope__scaling__original_context_length=4096)
    for block in _blocks(sketch):
        sketch.matrix(f"{block}.attn_qkv", dims.embedding, (dims.heads + 2 * dims.kv_heads) * dims.head)
        sketch.matrix(f"{block}.attn_output", dims.heads * dims.head, dims.embedding)
        sketch.matrix(f"{block}.ffn_up", dims.embedding, 2 * dims.feed_forward)
        sketch.matrix(f"{block}.ffn_down", dims.feed_forward, dims.embedding)
    return sketch


def mixtral(dims: Dims = Dims(layers=6, experts=8, used=2, feed_forward=1792)) -> Sketch:
    """Mixtral: a llama with eight experts, two in use."""
    sketch = _common("llama", dims)
    for block in _blocks(sketch):
        _attention(sketch, block)
        _experts(sketch, block)
    return sketch


def qwen3moe(dims: Dims = Dims(layers=6, experts=32, used=8, expert_forward=384, heads=16, head=128)) -> Sketch:
    """Qwen 3 MoE: many narrow experts."""
    sketch = _common("qwen3moe", dims)
    sketch.say(expert_feed_forward_length=dims.expert_forward)
    for block in _blocks(sketch):
        _attention(sketch, block, norms=True)
        _experts(sketch, block)
    return sketch


def gpt_oss(
    dims: Dims = Dims(
        layers=6, experts=16, used=4, expert_forward=768, heads=24, kv_heads=8, window=128, vocabulary=50_000
    ),
) -> Sketch:
    """gpt-oss: sinks, biases everywhere, every other layer slides, experts in MXFP4."""
    sketch = replace(_common("gpt-oss", dims), quantized=KINDS.Q8_0)
    sketch.say(expert_feed_forward_length=dims.expert_forward)
    for block in _blocks(sketch, "attn_norm", "post_attention_norm"):
        _attention(sketch, block, bias=True, output_bias=True)
        sketch.vector(f"{block}.attn_sinks", dims.heads)
        _experts(sketch, block, KINDS.MXFP4)
        sketch.vector(f"{block}.ffn_gate_inp.bias", dims.experts)
        for name, width in (("gate", dims.expert_forward), ("up", dims.expert_forward), ("down", dims.embedding)):
            sketch.vector(f"{block}.ffn_{name}_exps.bias", width, dims.experts)
    return sketch


def deepseek2(dims: Dims = Dims(layers=6, experts=16, used=4, expert_forward=384)) -> Sketch:
    """DeepSeek 2: latent attention, a dense first layer, shared experts."""
    sketch = _common("deepseek2", dims)
    rank, rope, nope, value = 256, 64, 64, 64
    sketch.say(
        attention__head_count_kv=1,
        attention__key_length=rank + rope,
        attention__value_length=rank,
        attention__key_length_mla=nope + rope,
        attention__value_length_mla=value,
        attention__kv_lora_rank=rank,
        attention__q_lora_rank=384,
        rope__dimension_count=rope,
        leading_dense_block_count=1,
        expert_feed_forward_length=dims.expert_forward,
        expert_shared_count=2,
        expert_weights_scale=1.0,
        expert_gating_func=1,
    )
    for layer, block in enumerate(_blocks(sketch)):
        sketch.matrix(f"{block}.attn_q_a", dims.embedding, 384)
        sketch.vector(f"{block}.attn_q_a_norm", 384)
        sketch.matrix(f"{block}.attn_q_b", 384, dims.heads * (nope + rope))
        sketch.matrix(f"{block}.attn_kv_a_mqa", dims.embedding, rank + rope)
        sketch.vector(f"{block}.attn_kv_a_norm", rank)
        sketch.matrix(f"{block}.attn_k_b", nope, rank, dims.heads)
        sketch.matrix(f"{block}.attn_v_b", rank, value, dims.heads)
        sketch.matrix(f"{block}.attn_output", dims.heads * value, dims.embedding)
        if layer:
            _experts(sketch, block)
            _forward(sketch, block, 2 * dims.expert_forward, "_shexp")
        else:
            _forward(sketch, block)
    return sketch


def _mamba2_block(sketch: Sketch, block: str, inner: int, state: int, groups: int, heads: int) -> None:
    wide = inner + 2 * groups * state
    sketch.matrix(f"{block}.ssm_in", sketch.dims.embedding, 2 * inner + 2 * groups * state + heads)
    sketch.vector(f"{block}.ssm_conv1d", 4, wide)
    sketch.vector(f"{block}.ssm_conv1d.bias", wide)
    sketch.vector(f"{block}.ssm_dt.bias", heads)
    sketch.tensors[f"{block}.ssm_a"] = ((1, heads), KINDS.F32)
    sketch.tensors[f"{block}.ssm_d"] = ((1, heads), KINDS.F32)
    sketch.vector(f"{block}.ssm_norm", inner // groups, groups)
    sketch.matrix(f"{block}.ssm_out", inner, sketch.dims.embedding)


def mamba2(dims: Dims = Dims(layers=24, vocabulary=32_000)) -> Sketch:
    """Mamba 2: states and no attention."""
    sketch = _common("mamba2", dims, tied=True)
    inner = 2 * dims.embedding
    for key in ("head_count", "head_count_kv", "key_length", "value_length"):
        del sketch.metadata[f"mamba2.attention.{key}"]
    sketch.say(feed_forward_length=0, attention__head_count=0)
    sketch.say(ssm__conv_kernel=4, ssm__inner_size=inner, ssm__state_size=128, ssm__time_step_rank=inner // 64)
    sketch.say(ssm__group_count=1)
    for block in _blocks(sketch, "attn_norm"):
        _mamba2_block(sketch, block, inner, 128, 1, inner // 64)
    return sketch


def falcon_h1(dims: Dims = Dims(layers=12, heads=8, kv_heads=2, vocabulary=32_000)) -> Sketch:
    """Falcon-H1: attention and states side by side in every layer."""
    sketch = _common("falcon-h1", dims)
    inner = 2 * dims.embedding
    sketch.say(ssm__conv_kernel=4, ssm__inner_size=inner, ssm__state_size=128, ssm__time_step_rank=inner // 64)
    sketch.say(ssm__group_count=1)
    for block in _blocks(sketch, "attn_norm"):
        sketch.tensors[f"{block}.ffn_norm"] = ((dims.embedding,), KINDS.F32)
        _attention(sketch, block)
        _mamba2_block(sketch, block, inner, 128, 1, inner // 64)
        _forward(sketch, block)
    return sketch


def command_r(dims: Dims = Dims(vocabulary=64_000, feed_forward=2304, kv_heads=12)) -> Sketch:
    """Command R: attention and feed-forward side by side."""
    sketch = _common("command-r", dims, tied=True, norm="layer")
    sketch.say(logit_scale=0.0625)
    for block in _blocks(sketch, "attn_norm"):
        _attention(sketch, block)
        _forward(sketch, block)
    return sketch


def bert(
    dims: Dims = Dims(
        layers=12, embedding=384, feed_forward=1536, kv_heads=12, head=32, vocabulary=30_522, context=2048
    ),
) -> Sketch:
    """BERT, in F16: an encoder without a cache."""
    sketch = replace(_common("bert", dims, tied=True, norm="layer"), quantized=KINDS.F16)
    del sketch.tensors["output_norm.weight"]
    sketch.tensors["token_embd.weight"] = ((dims.embedding, dims.vocabulary), KINDS.F16)
    sketch.say(attention__causal=False, pooling_type=1)
    sketch.tensors["position_embd.weight"] = ((dims.embedding, dims.context), KINDS.F32)
    sketch.tensors["token_types.weight"] = ((dims.embedding, 2), KINDS.F32)
    for name in ("weight", "bias"):
        sketch.tensors[f"token_embd_norm.{name}"] = ((dims.embedding,), KINDS.F32)
    for layer in range(dims.layers):
        block = f"blk.{layer}"
        _attention(sketch, block, bias=True, output_bias=True)
        for norm in ("attn_output_norm", "layer_output_norm"):
            sketch.vector(f"{block}.{norm}", dims.embedding)
            sketch.vector(f"{block}.{norm}.bias", dims.embedding)
        sketch.matrix(f"{block}.ffn_up", dims.embedding, dims.feed_forward)
        sketch.vector(f"{block}.ffn_up.bias", dims.feed_forward)
        sketch.matrix(f"{block}.ffn_down", dims.feed_forward, dims.embedding)
        sketch.vector(f"{block}.ffn_down.bias", dims.embedding)
    return sketch


def siglip(text: Dims, layers: int = 6, width: int = 768, forward: int = 3072, image: int = 448) -> Sketch:
    """The projector of Gemma 3: a vision encoder in F16 whose patches are averaged 4 by 4."""
    sketch = Sketch("clip", replace(text, layers=layers), KINDS.F16)
    sketch.metadata |= {
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "gemma3",
        "clip.use_gelu": True,
        "clip.vision.image_size": image,
        "clip.vision.patch_size": 14,
        "clip.vision.embedding_length": width,
        "clip.vision.feed_forward_length": forward,
        "clip.vision.projection_dim": text.embedding,
        "clip.vision.block_count": layers,
        "clip.vision.attention.head_count": width // 64,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }
    floats: dict[str, tuple[int, ...]] = {
        "v.post_ln.weight": (width,),
        "v.post_ln.bias": (width,),
        "mm.soft_emb_norm.weight": (width,),
    }
    floats |= {"v.position_embd.weight": (width, (image // 14) ** 2), "v.patch_embd.bias": (width,)}
    for layer in range(layers):
        block = f"v.blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            sketch.matrix(f"{block}.{name}", width, width)
            floats[f"{block}.{name}.bias"] = (width,)
        sketch.matrix(f"{block}.ffn_up", width, forward)
        sketch.matrix(f"{block}.ffn_down", forward, width)
        floats |= {f"{block}.ffn_up.bias": (forward,), f"{block}.ffn_down.bias": (width,)}
        floats |= {f"{block}.{norm}.{part}": (width,) for norm in ("ln1", "ln2") for part in ("weight", "bias")}
    sketch.tensors |= {name: (shape, KINDS.F32) for name, shape in floats.items()}
    sketch.tensors["v.patch_embd.weight"] = ((14, 14, 3, width), KINDS.F16)
    sketch.tensors["mm.input_projection.weight"] = ((text.embedding, width), KINDS.F32)
    return sketch


PROJECTORS: Mapping[str, Callable[[], Sketch]] = {"gemma3 with projector": lambda: siglip(gemma3().dims)}
"""Names in MODELS that come with a second file."""

MODELS: Mapping[str, Callable[[], Sketch]] = {
    "llama": llama,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "phi3": phi3,
    "mixtral": mixtral,
    "qwen3moe": qwen3moe,
    "gpt-oss": gpt_oss,
    "deepseek2": deepseek2,
    "mamba2": mamba2,
    "falcon-h1": falcon_h1,
    "command-r": command_r,
    "bert": bert,
    "gemma3 with projector": gemma3,
}
"""Name in the table -> how it is made."""
