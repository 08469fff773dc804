"""The server of hosted engines: the OpenAI-shaped endpoints that every worker has, over a `Host`.

Plain ASGI, for it lies on the path of every token. Errors have the shape of llama.cpp's server:
`{"error": {"code": 400, "message": "...", "type": "invalid_request_error"}}`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from uml.core.errors import BadKey, BadRequest, NotFound, UmlError
from uml.core.host import Host, SwapsAdapters, WritesPrompts
from uml.core.plan import LoadPlan
from uml.worker import judging
from uml.worker.generate import Usage, pieces, stops_of
from uml.worker.wire import (
    LOADING,
    Shape,
    check_messages,
    error_body,
    is_again,
    is_tokens,
    pack,
    prompts_of,
    requests_of,
    scale_of,
)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = dict[str, Any]
Handler = Callable[["Call"], Coroutine[Any, Any, None]]

JSON: Final = [(b"content-type", b"application/json")]
EVENTS: Final = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


@dataclass(slots=True)
class Call:
    """One request: its body, and how to answer it."""

    body: dict[str, Any]
    send: Send
    started: bool = False
    _held: bytes = b""
    """Events that go out with the next one."""

    async def reply(self, document: object, status: int = 200) -> None:
        """A whole answer."""
        data = orjson.dumps(document)
        await self._start(status, [*JSON, (b"content-length", str(len(data)).encode())])
        await self.send({"type": "http.response.body", "body": data})

    async def event(self, document: object, *, hold: bool = False) -> None:
        """One server-sent event; the first one begins the answer.

        hold: another comes at once, and both are sent together: to send takes longer than all else that is done here.
        """
        self._held += b"data: " + orjson.dumps(document) + b"\n\n"
        if not hold:
            await self._send_held()

    async def done(self) -> None:
        """The end of a stream."""
        self._held += b"data: [DONE]\n\n"
        await self._send_held(last=True)

    async def _send_held(self, *, last: bool = False) -> None:
        if not self.started:
            await self._start(200, EVENTS)
        data, self._held = self._held, b""
        await self.send({"type": "http.response.body", "body": data, "more_body": not last})

    async def fail(self, error: UmlError) -> None:
        """An error: as the answer, or as the last event of one that has begun."""
        if self.started or self._held:
            await self.event(error_body(error), hold=True)
            await self._send_held(last=True)
        else:
            await self.reply(error_body(error), error.status)

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})


@dataclass(slots=True)
class App:
    """An ASGI application over one loaded model.

    Requests that need the model take one of `plan.options.parallel` slots, first come first served, and give it
    back when their client leaves: at once while they wait, at the next token while they are answered.
    """

    host: Host
    plan: LoadPlan
    key: str
    ready: bool = False
    _slots: asyncio.Semaphore = field(init=False)
    _origins: dict[int, str] = field(default_factory=dict)
    """Where adapters came from that were handed over as a copy."""
    _busy: int = 0

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(max(1, self.plan.options.parallel))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one HTTP request, ended when its client goes."""
        if scope["type"] != "http":
            return
        call = Call({}, send)
        try:
            handler = self._route(scope)
            call.body = await read_body(receive)
        except UmlError as error:
            await call.fail(error)
            return
        await while_connected(self._answer(handler, call), receive)

    def _route(self, scope: Scope) -> Handler:
        method, path = scope["method"], scope["path"]
        if (method, path) == ("GET", "/health"):
            return self.health
        sent = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(sent, b"Bearer " + self.key.encode()):
            raise BadKey("Invalid API Key")
        handler = {
            ("POST", "/v1/chat/completions"): self.chat,
            ("POST", "/v1/completions"): self.completions,
            ("POST", "/v1/embeddings"): self.embeddings,
            ("POST", "/v1/rerank"): self.rerank,
            ("POST", "/v1/classify"): self.classify,
            ("POST", "/tokenize"): self.tokenize,
            ("POST", "/detokenize"): self.detokenize,
            ("POST", "/apply-template"): self.apply_template,
            ("GET", "/lora-adapters"): self.adapters,
            ("POST", "/lora-adapters"): self.change_adapters,
            ("GET", "/slots"): self.slots,
        }.get((method, path))
        if handler is None:
            raise NotFound(f"no route {method} {path}")
        return handler if self.ready else self.loading

    async def _answer(self, handler: Handler, call: Call) -> None:
        try:
            await handler(call)
        except UmlError as error:
            await call.fail(error)
        except Exception as error:
            # The boundary to engines of every kind: their errors become replies, and the worker lives.
            await call.fail(UmlError(f"{type(error).__name__}: {error}"))

    async def health(self, call: Call) -> None:
        """200 when requests can be answered."""
        if self.ready:
            await call.reply({"status": "ok"})
        else:
            await self.loading(call)

    async def loading(self, call: Call) -> None:
        """503 until the model is there."""
        await call.reply(LOADING, 503)

    async def slots(self, call: Call) -> None:
        """Which slots are at work, as llama.cpp's server tells it."""
        count = max(1, self.plan.options.parallel)
        await call.reply([{"id": index, "is_processing": index < self._busy} for index in range(count)])

    async def chat(self, call: Call) -> None:
        """POST /v1/chat/completions."""
        check_messages(call.body)
        await self._generate(call, Shape("chatcmpl-", "chat.completion", self.plan.model.id))

    async def completions(self, call: Call) -> None:
        """POST /v1/completions, for one prompt or several."""
        call.body["prompt"] = prompts_of(call.body)
        await self._generate(call, Shape("cmpl-", "text_completion", self.plan.model.id))

    async def _generate(self, call: Call, shape: Shape) -> None:
        stops_of(call.body)
        requests = requests_of(call.body)
        usage = Usage()
        async with self._slots:
            self._busy += 1
            try:
                if call.body.get("stream"):
                    await self._stream(call, shape, requests, usage)
                else:
                    await self._whole(call, shape, requests, usage)
            finally:
                self._busy -= 1

    async def _stream(self, call: Call, shape: Shape, requests: list[dict[str, Any]], usage: Usage) -> None:
        for index, request in enumerate(requests):
            async with aclosing(pieces(self.host, request, usage, again=is_again(index, call.body))) as found:
                first, last = True, index == len(requests) - 1
                async for piece in found:
                    hold = last and piece.finish is not None
                    await call.event(shape.chunk(index, piece, first=first), hold=hold)
                    first = False
        if (call.body.get("stream_options") or {}).get("include_usage"):
            await call.event({**shape.head(chunk=True), "choices": [], "usage": usage.as_dict()}, hold=True)
        await call.done()

    async def _whole(self, call: Call, shape: Shape, requests: list[dict[str, Any]], usage: Usage) -> None:
        choices, warnings = [], list[dict[str, str]]()
        for index, request in enumerate(requests):
            async with aclosing(pieces(self.host, request, usage, again=is_again(index, call.body))) as found:
                parts = [piece async for piece in found]
            choices.append(shape.choice(index, parts))
            warnings += [dict(told) for part in parts for told in part.warnings if told not in warnings]
        more = {"warnings": warnings} if warnings else {}
        await call.reply({**shape.head(), "choices": choices, "usage": usage.as_dict(), **more})

    async def embeddings(self, call: Call) -> None:
        """POST /v1/embeddings, as numbers or base64 of little-endian float32."""
        texts = self._texts(call.body.get("input"))
        async with self._slots:
            vectors = await asyncio.to_thread(self.host.embed, texts)
            count = sum(len(self.host.tokenize(text)) for text in texts)
        packed = call.body.get("encoding_format") == "base64"
        await call.reply(
            {
                "object": "list",
                "model": self.plan.model.id,
                "data": [
                    {"object": "embedding", "index": index, "embedding": pack(vector) if packed else vector}
                    for index, vector in enumerate(vectors)
                ],
                "usage": {"prompt_tokens": count, "total_tokens": count},
            }
        )

    async def rerank(self, call: Call) -> None:
        """POST /v1/rerank: a score for each document, as llama.cpp's server tells it."""
        judge = judging.judge_of(self.host, self.plan.model.id, ranks=True)
        pairs = judging.pairs_of(call.body)
        async with self._slots:
            scores, tokens = await judge.score(pairs)
        await call.reply(judging.ranked(self.plan.model.id, scores, tokens))

    async def classify(self, call: Call) -> None:
        """POST /v1/classify: the labels of texts and their probabilities, as vLLM's server tells them."""
        judge = judging.judge_of(self.host, self.plan.model.id)
        texts = self._texts(call.body.get("input"))
        async with self._slots:
            scores, tokens = await judge.score(texts)
        await call.reply(judging.sorted_into(self.plan.model.id, judge.classes, scores, tokens))

    def _texts(self, given: Any) -> list[str]:
        items = given if isinstance(given, list) and not is_tokens(given) else [given]
        texts = [self.host.detokenize(item) if is_tokens(item) else item for item in items]
        if not texts or any(not isinstance(text, str) for text in texts):
            raise BadRequest("input must be a text, a list of tokens, or a list of these", param="input")
        return texts

    async def tokenize(self, call: Call) -> None:
        """POST /tokenize."""
        content = call.body.get("content", "")
        if not isinstance(content, str):
            raise BadRequest("content must be a text", param="content")
        tokens = self.host.tokenize(content)
        if call.body.get("with_pieces"):
            await call.reply({"tokens": [{"id": id, "piece": self.host.detokenize([id])} for id in tokens]})
        else:
            await call.reply({"tokens": tokens})

    async def detokenize(self, call: Call) -> None:
        """POST /detokenize."""
        tokens = call.body.get("tokens", [])
        if tokens and not is_tokens(tokens):
            raise BadRequest("tokens must be a list of numbers", param="tokens")
        await call.reply({"content": self.host.detokenize(tokens)})

    async def apply_template(self, call: Call) -> None:
        """POST /apply-template: what a chat request makes the model read."""
        if not isinstance(self.host, WritesPrompts):
            raise NotFound("this engine has no chat template")
        check_messages(call.body)
        await call.reply({"prompt": self.host.prompt(call.body)})

    async def adapters(self, call: Call) -> None:
        """GET /lora-adapters: ids, paths and scales, as llama.cpp's server tells them."""
        found = self._swapper().adapters()
        await call.reply([{**one, "path": self._origins.get(one["id"], one["path"])} for one in found])

    async def change_adapters(self, call: Call) -> None:
        """POST /lora-adapters: `{"path", "scale"}` loads one, `{"id", "scale"}` sets one, `{"unload": id}` ends one.

        With `origin` the path is that of a copy, which is not needed after the reply.
        """
        host, body = self._swapper(), call.body
        if isinstance(body.get("path"), str):
            id = await asyncio.to_thread(host.load_adapter, body["path"], scale_of(body))
            if isinstance(body.get("origin"), str):
                self._origins[id] = body["origin"]
            await call.reply({"id": id})
            return
        if isinstance(body.get("unload"), int):
            await asyncio.to_thread(host.unload_adapter, body["unload"])
            self._origins.pop(body["unload"], None)
        elif isinstance(body.get("id"), int):
            host.scale_adapters({body["id"]: scale_of(body)})
        else:
            raise BadRequest("expected path and scale, id and scale, or unload", param="path")
        await call.reply({"success": True})

    def _swapper(self) -> SwapsAdapters:
        if not isinstance(self.host, SwapsAdapters):
            raise NotFound("this engine has no adapters that come and go")
        return self.host


async def read_body(receive: Receive) -> dict[str, Any]:
    """The JSON object of a request; empty for none. Raises BadRequest."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    data = b"".join(parts)
    if not data:
        return {}
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


async def while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run until the work is done or the client has gone; then cancel it, which closes the host's iterator."""
    running = asyncio.create_task(work)
    gone = asyncio.create_task(_until_gone(receive))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (running, gone):
            task.cancel()
        for task in (running, gone):
            with suppress(asyncio.CancelledError):
                await task


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
