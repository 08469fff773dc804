"""The hot paths: plain ASGI from the socket to the worker."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import orjson

from uml.core.errors import BadRequest
from uml.core.model import Model
from uml.core.quote import quoted
from uml.gateway.figures import Figures
from uml.gateway.model_name import ModelName
from uml.gateway.nothing import Nothing, wants_nothing
from uml.gateway.probabilities import shape_for
from uml.gateway.processing import Rewriter, processing
from uml.gateway.proxy import ANSWER_LIMIT, Errand, stream, whole
from uml.gateway.refusal import refusal
from uml.gateway.shortened import shortened
from uml.gateway.wire import JSON, Call, Listener, parse_object, stay, text_field
from uml.generation import Endpoint, check, check_kind, check_roles, prepare
from uml.generation.beginning import first_token
from uml.generation.wants import wants
from uml.house import House
from uml.planning.estimate import path_and_scale
from uml.runtime.supervisor import Lease
from uml.runtime.workers.channel import ChannelBroken
from uml.telemetry.metrics import Metrics


def resolve(house: House, name: object) -> Model:
    """The model that a request names; without a name, the one that is loaded. Raises ModelNotFound, BadRequest."""
    if name is not None and name != "":
        if not isinstance(name, str):
            raise BadRequest(f"model is {quoted(name)}; expected a text", param="model")
        return house.library.registry.resolve(name)
    loaded = [worker.model for worker in house.supervisor.status() if worker.state == "ready"]
    if len(loaded) == 1:
        return house.library.registry.resolve(loaded[0])
    there = f"{', '.join(loaded)} are loaded" if loaded else "none is loaded"
    raise BadRequest(
        f"model is missing; it may be left out only while exactly one model is loaded, and {there}", param="model"
    )


class Generation:
    """`/v1/chat/completions`, `/v1/completions` or `/v1/embeddings`."""

    def __init__(self, endpoint: Endpoint, path: str, house: House, metrics: Metrics, body_limit: int) -> None:
        self.path = path
        self._endpoint = endpoint
        self._house = house
        self._metrics = metrics
        self._body_limit = body_limit
        self._needs = ("embeddings",) if endpoint == "embedding" else ()

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        raw = await call.body(self._body_limit)
        body = parse_object(raw)
        steps = processing(self._house.library.plugins, self._endpoint)
        if steps is not None:
            body, raw = await steps.before(body, raw)
        model = resolve(self._house, body.get("model"))
        call.model = model.id
        check_kind(self._endpoint, model)
        checked = check(self._endpoint, body)
        if self._endpoint == "chat":
            check_roles(checked, model, partial(self._house.options, model))
        shape: Rewriter | None = Nothing() if wants_nothing(checked) else shape_for(checked) or shortened(checked)
        if steps is not None:
            shape = steps.answer(body, shape)
        async with Listener(call.receive) as listener:
            figures, answer, began = Figures(), b"", perf_counter()
            waited: float | None = None
            try:
                async with self._house.supervisor.lease(
                    model, None, checked.choices, self._needs, stay(body.get("keep_alive")), wants=wants(checked)
                ) as lease:
                    waited = lease.waited_s
                    tell(call, lease)
                    # Engines that we host know their adapters, which come and go.
                    entries = lease.plan.options.lora
                    adapters = [path_and_scale(entry)[1] for entry in entries] if lease.spec.served else None
                    context, first = lease.plan.options.ctx, first_token(lease.model.info)
                    prepared = prepare(checked, lease.spec, context, vocabulary(lease.model), adapters, first)
                    if steps is not None and steps.notices:
                        prepared = replace(prepared, warnings=(*prepared.warnings, *steps.notices))
                    if lease.spec.names_adapters and (prepared.body or {}).get("model"):
                        shape = ModelName(model.id, shape)
                    errand = Errand(call, self.path, raw, checked, prepared, shape)
                    if checked.stream:
                        await stream(errand, lease, figures)
                    else:
                        answer, figures = await whole(errand, lease)
                if answer:
                    await call.reply(200, answer, [JSON])
            finally:
                if waited is None:  # it was refused, or its client has left
                    waited = perf_counter() - began
                self._metrics.answer(
                    model.id, waited, figures.first_s, figures.prompt_tokens, figures.completion_tokens
                )
        if listener.gone:
            call.status = 499


class Tokens:
    """`/v1/tokenize` and `/v1/detokenize`."""

    def __init__(self, house: House, body_limit: int, *, back: bool) -> None:
        self._house = house
        self._body_limit = body_limit
        self._answer = self._detokenize if back else self._tokenize
        self._known = (
            frozenset({"model", "tokens"})
            if back
            else frozenset({"model", "text", "prompt", "content", "add_special", "with_pieces"})
        )

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        body = parse_object(await call.body(self._body_limit))
        model = resolve(self._house, body.get("model"))
        call.model = model.id
        unknown = next((name for name in body if name not in self._known), None)
        if unknown is not None:
            raise BadRequest(f"unknown field {unknown}; known are {', '.join(sorted(self._known))}", param=unknown)
        async with Listener(call.receive) as listener:
            answer = await self._answer(call, body, model)
            await call.reply_json(answer)
        if listener.gone:
            call.status = 499

    async def _tokenize(self, call: Call, body: dict[str, Any], model: Model) -> dict[str, Any]:
        flags = {name: body.get(name) for name in ("add_special", "with_pieces") if body.get(name) is not None}
        for name, value in flags.items():
            if type(value) is not bool:
                raise BadRequest(f"{name} is {quoted(value)}; expected true or false", param=name)
        text = text_field(body, "text", "prompt", "content")
        # The second half is how vLLM's server is asked.
        asked = {"content": text, **flags, "prompt": text, "add_special_tokens": bool(flags.get("add_special"))}
        async with self._house.supervisor.lease(model, None, 0) as lease:
            tell(call, lease)
            reply = await exchange(lease, "/tokenize", asked)
            context = lease.plan.options.ctx
        tokens = reply.get("tokens", [])
        return {"model": model.id, "tokens": tokens, "count": len(tokens), "context_length": context}

    async def _detokenize(self, call: Call, body: dict[str, Any], model: Model) -> dict[str, Any]:
        tokens = body.get("tokens")
        if type(tokens) is not list or not all(type(token) is int and 0 <= token < 1 << 31 for token in tokens):
            raise BadRequest("tokens must be a list of token ids", param="tokens")
        async with self._house.supervisor.lease(model, None, 0) as lease:
            tell(call, lease)
            reply = await exchange(lease, "/detokenize", {"tokens": tokens})
        return {"model": model.id, "text": reply.get("content", reply.get("prompt", ""))}


def vocabulary(model: Model) -> int:
    """How many tokens it has; 0 where its header does not tell."""
    return model.info.shape.vocabulary if model.info.shape else 0


def tell(call: Call, lease: Lease) -> None:
    """Headers with the model that answers, and how long the request waited for it."""
    call.extra += (
        (b"x-uml-model", lease.model.id.encode("ascii", "replace")),
        (b"x-uml-queue-ms", b"%d" % int(lease.waited_s * 1000)),
        (b"x-uml-queue-position", b"%d" % lease.queue_position),
    )


async def exchange(lease: Lease, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """One request to the worker, and its whole answer. Raises what the worker gives as the reason."""
    try:
        response = await lease.channel.request("POST", path, orjson.dumps(body))
        data = await response.read(ANSWER_LIMIT)
    except ChannelBroken:
        raise await lease.fate() from None
    if response.status >= 300:
        raise refusal(response.status, data, lease.model.id, body)
    reply = orjson.loads(data)
    return reply if isinstance(reply, dict) else {}
