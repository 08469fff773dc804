"""A GGUF file of another kind: the same model with its weights in smaller blocks, by llama.cpp's own code.

The new head is made here, of the old one's bytes; the weights are packed in a child process, which may abort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from uml.core.errors import BadRequest, ConversionFailed, UnsupportedArchitecture, UnsupportedFormat
from uml.core.model import Format, ModelInfo, Role
from uml.core.quote import quoted
from uml.engines.llamacpp.mixture import (
    BY_MATRIX,
    FLOATS,
    KINDS,
    REFUSED,
    Network,
    Part,
    mixture,
    needs_matrix,
    part,
)
from uml.formats.gguf.head import ALIGNMENT, head, laid_out, padded, pairs, u32
from uml.formats.gguf.header import GgufHeader, TensorInfo, read_header
from uml.formats.gguf.imatrix import ImportanceMatrix
from uml.formats.gguf.tables import FILE_TYPES, TENSOR_TYPES, type_name
from uml.formats.gguf.values import text
from uml.runtime.conversions.packing import Recipe, write
from uml.runtime.conversions.workshop import Making, trouble, workshop

QUANTIZATION_VERSION: Final = 2
"""GGML_QNT_VERSION."""
FILE_TYPE_IDS: Final = {kind.label: number for number, kind in sorted(FILE_TYPES.items(), reverse=True)}
_UNREADABLE: Final = frozenset({"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"})
"""Types that ggml makes no float32 of."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to make of which model, and where.

    name: of the model, for sentences. kind: of `mixture.KINDS`; of `BY_MATRIX` too where there is a matrix, of the
    importance of columns. place: the file that is made. threads: at least 1.
    """

    name: str
    info: ModelInfo
    kind: str
    place: Path
    threads: int
    matrix: ImportanceMatrix | None = None


ALSO: Final[Mapping[str, str]] = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
"""Short names of kinds, as llama-quantize takes them."""
_INSTEAD: Final[Mapping[Format, str]] = {
    Format.SAFETENSORS: "; uml convert {name} --to gguf --precision KIND makes such a file of it",
    Format.PYTORCH: "; first: uml convert {name} --to safetensors, and that one to gguf with --precision KIND",
    Format.GGML: "; first: uml convert {name} --to gguf",
}


def check(name: str, info: ModelInfo) -> None:
    """Whether it can be quantized. Raises UnsupportedFormat, UnsupportedArchitecture."""
    if info.format is not Format.GGUF:
        instead = _INSTEAD.get(info.format, "").format(name=name)
        raise UnsupportedFormat(info.path, f"it is {info.format}; only GGUF is quantized{instead}")
    if info.role in (Role.PROJECTOR, Role.ADAPTER, Role.VOCABULARY, Role.UNKNOWN):
        raise UnsupportedFormat(info.path, f"it is GGUF for {info.role}; only whole models are quantized")
    if info.architecture in REFUSED:
        raise UnsupportedArchitecture(
            name,
            f"llama.cpp quantizes {info.architecture} by rules of its own, which are not here; llama-quantize has them",
            wanted="is not quantized",
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


def check_kind(kind: str, *, matrix: bool) -> None:
    """Whether a file of this kind can be made. Raises BadRequest."""
    if kind in BY_MATRIX and not matrix:
        raise BadRequest(
            f"{kind.lower()} needs an importance matrix, without which it is garbage: --imatrix FILE, as llama.cpp's "
            "llama-imatrix makes it of this model and a text",
            param="imatrix",
        )
    if kind not in KINDS and kind not in BY_MATRIX:
        known = ", ".join(name.lower() for name in (*KINDS, *BY_MATRIX))
        raise BadRequest(f"the kind is {quoted(kind.lower())}; expected one of {known}", param="to")


def unweighed(info: ModelInfo, kind: str, matrix: ImportanceMatrix) -> tuple[str, ...]:
    """Matrices that a file of this kind packs without their importance, for there is nothing of them in the matrix.

    Embeddings and outputs are left out: llama.cpp's tool does not look at them unless it is told to.
    """
    if kind in FLOATS:
        return ()
    tensors = {tensor.name: tensor.shape for path in info.files for tensor in read_header(path).tensors}
    chosen = mixture(kind, network(read_header(info.files[0])), tensors, matrix=True)
    apart = (Part.OUTPUT, Part.EMBEDDING)
    return tuple(name for name in chosen if name not in matrix.entries and part(name) not in apart)


def recipe(info: ModelInfo, kind: str, matrix: ImportanceMatrix | None = None) -> Recipe:
    """The new file. Raises UnsupportedFormat, CorruptFile, BadFile; BadRequest: the matrix is of another model.

    Figures of the matrix are taken to lie one tensor behind the other, in the order of the tensors.
    """
    headers = [read_header(path) for path in info.files]
    first = headers[0]
    metadata = {key: value for key, value in pairs(first.path).items() if not key.startswith("split.")}
    metadata |= {
        "general.file_type": u32(FILE_TYPE_IDS[kind]),
        "general.quantization_version": u32(QUANTIZATION_VERSION),
    }
    if matrix:
        metadata |= {
            "quantize.imatrix.file": text(matrix.path.name),
            "quantize.imatrix.entries_count": u32(len(matrix.entries)),
            "quantize.imatrix.chunks_count": u32(matrix.chunks),
        }
    alignment = first.integer("general.alignment", ALIGNMENT)
    sources = [(header, tensor) for header in headers for tensor in header.tensors]
    shapes = {tensor.name: tensor.shape for _, tensor in sources}
    chosen = mixture(kind, network(first), shapes, matrix=matrix is not None)
    for _, tensor in sources:
        if chosen.get(tensor.name, tensor.type) != tensor.type and type_name(tensor.type) in _UNREADABLE:
            raise UnsupportedFormat(info.path, f"{tensor.name} is {type_name(tensor.type)}, which ggml cannot unpack")
    new = laid_out((_as(tensor, chosen.get(tensor.name, tensor.type)) for _, tensor in sources), alignment)
    start = head(metadata, new, alignment)
    moved = [_moved(header, old, made, len(start)) for (header, old), made in zip(sources, new, strict=True)]
    tensors = tuple(_weighed(moved, shapes, kind, chosen, matrix) if matrix else moved)
    return Recipe(start, len(start) + sum(padded(tensor.size_bytes, alignment) for tensor in new), tensors)


def _weighed(
    moved: Iterable[Mapping[str, Any]],
    shapes: Mapping[str, tuple[int, ...]],
    kind: str,
    chosen: Mapping[str, int],
    matrix: ImportanceMatrix,
) -> Iterator[Mapping[str, Any]]:
    """Each tensor with the place of its figures, where it has some and they change how it is packed."""
    at = 0
    for one in moved:
        name, shape = one["name"], shapes[one["name"]]
        about = matrix.entries.get(name)
        if name not in chosen or type_name(chosen[name]) in FLOATS:
            yield one
            continue
        experts = shape[2] if len(shape) > 2 else 1
        if about is not None and about.size != shape[0] * experts:
            if part(name) is not Part.EMBEDDING:
                raise BadRequest(
                    f"{matrix.path.name} has {about.size} figures of {name}, which has {shape[0] * experts} columns: "
                    "it is of another model",
                    param="imatrix",
                )
            about = None
        if about is not None:
            yield {**one, "important": at, "each": int(one["rows"]) // experts}
            at += 4 * about.size
        elif needs_matrix(kind, name, chosen[name]):
            raise BadRequest(
                f"{matrix.path.name} has nothing of {name}, which is garbage as {type_name(chosen[name])} without: "
                "name a matrix of this model, or another kind",
                param="imatrix",
            )
        else:
            yield one


def _with_figures(matrix: ImportanceMatrix, made: Recipe, file: Path) -> Recipe:
    """Write the figures that a recipe has places for. Raises BadFile, CorruptFile, OSError."""
    with file.open("wb") as out:
        for tensor in made.tensors:
            if "important" in tensor:
                matrix.values(tensor["name"]).tofile(out)
    tensors = ({**one, "figures": str(file)} if "important" in one else one for one in made.tensors)
    return replace(made, tensors=tuple(tensors))


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
    check_kind(order.kind, matrix=order.matrix is not None)
    made = recipe(order.info, order.kind, order.matrix)
    try:
        with workshop(f"{order.name} as {order.kind}", order.place, made.size_bytes) as shop:
            file = shop / order.place.name
            if order.matrix:
                made = _with_figures(order.matrix, made, shop / "figures")
            write(order.name, made, file, order.threads, tell, cancelled)
            file.rename(order.place)
    except OSError as error:
        raise ConversionFailed(order.name, trouble(error, order.place)) from error
    tell(Making("done", 100))
    return order.place
