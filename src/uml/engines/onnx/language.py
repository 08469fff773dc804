"""A model's language, from the files in its folder: tokenizer.json, tokenizer_config.json, chat_template.jinja."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from uml.core.errors import BadOption, BadRequest, CorruptFile, MissingShard
from uml.core.options import LoadOptions
from uml.engines.hosted import template as templates
from uml.engines.hosted.pieces import pieces_of
from uml.engines.hosted.prompt import Language
from uml.engines.hosted.speech import marks_of
from uml.engines.hosted.template import Template
from uml.sampling.vocabulary import Vocabulary

TOKENIZER: Final = "tokenizer.json"
SETTINGS: Final = "tokenizer_config.json"
TEMPLATE: Final = "chat_template.jinja"
OLDER_TEMPLATE: Final = "chat_template.json"


def language_of(folder: Path, ends: Iterable[int], size: int, options: LoadOptions) -> Language:
    """What a model reads and writes. ends: tokens that end an answer; size: how many tokens it scores.

    Raises MissingShard, CorruptFile; BadOption for a chat template of the user's that is none.
    """
    document, tokenizer = read_tokenizer(folder)
    settings = _settings(folder / SETTINGS)
    source = _template(folder, settings, options)
    last = frozenset(ends)
    added = [token for token in document.get("added_tokens") or () if token["id"] < size]
    special = frozenset(token["id"] for token in added if token.get("special"))

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    empty, begin = list(tokenizer.encode("").ids), _specials(settings).get("bos_token")
    first = tokenizer.token_to_id(begin) if begin else None
    return Language(
        vocabulary=Vocabulary(tuple(pieces_of(document, size)[:size]), last, special | last, encode),
        marks=marks_of(source, lambda text: tokenizer.token_to_id(text) is not None),
        template=Template(source, _specials(settings)) if source else None,
        begins=(first,) if first is not None and empty[:1] == [first] else (),
        thoughts=options.reasoning_format != "none",
    )


def read_tokenizer(folder: Path) -> tuple[Mapping[str, Any], Any]:
    """The document of a tokenizer.json, and the `tokenizers.Tokenizer` of it. Raises MissingShard, CorruptFile."""
    from tokenizers import Tokenizer

    path = folder / TOKENIZER
    if not path.is_file():
        raise MissingShard(folder, [f"{TOKENIZER}, without which no text can be read"])
    try:
        text = path.read_text("utf-8")
        return json.loads(text), Tokenizer.from_str(text)
    except Exception as error:
        # The library raises plain Exception for what it cannot read.
        raise CorruptFile(path, f"no tokenizer: {error}") from error


def check_ids(tokens: Iterable[int], size: int) -> None:
    """Raises BadRequest for an id that is no token."""
    wrong = next((token for token in tokens if not 0 <= token < size), None)
    if wrong is not None:
        raise BadRequest(f"token {wrong} is none; expected ids from 0 to {size - 1}", param="tokens")


def _settings(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty where there is no such file. Raises CorruptFile."""
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise CorruptFile(path, f"not JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _template(folder: Path, settings: Mapping[str, Any], options: LoadOptions) -> str:
    """The user's, else the model's own; empty where there is none. Raises BadOption, CorruptFile."""
    if options.chat_template:
        return _checked(options.chat_template, "chat_template", options.chat_template[:100])
    if path := options.chat_template_file:
        try:
            source = Path(path).expanduser().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadOption("chat_template_file", path, f"a file with a template ({error})") from error
        return _checked(source, "chat_template_file", path)
    if (own := folder / TEMPLATE).is_file():
        try:
            return own.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise CorruptFile(own, f"no text in UTF-8: {error.reason}", offset=error.start) from error
    # As `formats` looks for it, so that what an inspection tells of is found.
    for known in (_settings(folder / OLDER_TEMPLATE), settings):
        found = known.get("chat_template")
        if isinstance(found, list):
            named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
            found = named.get("default") or next(iter(named.values()), "")
        if isinstance(found, str) and found:
            return found
    return ""


def _checked(source: str, option: str, value: str) -> str:
    try:
        templates.check(source)
    except BadRequest as error:
        raise BadOption(option, value, f"a Jinja template ({error.message})") from error
    return source


def _specials(settings: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens that a template may name, as `bos_token`."""
    found = {}
    for name, value in settings.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found
