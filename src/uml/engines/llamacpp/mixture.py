"""Which type each tensor gets in a quantized file: llama.cpp's mixtures, as its own quantizer decides.

Source: `llama_tensor_get_type_impl`, `tensor_allows_quantization` and `tensor_type_fallback` in
src/llama-quant.cpp of b11549, with an importance matrix and without.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from uml.formats.gguf.tables import TENSOR_TYPE_IDS, TENSOR_TYPES

KINDS: Final[Mapping[str, str]] = {
    **{kind: kind for kind in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q6_K")},
    **{f"Q3_K_{size}": "Q3_K" for size in "SML"},
    **{f"Q{bits}_K_{size}": f"Q{bits}_K" for bits in (4, 5) for size in "SM"},
    "IQ4_NL": "IQ4_NL",
    "IQ4_XS": "IQ4_XS",
    "IQ3_M": "IQ3_S",
    "IQ3_S": "IQ3_S",
}
"""Kinds of file, and the type of most matrices in them."""
BY_MATRIX: Final[Mapping[str, str]] = {
    **{kind: kind for kind in ("IQ3_XXS", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S")},
    "IQ3_XS": "IQ3_S",
    "IQ2_M": "IQ2_S",
    "IQ2_S": "IQ2_XS",
    "Q2_K_S": "Q2_K",
}
"""The same of those that are made with an importance matrix only: without, they are garbage."""
_USUAL: Final = {**KINDS, **BY_MATRIX}
_TINY: Final = frozenset({"IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"})
_TWO: Final = frozenset({"IQ2_M", "IQ2_S"})
_ONE: Final = frozenset({"IQ1_M", "IQ1_S"})
_BLIND: Final = frozenset({"IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"})
"""Types that are garbage without an importance matrix."""
FLOATS: Final = frozenset({"F32", "F16", "BF16"})
REFUSED: Final = frozenset({"glm5-next"})
"""Architectures with rules of their own that are not here."""


class Part(StrEnum):
    """What a tensor is for, as far as it matters here."""

    OUTPUT = "output"
    EMBEDDING = "embedding"
    QKV = "qkv"
    KV_B = "kv_b"
    V = "v"
    K = "k"
    Q = "q"
    ATTENTION_OUTPUT = "attention output"
    UP = "up"
    GATE = "gate"
    DOWN = "down"
    OTHER = "other"


_PARTS: Final = (
    *(("attn_qkv.weight", Part.QKV), ("attn_kv_b.weight", Part.KV_B), ("attn_v.weight", Part.V)),
    *(("attn_k.weight", Part.K), ("attn_q.weight", Part.Q), ("attn_output.weight", Part.ATTENTION_OUTPUT)),
    *(("ffn_up", Part.UP), ("ffn_gate", Part.GATE), ("ffn_down", Part.DOWN)),
)
_VALUES: Final = frozenset({Part.V, Part.QKV, Part.KV_B})
_NEVER: Final = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj"),
    *("ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight"),
    *(f"time_mix_{name}.weight" for name in ("first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1")),
    *(f"time_mix_{name}.weight" for name in ("g2", "decay_w1", "decay_w2", "lerp_fused")),
    *("attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd"),
    *(".patch_merger", "a.rvq.codebook", "mm.a.code_embd"),
)
"""Parts of names of matrices that stay as they are: small, or spoilt by it."""
_FALLBACKS: Final = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    **dict.fromkeys((*_BLIND, "IQ3_S", "IQ4_XS"), "IQ4_NL"),
}
"""Instead of blocks of 256, for rows that they do not divide."""
_RAISED: Final = frozenset(
    {
        *("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M"),
        *("IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS"),
    }
)
"""Kinds whose output of attention is raised where there are eight experts."""
_LAYER: Final = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Network:
    """What of a model the mixtures depend on.

    layers: all of them. heads, kv_heads: of the first layer. experts: 0 where there are none.
    """

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    experts: int = 0

    @property
    def sharing(self) -> int:
        """Heads that read one head of keys and values."""
        return self.heads // self.kv_heads if self.kv_heads else 0

    @property
    def wide(self) -> bool:
        """Whether llama.cpp takes it for a 70B, whose values are an eighth of the queries."""
        name, layers = self.architecture, self.layers
        shared = name == "llama" and self.heads != self.kv_heads
        return (layers == 80 and (shared or name in ("qwen2", "deci", "olmo"))) or (layers == 68 and name == "jais2")


def part(name: str) -> Part:
    """What a tensor of this name is for."""
    if name == "output.weight":
        return Part.OUTPUT
    if name in ("token_embd.weight", "per_layer_token_embd.weight"):
        return Part.EMBEDDING
    return next((found for inside, found in _PARTS if inside in name), Part.OTHER)


def touched(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a quantizer touches it: matrices of weights, but for those that are small or spoilt by it."""
    matrix = any(size > 1 for size in shape[1:])
    if not matrix or not name.endswith("weight") or name in ("position_embd.weight", "token_types.weight"):
        return False
    return not any(inside in name for inside in _NEVER)


def mixture(
    kind: str, network: Network, tensors: Mapping[str, tuple[int, ...]], *, matrix: bool = False
) -> dict[str, int]:
    """Tensor -> type, for those that a file of this kind keeps in another way.

    kind: of `KINDS` or `BY_MATRIX`. tensors: name -> sizes, fastest first. matrix: there is an importance matrix, which
    allows smaller types. What is not in the answer stays as it is.
    """
    names = sorted(tensors, key=_as_llamacpp)
    state = _State(kind, network, sum(part(name) in _VALUES for name in names), "output.weight" not in tensors, matrix)
    chosen = {}
    for name in names:
        if touched(name, tensors[name]):
            wanted = kind if kind in FLOATS else state.choose(name, tensors[name][0])
            chosen[name] = TENSOR_TYPE_IDS[wanted]
    return chosen


def needs_matrix(kind: str, name: str, chosen: int) -> bool:
    """Whether a tensor of this type is garbage without an importance matrix, in a file of this kind."""
    if part(name) in (Part.OUTPUT, Part.EMBEDDING):
        return False
    packed = TENSOR_TYPES[chosen].name
    return packed in _BLIND or (packed == "Q2_K" and kind == "Q2_K_S")


def instead(kind: str, columns: int) -> str:
    """The type itself, or what rows of so many numbers can be kept in."""
    if columns % _block(kind) == 0:
        return kind
    other = _FALLBACKS.get(kind, kind)
    return other if columns % _block(other) == 0 else "F16"


def _block(kind: str) -> int:
    return TENSOR_TYPES[TENSOR_TYPE_IDS[kind]].block


def _as_llamacpp(name: str) -> tuple[int, str]:
    found = _LAYER.match(name)
    return (int(found[1]) if found else -1, name)


def _more_bits(at: int, layers: int) -> bool:
    """The first and the last eighth, and every third between."""
    return at < layers // 8 or at >= 7 * layers // 8 or (at - layers // 8) % 3 == 2


@dataclass(slots=True)
class _State:
    """Counts that some choices depend on: llama.cpp counts tensors of values and ways down as they come."""

    kind: str
    network: Network
    values: int
    tied: bool
    matrix: bool = False
    seen: Counter[str] = field(default_factory=Counter)

    def choose(self, name: str, columns: int) -> str:
        """The kind of a tensor of this name and row length; it counts as seen."""
        usual, what = _USUAL[self.kind], part(name)
        if what is Part.OUTPUT or (self.tied and what is Part.EMBEDDING):
            chosen = self._output(usual, columns)
        elif what is Part.EMBEDDING:
            chosen = self._embedding(usual)
        elif self.kind in _TINY:
            chosen = self._tiny(usual, what)
        elif what in _VALUES:
            chosen = self._value(usual)
        elif what in (Part.K, Part.Q):
            chosen = self._key_or_query(usual, what)
        elif what is Part.DOWN:
            chosen = self._down(usual, name)
        elif what is Part.ATTENTION_OUTPUT:
            chosen = self._attention_output(usual)
        elif what in (Part.GATE, Part.UP):
            chosen = self._way_up(usual, what, name)
        else:
            chosen = usual
        return instead(chosen, columns)

    def _counted(self, what: str, name: str) -> int:
        """Which one of its kind a tensor is; experts of one layer are several tensors."""
        at = _as_llamacpp(name)[0] if self.network.experts > 1 else self.seen[what]
        self.seen[what] += 1
        return at

    def _output(self, usual: str, columns: int) -> str:
        if self.network.architecture == "falcon" or columns % _block(usual) or usual == "Q8_0":
            return "Q8_0"
        return "Q5_K" if self.kind in _TINY or self.kind == "IQ3_XXS" else "Q6_K"

    def _embedding(self, usual: str) -> str:
        if self.kind in _TINY:
            return "IQ3_S" if self.kind in _TWO else "Q2_K"
        return "IQ3_S" if self.kind == "IQ3_XXS" else usual

    def _tiny(self, usual: str, what: Part) -> str:
        """Files of less than three bits: what matters most gets more, and nothing else."""
        more = "IQ3_S" if self.kind in _TWO else "Q2_K"
        if what in _VALUES:
            return "Q4_K" if self.network.sharing >= 4 or self.network.experts >= 4 else more
        if what is Part.K and self.network.experts == 8:
            return "Q4_K"
        if what is Part.DOWN:
            self.seen["down"] += 1
            return more if self.seen["down"] <= self.network.layers // 8 else usual
        if what is Part.ATTENTION_OUTPUT:
            if self.network.experts == 8:
                return "Q5_K"
            return "IQ2_XXS" if self.kind in _ONE else "IQ3_S" if self.kind in _TWO else usual
        return usual

    def _key_or_query(self, usual: str, what: Part) -> str:
        if what is Part.K and self.network.experts == 8:
            return "Q8_0"
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(self.kind, usual)

    def _way_up(self, usual: str, what: Part, name: str) -> str:
        at, layers = self._counted(what, name), self.network.layers
        return "IQ3_XXS" if self.kind == "IQ3_XS" and layers // 8 <= at < 7 * layers // 8 else usual

    def _value(self, usual: str) -> str:
        at, chosen = self.seen["value"], usual
        self.seen["value"] += 1
        match self.kind:
            case "Q2_K":
                chosen = "Q4_K" if self.network.sharing >= 4 else "Q3_K"
            case "Q2_K_S" | "IQ3_XXS" | "IQ3_XS" | "IQ3_S" if self.network.sharing >= 4:
                chosen = "Q4_K"
            case "IQ3_XXS" if not self.matrix:
                chosen = "IQ3_S"
            case "IQ3_M":
                chosen = "Q4_K"
            case "IQ4_NL" | "IQ4_XS" if self.network.sharing >= 4:
                chosen = "Q5_K"
            case "Q3_K_M":
                chosen = "Q5_K" if at < 2 else "Q4_K"
            case "Q3_K_L":
                chosen = "Q5_K"
            case "Q4_K_M" | "Q5_K_M" if _more_bits(at, self.values):
                chosen = "Q6_K"
            case "Q4_K_S" if at < 4:
                chosen = "Q5_K"
        if self.network.wide and chosen in ("Q3_K", "Q4_K"):
            chosen = "Q5_K"
        return "Q8_0" if self.network.experts == 8 else chosen

    def _down(self, usual: str, name: str) -> str:
        layers, falcon = self.network.layers, self.network.architecture == "falcon"
        at = self._counted("down", name)
        more, early = _more_bits(at, layers), at < layers // 8
        match self.kind:
            case "Q2_K":
                return "Q3_K"
            case "Q3_K_M" if at < layers // 16:
                return "Q5_K"
            case "Q3_K_M":
                return "Q4_K" if more or not falcon else "Q3_K"
            case "Q3_K_L":
                return "Q4_K" if falcon else "Q5_K"
            case "Q4_K_M" if falcon:
                return "Q6_K" if at < layers // 16 else "Q5_K" if more else "Q4_K"
            case "Q4_K_M" | "Q5_K_M" if more:
                return "Q6_K"
            case "Q4_K_S" if early and not falcon:
                return "Q5_K"
        return self._down_by_matrix(usual, early=early, more=more)

    def _down_by_matrix(self, usual: str, *, early: bool, more: bool) -> str:
        match self.kind:
            case "Q2_K_S" if early:
                return "Q4_K"
            case "IQ3_XXS" if not self.matrix:
                return "Q4_K" if early else "Q3_K"
            case "IQ3_M" if early or (self.network.experts == 8 and more):
                return "Q4_K"
            case "IQ4_NL" | "IQ4_XS" if early and not self.matrix:
                return "Q5_K"
            case "Q4_0" | "Q5_0" if early and self.matrix:
                # llama.cpp's guard against what a matrix does to the first few layers.
                return f"{self.kind[:3]}1"
        return usual

    def _attention_output(self, usual: str) -> str:
        if self.network.architecture == "falcon":
            return "Q4_K" if self.kind == "Q3_K_L" else usual
        if self.network.experts == 8:
            return "Q5_K" if self.kind in _RAISED else usual
        raised = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_XXS": "IQ3_S", "IQ3_M": "Q4_K"}
        return raised.get(self.kind, usual)
