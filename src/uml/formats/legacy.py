"""The ancestors of GGUF: unversioned GGML, GGMF and GGJT, named by generation. No engine runs them.

A little endian magic, a version except in the first, and seven numbers: n_vocab, n_embd, n_mult,
n_head, n_layer, n_rot, ftype (llama.cpp before August 2023). What llama.cpp's
convert_llama_ggml_to_gguf.py can still convert depends on generation and type.
"""

from __future__ import annotations

import struct
from pathlib import Path

from uml.core.errors import CorruptFile, UnsupportedFormat
from uml.core.model import Format, ModelInfo, Quantization, Role, Shape
from uml.formats.gguf_types import FILE_TYPES
from uml.formats.reader import Cursor, opened

GENERATIONS = {b"lmgg": ("GGML", ()), b"fmgg": ("GGMF", (1,)), b"tjgg": ("GGJT", (1, 2, 3))}
ADAPTER = b"algg"
CONVERTER = "convert_llama_ggml_to_gguf.py of llama.cpp"
WHISPER_AUDIO_CONTEXT = 1500


def is_legacy(start: bytes) -> bool:
    """Whether a file that begins so (4 bytes are enough) is one of them."""
    return start[:4] in GENERATIONS or start[:4] == ADAPTER


def inspect_legacy(path: Path) -> ModelInfo:
    """What a file of these generations says. Raises CorruptFile, or UnsupportedFormat for an unknown version."""
    with opened(path) as (file, size):
        cursor = Cursor(path, file, size)
        magic = cursor.raw(4, "the magic")
        if magic == ADAPTER:
            return _adapter(path, size, cursor.number("I", "the version"))
        name, versions = GENERATIONS[magic]
        version = f"{name} (unversioned)"
        if versions:
            said = cursor.number("I", "the version")
            if said not in versions:
                raise UnsupportedFormat(
                    path, f"{name} version {said}; {name} had version {versions[0]} to {versions[-1]}"
                )
            version = f"{name} v{said}"
        numbers = struct.unpack("<7I", cursor.raw(28, "the model's seven numbers"))
    return _model(path, size, version, numbers)


def _model(path: Path, size: int, version: str, numbers: tuple[int, ...]) -> ModelInfo:
    vocabulary, embedding, multiple, heads, layers, _, kind = numbers
    if version.startswith("GGML") and embedding == WHISPER_AUDIO_CONTEXT and vocabulary > 50_000:
        return _recognised(path, size, version, "a speech model of whisper.cpp", Role.UNKNOWN, 0.8)
    llama = 0 < vocabulary < 1 << 20 and 0 < layers <= 512 and 0 < heads <= 512 and 0 < embedding < 1 << 17
    if not llama or embedding % heads or not 0 < multiple < 1 << 17:
        return _recognised(path, size, version, "numbers that are not those of a Llama", Role.UNKNOWN, 0.6)
    # Every token has at least its length in the vocabulary.
    if vocabulary * 4 > size:
        raise CorruptFile(path, f"the file has {size} bytes", f"room for the {vocabulary} tokens that it claims")
    size_per_head = embedding // heads
    feed_forward = (2 * (4 * embedding) // 3 + multiple - 1) // multiple * multiple
    coding = FILE_TYPES.get(kind % 1000)
    return _recognised(
        path,
        size,
        version,
        f"a Llama of {layers} layers",
        Role.TEXT,
        0.95,
        Quantization("ggml", coding.label) if coding else None,
        Shape(layers, embedding, feed_forward, heads, (heads,) * layers, size_per_head, size_per_head, vocabulary),
    )


def _recognised(
    path: Path,
    size: int,
    version: str,
    seen: str,
    role: Role,
    confidence: float,
    quantization: Quantization | None = None,
    shape: Shape | None = None,
) -> ModelInfo:
    return ModelInfo(
        path=path,
        format=Format.GGML,
        role=role,
        confidence=confidence,
        reason=f"{version} header with {seen}",
        size_bytes=size,
        files=(path,),
        version=version,
        name=path.stem,
        architecture="llama" if shape else "",
        quantization=quantization,
        shape=shape,
        notes=(_conversion(version, quantization),),
    )


def _conversion(version: str, quantization: Quantization | None) -> str:
    """How to make a GGUF of it."""
    label = quantization.label if quantization else ""
    old = f"no engine runs {version}"
    if (
        label in ("F32", "F16")
        or version == "GGJT v3"
        or (version == "GGJT v2" and label not in ("Q4_0", "Q4_1", "Q8_0"))
    ):
        return f"{old}; convert it to GGUF with {CONVERTER}"
    if not label:
        return f"{old}; download the model as GGUF"
    return f"{old}, and {label} changed since, so that it cannot be converted; download the model as GGUF"


def _adapter(path: Path, size: int, version: int) -> ModelInfo:
    if version != 1:
        raise UnsupportedFormat(path, f"GGLA version {version}; version 1 is known")
    return ModelInfo(
        path=path,
        format=Format.GGML,
        role=Role.ADAPTER,
        confidence=0.95,
        reason="GGLA header of a LoRA adapter",
        size_bytes=size,
        files=(path,),
        version="GGLA v1",
        name=path.stem,
        notes=("no engine runs GGLA v1; convert the original adapter with convert_lora_to_gguf.py of llama.cpp",),
    )
