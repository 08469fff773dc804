"""`/v1/rerank` and `/v1/classify`: texts that are scored and sorted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Literal

from uml.core.errors import BadRequest, EngineError
from uml.gateway.openai import exchange, resolve, tell
from uml.gateway.wire import Call, Listener, parse_object, stay
from uml.generation import check, check_kind, prepare
from uml.house import House
from uml.runtime.supervisor import Lease
from uml.telemetry.metrics import Metrics


class Judging:
    """One of the two routes. Both are answered whole: a score says nothing before it is there."""

    def __init__(
        self, endpoint: Literal["rerank", "classify"], house: House, metrics: Metrics, body_limit: int
    ) -> None:
        self.path = f"/v1/{endpoint}"
        self._endpoint = endpoint
        self._house = house
        self._metrics = metrics
        self._body_limit = body_limit

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        body = parse_object(await call.body(self._body_limit))
        model = resolve(self._house, body.get("model"))
        call.model = model.id
        check_kind(self._endpoint, model)
        checked = check(self._endpoint, body)
        async with Listener(call.receive) as listener:
            waited: float | None = None
            tokens, began = 0, perf_counter()
            try:
                async with self._house.supervisor.lease(model, None, 1, (), stay(body.get("keep_alive"))) as lease:
                    waited = lease.waited_s
                    tell(call, lease)
                    if self._endpoint == "classify" and lease.spec.served:
                        raise BadRequest(
                            f"{model.id} is a reranker, and {lease.spec.title} has no labels for it; use /v1/rerank",
                            param="model",
                        )
                    prepared = prepare(checked, lease.spec)
                    asked = dict(body if prepared.body is None else prepared.body)
                    documents = [_text(one) for one in asked.get("documents", ())]
                    if documents:
                        asked["documents"] = documents
                    reply = await exchange(lease, self.path, asked)
                    if documents:
                        reply = _ranking(lease, body, documents, reply)
                    tokens = (reply.get("usage") or {}).get("prompt_tokens", 0)
                told = {"warnings": list(prepared.warnings)} if prepared.warnings else {}
                await call.reply_json({**reply, "model": model.id, **told})
            finally:
                if waited is None:  # it was refused, or its client has left
                    waited = perf_counter() - began
                self._metrics.answer(model.id, waited, None, tokens, 0)
        if listener.gone:
            call.status = 499


def _text(document: Any) -> str:
    return str(document["text"] if isinstance(document, dict) else document)


def _ranking(
    lease: Lease, body: Mapping[str, Any], documents: Sequence[str], reply: Mapping[str, Any]
) -> dict[str, Any]:
    """The answer of a worker, best first, with scores from 0 to 1 unless the model's own are asked for."""
    try:
        scores = {int(one["index"]): float(one["relevance_score"]) for one in reply["results"]}
        found = [(index, scores[index]) for index in range(len(documents))]
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(lease.model.id, f"its scores cannot be read: {error}") from error
    probable = lease.model.info.architecture in lease.spec.probable
    if not body.get("raw_scores") and not probable:
        found = [(index, _sigmoid(score)) for index, score in found]
    found.sort(key=lambda pair: -pair[1])
    shown = body.get("return_documents", body.get("return_text")) is True
    return {
        "object": "list",
        "usage": reply.get("usage") or {},
        "results": [
            {
                "index": index,
                "relevance_score": score,
                **({"document": {"text": documents[index]}} if shown else {}),
            }
            for index, score in found[: int(body.get("top_n") or len(found))]
        ],
    }


def _sigmoid(score: float) -> float:
    """1 / (1 + e^-score), for scores of any size: e^700 is about as much as a float holds."""
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, score))))
