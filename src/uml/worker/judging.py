"""Texts that are scored and sorted: what a worker reads from a request, asks its host, and writes in the answer."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from uml.core.errors import BadRequest
from uml.core.host import Classes, Classifies, Host

AT_ONCE: Final = 32
"""Texts that are computed together; between them a client that has left is noticed."""

Scores = list[list[float]]
Text = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Judge:
    """A host that scores texts, and what into."""

    host: Classifies
    classes: Classes

    async def score(self, texts: Sequence[Text]) -> tuple[Scores, int]:
        """Scores in the order of the texts, and how many tokens were read.

        Texts of like length are computed together: short ones are filled up to the longest beside them.
        """
        order = sorted(range(len(texts)), key=lambda place: _length(texts[place]))
        found: dict[int, list[float]] = {}
        total = 0
        for start in range(0, len(order), AT_ONCE):
            places = order[start : start + AT_ONCE]
            rows, tokens = await asyncio.to_thread(self.host.score, [texts[place] for place in places])
            found |= dict(zip(places, rows, strict=True))
            total += tokens
        return [found[place] for place in range(len(texts))], total


def _length(text: Text) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text))


def judge_of(host: Host, model: str, *, ranks: bool = False) -> Judge:
    """The host of a model that scores. ranks: by one label. Raises BadRequest for a model of another kind."""
    classes = host.classes() if isinstance(host, Classifies) else None
    if classes is None:
        raise BadRequest(f"{model} gives texts no labels; expected a classifier or a reranker", param="model")
    if ranks and len(classes.labels) != 1:
        raise BadRequest(
            f"{model} sorts texts into {len(classes.labels)} labels, and a reranker has one; use /v1/classify",
            param="model",
        )
    assert isinstance(host, Classifies)
    return Judge(host, classes)


def pairs_of(body: dict[str, Any]) -> list[Text]:
    """The query with each document. Raises BadRequest."""
    query, documents = body.get("query"), body.get("documents")
    if not isinstance(query, str):
        raise BadRequest("query must be a text", param="query")
    if not isinstance(documents, list) or not documents or any(not isinstance(one, str) for one in documents):
        raise BadRequest("documents must be a list of texts", param="documents")
    return [(query, document) for document in documents]


def ranked(model: str, scores: Scores, tokens: int) -> dict[str, Any]:
    """The answer of /v1/rerank, in the order of the documents."""
    return {
        "model": model,
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": [{"index": index, "relevance_score": row[0]} for index, row in enumerate(scores)],
    }


def sorted_into(model: str, classes: Classes, scores: Scores, tokens: int) -> dict[str, Any]:
    """The answer of /v1/classify."""
    probabilities = [probable(row, classes.way) for row in scores]
    return {
        "id": f"classify-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "labels": list(classes.labels),
        "data": [
            {"index": index, "label": classes.labels[row.index(max(row))], "probs": row, "num_classes": len(row)}
            for index, row in enumerate(probabilities)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }


def probable(scores: Sequence[float], way: str) -> list[float]:
    """Scores as probabilities, where they are any."""
    if way == "none":
        return list(scores)
    if way == "sigmoid":
        return [sigmoid(score) for score in scores]
    most = max(scores)
    powers = [math.exp(score - most) for score in scores]
    return [power / sum(powers) for power in powers]


def sigmoid(score: float) -> float:
    """1 / (1 + e^-score), for scores of any size."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))
