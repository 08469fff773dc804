"""What a folder says of a model's language: chat template, the marks in it (thoughts, calls of tools), tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from uml.core.errors import BadOption, BadRequest, CorruptFile
from uml.core.options import LoadOptions
from uml.engines.hosted import template as templates
from uml.engines.hosted.pieces import pieces_of
from uml.engines.hosted.speech import Marks, marks_of
from uml.engines.hosted.template import Template
from uml.sampling.vocabulary import Vocabulary


def template_of(folder: Path, options: LoadOptions) -> tuple[Template | None, Marks]:
    """The user's template, else the model's; None where there is none. Raises BadOption, CorruptFile."""
    settings = json_of(folder / "tokenizer_config.json")
    source = _given(options) or _own(folder, settings)
    added = json_of(folder / "tokenizer.json").get("added_tokens") or ()
    known = {token.get("content") for token in added if isinstance(token, dict)}
    marks = marks_of(source, known.__contains__)
    return (Template(source, _specials(settings)) if source else None), marks


def vocabulary_of(
    folder: Path,
    size: int,
    ends: Collection[int],
    encode: Callable[[str], list[int]],
    texts: Callable[[], Sequence[str]],
) -> Vocabulary:
    """A model's tokens. size: how many it scores. texts: of its tokens, as the library has them. Raises CorruptFile."""
    document, last = json_of(folder / "tokenizer.json"), frozenset(ends)
    added = [token for token in document.get("added_tokens") or () if token["id"] < size]
    # The library's texts have another character in the place of bytes that are none by themselves.
    found = pieces_of(document, size) if document else [text.encode() for text in texts()]
    pieces = (*found, *[b""] * (size - len(found)))[:size]
    return Vocabulary(pieces, last, last | {token["id"] for token in added if token.get("special")}, encode)


def _given(options: LoadOptions) -> str:
    option, source = "chat_template", options.chat_template
    if path := options.chat_template_file:
        option = "chat_template_file"
        try:
            source = Path(path).expanduser().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadOption(option, path, f"a file with a template ({error})") from error
    if source:
        try:
            templates.check(source)
        except BadRequest as error:
            raise BadOption(option, source[:100], f"a Jinja template ({error.message})") from error
    return source


def _own(folder: Path, settings: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = next((one.get("template") for one in found if one.get("name") == "default"), None)
    return found if isinstance(found, str) else ""


def _specials(settings: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in settings.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def json_of(path: Path) -> Mapping[str, Any]:
    """An object of a JSON file; empty where there is no such file. Raises CorruptFile."""
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise CorruptFile(path, f"not JSON: {error}") from error
    return found if isinstance(found, dict) else {}
