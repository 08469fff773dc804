"""Structure for ExLlamaV2, which has none of its own: what it asks of a filter, answered by llguidance.

What it calls was read from exllamav2 0.3.2: `generator/filters/base.py`, `generator/sampler.py` and
`generator/dynamic.py`, which asks a filter that masks logits before each choice, and feeds it what was chosen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from uml.core.errors import BadRequest, EngineError
from uml.engines.exllama.language import json_of
from uml.engines.hosted.pieces import pieces_of
from uml.sampling.grammar import Guide, Structures, grammar_of
from uml.sampling.vocabulary import Vocabulary


class Filter:
    """What may come next in one answer.

    failed: why the structure could not be followed to its end; the answer ends there.
    """

    failed: EngineError | None = None

    def __init__(self, guide: Guide, ends: frozenset[int], torch: Any) -> None:
        self._guide = guide
        self._ends = sorted(ends)
        self._torch = torch

    def begin(self, prefix_str: str) -> None:
        """Before the first token. There is no prefix: prompts end between two tokens here."""

    def feed(self, token: Any) -> None:
        """What was chosen, as a tensor of one token."""
        if self.failed is None:
            try:
                self._guide.accept(int(token))
            except EngineError as error:
                self.failed = error

    def use_background_worker(self) -> bool:
        """A mask takes some microseconds: no thread is worth its while."""
        return False

    def can_mask_logits(self) -> bool:
        """It sets logits, and gives no lists of tokens."""
        return True

    def background_drop(self) -> None:
        """Nothing is in the background."""

    def get_next(self, mask: bool = False) -> bool:
        """Whether there is a mask."""
        return mask

    def mask_logits(self, logits: Any) -> Any:
        """Leave out what may not come next. logits: `[vocabulary]`, as wide as the library pads it; written to."""
        forbidden = np.ones(logits.shape[-1], bool)
        try:
            if self.failed is not None:
                raise self.failed
            bits = np.unpackbits(self._guide.mask().view(np.uint8), bitorder="little")[: len(forbidden)]
            forbidden[: len(bits)] = bits == 0
        except EngineError as error:
            # Raised here it would end the answers of all: this one ends, and says why when it has.
            self.failed = error
            forbidden[self._ends] = False
        logits[self._torch.from_numpy(forbidden)] = -np.inf
        return logits


class Structurer:
    """Filters for one model. folder: where its tokenizer.json lies. size: tokens that it scores."""

    def __init__(self, folder: Path, size: int, ends: Iterable[int], torch: Any) -> None:
        self._folder, self._size, self._ends, self._torch = folder, size, frozenset(ends), torch
        self._structures: Structures | None = None

    def filter(self, kind: str, text: str) -> Filter:
        """One for an answer; kind and text are those of `Wanted.guide`. Raises BadRequest, CorruptFile."""
        if self._structures is None:
            self._structures = self._made(kind)
        if kind == "llguidance":
            guide = self._structures.guide("tool_choice", text)
        else:
            found = grammar_of({kind: json.loads(text) if kind == "json_schema" else text})
            assert found is not None  # there is a text, or nobody would ask
            guide = self._structures.guide(*found)
        return Filter(guide, self._ends, self._torch)

    def _made(self, kind: str) -> Structures:
        document = json_of(self._folder / "tokenizer.json")
        if not document:
            raise BadRequest(
                f"{kind}: a structure needs tokenizer.json, and {self._folder.name} has none; put the one of the "
                "original model there, and load it again",
                param=kind,
            )
        added = [token for token in document.get("added_tokens") or () if token["id"] < self._size]
        special = frozenset(token["id"] for token in added if token.get("special"))
        pieces = tuple(pieces_of(document, self._size)[: self._size])
        return Structures(Vocabulary(pieces, self._ends, special | self._ends))
