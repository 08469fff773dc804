"""Vectors of texts: what the last layer says of every token, made one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from uml.core.errors import BadRequest, ContextLengthExceeded
from uml.core.options import LoadOptions


class Embedder:
    """Makes vectors of length 1 with one model.

    pooling: `mean`, `cls` (the first token) or `last`; what sentence-transformers' files beside the model say where no
    option does, else `mean`.
    """

    def __init__(self, model: Any, folder: Path, tokenizer: Any, options: LoadOptions) -> None:
        self._model = getattr(model, model.base_model_prefix, model)
        self._tokenizer = tokenizer
        self.pooling = options.pooling if options.pooling in ("mean", "cls", "last") else pooling_of(folder)

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
    """How a folder of sentence-transformers says that tokens become one."""
    for parent in (folder, folder.parent):
        for path in sorted(parent.glob("*_Pooling/config.json")):
            try:
                said = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError):
                continue
            if said.get("pooling_mode_cls_token"):
                return "cls"
            if said.get("pooling_mode_lasttoken"):
                return "last"
    return "mean"
