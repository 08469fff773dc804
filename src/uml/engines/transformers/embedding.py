"""Vectors of texts: what the last layer says of every token, made one."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch

from uml.core.errors import BadOption, BadRequest, ContextLengthExceeded
from uml.core.options import LoadOptions
from uml.formats.sentence import pooled_by

WAYS: Final = ("mean", "cls", "last")


class Embedder:
    """Makes vectors of length 1 with one model.

    pooling: `mean`, `cls` (the first token) or `last`; what sentence-transformers' files beside the model say where no
    option does, else `mean`.
    """

    def __init__(self, model: Any, folder: Path, tokenizer: Any, options: LoadOptions) -> None:
        self._model = getattr(model, model.base_model_prefix, model)
        self._tokenizer = tokenizer
        self._said, self._folder = options.pooling, folder

    @cached_property
    def pooling(self) -> str:
        """Looked for when the first vector is wanted: a model that writes texts need not say."""
        return self._said if self._said in WAYS else pooling_of(self._folder)

    def embed(self, texts: list[str], context: int) -> list[list[float]]:
        """One vector a text. Raises ContextLengthExceeded."""
        return [self._one(text, context) for text in texts]

    def _one(self, text: str, context: int) -> list[float]:
        tokens = self._tokenizer(text, verbose=False)["input_ids"]
        if not tokens:
            raise BadRequest("a text to embed has no tokens", param="input")
        if len(tokens) > context:
            raise ContextLengthExceeded(len(tokens), context, "input")
        ids = torch.tensor([tokens], device=self._model.device)
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].float()
        pooled = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[self.pooling]
        vector: list[float] = torch.nn.functional.normalize(pooled, dim=0).tolist()
        return vector


def pooling_of(folder: Path) -> str:
    """How a folder of sentence-transformers says that tokens become one. Raises BadOption for another way."""
    said = pooled_by(folder) or pooled_by(folder.parent) or "mean"
    if said not in WAYS:
        raise BadOption("pooling", "auto", f"{', '.join(WAYS)}: the model says {said!r}, which is not had here")
    return said
