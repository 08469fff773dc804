"""The tokenizer and the chat template that lie in a model's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.errors import BadRequest, CorruptFile, MissingShard
from uml.core.options import LoadOptions
from uml.engines.hosted.pieces import pieces_of
from uml.engines.hosted.speech import Marks, marks_of
from uml.engines.hosted.template import Template, check
from uml.engines.hosted.text import decode
from uml.sampling.vocabulary import Vocabulary

TOKENIZER: Final = "tokenizer.json"
SETTINGS: Final = "tokenizer_config.json"
TEMPLATE: Final = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class Words:
    """The tokens of a model.

    tokenizer: a `tokenizers.Tokenizer`. vocabulary: the same tokens as bytes. hidden: tokens of which an answer shows
    nothing. marks: how thoughts and calls of tools are written. template: None where the model has none.
    """

    tokenizer: Any
    vocabulary: Vocabulary
    hidden: frozenset[int]
    marks: Marks
    template: Template | None

    @classmethod
    def read(cls, folder: Path, ends: Iterable[int], size: int, options: LoadOptions) -> Words:
        """From a folder's tokenizer.json; ends: tokens that end an answer, size: how many tokens the model scores.

        Raises MissingShard, CorruptFile; BadRequest for a template of the user's that is none.
        """
        document, tokenizer = read_tokenizer(folder)
        settings = _settings(folder)
        source = _template(folder, settings, options)
        if source:
            check(source)
        marks = marks_of(source, lambda text: tokenizer.token_to_id(text) is not None)
        added = {token["id"]: token["content"] for token in document.get("added_tokens") or () if token.get("special")}
        special = frozenset(added)
        hidden = frozenset(id for id, text in added.items() if text not in marks.texts) | frozenset(ends)
        return cls(
            tokenizer,
            Vocabulary(
                tuple(pieces_of(document, size)),
                frozenset(ends),
                special | frozenset(ends),
                lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids),
            ),
            hidden,
            marks,
            Template(source, _specials(settings)) if source else None,
        )

    def ids(self, text: str, *, whole: bool = False) -> list[int]:
        """Token ids of a text. whole: with those that begin and end a prompt."""
        return list(self.tokenizer.encode(text, add_special_tokens=whole).ids)

    def thinks(self, prompt: str) -> bool:
        """Whether a prompt has opened a thought already."""
        return self.marks.think is not None and prompt.rstrip().endswith(self.marks.think[0])

    def text(self, tokens: list[int]) -> str:
        """The text of tokens, special ones as they are written. Raises BadRequest for an id that there is not."""
        check_ids(tokens, len(self.vocabulary), "tokens")
        return decode(self.vocabulary.pieces, tokens)


def check_ids(tokens: Iterable[int], size: int, param: str) -> None:
    """Raises BadRequest for an id that is no token: the library would compute with whatever lies there."""
    wrong = next((token for token in tokens if not 0 <= token < size), None)
    if wrong is not None:
        raise BadRequest(f"{param} has {wrong}; this model's token ids are 0 to {size - 1}", param=param)


def read_tokenizer(folder: Path) -> tuple[Mapping[str, Any], Any]:
    """The document of a tokenizer.json, and the tokenizer that it describes. Raises MissingShard, CorruptFile."""
    from tokenizers import Tokenizer

    path = folder / TOKENIZER
    if not path.is_file():
        raise MissingShard(folder, [TOKENIZER])
    try:
        text = path.read_text("utf-8")
        return json.loads(text), Tokenizer.from_str(text)
    except Exception as error:
        # The library raises plain Exception for what it cannot read.
        raise CorruptFile(path, f"no tokenizer: {error}") from error


def _settings(folder: Path) -> Mapping[str, Any]:
    path = folder / SETTINGS
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise CorruptFile(path, f"not JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _template(folder: Path, settings: Mapping[str, Any], options: LoadOptions) -> str:
    """The user's, else the model's own; empty where there is none."""
    if options.chat_template:
        return options.chat_template
    if options.chat_template_file:
        return Path(options.chat_template_file).expanduser().read_text("utf-8")
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text("utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def _specials(settings: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens that a template may name, as `bos_token`."""
    found = {}
    for name, value in settings.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found
