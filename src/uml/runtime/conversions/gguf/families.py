"""The architectures that are converted here, and what is special about each.

Every one of them is held to Transformers' own scores by a test; what is not in this list is refused. Names and rules
were read off llama.cpp b11549 (src/models, conversion).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

DECODER: Final[Mapping[str, str]] = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Name inside a layer -> name inside a block."""
_NORMED: Final = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_FUSED: Final = {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
_SANDWICHED: Final = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_SHARED: Final = {
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
}
_ENCODER: Final[Mapping[str, str]] = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_DECODER_OUTSIDE: Final[Mapping[str, str]] = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}
_ENCODER_OUTSIDE: Final[Mapping[str, str]] = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_JUDGING: Final = {**_ENCODER_OUTSIDE, "pooler.dense": "cls", "classifier": "cls.output"}
_MODERN: Final[Mapping[str, str]] = {
    "attn_norm": "attn_norm",
    "attn.Wqkv": "attn_qkv",
    "attn.Wo": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.Wi": "ffn_up",
    "mlp.Wo": "ffn_down",
}
_MODERN_OUTSIDE: Final[Mapping[str, str]] = {
    "embeddings.tok_embeddings": "token_embd",
    "embeddings.norm": "token_embd_norm",
    "final_norm": "output_norm",
}
_MODERN_JUDGING: Final = {
    **_MODERN_OUTSIDE,
    "head.dense": "cls",
    "head.norm": "cls.norm",
    "classifier": "cls.output",
}
_EXPERTS: Final = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}
_NUMBERED_EXPERTS: Final = {"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}
SILU: Final = frozenset({"silu", "swish"})
TANH_GELU: Final = frozenset({"gelu_pytorch_tanh", "gelu_fast", "gelu_new", "gelu"})


@dataclass(frozen=True, slots=True)
class Family:
    """How models of one architecture become GGUF.

    name: the architecture in GGUF. outside, layers: names of weights. router, experts: those of mixtures, and what
    each expert's weights are called. paired: rows of queries and keys are put in the order in which llama.cpp turns
    them, neighbours in pairs. shifted: norms are kept less one. activations: what llama.cpp computes. tied: whether
    the output is the embedding where the configuration does not say. epsilon, theta: where it does not say.
    windows: llama.cpp has its sliding windows; a period where layers see everything again. normed_experts: whether the
    chances of the chosen experts are made to sum to one; None where there are none. skipped_rope: every so many layers
    one does not turn positions. local_theta: of layers with a window, where it does not say; None where they turn as
    all others do. ranks: a head scores what became of a query with a document.
    """

    name: str
    outside: Mapping[str, str] = field(default_factory=lambda: _DECODER_OUTSIDE)
    layers: Mapping[str, str] = field(default_factory=lambda: DECODER)
    layer_prefix: str = "layers."
    router: str = ""
    experts: Mapping[str, str] = field(default_factory=dict)
    experts_prefix: str = ""
    paired: bool = False
    shifted: bool = False
    activations: frozenset[str] = SILU
    tied: bool = False
    epsilon: float = 1e-6
    theta: float = 10_000.0
    windows: bool = False
    normed_experts: bool | None = None
    skipped_rope: int = 0
    local_theta: float | None = None
    encoder: bool = False
    position_offset: bool = False
    ranks: bool = False


_LLAMA: Final = Family("llama", paired=True)
_MIXTRAL: Final = Family(
    "llama",
    paired=True,
    router="block_sparse_moe.gate",
    experts=_NUMBERED_EXPERTS,
    experts_prefix="block_sparse_moe.experts.",
    epsilon=1e-5,
    theta=1e6,
    normed_experts=True,
)
_QWEN2: Final = Family("qwen2")
_QWEN_MIXTURE: Final = {"router": "mlp.gate", "experts": _EXPERTS, "experts_prefix": "mlp.experts."}
_GEMMA: Final = Family("gemma", shifted=True, activations=TANH_GELU, tied=True)
_SANDWICH: Final = {**DECODER, **_SANDWICHED}
_GEMMA3: Final = replace(
    _GEMMA, name="gemma3", layers={**_SANDWICH, **_NORMED}, windows=True, theta=1e6, local_theta=1e4
)
_BERT: Final = Family(
    "bert",
    outside=_ENCODER_OUTSIDE,
    layers=_ENCODER,
    layer_prefix="encoder.layer.",
    activations=frozenset({"gelu"}),
    epsilon=1e-12,
    encoder=True,
)
_ROBERTA: Final = replace(_BERT, position_offset=True, epsilon=1e-5)
_RANKING: Final = replace(
    _ROBERTA,
    outside={**_ENCODER_OUTSIDE, "classifier.dense": "cls", "classifier.out_proj": "cls.output"},
    ranks=True,
)
_MODERN_BERT: Final = Family(
    "modern-bert",
    outside=_MODERN_OUTSIDE,
    layers=_MODERN,
    activations=frozenset({"gelu", "silu"}),
    epsilon=1e-5,
    theta=160_000.0,
    local_theta=10_000.0,
    windows=True,
    encoder=True,
)

FAMILIES: Final[Mapping[str, Family]] = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "MixtralForCausalLM": _MIXTRAL,
    "SmolLM3ForCausalLM": replace(_LLAMA, name="smollm3", theta=2e6, skipped_rope=4),
    "Qwen2ForCausalLM": _QWEN2,
    "Qwen2MoeForCausalLM": Family(
        "qwen2moe",
        layers={**DECODER, **_SHARED},
        normed_experts=False,
        **_QWEN_MIXTURE,  # type: ignore[arg-type]
    ),
    "Qwen3ForCausalLM": Family("qwen3", layers={**DECODER, **_NORMED}),
    "Qwen3MoeForCausalLM": Family(
        "qwen3moe",
        layers={**DECODER, **_NORMED},
        normed_experts=True,
        **_QWEN_MIXTURE,  # type: ignore[arg-type]
    ),
    "GemmaForCausalLM": _GEMMA,
    "Gemma2ForCausalLM": replace(_GEMMA, name="gemma2", layers=_SANDWICH, windows=True),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "Phi3ForCausalLM": Family("phi3", layers={**DECODER, **_FUSED}, epsilon=1e-5),
    "BertModel": _BERT,
    "BertForSequenceClassification": replace(_BERT, outside=_JUDGING, ranks=True),
    "RobertaModel": _ROBERTA,
    "XLMRobertaModel": _ROBERTA,
    "RobertaForSequenceClassification": _RANKING,
    "XLMRobertaForSequenceClassification": _RANKING,
    "CamembertModel": _ROBERTA,
    "CamembertForSequenceClassification": _RANKING,
    "ModernBertModel": _MODERN_BERT,
    "ModernBertForSequenceClassification": replace(_MODERN_BERT, outside=_MODERN_JUDGING, ranks=True),
}
"""Class that runs a model, as config.json names it -> how it becomes GGUF."""

OTHERWISE: Final = {"DistilBertForSequenceClassification": "a head that computes relu, where llama.cpp has tanh"}
"""Class that llama.cpp's converter takes, and whose scores are others then -> why."""
