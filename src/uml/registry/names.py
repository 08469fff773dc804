"""Ids and aliases: how models are called. Pure functions of what was found."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from uml.core.model import Role
from uml.registry.entries import Entry, Found

MAX_ID: Final = 96
MAX_ALIAS: Final = 200

_SUFFIX = re.compile(r"\.(?:gguf|ggml|bin|onnx|safetensors|pt|pth|ckpt|engine)$", re.IGNORECASE)
_SPLIT = re.compile(r"-\d{5}-of-\d{5}$")
_QUANTIZATION = re.compile(
    r"[-._](?:"
    r"(?:ud-)?i?q\d[a-z0-9_]*|tq\d_\d|b?f16|f32|fp(?:4|8|16|32)|mxfp4(?:_moe)?|nvfp4"
    r"|gptq|awq|exl[23]|bnb|hqq|int[2348]|[2-8]-?bits?|\d(?:\.\d+)?-?bpw|gguf"
    r")$"
)
_SAYS_NOTHING: Final = frozenset({"model", "pytorch_model", "consolidated", "ggml-model", "weights", "adapter_model"})
"""Names of files that only their folder tells apart."""

_NOT_ASKED_FOR: Final = frozenset({Role.PROJECTOR, Role.ADAPTER, Role.VOCABULARY})
"""Roles that go with a model: they must not make the names they share with it ambiguous."""


def slug(text: str) -> str:
    """Text as part of a URL: `[a-z0-9][a-z0-9._-]*`, or empty where nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9._]+", "-", plain).strip("-._")[:MAX_ID].rstrip("-._")


def base_id(found: Found) -> str:
    """The id a model would like: its title or its file's name, without suffix and part number."""
    if found.title:
        return slug(found.title) or "model"
    stem = _SPLIT.sub("", _SUFFIX.sub("", found.path.name))
    if slug(stem) in _SAYS_NOTHING:
        stem = found.path.parent.name
    return slug(stem) or "model"


def new_id(base: str, path: Path, free: Callable[[str], bool]) -> str:
    """The base where it is free, else with a few letters of a hash of the path, as few as it takes."""
    digest = hashlib.sha256(str(path).encode("utf-8", "backslashreplace")).hexdigest()
    tries = (base, *(f"{base}-{digest[:length]}" for length in range(4, len(digest))))
    return next(name for name in tries if free(name))


def unquantized(name: str) -> str:
    """A name without the words at its end that tell a quantization: `qwen2.5-0.5b-q8_0` -> `qwen2.5-0.5b`."""
    shorter = _QUANTIZATION.sub("", name)
    return name if shorter in (name, "") else unquantized(shorter)


def quantization_word(found: Found) -> str:
    """The words at the end of a file's name that tell its quantization: `ud-q4_k_xl`; empty where there are none."""
    name = base_id(replace(found, title=""))
    return name[len(unquantized(name)) :].strip("-._")


def plain(name: str) -> str:
    """A name as it is looked up: without what says that it is Hugging Face's, and lower case."""
    for prefix in ("https://huggingface.co/", "huggingface.co/", "hf.co/", "hf:"):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return name.casefold()


def automatic_aliases(entry: Entry) -> tuple[str, ...]:
    """Names that others may know this model by, as far as nobody else claims them."""
    if entry.info.role in _NOT_ASKED_FOR:
        return ()
    found, label = entry.found, entry.info.quantization.label if entry.info.quantization else ""
    names = list(found.names)
    if found.repository:
        # What people put behind a repository is what its files are called by, which may say more than the header.
        tags = {tag.casefold(): tag for tag in (quantization_word(found), label) if tag}
        names += [found.repository, *(f"{found.repository}:{tag}" for tag in tags.values())]
    names += [slug(str(entry.info.metadata.get("general.name", ""))), unquantized(entry.id)]
    good = dict.fromkeys(name for name in names if is_alias(name))
    return tuple(name for name in good if name != entry.id)


def is_alias(name: str) -> bool:
    """Whether this can be a name at all: printable, not blank at its ends, not too long."""
    return 0 < len(name) <= MAX_ALIAS and name.isprintable() and name == name.strip()
