"""A Hugging Face folder, read for a conversion: its configuration, its tokenizer, and where each tensor lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from uml.core.errors import BadFile, CorruptFile
from uml.core.model import ModelInfo
from uml.formats.bounded_json import child, read_object
from uml.formats.hf.config import language_part
from uml.formats.hf.quantization import section
from uml.formats.reader import opened, read_at
from uml.runtime.conversions.gguf.stored import Stored, weights

Json = Mapping[str, Any]

MAX_TOKENIZER: Final = 256 << 20
"""Bytes of tokenizer.json: those of Gemma have 33 MB. Somebody asked for this file by name, and waits for it alone, so
it may cost more memory than what is read of every file on the disk."""
MODELOPT: Final = "hf_quant_config.json"
"""Where NVIDIA ModelOpt says how weights are coded, where config.json does not."""
NAMED_TEMPLATES: Final = "additional_chat_templates"
MAX_TEMPLATE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """What a conversion reads.

    name: of the model, for sentences and for the new file. root: of the model; folder: of its weights, which may lie in
    a folder inside. config: of the language model; whole: with all around it.
    tokenizer: of tokenizer.json, empty where there is none. tensors: in the order of the files. templates: for chats of
    a certain kind, by name.
    """

    name: str
    root: Path
    folder: Path
    config: Json
    whole: Json
    tensors: Mapping[str, Stored]
    tokenizer: Json = field(default_factory=dict)
    tokenizer_config: Json = field(default_factory=dict)
    generation: Json = field(default_factory=dict)
    chat_template: str | None = None
    added: Mapping[str, int] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """How many numbers all tensors have."""
        return sum(tensor.elements for tensor in self.tensors.values())


def read_source(name: str, info: ModelInfo) -> Source:
    """Everything but the weights. Raises BadFile, CorruptFile, UnsupportedFormat."""
    files = [path for path in info.files if path.suffix == ".safetensors"]
    folder = files[0].parent
    config = read_object(folder / "config.json")
    quantized = section(config, {MODELOPT: _optional(folder / MODELOPT)})
    return Source(
        name=name,
        root=info.path if info.path.is_dir() else folder,
        folder=folder,
        config=language_part(config),
        whole=config,
        tensors=weights([path for path in files if path.parent == folder], quantized),
        tokenizer=_optional(folder / "tokenizer.json"),
        tokenizer_config=_optional(folder / "tokenizer_config.json"),
        generation=_optional(folder / "generation_config.json"),
        chat_template=info.chat_template,
        templates=_named_templates(folder),
        added={key: value for key, value in _optional(folder / "added_tokens.json").items() if isinstance(value, int)},
    )


def _named_templates(folder: Path) -> dict[str, str]:
    """Templates with names of their own, as newer versions of Transformers lay them beside the usual one."""
    found = {}
    for path in sorted((folder / NAMED_TEMPLATES).glob("*.jinja")):
        with opened(path) as (file, size):
            found[path.stem] = read_at(file, 0, min(size, MAX_TEMPLATE)).decode("utf-8", "replace")
    return found


def _optional(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file. Raises CorruptFile, BadFile."""
    if not path.exists():
        return {}
    with opened(path) as (file, size):
        if size > MAX_TOKENIZER:
            raise BadFile(path, f"has {size} bytes; at most {MAX_TOKENIZER} are read")
        raw = read_at(file, 0, size)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(path, f"no JSON: {error}", "a JSON object") from error
    if not isinstance(found, dict):
        raise CorruptFile(path, f"JSON of type {type(found).__name__}", "an object")
    return found


def rope_parameters(config: Json) -> Json:
    """How positions are turned: `rope_parameters` of newer configurations, `rope_scaling` of older ones."""
    return child(config, "rope_parameters") or child(config, "rope_scaling")
