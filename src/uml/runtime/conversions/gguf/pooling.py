"""How an embedding model makes one vector of many: by the modules of its sentence-transformers folder."""

from __future__ import annotations

from typing import Final

from uml.formats.bounded_json import read_object, text
from uml.formats.gguf.values import text as string
from uml.formats.gguf.values import u32
from uml.formats.sentence import modules
from uml.runtime.conversions.gguf.families import Family
from uml.runtime.conversions.gguf.rope import Untold
from uml.runtime.conversions.gguf.source import Json, Source

MEAN: Final = 1
RANK: Final = 4
HEADS: Final = ("gelu", "silu", "tanh")
"""What a head of llama.cpp's computes."""
_OLD: Final = {"pooling_mode_mean_tokens": MEAN, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
_NEW: Final = {"mean": MEAN, "cls": 2, "lasttoken": 3}
"""llama_pooling_type."""


def pooling(family: Family, source: Source) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Metadata and notes; none for a model that writes texts. Raises Untold, CorruptFile, BadFile."""
    if family.ranks:
        return _keys(family, RANK) | _head(family, source.config), ()
    chain = modules(source.root, [path.name for path in source.root.iterdir()])
    for folder, kind in chain:
        if kind.endswith(".Pooling"):
            return _keys(family, _kind(read_object(source.root / folder / "config.json"))), ()
        if kind.endswith(".Dense"):
            raise Untold(f"a layer after the pooling ({folder})")
    if not family.encoder:
        return {}, ()
    return _keys(family, MEAN), ("nothing says how it pools: the mean of all tokens is taken",)


def _head(family: Family, config: Json) -> dict[str, bytes]:
    """What a head scores, and by which function, where the configuration says so."""
    if family.name != "modern-bert":
        return {}  # the first token, by tanh
    kind, activation = text(config, "classifier_pooling") or "cls", text(config, "classifier_activation") or "gelu"
    if kind not in ("cls", "mean") or activation not in HEADS:
        raise Untold(f"a head that pools by {kind!r} and computes {activation!r}")
    return {
        f"{family.name}.classifier.pooling_type": u32(_NEW[kind]),
        f"{family.name}.classifier.activation": string(activation),
    }


def _keys(family: Family, kind: int) -> dict[str, bytes]:
    return {f"{family.name}.pooling_type": u32(kind)}


def _kind(config: Json) -> int:
    chosen = [number for key, number in _OLD.items() if config.get(key) is True]
    if not chosen and (found := _NEW.get(text(config, "pooling_mode"))):
        chosen = [found]
    if len(chosen) != 1:
        raise Untold("a pooling other than by mean, first or last token")
    return chosen[0]
