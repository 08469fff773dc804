"""Structure for ExLlamaV2, which has none of its own: llguidance says what may come, and our chain heeds it."""

from __future__ import annotations

import json
from pathlib import Path

from uml.core.errors import BadRequest
from uml.sampling.grammar import Guide, Structures, grammar_of
from uml.sampling.vocabulary import Vocabulary


class Structurer:
    """Guides for one model. folder: where its tokenizer.json lies, without which bytes of tokens are guesses."""

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        self._folder = folder
        self._structures = Structures(vocabulary)

    def guide(self, kind: str, text: str) -> Guide:
        """One for an answer; kind and text are those of `Wanted.guide`. Raises BadRequest."""
        if not (self._folder / "tokenizer.json").is_file():
            raise BadRequest(
                f"{kind}: a structure needs tokenizer.json, and {self._folder.name} has none; put the one of the "
                "original model there, and load it again",
                param=kind,
            )
        if kind == "llguidance":
            return self._structures.guide("tool_choice", text)
        found = grammar_of({kind: json.loads(text) if kind == "json_schema" else text})
        assert found is not None  # there is a text, or nobody would ask
        return self._structures.guide(*found)
