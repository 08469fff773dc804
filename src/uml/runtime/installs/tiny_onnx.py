"""The tiny model as a folder of ONNX Runtime GenAI, written without its library."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from uml.runtime.installs import onnx_llama, tiny
from uml.runtime.installs.onnx_llama import Llama, Tensor, floats

LLAMA: Final = Llama(
    hidden=tiny.HIDDEN,
    layers=tiny.LAYERS,
    heads=tiny.HEADS,
    kv_heads=tiny.KV_HEADS,
    head=tiny.HEAD,
    words=tiny.WORDS,
    context=tiny.CONTEXT,
    epsilon=tiny.EPSILON,
    theta=tiny.THETA,
    end=tiny.WORDS - 1,
)


def write(folder: Path) -> Path:
    """Write the model into a folder, which is made. Raises OSError."""
    tiny.write_tokenizer(folder)
    return onnx_llama.write(folder, LLAMA, _tensors())


def _tensors() -> Iterator[Tensor]:
    for name, rows in tiny.weights():
        if len(rows) == 1:
            yield Tensor(name, (len(rows[0]),), floats(rows[0]))
            continue
        turned = rows if name.endswith("embed_tokens.weight") else [list(column) for column in zip(*rows, strict=True)]
        yield Tensor(name, (len(turned), len(turned[0])), floats([*chain.from_iterable(turned)]))
