"""Writes tiny valid model files of every format, byte by byte, so that a test can break one.

Each `write_*` returns the path that it wrote. Weights are zeros; what matters is in the headers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from uml.formats.gguf_types import TENSOR_TYPE_IDS, TENSOR_TYPES

# --- GGUF ---------------------------------------------------------------------------------------

GGUF_TYPES = {
    "u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "str": 8, "array": 9,
    "u64": 10, "i64": 11, "f64": 12,
}  # fmt: skip
_CODES = {
    "u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "?",
    "u64": "Q", "i64": "q", "f64": "d",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Typed:
    """A metadata value with its GGUF type, where the usual one will not do: `Typed("u64", 7)`."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a GGUF file: storage type and sizes, fastest first, as ggml has them."""

    kind: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""
        kind = TENSOR_TYPES[TENSOR_TYPE_IDS[self.kind]]
        elements = 1
        for size in self.shape:
            elements *= size
        return elements // kind.block * kind.block_bytes


def write_gguf(
    path: Path,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    *,
    version: int = 3,
    order: Literal["<", ">"] = "<",
    alignment: int = 32,
) -> Path:
    """A GGUF file of any version and byte order, with zeros (a hole) for weights.

    An int becomes u32, a float f32, a sequence an array of what its first entry is; `Typed` says otherwise.
    """
    tensors = tensors or {}
    head = gguf_header(metadata or {}, tensors, version=version, order=order, alignment=alignment)
    start = -(-len(head) // alignment) * alignment
    size = start + sum(-(-tensor.size_bytes // alignment) * alignment for tensor in tensors.values())
    with path.open("wb") as file:
        file.write(head)
        if tensors:
            file.truncate(size)
    return path


def gguf_header(
    metadata: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    version: int = 3,
    order: Literal["<", ">"] = "<",
    alignment: int = 32,
) -> bytes:
    """Everything before the padding and the weights."""
    size = "I" if version == 1 else "Q"
    parts = [b"GGUF", struct.pack(f"{order}I{size}{size}", version, len(tensors), len(metadata))]
    for key, value in metadata.items():
        kind, raw = _gguf_value(value, order, size)
        parts += [_gguf_string(key, order, size), struct.pack(f"{order}I", GGUF_TYPES[kind]), raw]
    offset = 0
    for name, tensor in tensors.items():
        dims = struct.pack(f"{order}I{len(tensor.shape)}{size}", len(tensor.shape), *tensor.shape)
        tail = struct.pack(f"{order}IQ", TENSOR_TYPE_IDS[tensor.kind], offset)
        parts += [_gguf_string(name, order, size), dims, tail]
        offset += -(-tensor.size_bytes // alignment) * alignment
    return b"".join(parts)


def _gguf_string(text: str, order: str, size: str) -> bytes:
    raw = text.encode()
    return struct.pack(f"{order}{size}", len(raw)) + raw


def _gguf_value(value: Any, order: str, size: str) -> tuple[str, bytes]:
    kind = value.kind if isinstance(value, Typed) else _gguf_kind(value)
    plain = value.value if isinstance(value, Typed) else value
    if kind == "str":
        return kind, _gguf_string(plain, order, size)
    if kind != "array":
        return kind, struct.pack(f"{order}{_CODES[kind]}", plain)
    items = [_gguf_value(item, order, size) for item in plain]
    inner = items[0][0] if items else "u32"
    head = struct.pack(f"{order}I{size}", GGUF_TYPES[inner], len(items))
    return kind, head + b"".join(raw for _, raw in items)


def _gguf_kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "i32" if value < 0 else "u32"
        case float():
            return "f32"
        case str():
            return "str"
        case _:
            return "array"


def llama_metadata(
    *,
    architecture: str = "llama",
    name: str = "Tiny Llama",
    file_type: int = 7,
    layers: int = 2,
    embedding: int = 64,
    feed_forward: int = 128,
    heads: int = 4,
    kv_heads: int | Sequence[int] = 2,
    context: int = 256,
    tokens: int = 32,
    chat_template: str | None = "{{ messages[0].content }}",
    **extra: Any,
) -> dict[str, Any]:
    """Metadata of a small Llama. `extra` has `__` for dots: `general__type="adapter"`; None leaves a key out."""
    data: dict[str, Any] = {
        "general.architecture": architecture,
        "general.type": "model",
        "general.name": name,
        "general.file_type": file_type,
        f"{architecture}.context_length": context,
        f"{architecture}.block_count": layers,
        f"{architecture}.embedding_length": embedding,
        f"{architecture}.feed_forward_length": feed_forward,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": kv_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"t{number}" for number in range(tokens)],
        "tokenizer.ggml.token_type": [Typed("i32", 1)] * tokens,
        "tokenizer.chat_template": chat_template,
    }
    data |= {key.replace("__", "."): value for key, value in extra.items()}
    return {key: value for key, value in data.items() if value is not None}


def llama_tensors(
    *, kind: str = "Q8_0", layers: int = 2, embedding: int = 64, feed_forward: int = 128, tokens: int = 32
) -> dict[str, Tensor]:
    """Tensors that go with `llama_metadata`: norms in F32, everything else in `kind`."""
    found = {"token_embd.weight": Tensor(kind, (embedding, tokens))}
    for layer in range(layers):
        block = f"blk.{layer}"
        found |= {
            f"{block}.attn_norm.weight": Tensor("F32", (embedding,)),
            f"{block}.attn_q.weight": Tensor(kind, (embedding, embedding)),
            f"{block}.attn_k.weight": Tensor(kind, (embedding, embedding // 2)),
            f"{block}.attn_v.weight": Tensor(kind, (embedding, embedding // 2)),
            f"{block}.attn_output.weight": Tensor(kind, (embedding, embedding)),
            f"{block}.ffn_norm.weight": Tensor("F32", (embedding,)),
            f"{block}.ffn_gate.weight": Tensor(kind, (embedding, feed_forward)),
            f"{block}.ffn_up.weight": Tensor(kind, (embedding, feed_forward)),
            f"{block}.ffn_down.weight": Tensor(kind, (feed_forward, embedding)),
        }
    return found | {"output_norm.weight": Tensor("F32", (embedding,))}


def write_tiny_gguf(path: Path, **metadata: Any) -> Path:
    """A small Llama in Q8_0, about 60 KB; keywords as for `llama_metadata`."""
    return write_gguf(path, llama_metadata(**metadata), llama_tensors())


def write_split_gguf(folder: Path, stem: str = "tiny", parts: int = 3) -> list[Path]:
    """The small Llama in several files, named and numbered as llama.cpp's gguf-split does."""
    tensors = list(llama_tensors().items())
    step = -(-len(tensors) // parts)
    paths = []
    for number in range(parts):
        split = {
            "split.no": Typed("u16", number),
            "split.count": Typed("u16", parts),
            "split.tensors.count": Typed("i32", len(tensors)),
        }
        metadata = llama_metadata() | split if number == 0 else split
        path = folder / f"{stem}-{number + 1:05d}-of-{parts:05d}.gguf"
        paths.append(write_gguf(path, metadata, dict(tensors[number * step : (number + 1) * step])))
    return paths
