"""Vectors of texts: what the last layer says of every token, made one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from uml.core.errors import BadOption, BadRequest, ContextLengthExceeded
from uml.core.plan import LoadPlan
from uml.engines.hosted.projection import projection_of
from uml.engines.transformers.loading import translated
from uml.formats.sentence import pooled_by

WAYS: Final = ("mean", "cls", "last")


class Embedder:
    """Makes vectors of length 1 with one model.

    pooling: `mean`, `cls` (the first token) or `last`; what sentence-transformers' files beside the model say where no
    option does, else `mean`. Raises BadOption for another way, and as `projection_of`.
    """

    def __init__(self, plan: LoadPlan, model: Any, tokenizer: Any) -> None:
        self._plan, self._tokenizer = plan, tokenizer
        self._model = getattr(model, model.base_model_prefix, model)
        path, said = plan.model.info.path, plan.options.pooling
        folder = path if path.is_dir() else path.parent
        self.pooling = said if said in WAYS else pooling_of(folder)
        self._project = projection_of(plan.model.id, folder, self._unpickled)

    def _unpickled(self, path: Path) -> Mapping[str, np.ndarray[Any, Any]]:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            return {name: tensor.detach().float().flatten().numpy() for name, tensor in found.items()}
        except Exception as error:
            # The boundary to the library: it raises errors of every kind for files that are not what they should be.
            raise translated(self._plan, error) from error

    def embed(self, texts: list[str], context: int) -> list[list[float]]:
        """One vector a text. Raises BadRequest, ContextLengthExceeded."""
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
        vector: list[float] = self._project(pooled[None].cpu().numpy())[0].tolist()
        return vector


def pooling_of(folder: Path) -> str:
    """How a folder of sentence-transformers says that tokens become one. Raises BadOption for another way."""
    said = pooled_by(folder) or "mean"
    if said not in WAYS:
        raise BadOption("pooling", "auto", f"{', '.join(WAYS)}: the model says {said!r}, which is not had here")
    return said
