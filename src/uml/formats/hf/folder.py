"""A Hugging Face folder -> ModelInfo: configuration, weights, quantization, template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from uml.core.errors import BadFile
from uml.core.model import Format, ModelInfo, Quantization, Role
from uml.formats.bounded_json import child, number, read_object, scalars, text
from uml.formats.hf import config as hf_config
from uml.formats.hf.quantization import packed_bits, plain, quantization, section
from uml.formats.hf.weights import INDEXES, Weights, count_parameters, read_weights, weight_files
from uml.formats.reader import opened, read_at
from uml.formats.sentence import MODULES, is_sentence_folder, modules, with_modules

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
KEPT_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py", ".spm", ".vocab")
"""What lies beside the weights and belongs to the model: tokenizer, configuration, code."""
MAX_TEMPLATE = 1 << 20
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float": "F32", "half": "F16"}


def is_hf_folder(names: Sequence[str]) -> bool:
    """Whether a folder with these files is a model: a configuration, and weights or the index of weights."""
    configured = bool({CONFIG, ADAPTER_CONFIG} & set(names))
    return configured and any(name.endswith(WEIGHT_SUFFIXES) or name in INDEXES for name in names)


def inspect_hf(folder: Path, names: Sequence[str]) -> ModelInfo | None:
    """What a folder with these files says; None where it is no model of Hugging Face.

    Raises CorruptFile, MissingShard, BadFile.
    """
    # A base model may bring its adapters' configuration along.
    if ADAPTER_CONFIG in names and (CONFIG not in names or any(name.startswith("adapter_model") for name in names)):
        return _adapter(folder, names)
    if CONFIG not in names:
        return _first_module(folder, names)
    config = read_object(folder / CONFIG)
    weights = read_weights(folder, names)
    if weights is None:
        return None
    chain = modules(folder, names)
    found = _model(folder, names, config, weights, bool(chain))
    return with_modules(found, folder, chain)


def _first_module(folder: Path, names: Sequence[str]) -> ModelInfo | None:
    """The model of a sentence-transformers folder that keeps it in a folder inside."""
    if not is_sentence_folder(folder, names):
        return None
    chain = modules(folder, names)
    inside, kind = chain[0]
    beside = sorted(path.name for path in (folder / inside).iterdir())
    if CONFIG in beside:
        found = inspect_hf(folder / inside, [name for name in beside if name != MODULES])
    elif weights := weight_files(folder / inside, beside):
        found = inspect_bare_weights(folder / inside / weights[0])
        found = replace(found, architecture=kind.rpartition(".")[2], notes=())
    else:
        return None
    if found is None:
        return None
    reason = f"modules.json is that of sentence-transformers; in {inside}: {found.reason}"
    found = replace(found, name=folder_name(folder), reason=reason)
    return with_modules(replace(found, role=Role.EMBEDDING), folder, chain, _files(folder, names, ())[1])


def _model(
    folder: Path, names: Sequence[str], config: Mapping[str, Any], weights: Weights, sentences: bool
) -> ModelInfo:
    notes: list[str] = []
    beside = {name: _optional(folder, name, names, notes) for name in _BESIDE}
    said = section(config, beside)
    coding = _coding(config, said, weights)
    parameters = count_parameters(weights.tensors, coding, packed_bits(said))
    what, because = hf_config.role(config, sentences)
    tokenizer = beside["tokenizer_config.json"]
    size, files = _files(folder, names, weights.files)
    return ModelInfo(
        path=folder,
        format=_format(coding, weights),
        role=what,
        confidence=0.98 if text(config, "model_type") else 0.85,
        reason=f"config.json and {_count(weights)}; {because}",
        size_bytes=size,
        files=files,
        version=text(config, "transformers_version"),
        name=folder_name(folder),
        architecture=hf_config.architecture(config),
        quantization=_with_real_bits(coding, weights, parameters),
        parameters=parameters,
        context_length=hf_config.context_length(config, tokenizer, beside["sentence_bert_config.json"]),
        shape=hf_config.shape(config),
        chat_template=chat_template(folder, names, tokenizer, notes),
        weight_bytes=_weight_bytes(config, weights),
        metadata=scalars(config),
        notes=(*_notes(config, coding, weights), *notes),
    )


_BESIDE = (
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
)


def _optional(folder: Path, name: str, names: Sequence[str], notes: list[str]) -> dict[str, Any]:
    """A file beside the configuration; empty, with a note, where it cannot be read: the weights may still be good."""
    if name not in names:
        return {}
    try:
        return read_object(folder / name)
    except BadFile as error:
        notes.append(f"{name} was left out: {error.message}")
        return {}


def _coding(config: Mapping[str, Any], said: Mapping[str, Any], weights: Weights) -> Quantization | None:
    """What the configuration names, what tensors give away, or the plain dtype."""
    if named := quantization(said):
        return named
    tails = {name.rsplit(".", 1)[-1] for name in weights.tensors}
    if "trellis" in tails:
        return Quantization("exl3", "EXL3")
    if "q_weight" in tails:
        return Quantization("exl2", "EXL2")
    if "qweight" in tails:
        return Quantization("gptq", "GPTQ or AWQ")
    return plain(weights.dtype_bytes) or _said_dtype(config)


def _said_dtype(config: Mapping[str, Any]) -> Quantization | None:
    dtype = DTYPES.get(text(config, "dtype", "torch_dtype"))
    return Quantization("none", dtype, 32.0 if dtype == "F32" else 16.0) if dtype else None


def _format(coding: Quantization | None, weights: Weights) -> Format:
    if coding and coding.method in ("exl2", "exl3"):
        return Format(coding.method)
    return weights.format


def _with_real_bits(coding: Quantization | None, weights: Weights, parameters: int | None) -> Quantization | None:
    """Bits as measured over the file, where the headers tell how many weights there are."""
    if coding is None or not parameters:
        return coding
    return Quantization(coding.method, coding.label, round(weights.dtype_bytes.total() * 8 / parameters, 3))


def _weight_bytes(config: Mapping[str, Any], weights: Weights) -> dict[str, int]:
    if weights.dtype_bytes:
        return dict(weights.dtype_bytes.most_common())
    said = _said_dtype(config)
    return {said.label if said else "pickle": sum(file.stat().st_size for file in weights.files)}


def _count(weights: Weights) -> str:
    kind = "safetensors" if weights.format is Format.SAFETENSORS else "PyTorch"
    return f"{len(weights.files)} {kind} file{'s' if len(weights.files) != 1 else ''}"


def _files(folder: Path, names: Sequence[str], weights: Sequence[Path]) -> tuple[int, tuple[Path, ...]]:
    """Bytes and paths of what belongs to the model."""
    kept = [folder / name for name in names if name.endswith(KEPT_SUFFIXES) and (folder / name).exists()]
    files = (*weights, *(path for path in kept if path not in weights))
    return sum(path.stat().st_size for path in files), files


def _notes(config: Mapping[str, Any], coding: Quantization | None, weights: Weights) -> list[str]:
    notes = []
    if code := child(config, "auto_map"):
        notes.append(f"it brings code of its own ({', '.join(sorted(code)[:4])}); an engine runs it only when trusted")
    if weights.format is Format.PYTORCH:
        notes.append(
            "its weights are pickles, which can run code when loaded; "
            "`uml convert MODEL --to safetensors` makes safe ones of them"
        )
    if coding and coding.method == "mlx":
        notes.append("its weights are quantized for MLX, which runs on Apple hardware")
    if coding and coding.method == "exl2":
        notes.append("EXL2 is no longer maintained; EXL3 took its place")
    return notes


def folder_name(folder: Path) -> str:
    """The folder's name; `Owner/Model` for a snapshot in the Hugging Face cache."""
    folder = folder.absolute()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return folder.name


def chat_template(folder: Path, names: Sequence[str], tokenizer: Mapping[str, Any], notes: list[str]) -> str | None:
    """chat_template.jinja, then chat_template.json, then the tokenizer's; of several the one called default."""
    if "chat_template.jinja" in names:
        with opened(folder / "chat_template.jinja") as (file, size):
            if size <= MAX_TEMPLATE:
                return read_at(file, 0, size).decode("utf-8", "replace")
        notes.append(f"chat_template.jinja has {size} bytes and was left out")
    for config in (_optional(folder, "chat_template.json", names, notes), tokenizer):
        found = config.get("chat_template")
        if isinstance(found, list):
            named = {text(item, "name"): text(item, "template") for item in found if isinstance(item, dict)}
            found = named.get("default") or next(iter(named.values()), "")
        if isinstance(found, str) and found and len(found) <= MAX_TEMPLATE:
            return found
    return None


def _adapter(folder: Path, names: Sequence[str]) -> ModelInfo | None:
    """A PEFT adapter: weights to be laid over another model's."""
    config = read_object(folder / ADAPTER_CONFIG)
    weights = read_weights(folder, [name for name in names if name.startswith("adapter")] or names)
    if weights is None:
        return None
    base, kind = text(config, "base_model_name_or_path"), text(config, "peft_type") or "LORA"
    rank = number(config, "r")
    size, files = _files(folder, names, weights.files)
    return ModelInfo(
        path=folder,
        format=weights.format,
        role=Role.ADAPTER,
        confidence=0.98,
        reason=f"adapter_config.json and {_count(weights)}; {kind} of {base or 'an unnamed model'}",
        size_bytes=size,
        files=files,
        name=folder_name(folder),
        architecture=kind,
        quantization=plain(weights.dtype_bytes),
        parameters=count_parameters(weights.tensors, None),
        weight_bytes=_weight_bytes(config, weights),
        metadata=scalars(config),
        notes=(f"load it together with {base or 'its base model'}" + (f"; rank {rank:g}" if rank else ""),),
    )


def inspect_bare_weights(path: Path) -> ModelInfo:
    """A weight file without a configuration: what it is, and what is missing to run it."""
    weights = read_weights(path.parent, [path.name])
    if weights is None:
        raise BadFile(path, "is named like weights that a training run keeps for itself")
    adapter = bool(weights.tensors) and all("lora" in name.lower() for name in weights.tensors)
    missing = "adapter_config.json" if adapter else "config.json and the tokenizer"
    return ModelInfo(
        path=path,
        format=weights.format,
        role=Role.ADAPTER if adapter else Role.UNKNOWN,
        confidence=0.9,
        reason=f"{_count(weights)} without a configuration",
        size_bytes=path.stat().st_size,
        files=weights.files,
        name=path.stem,
        quantization=_coding({}, {}, weights),
        parameters=count_parameters(weights.tensors, None),
        weight_bytes=_weight_bytes({}, weights),
        notes=(f"to run it, {missing} must lie beside it",),
    )
