"""ONNX: a bare model file, and the folders that ONNX Runtime GenAI runs.

A .onnx file is a protobuf message `ModelProto` (onnx.proto) without a magic of its own. Its top-level fields are
read by hand; the graph, which holds the weights, is stepped over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from uml.core.errors import BadFile, CorruptFile, MissingShard
from uml.core.model import READERS, Format, ModelInfo, Role, Scalar, Shape
from uml.formats.bounded_json import child, count, read_object, scalars, text
from uml.formats.hf import config as hf_config
from uml.formats.hf import folder as hf
from uml.formats.reader import Cursor, opened, read_at
from uml.formats.sentence import files_of, modules

GENAI_CONFIG = "genai_config.json"
MAX_LAYERS = 4096
MAX_FIELDS = 4096
MAX_TEXT = 1 << 16

# Field numbers of ModelProto.
_IR_VERSION, _PRODUCER, _PRODUCER_VERSION, _DOMAIN, _MODEL_VERSION, _DOC, _GRAPH, _OPSET = range(1, 9)
_METADATA, _TRAINING, _FUNCTIONS, _DEVICES = 14, 20, 25, 26
_TEXTS = {_PRODUCER: "producer_name", _PRODUCER_VERSION: "producer_version", _DOMAIN: "domain"}
_NUMBERS = {_IR_VERSION: "ir_version", _MODEL_VERSION: "model_version"}
_MESSAGES = frozenset(
    {_PRODUCER, _PRODUCER_VERSION, _DOMAIN, _DOC, _GRAPH, _OPSET, _METADATA, _TRAINING, _FUNCTIONS, _DEVICES}
)
_VARINT, _BYTES = 0, 2


@dataclass(slots=True)
class _Model:
    """The top-level fields while they are read; complete: the last one ended where the file ends."""

    metadata: dict[str, Scalar] = field(default_factory=dict)
    opset: int = 0
    graph_bytes: int = 0
    ends_at: int = 0


def looks_like_onnx(start: bytes) -> bool:
    """Whether a file that begins so (16 bytes are enough) may be one: ir_version 3 to 20, then another field."""
    if len(start) < 4 or start[0] != _IR_VERSION << 3 or not 3 <= start[1] <= 20:
        return False
    return (start[2] >> 3 in _MESSAGES and start[2] & 7 == _BYTES) or start[2] == _MODEL_VERSION << 3


def inspect_onnx(path: Path) -> ModelInfo | None:
    """What a bare .onnx file says; None where the fields are not those of a model.

    Raises CorruptFile for a model that is cut short.
    """
    with opened(path) as (file, size):
        model = _read(Cursor(path, file, size))
    if model is None:
        return None
    if model.ends_at > size:
        raise CorruptFile(
            path, f"the file has {size} bytes", f"{model.ends_at}, where its graph ends; download it again"
        )
    if not model.graph_bytes:
        return None
    beside = [path.with_name(name) for name in (f"{path.name}.data", f"{path.name}_data", f"{path.stem}.data")]
    data = [other for other in beside if other.is_file()]
    reader = _of_texts(path)
    producer = model.metadata.get("producer_name", "")
    found = ModelInfo(
        path=path,
        format=Format.ONNX,
        role=Role.UNKNOWN,
        confidence=0.95 if producer or model.opset else 0.7,
        reason=f"ModelProto of IR version {model.metadata['ir_version']}, opset {model.opset}"
        + (f", by {producer}" if producer else "")
        + (f"; {reader.reason}" if reader else ""),
        size_bytes=size + sum(other.stat().st_size for other in data),
        files=(path, *data),
        version=f"IR {model.metadata['ir_version']}, opset {model.opset}",
        name=path.stem,
        metadata=model.metadata,
        notes=(f"to generate text, it needs a {GENAI_CONFIG} and a tokenizer beside it",),
    )
    if reader is None:
        return found
    return replace(
        found,
        role=reader.role,
        files=(*found.files, *reader.files),
        # Exports are called `model` and `model_quantized`, all of them.
        name=f"{hf.folder_name(reader.folder)}-{path.stem}",
        architecture=reader.architecture,
        context_length=reader.context_length,
        shape=reader.shape,
        notes=() if reader.role in READERS else found.notes,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """What the configuration of a model that reads texts says of a graph beside it."""

    folder: Path
    role: Role
    reason: str
    files: tuple[Path, ...]
    architecture: str
    context_length: int | None
    shape: Shape | None


_READS = ("config.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json", "modules.json")


def _of_texts(path: Path) -> _Reader | None:
    """The configuration beside a graph, or above a folder `onnx`, with its tokenizer; None where one of them is not."""
    folders = (path.parent, path.parent.parent) if path.parent.name == "onnx" else (path.parent,)
    for folder in folders:
        there = [folder / name for name in _READS if (folder / name).is_file()]
        names = [file.name for file in there]
        if not {"config.json", "tokenizer.json"} <= set(names):
            continue
        try:
            config = read_object(folder / "config.json")
            beside = [read_object(folder / name) if name in names else {} for name in _READS[2:4]]
        except BadFile:
            return None  # a file by that name of something else; the graph is good without it
        role, because = hf_config.role(config, "modules.json" in names)
        # The first one is the model itself, which the graph stands for.
        further = files_of(folder, modules(folder, names)[1:])
        pooling = folder / "1_Pooling" / "config.json"
        return _Reader(
            folder,
            role if role in READERS else Role.UNKNOWN,
            because,
            tuple(dict.fromkeys((*there, *([pooling] if pooling.is_file() else []), *further))),
            hf_config.architecture(config),
            hf_config.context_length(config, *beside),
            hf_config.shape(config),
        )
    return None


def _read(cursor: Cursor) -> _Model | None:
    """The top-level fields; None at the first one that a model does not have."""
    model = _Model()
    for _ in range(MAX_FIELDS):
        if cursor.left == 0:
            break
        tag = _varint(cursor)
        if tag is None:
            return None
        number, wire = tag >> 3, tag & 7
        value = _varint(cursor)
        if value is None or (wire == _VARINT) != (number in _NUMBERS) or (wire == _BYTES) != (number in _MESSAGES):
            return None
        if wire == _VARINT:
            model.metadata[_NUMBERS[number]] = value - (1 << 64) if value >= 1 << 63 else value
            continue
        model.ends_at = cursor.at + value
        if number == _GRAPH:
            model.graph_bytes = value
        if value > cursor.left:
            # Cut short: a model if what came before was one, else chance.
            return model if number == _GRAPH or model.graph_bytes else None
        _keep(cursor, number, value, model)
    return model if "ir_version" in model.metadata else None


def _keep(cursor: Cursor, number: int, length: int, model: _Model) -> None:
    """Read a small field that says something, step over any other."""
    if length > MAX_TEXT or number in (_GRAPH, _DOC, _TRAINING, _FUNCTIONS, _DEVICES):
        cursor.skip(length, "a field")
        return
    raw = cursor.raw(length, "a field")
    if name := _TEXTS.get(number):
        model.metadata[name] = raw.decode("utf-8", "replace")
    elif number == _OPSET:
        model.opset = max(model.opset, _opset(raw))
    elif pair := _pair(raw):
        model.metadata[f"metadata_props.{pair[0]}"] = pair[1]


def _varint(cursor: Cursor) -> int | None:
    """A protobuf varint; None where it is longer than ten bytes or the file ends in it."""
    value = 0
    for shift in range(0, 70, 7):
        if cursor.left == 0:
            return None
        byte = cursor.number("B", "a varint")
        value |= (byte & 127) << shift
        if byte < 128:
            return value & ((1 << 64) - 1)
    return None


def _opset(raw: bytes) -> int:
    """The version of an OperatorSetIdProto of the default domain, below 128; 0 for other domains."""
    if raw[:2] == b"\x0a\x00":
        raw = raw[2:]
    return raw[1] if len(raw) == 2 and raw[0] == 0x10 and raw[1] < 128 else 0


def _pair(raw: bytes) -> tuple[str, str] | None:
    """Key and value of a StringStringEntryProto of short texts."""
    if len(raw) < 4 or raw[0] != 0x0A or raw[1] > 127:
        return None
    end = 2 + raw[1]
    if len(raw) < end + 2 or raw[end] != 0x12:
        return None
    value = raw[end + 2 :] if raw[end + 1] < 128 else raw[end + 3 :]
    return raw[2:end].decode("utf-8", "replace"), value.decode("utf-8", "replace")


def inspect_genai(folder: Path, names: Sequence[str]) -> ModelInfo:
    """A folder of ONNX Runtime GenAI. Raises CorruptFile, MissingShard, BadFile."""
    config = read_object(folder / GENAI_CONFIG)
    model = child(config, "model")
    if not model:
        raise CorruptFile(folder / GENAI_CONFIG, "no section `model`", "the configuration of ONNX Runtime GenAI")
    parts = {part: text(child(model, part), "filename") for part in _PARTS}
    wanted = [filename for filename in parts.values() if filename]
    # Names of files in this folder and nothing else: the configuration is a stranger's.
    if missing := [name for name in wanted if name not in names or not (folder / name).is_file()]:
        raise MissingShard(folder, missing)
    files = [folder / name for name in names if name.endswith(_KEPT) and (folder / name).is_file()]
    tokenizer = read_object(folder / "tokenizer_config.json") if "tokenizer_config.json" in names else {}
    return ModelInfo(
        path=folder,
        format=Format.ONNX_GENAI,
        role=Role.TEXT if parts["decoder"] else Role.UNKNOWN,
        confidence=0.98 if wanted else 0.7,
        reason=f"{GENAI_CONFIG} of type {text(model, 'type') or 'unknown'} with {', '.join(wanted) or 'no graph'}",
        size_bytes=sum(file.stat().st_size for file in files),
        files=tuple(files),
        name=hf.folder_name(folder),
        architecture=text(model, "type"),
        context_length=count(model, "context_length") or None,
        shape=_genai_shape(model),
        chat_template=hf.chat_template(folder, names, tokenizer, []),
        metadata={**scalars(config), **_scores(folder / parts["decoder"] if parts["decoder"] else None)},
    )


def _scores(graph: Path | None) -> dict[str, Scalar]:
    """`graph.scores`: whether a decoder makes scores for the `last` token of what it reads, or for `all` of it.

    Where the builder was told to leave the others out, the nodes that do have its names; they stand before weights.
    """
    if graph is None:
        return {}
    with opened(graph) as (file, size):
        return {"graph.scores": "last" if PRUNED in read_at(file, 0, min(size, _MOST_NODES)) else "all"}


PRUNED = b"/lm_head/prune/"
_MOST_NODES = 8 << 20
"""Of a graph's file; those of models with 96 layers take 1 MiB."""
_PARTS = ("decoder", "encoder", "embedding", "vision", "speech")
_KEPT = (".onnx", ".data", "_data", *hf.KEPT_SUFFIXES)


def _genai_shape(model: Mapping[str, Any]) -> Shape | None:
    decoder = child(model, "decoder")
    layers, embedding = count(decoder, "num_hidden_layers"), count(decoder, "hidden_size")
    if not 0 < layers <= MAX_LAYERS or not embedding:
        return None
    heads = count(decoder, "num_attention_heads")
    size = count(decoder, "head_size") or (embedding // heads if heads else 0)
    window = child(decoder, "sliding_window")
    return Shape(
        layers=layers,
        embedding=embedding,
        feed_forward=4 * embedding,
        heads=heads,
        kv_heads=(count(decoder, "num_key_value_heads") or heads,) * layers,
        key_length=size,
        value_length=size,
        vocabulary=count(model, "vocab_size"),
        sliding_window=count(window, "window_size") or None,
    )
