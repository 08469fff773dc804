"""A GGUF file with a header that is made here and weights that are noise: `Dims`, `Sketch`, and `write`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

KINDS = gguf.GGMLQuantizationType


@dataclass(frozen=True, slots=True)
class Dims:
    """Sizes of a model; what an architecture has no use for is left alone."""

    layers: int = 8
    embedding: int = 768
    feed_forward: int = 2048
    heads: int = 12
    kv_heads: int = 4
    head: int = 64
    vocabulary: int = 16_000
    context: int = 32_768
    experts: int = 0
    used: int = 0
    expert_forward: int = 0
    window: int = 0


@dataclass(slots=True)
class Sketch:
    """The header of a model: metadata and tensors, sizes fastest first."""

    architecture: str
    dims: Dims
    quantized: KINDS = KINDS.Q4_0
    metadata: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, tuple[tuple[int, ...], KINDS]] = field(default_factory=dict)

    def say(self, **values: Any) -> None:
        """Metadata of the architecture; `__` stands for a dot."""
        for key, value in values.items():
            self.metadata[f"{self.architecture}.{key.replace('__', '.')}"] = value

    def matrix(self, name: str, columns: int, rows: int, *more: int, kind: KINDS | None = None) -> None:
        """A weight that a quantizer touches."""
        self.tensors[f"{name}.weight"] = ((columns, rows, *more), kind or self.quantized)

    def vector(self, name: str, *length: int) -> None:
        """A weight that stays F32; its name has its suffix already where it is no `.weight`."""
        self.tensors[name if "." in name.split("blk.")[-1].partition(".")[2] else f"{name}.weight"] = (
            length,
            KINDS.F32,
        )


def write(sketch: Sketch, path: Path, *, sparse: bool = False) -> Path:
    """The file; `sparse`: a hole for weights, which takes no room on disk and is enough for a dry run."""
    writer = gguf.GGUFWriter(path, sketch.architecture)
    # Some names ("Phi-3") make the engine look for tokens of theirs.
    writer.add_name("Random weights")
    for key, value in sketch.metadata.items():
        _add(writer, key, value)
    if "token_embd.weight" in sketch.tensors:
        _vocabulary(writer, sketch)
    for name, (shape, kind) in sketch.tensors.items():
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = int(np.prod(shape))
        writer.add_tensor_info(
            name, tuple(reversed(shape)), np.dtype(np.float32), count // block * size, raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    sizes = [_bytes(shape, kind) for shape, kind in sketch.tensors.values()]
    with path.open("r+b") as file:
        start = -(-file.seek(0, os.SEEK_END) // 32) * 32
        total = start + sum(-(-size // 32) * 32 for size in sizes)
        if not sparse:
            noise = os.urandom(1 << 20)
            file.seek(start)
            for at in range(start, total, len(noise)):
                file.write(noise[: total - at])
        file.truncate(total)
    return path


def _bytes(shape: tuple[int, ...], kind: KINDS) -> int:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // block * size


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _vocabulary(writer: gguf.GGUFWriter, sketch: Sketch) -> None:
    size = sketch.dims.vocabulary
    if sketch.architecture == "bert":
        marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        writer.add_tokenizer_model("bert")
        writer.add_token_type_count(2)
        writer.add_bos_token_id(2)
        writer.add_eos_token_id(3)
        writer.add_sep_token_id(3)
        writer.add_pad_token_id(0)
        tokens = [*marks, *(f"\u2581w{number}" for number in range(size - len(marks)))]
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * size)
        writer.add_token_types([3] * len(marks) + [1] * (size - len(marks)))
        return
    writer.add_tokenizer_model("llama")
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *(f"\u2581w{number}" for number in range(size - 259))]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (size - 259))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
