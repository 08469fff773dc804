"""The new file, thought out: its metadata, its tensors, and from where each piece of them comes. Reads no weight."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from uml.core.errors import CorruptFile
from uml.engines.llamacpp.mixture import Network, mixture
from uml.formats.bounded_json import count, number
from uml.formats.gguf.head import ALIGNMENT, head, laid_out, padded
from uml.formats.gguf.header import TensorInfo
from uml.formats.gguf.tables import FILE_TYPES, TENSOR_TYPE_IDS, TENSOR_TYPES
from uml.formats.gguf.values import f32, i32, tensor, text, u32
from uml.runtime.conversions.gguf.families import Family
from uml.runtime.conversions.gguf.naming import Place, ignored, place
from uml.runtime.conversions.gguf.pooling import pooling
from uml.runtime.conversions.gguf.rope import Untold
from uml.runtime.conversions.gguf.shape import Told, offset, told
from uml.runtime.conversions.gguf.source import Source
from uml.runtime.conversions.gguf.stored import Stored
from uml.runtime.conversions.gguf.vocabulary import vocabulary
from uml.runtime.conversions.packing import Recipe

QUANTIZATION_VERSION: Final = 2
"""GGML_QNT_VERSION."""
PRECISIONS: Final = (
    *("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0"),
    *("Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
)
"""Kinds of `mixture.KINDS` that need no importance matrix."""
FILE_TYPE_IDS: Final = {kind.label: number for number, kind in sorted(FILE_TYPES.items(), reverse=True)}
F32: Final = TENSOR_TYPE_IDS["F32"]
SAMPLING: Final = {
    "top_p": ("top_p", f32),
    "min_p": ("min_p", f32),
    "temperature": ("temp", f32),
    "repetition_penalty": ("penalty_repeat", f32),
}
"""What generation_config.json calls a default -> what it is in GGUF, behind `general.sampling.`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a file that become rows of a tensor.

    skip: rows of the source before them. at: rows of the tensor before them. head: rows of a head whose rows are put
    in pairs, 1 for those that stay. plus: what is added to each number.
    """

    stored: Stored
    rows: int
    columns: int
    skip: int = 0
    at: int = 0
    head: int = 1
    plus: float = 0.0


@dataclass(slots=True)
class Target:
    """A tensor of the new file. shape: sizes, fastest first."""

    shape: tuple[int, ...]
    pieces: list[Piece] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Planned:
    """recipe: what is written. notes: what differs from the original, in sentences."""

    recipe: Recipe
    notes: tuple[str, ...]


def planned(family: Family, source: Source, kind: str, more: Mapping[str, bytes] | None = None) -> Planned:
    """The file of a kind of `PRECISIONS`. more: metadata that go before all others of their name.

    Raises Untold, BadFile, CorruptFile.
    """
    shaped = told(family, source)
    targets, notes = _targets(family, source, shaped)
    words = vocabulary(source, targets["token_embd.weight"].shape[1])
    given = dict(more or {})
    metadata = {"general.architecture": text(family.name), **_general(source)}
    metadata |= {key: value for key, value in given.items() if key.startswith("general.")}
    metadata |= {
        "general.file_type": u32(FILE_TYPE_IDS[kind]),
        "general.quantization_version": u32(QUANTIZATION_VERSION),
    }
    pooled, pooling_notes = pooling(family, source)
    metadata |= shaped.keys | pooled | {key: given[key] for key in given if key not in metadata} | words.keys
    recipe = _recipe(family, shaped, targets, kind, metadata)
    return Planned(recipe, (*_codes(source), *notes, *shaped.notes, *pooling_notes, *words.notes))


def _codes(source: Source) -> tuple[str, ...]:
    if not any(stored.code for stored in source.tensors.values()):
        return ()
    return (
        "its weights of FP8 are multiplied out; engines of FP8 round what goes in to 8 bits too, llama.cpp does not",
    )


def _general(source: Source) -> dict[str, bytes]:
    found = {"general.name": text(source.name), "general.size_label": text(size_label(source.parameters))}
    if source.generation.get("do_sample") is not False:
        for key, (name, coded) in SAMPLING.items():
            if (value := number(source.generation, key)) is not None:
                found[f"general.sampling.{name}"] = coded(value)
        if "top_k" in source.generation:
            found["general.sampling.top_k"] = i32(count(source.generation, "top_k"))
    return found


def size_label(parameters: int) -> str:
    """How many weights in a few letters: 846K, 5M, 1.2B."""
    if parameters >= 1_000_000_000:
        return f"{parameters / 1e9:.1f}".removesuffix(".0") + "B"
    return f"{round(parameters / 1e6)}M" if parameters >= 1_000_000 else f"{round(parameters / 1e3)}K"


def _targets(family: Family, source: Source, shaped: Told) -> tuple[dict[str, Target], list[str]]:
    found: dict[str, Target] = {}
    unknown, unseen = [], False
    for name, stored in source.tensors.items():
        where = place(family, name)
        if where is None or (where.tensor == "output.weight" and _tied(family, source)):
            if where is None and not ignored(family, name):
                unknown.append(name)
            unseen = unseen or (where is None and not family.encoder)
        elif where.fused:
            _fused(found, where, stored, shaped)
        elif where.expert is not None:
            _expert(found, where, stored, shaped)
        elif where.tensor in found:
            raise CorruptFile(stored.path, f"{name} becomes {where.tensor}, which is there already")
        else:
            found[where.tensor] = _plain(family, source, where, stored, shaped)
    if unknown:
        raise Untold(f"weights that {family.name} does not have in llama.cpp ({', '.join(unknown[:3])})")
    _complete(source, found, shaped)
    seeing = "vision_config" in source.whole
    return found, ["only its language model is converted: it will see no images"] if seeing and unseen else []


def _tied(family: Family, source: Source) -> bool:
    said = source.whole.get("tie_word_embeddings", source.config.get("tie_word_embeddings"))
    return said if isinstance(said, bool) else family.tied


def _plain(family: Family, source: Source, where: Place, stored: Stored, shaped: Told) -> Target:
    rows, columns, skip, shape = stored.rows, stored.columns, 0, shaped.shape
    if where.tensor == "position_embd.weight" and family.position_offset:
        skip = offset(source.config)
        rows -= skip
    whole = (columns, rows) if rows > 1 or where.tensor == "cls.output.weight" else (columns,)
    head, plus = 1, 0.0
    if family.paired and where.tensor.rpartition(".")[0].endswith(("attn_q", "attn_k")):
        heads = shape.heads if ".attn_q." in where.tensor else max(shape.kv_heads)
        if rows == 1:  # a bias: one number a row
            rows, columns = columns, 1
        head = rows // heads
        if rows % heads or head % 2:
            raise CorruptFile(
                stored.path, f"{where.tensor} has {rows} rows", f"a multiple of 2 for each of {heads} heads"
            )
    if family.shifted and where.tensor.endswith("norm.weight"):
        plus = 1.0
    return Target(whole, [Piece(stored, rows, columns, skip, 0, head, plus)])


def _expert(found: dict[str, Target], where: Place, stored: Stored, shaped: Told) -> None:
    target = found.setdefault(where.tensor, Target((stored.columns, stored.rows, shaped.shape.experts)))
    if target.shape[:2] != (stored.columns, stored.rows):
        raise CorruptFile(stored.path, f"experts of {where.tensor} have different sizes")
    assert where.expert is not None
    target.pieces.append(Piece(stored, stored.rows, stored.columns, at=where.expert * stored.rows))


def _fused(found: dict[str, Target], where: Place, stored: Stored, shaped: Told) -> None:
    """All experts in one tensor; of two halves the first is the gate."""
    experts = shaped.shape.experts
    parts = (where.tensor, where.tensor.replace("_gate_", "_up_")) if where.halved else (where.tensor,)
    rows = stored.rows // experts // len(parts) if experts else 0
    if not rows or rows * experts * len(parts) != stored.rows:
        raise CorruptFile(
            stored.path, f"{where.tensor} has {stored.rows} rows", f"as many for each of {experts} experts"
        )
    whole = rows * len(parts)
    if (scales := stored.scales) and scales.block[0] < stored.rows and whole % scales.block[0]:
        raise Untold(f"scales of {scales.block[0]} rows in experts of {whole} ({where.tensor})")
    for half, name in enumerate(parts):
        found[name] = Target((stored.columns, rows, experts))
        for expert in range(experts):
            first = (expert * len(parts) + half) * rows
            found[name].pieces.append(Piece(stored, rows, stored.columns, skip=first, at=expert * rows))


def _complete(source: Source, found: Mapping[str, Target], shaped: Told) -> None:
    """Raises CorruptFile where a layer, an expert or the embedding is missing."""
    layers = {name.split(".")[1] for name in found if name.startswith("blk.")}
    missing = [str(layer) for layer in range(shaped.shape.layers) if str(layer) not in layers]
    if missing or "token_embd.weight" not in found:
        what = f"no layer {', '.join(missing[:5])}" if missing else "no embedding"
        raise CorruptFile(source.folder, f"there is {what}", f"{shaped.shape.layers} layers and an embedding")
    if more := sorted(layers - {str(layer) for layer in range(shaped.shape.layers)}):
        raise Untold(f"layers beyond its {shaped.shape.layers} ({', '.join(more[:3])})")
    for name, target in found.items():
        if len(target.shape) == 3 and len({piece.at for piece in target.pieces}) != target.shape[2]:
            raise CorruptFile(source.folder, f"{name} has {len(target.pieces)} experts", f"{target.shape[2]}")


def _recipe(
    family: Family, shaped: Told, targets: Mapping[str, Target], kind: str, metadata: Mapping[str, bytes]
) -> Recipe:
    shape = shaped.shape
    network = Network(family.name, shape.layers, shape.heads, max(shape.kv_heads), shape.experts)
    chosen = mixture(kind, network, {name: target.shape for name, target in targets.items()})
    infos = [tensor(name, target.shape, chosen.get(name, F32)) for name, target in targets.items()]
    infos += [tensor(name, (len(values),), F32) for name, values in shaped.rope.factors.items()]
    placed = laid_out(infos, ALIGNMENT)
    start = head(metadata, placed, ALIGNMENT)
    given = [
        (len(start) + info.offset, _bytes(shaped.rope.factors[info.name]))
        for info in placed
        if info.name in shaped.rope.factors
    ]
    jobs = [
        _job(info, piece, len(start)) for info in placed if info.name in targets for piece in targets[info.name].pieces
    ]
    size = len(start) + sum(padded(info.size_bytes, ALIGNMENT) for info in placed)
    return Recipe(start, size, tuple(jobs), tuple(given))


def _bytes(values: array[float]) -> bytes:
    # GGUF is little endian, and so is every machine that runs this.
    return values.tobytes()


def _job(info: TensorInfo, piece: Piece, start: int) -> Mapping[str, Any]:
    new, row_bytes = TENSOR_TYPES[info.type], piece.columns * piece.stored.number_bytes
    return {
        "name": info.name,
        "path": str(piece.stored.path),
        "offset": piece.stored.offset + piece.skip * row_bytes,
        "rows": piece.rows,
        "columns": piece.columns,
        "from": piece.stored.kind,
        "to": info.type,
        "at": start + info.offset + piece.at * piece.columns // new.block * new.block_bytes,
        **({"head": piece.head} if piece.head > 1 else {}),
        **({"plus": piece.plus} if piece.plus else {}),
        **({"code": _code(piece)} if piece.stored.code else {}),
    }


def _code(piece: Piece) -> Mapping[str, Any]:
    """How bytes become numbers, for the child. begin: the first row among those that the scales stand for."""
    scales = piece.stored.scales
    return {
        "name": piece.stored.code,
        "begin": piece.skip,
        "scales": asdict(scales) | {"path": str(scales.path)} if scales else None,
    }


def kept_as(source: Source) -> str:
    """The kind that loses nothing: that of most of the weights. Of FP8 it is BF16, as Transformers makes it."""
    sizes: dict[str, int] = dict.fromkeys(("F32", "F16", "BF16"), 0)
    for stored in source.tensors.values():
        sizes["BF16" if stored.code else TENSOR_TYPES[stored.kind].name] += stored.elements
    return max(sizes, key=sizes.__getitem__)
