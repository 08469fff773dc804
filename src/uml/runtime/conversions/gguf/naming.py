"""From the name of a tensor in Transformers to its place in GGUF."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from uml.runtime.conversions.gguf.families import Family

PREFIXES: Final = ("model.language_model.model.", "model.language_model.", "language_model.model.", "language_model.")
"""Where the language model lies in one that also sees."""
LEFT_OUT: Final = re.compile(r"(rotary_emb\.inv_freq|masked_bias|attn\.bias|position_ids)$")
"""Constants that older versions wrote down beside the weights."""
NO_LANGUAGE: Final = re.compile(
    r"^(?:model\.)?(?:vision_tower|vision_model|multi_modal_projector|visual|embed_vision)\."
)
"""The eyes of a model that sees."""
ENCODER_HEADS: Final = re.compile(r"^(?:pooler|cls|lm_head|classifier|head|decoder)\.")
"""What comes after the last layer of an encoder, which embeddings do not pass."""
_SUFFIXES: Final = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
_FUSED: Final = ("gate_up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor goes. expert: its number, where it is one of several that lie together.

    fused: it holds all experts; halved: and the gate and the way up of each.
    """

    tensor: str
    expert: int | None = None
    fused: bool = False
    halved: bool = False


def place(family: Family, name: str) -> Place | None:
    """Where a tensor of this name goes; None for one that is not known."""
    name = _bare(family, name)
    stem, _, suffix = name.rpartition(".")
    if name.startswith(family.layer_prefix):
        number, _, inner = name.removeprefix(family.layer_prefix).partition(".")
        if not number.isdecimal():
            return None
        if family.experts_prefix and inner.startswith(family.experts_prefix):
            return _expert(family, f"blk.{int(number)}", inner.removeprefix(family.experts_prefix))
        inner, _, suffix = inner.rpartition(".")
        known = family.layers.get(inner) or ("ffn_gate_inp" if inner and inner == family.router else None)
        return Place(f"blk.{int(number)}.{known}.{_SUFFIXES[suffix]}") if known and suffix in _SUFFIXES else None
    known = family.outside.get(stem)
    return Place(f"{known}.{_SUFFIXES[suffix]}") if known and suffix in _SUFFIXES else None


def ignored(family: Family, name: str) -> bool:
    """Whether a tensor is no part of what is converted, and nobody misses it."""
    if family.encoder and ENCODER_HEADS.match(_bare(family, name)):
        return True
    return bool(LEFT_OUT.search(name) or NO_LANGUAGE.match(name))


def _bare(family: Family, name: str) -> str:
    for prefix in (*PREFIXES, "model.", "bert.", "roberta."):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _expert(family: Family, block: str, inner: str) -> Place | None:
    """`3.up_proj.weight`, one expert's, or `gate_up_proj`, all of them in one tensor."""
    first, _, rest = inner.partition(".")
    if first.isdecimal():
        stem, _, suffix = rest.rpartition(".")
        known = family.experts.get(stem)
        return Place(f"{block}.{known}.weight", expert=int(first)) if known and suffix == "weight" else None
    if inner.removesuffix(".weight") in _FUSED:
        halved = inner.startswith("gate_up")
        return Place(f"{block}.{'ffn_gate_exps' if halved else 'ffn_down_exps'}.weight", fused=True, halved=halved)
    return None
