"""Scores of texts, and of documents for a query: models with a head for labels (`...ForSequenceClassification`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from uml.core.errors import BadRequest, ContextLengthExceeded
from uml.engines.hosted.classes import classes_of

Text = str | tuple[str, str]


class Judge:
    """Scores texts with one model; a query and a document as a pair, as the tokenizer joins two."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        if tokenizer.pad_token_id is None:
            # Decoders often have none. What is filled up is masked, and a decoder's score is that of its last token
            # before it: any token does.
            tokenizer.pad_token = tokenizer.eos_token
        if model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer.pad_token_id
        self.classes = classes_of(model.config.to_dict(), int(model.config.num_labels))

    def score(self, texts: Sequence[Text], context: int, budget: int) -> tuple[list[list[float]], int]:
        """A score for each label of each text, and the tokens of all.

        budget: tokens of one step; a text that has more has a step of its own. Raises BadRequest,
        ContextLengthExceeded.
        """
        rows = [self._tokens(text, context) for text in texts]
        scores: list[list[float]] = []
        while len(scores) < len(rows):
            scores += self._step(self._group(rows[len(scores) :], budget))
        return scores, sum(len(row["input_ids"]) for row in rows)

    def _tokens(self, text: Text, context: int) -> dict[str, list[int]]:
        pair, param = ((text,), "input") if isinstance(text, str) else (text, "documents")
        row = dict(self._tokenizer(*pair, verbose=False))
        length = len(row["input_ids"])
        if not length:
            raise BadRequest("a text to be scored has no tokens", param=param)
        if length > context:
            raise ContextLengthExceeded(length, context, param)
        return row

    def _group(self, rows: Sequence[dict[str, list[int]]], budget: int) -> Sequence[dict[str, list[int]]]:
        """The first of them, as many as one step takes; one at a time where nothing can fill them up."""
        width = 0
        for count, row in enumerate(rows):
            width = max(width, len(row["input_ids"]))
            if count and (width * (count + 1) > budget or self._tokenizer.pad_token_id is None):
                return rows[:count]
        return rows

    def _step(self, rows: Sequence[dict[str, list[int]]]) -> list[list[float]]:
        fed = self._tokenizer.pad(list(rows), padding=len(rows) > 1, return_tensors="pt")
        with torch.inference_mode():
            logits = self._model(**fed.to(self._model.device)).logits
        found: list[list[float]] = logits.float().tolist()
        return found
