"""Structure for ExLlamaV2, which has none of its own: llguidance says what may come, and our chain heeds it."""

from __future__ import annotations

from pathlib import Path

from uml.core.errors import BadRequest
from uml.sampling.grammar import Guide, Structures
from uml.sampling.vocabulary import Vocabulary


class Structurer:
    """Guides for one model. folder: where its tokenizer.json lies, without which bytes of tokens are guesses."""

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        self._folder = folder
        self._structures = Structures(vocabulary)

    def guide(self, param: str, grammar: str) -> Guide:
        """One for an answer; both are those of `Wanted.guide`. Raises BadRequest."""
        if not (self._folder / "tokenizer.json").is_file():
            raise BadRequest(
                f"{param}: a structure needs tokenizer.json, and {self._folder.name} has none; put the one of the "
                "original model there, and load it again",
                param=param,
            )
        return self._structures.guide(param, grammar)
