"""The ancestors of GGUF: unversioned GGML, GGMF and GGJT, named by generation.

Those of LLaMA models are made into GGUF before an engine gets them (`legacy_gguf` says how); those of other families
are named, and refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from uml.core.errors import CorruptFile, UnsupportedFormat, gib
from uml.core.model import Format, ModelInfo, Quantization, Role
from uml.formats.gguf.file import FLOATS, described
from uml.formats.gguf.tables import FILE_TYPES
from uml.formats.legacy.file import GENERATIONS, LegacyFile, NotLlama, first_part, read_file, start_of
from uml.formats.legacy.to_gguf import Becoming, becoming
from uml.formats.reader import Cursor, opened, read_start

ADAPTER: Final = b"algg"
WHISPER_AUDIO_CONTEXT: Final = 1500
LOOKED_AT: Final = 4 << 20
"""Bytes in which names of tensors are looked for: vocabularies of that time took one."""

_FAMILIES: Final[Mapping[bytes, str]] = {
    b"gpt_neox.": "GPT-NeoX",
    b"transformer.blocks.": "MPT",
    b"transformer.word_embeddings": "Falcon or BLOOM",
    b"transformer.h.": "GPT-J",
    b"model/wte": "GPT-2 or StarCoder",
    b"attention.query_key_value": "BLOOM",
    b"encoder.positional_embedding": "whisper.cpp's speech models",
    b"embeddings.word_embeddings": "BERT",
    b"image_encoder.": "SAM",
    b"blocks.0.att.": "RWKV",
}
"""What tensors of other models that came in these formats are called."""


def is_legacy(start: bytes) -> bool:
    """Whether a file that begins so (4 bytes are enough) is one of them."""
    return start[:4] in GENERATIONS or start[:4] == ADAPTER


def inspect_legacy(path: Path) -> ModelInfo:
    """What a file of these generations says; a later part of a model in parts stands for the whole.

    Raises CorruptFile, MissingShard, or UnsupportedFormat for an unknown version.
    """
    path = first_part(path)
    if read_start(path, 4) == ADAPTER:
        return _adapter(path)
    with opened(path) as (file, size):
        generation, numbers = start_of(Cursor(path, file, size))
    whisper = generation.name == "GGML" and numbers.embedding == WHISPER_AUDIO_CONTEXT and numbers.vocabulary > 50_000
    if whisper:
        return _other(path, size, generation.label, "a speech model of whisper.cpp")
    try:
        old = read_file(path)
    except NotLlama as error:
        family = _family(path)
        return _other(path, size, generation.label, f"a model of {family}" if family else error.seen)
    except CorruptFile:
        # Of other models the same places mean other things, and reading goes astray.
        if family := _family(path):
            return _other(path, size, generation.label, f"a model of {family}")
        raise
    return _llama(old, becoming(old, path.stem))


def foreseen(path: Path, place: Path) -> ModelInfo:
    """The GGUF that an old file becomes, as `inspect` will tell it once it lies at `place`. Raises what that does."""
    old = read_file(path)
    new = becoming(old, path.stem)
    return replace(described([new.header]), path=place, files=(place,))


def is_convertible(info: ModelInfo) -> bool:
    """Whether `inspect_legacy` found a model that can be made into GGUF."""
    return info.format is Format.GGML and info.role is Role.TEXT and info.shape is not None


def as_gguf(info: ModelInfo) -> ModelInfo:
    """A model that becomes GGUF as what an engine is chosen by: format and quantization. Others as they are."""
    if not is_convertible(info):
        return info
    label = info.quantization.label if info.quantization else ""
    return replace(info, format=Format.GGUF, quantization=Quantization("none" if label in FLOATS else "gguf", label))


def _llama(old: LegacyFile, new: Becoming) -> ModelInfo:
    will_be = described([new.header])
    stored: dict[str, int] = {}
    for tensor in old.tensors.values():
        stored[tensor.coding.name] = stored.get(tensor.coding.name, 0) + tensor.size_bytes
    stored = dict(sorted(stored.items(), key=lambda item: -item[1]))
    parts = f", {len(old.paths)} parts" if len(old.paths) > 1 else ""
    return replace(
        will_be,
        path=old.paths[0],
        format=Format.GGML,
        confidence=0.95,
        reason=f"{old.generation.label} header with a Llama of {old.numbers.layers} layers{parts}",
        size_bytes=old.size_bytes,
        files=old.paths,
        version=old.generation.label,
        quantization=_quantization(old, stored, will_be.parameters or 0),
        weight_bytes=stored,
        metadata=dict(old.numbers._asdict()),
        notes=(_conversion(old, will_be), *filter(None, (new.lost,)), *new.guessed),
    )


def _quantization(old: LegacyFile, stored: Mapping[str, int], elements: int) -> Quantization:
    """By what most weights are; the file's own word where it is about as good."""
    claimed = FILE_TYPES.get(old.numbers.file_type % 1000)
    commonest = next(iter(stored))
    label = claimed.label if claimed and claimed.types & stored.keys() else commonest
    bits = round(8 * sum(stored.values()) / elements, 4) if elements else None
    return Quantization("none" if label in FLOATS else "ggml", label, bits)


def _conversion(old: LegacyFile, will_be: ModelInfo) -> str:
    size = gib(sum(will_be.weight_bytes.values()))
    return f"{old.generation.label} is made into GGUF by itself at the first load; that takes {size} of disk"


def _family(path: Path) -> str:
    """Whose tensors it has; empty where that cannot be told."""
    start = read_start(path, LOOKED_AT)
    return next((family for name, family in _FAMILIES.items() if name in start), "")


def _other(path: Path, size: int, version: str, seen: str) -> ModelInfo:
    return ModelInfo(
        path=path,
        format=Format.GGML,
        role=Role.UNKNOWN,
        confidence=0.8,
        reason=f"{version} header with {seen}",
        size_bytes=size,
        files=(path,),
        version=version,
        name=path.stem,
        notes=(
            f"no engine runs {version} of this family, and only LLaMA models of these formats are made into GGUF; "
            "download the model as GGUF or safetensors",
        ),
    )


def _adapter(path: Path) -> ModelInfo:
    with opened(path) as (file, size):
        cursor = Cursor(path, file, size)
        cursor.skip(4, "the magic")
        version = cursor.number("I", "the version")
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
