"""GGUF: one file or the parts of a split one -> ModelInfo."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uml.core.errors import BadFile, CorruptFile, MissingShard
from uml.core.model import Format, ModelInfo, Quantization, Role, Scalar
from uml.formats.gguf.header import MAGIC, GgufHeader, TensorInfo, read_header
from uml.formats.gguf.role import role
from uml.formats.gguf.shape import count, shape
from uml.formats.gguf.tables import FILE_TYPE_GUESSED, FILE_TYPES, TENSOR_TYPES, type_name

PART_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
"""llama.cpp's gguf-split and every loader of its files insist on this name."""

MAX_PARTS = 1000
"""The largest models come in under a hundred."""

CHAT_TEMPLATE = "tokenizer.chat_template"
FLOATS = frozenset({"F32", "F16", "BF16", "F64"})


@dataclass(frozen=True, slots=True)
class PartName:
    """What the name of a part says: number counts from 1."""

    stem: str
    number: int
    count: int

    @classmethod
    def of(cls, path: Path) -> PartName | None:
        """None for a file that is not named as a part."""
        found = PART_NAME.fullmatch(path.name)
        if found is None:
            return None
        name = cls(found["stem"], int(found["number"]), int(found["count"]))
        return name if 1 <= name.number <= name.count else None

    def path(self, folder: Path, number: int) -> Path:
        """The path of another part."""
        return folder / f"{self.stem}-{number:05d}-of-{self.count:05d}.gguf"


def is_gguf(start: bytes) -> bool:
    """Whether a file that begins so is GGUF."""
    return start.startswith(MAGIC)


def inspect_gguf(path: Path) -> ModelInfo:
    """What a GGUF file, or the split model that it is a part of, says.

    Raises CorruptFile, MissingShard, UnsupportedFormat or BadFile.
    """
    return described(_parts(path))


def described(headers: Sequence[GgufHeader]) -> ModelInfo:
    """What these headers say together, the first part's first. Raises CorruptFile."""
    first = headers[0]
    tensors = [tensor for header in headers for tensor in header.tensors]
    # The first part's metadata with everybody's tensors.
    whole = replace(first, tensors=tuple(tensors))
    what, because = role(whole)
    version = f"GGUF v{first.version}" + (" big endian" if first.big_endian else "")
    split = f", {len(headers)} parts" if len(headers) > 1 else ""
    return ModelInfo(
        path=first.path,
        format=Format.GGUF,
        role=what,
        confidence=1.0,
        reason=f"{version} header with {len(tensors)} tensors{split}; {because}",
        size_bytes=sum(header.size_bytes for header in headers),
        files=tuple(header.path for header in headers),
        version=version,
        name=first.text("general.name"),
        architecture=first.text("general.architecture"),
        quantization=_quantization(first, tensors) if what is not Role.VOCABULARY else None,
        parameters=sum(tensor.elements for tensor in tensors) or None,
        context_length=_context_length(first),
        shape=shape(whole) if what is not Role.PROJECTOR else None,
        chat_template=first.text(CHAT_TEMPLATE) or None,
        weight_bytes=_weight_bytes(whole),
        metadata=_metadata(first),
        notes=_notes(headers, whole),
    )


def _parts(path: Path) -> list[GgufHeader]:
    """The headers of all parts, first part first."""
    header = read_header(path)
    parts = header.integer("split.count", 1)
    name = PartName.of(path)
    if parts <= 1:
        return [header]
    if parts > MAX_PARTS:
        raise CorruptFile(path, f"split.count is {parts}", f"at most {MAX_PARTS}")
    number = header.integer("split.no") + 1
    if name is None:
        raise BadFile(
            path, f"is part {number} of {parts} of a split model; name it NAME-{number:05d}-of-{parts:05d}.gguf"
        )
    if (name.number, name.count) != (number, parts):
        raise CorruptFile(
            path, f"split.no and split.count say part {number} of {parts}", f"what its name says: {path.name}"
        )
    return _all_parts(path, header, name)


def _all_parts(path: Path, header: GgufHeader, name: PartName) -> list[GgufHeader]:
    wanted = [name.path(path.parent, number) for number in range(1, name.count + 1)]
    missing = [part.name for part in wanted if part.name != path.name and not part.is_file()]
    if missing:
        raise MissingShard(path, missing)
    headers = [header if part.name == path.name else read_header(part) for part in wanted]
    for number, part in enumerate(headers):
        said = (part.integer("split.no", -1), part.integer("split.count", -1))
        if said != (number, name.count):
            raise CorruptFile(
                part.path, f"split.no is {said[0]} and split.count {said[1]}", f"{number} and {name.count}"
            )
    total = headers[0].integer("split.tensors.count", -1)
    found = sum(len(part.tensors) for part in headers)
    if total not in (-1, found):
        raise CorruptFile(headers[0].path, f"split.tensors.count is {total}", f"{found}, the tensors of all parts")
    return headers


def _context_length(header: GgufHeader) -> int | None:
    return count(header, f"{header.text('general.architecture')}.context_length") or None


def _metadata(header: GgufHeader) -> Mapping[str, Scalar]:
    return {key: value for key, value in header.metadata.items() if key != CHAT_TEMPLATE}


def _weight_bytes(header: GgufHeader) -> dict[str, int]:
    """Bytes by type; what types of a fork take is what the known ones leave of the file."""
    sizes: Counter[str] = Counter()
    for tensor in header.tensors:
        sizes[type_name(tensor.type)] += tensor.size_bytes
    unknown = [name for name in sizes if name.startswith("type ")]
    if unknown and header.size_bytes > header.data_start:
        rest = header.size_bytes - header.data_start - sum(sizes.values())
        sizes[unknown[0]] = max(0, rest)
    return dict(sizes.most_common())


def _matrices(tensors: Sequence[TensorInfo]) -> Counter[str]:
    """Elements by type over the tensors that a quantizer touches: those with two dimensions or more."""
    found: Counter[str] = Counter()
    for tensor in tensors:
        if len(tensor.shape) > 1:
            found[type_name(tensor.type)] += tensor.elements
    return found


def _quantization(header: GgufHeader, tensors: Sequence[TensorInfo]) -> Quantization:
    """The label of general.file_type where the tensors bear it out, else that of the commonest type."""
    found = _matrices(tensors) or Counter(type_name(tensor.type) for tensor in tensors)
    commonest = found.most_common(1)[0][0] if found else ""
    label = commonest if _contradiction(header, tensors) else _claimed(header) or commonest
    method = "none" if label in FLOATS else "gguf"
    elements = sum(tensor.elements for tensor in tensors if tensor.type in TENSOR_TYPES)
    bits = sum(tensor.size_bytes for tensor in tensors) * 8 / elements if elements else None
    return Quantization(method, label or "unknown", round(bits, 4) if bits else None)


def _claimed(header: GgufHeader) -> str:
    known = FILE_TYPES.get(header.integer("general.file_type", -1) & ~FILE_TYPE_GUESSED)
    return known.label if known else ""


def _contradiction(header: GgufHeader, tensors: Sequence[TensorInfo]) -> str:
    """How general.file_type and the tensors disagree; empty where they do not."""
    claimed = FILE_TYPES.get(header.integer("general.file_type", -1) & ~FILE_TYPE_GUESSED)
    found = _matrices(tensors)
    if claimed is None or not found:
        return ""
    commonest = found.most_common(1)[0][0]
    if claimed.label in FLOATS:
        agrees = commonest == claimed.label
    else:
        # A quantizer falls back to another type for rows that no block of 256 divides.
        awkward = all(tensor.shape[0] % 256 for tensor in tensors if len(tensor.shape) > 1)
        agrees = bool(claimed.types & found.keys()) or (awkward and "_K" in claimed.label and commonest not in FLOATS)
    if agrees:
        return ""
    return f"general.file_type says {claimed.label}, and most weights are {commonest}"


def _notes(headers: Sequence[GgufHeader], whole: GgufHeader) -> tuple[str, ...]:
    notes = [note for header in headers for note in header.notes]
    if disagreement := _contradiction(whole, whole.tensors):
        notes.append(disagreement)
    if whole.big_endian != (sys.byteorder == "big"):
        notes.append(f"it is {'big' if whole.big_endian else 'little'} endian, and engines here read the other order")
    name = PartName.of(whole.path)
    if name and name.count > 1 and len(headers) == 1:
        notes.append(f"its name says part {name.number} of {name.count}, its header that it is whole")
    return tuple(notes)
