"""A GGUF file of another kind: the same model with its weights in smaller blocks, by llama.cpp's own code.

The new head is made here, of the old one's bytes; the weights are packed in a child process, which may abort.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.errors import ConversionFailed, UnsupportedArchitecture, UnsupportedFormat
from uml.core.model import Format, ModelInfo, Role
from uml.engines.llamacpp.mixture import FLOATS, REFUSED, Network, mixture
from uml.formats.gguf_copy import ALIGNMENT, head, laid_out, padded, pairs, u32
from uml.formats.gguf_header import GgufHeader, TensorInfo, read_header
from uml.formats.gguf_types import FILE_TYPES, TENSOR_TYPES, type_name
from uml.runtime.conversions.packing import Recipe, write
from uml.runtime.conversions.workshop import Making, workshop

QUANTIZATION_VERSION: Final = 2
"""GGML_QNT_VERSION."""
FILE_TYPE_IDS: Final = {kind.label: number for number, kind in sorted(FILE_TYPES.items(), reverse=True)}
_UNREADABLE: Final = frozenset({"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"})
"""Types that ggml makes no float32 of."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to make of which model, and where.

    name: of the model, for sentences. kind: of `mixture.KINDS`. place: the file that is made. threads: at least 1.
    """

    name: str
    info: ModelInfo
    kind: str
    place: Path
    threads: int


def check(name: str, info: ModelInfo) -> None:
    """Whether it can be quantized. Raises UnsupportedFormat, UnsupportedArchitecture."""
    if info.format is not Format.GGUF:
        raise UnsupportedFormat(info.path, f"it is {info.format}; only GGUF is quantized")
    if info.role in (Role.PROJECTOR, Role.ADAPTER, Role.VOCABULARY, Role.UNKNOWN):
        raise UnsupportedFormat(info.path, f"it is GGUF for {info.role}; only whole models are quantized")
    if info.architecture in REFUSED:
        raise UnsupportedArchitecture(
            name, f"llama.cpp quantizes {info.architecture} by rules of its own, which are not here"
        )
    unreadable = sorted(
        kind for kind in info.weight_bytes or {} if kind in ("Q8_1", "Q8_K") or kind.startswith("type ")
    )
    if unreadable:
        raise UnsupportedFormat(info.path, f"some of its weights are {', '.join(unreadable)}, which ggml cannot unpack")


def warning(info: ModelInfo) -> str:
    """What is lost when the source is quantized already; empty where it is not."""
    label = info.quantization.label if info.quantization else ""
    if not info.quantization or info.quantization.method == "none" or label in FLOATS:
        return ""
    return (
        f"{info.path.name} is {label} already: what was lost there stays lost, and some more is; "
        "F16 or BF16 of the same model makes a better file"
    )


def recipe(info: ModelInfo, kind: str) -> Recipe:
    """The new file. Raises UnsupportedFormat, CorruptFile, BadFile."""
    headers = [read_header(path) for path in info.files]
    first = headers[0]
    metadata = {key: value for key, value in pairs(first.path).items() if not key.startswith("split.")}
    metadata |= {
        "general.file_type": u32(FILE_TYPE_IDS[kind]),
        "general.quantization_version": u32(QUANTIZATION_VERSION),
    }
    alignment = first.integer("general.alignment", ALIGNMENT)
    sources = [(header, tensor) for header in headers for tensor in header.tensors]
    chosen = mixture(kind, network(first), {tensor.name: tensor.shape for _, tensor in sources})
    for _, tensor in sources:
        if chosen.get(tensor.name, tensor.type) != tensor.type and type_name(tensor.type) in _UNREADABLE:
            raise UnsupportedFormat(info.path, f"{tensor.name} is {type_name(tensor.type)}, which ggml cannot unpack")
    new = laid_out((_as(tensor, chosen.get(tensor.name, tensor.type)) for _, tensor in sources), alignment)
    start = head(metadata, new, alignment)
    tensors = tuple(_moved(header, old, made, len(start)) for (header, old), made in zip(sources, new, strict=True))
    return Recipe(start, len(start) + sum(padded(tensor.size_bytes, alignment) for tensor in new), tensors)


def network(header: GgufHeader) -> Network:
    """What the mixtures depend on, from the first part's metadata."""
    name = header.text("general.architecture")

    def first(key: str) -> int:
        found = header.arrays.get(f"{name}.{key}")
        return int(found[0]) if found else header.integer(f"{name}.{key}")

    heads = first("attention.head_count")
    kv_heads = first("attention.head_count_kv") if _has(header, f"{name}.attention.head_count_kv") else heads
    return Network(name, first("block_count"), heads, kv_heads, first("expert_count"))


def _has(header: GgufHeader, key: str) -> bool:
    return key in header.metadata or key in header.arrays


def _as(tensor: TensorInfo, kind: int) -> TensorInfo:
    if kind == tensor.type:
        return tensor
    known = TENSOR_TYPES[kind]
    return tensor._replace(type=kind, size_bytes=tensor.elements // known.block * known.block_bytes)


def _moved(header: GgufHeader, old: TensorInfo, new: TensorInfo, start: int) -> Mapping[str, Any]:
    columns = old.shape[0] if old.shape else 1
    return {
        "name": old.name,
        "path": str(header.path),
        "offset": header.data_start + old.offset,
        "rows": old.elements // columns if columns else 0,
        "columns": columns or 1,
        "from": old.type,
        "to": new.type,
        "at": start + new.offset,
    }


def quantize(order: Order, tell: Callable[[Making], None], cancelled: Callable[[], bool] = lambda: False) -> Path:
    """Make it, read its head, and put it in its place; takes seconds to many minutes.

    Whatever ends it before, nothing of it is left. Raises UnsupportedFormat, UnsupportedArchitecture, CorruptFile,
    BadFile, BadRequest, NoRoom, OutOfMemory, ConversionFailed, Cancelled.
    """
    check(order.name, order.info)
    made = recipe(order.info, order.kind)
    try:
        with workshop(f"{order.name} as {order.kind}", order.place, made.size_bytes) as shop:
            file = shop / order.place.name
            write(order.name, made, file, order.threads, tell, cancelled)
            file.rename(order.place)
    except OSError as error:
        raise ConversionFailed(order.name, error.strerror or str(error)) from error
    tell(Making("done", 100))
    return order.place
