"""A request's way to a worker and back: bytes are passed on as they come."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final

import orjson

from uml.core.errors import BadRequest, EngineError, UmlError, UnreadableAnswer
from uml.gateway.choices import DONE, Events, Sums, join, last_event, without_sums
from uml.gateway.figures import Figures, count
from uml.gateway.model_name import only_names
from uml.gateway.nothing import asking_for_one, wants_nothing
from uml.gateway.processing import Rewriter
from uml.gateway.refusal import from_engine, refusal
from uml.gateway.sink import ERROR, Sink
from uml.gateway.unreadable import AS_IT_CAME, CUT, PATH, AsChat, as_text, cut_off, notice
from uml.gateway.wire import EVENTS, Call, event
from uml.generation import Checked, Prepared
from uml.runtime.supervisor import Lease
from uml.runtime.workers.channel import ChannelBroken, Response

ANSWER_LIMIT: Final = 1 << 29
REFUSAL_LIMIT: Final = 1 << 20
LONG_PROMPT: Final = 400
"""Bytes of a request from which its prompt may take more than one batch."""
_PROGRESS: Final = b'"prompt_progress":{'
_END: Final = b"\n\n"

_SAID: Final = re.compile(rb'"(?:content|reasoning_content|text)": ?"[^"]|"tool_calls": ?\[')
"""A piece of an answer, in an event."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One request on its way to a worker.

    shape: how its events, or its reply, are rewritten, where they are. retell: what is done to every event before.
    """

    call: Call
    path: str
    raw: bytes
    checked: Checked
    prepared: Prepared
    shape: Rewriter | None = None
    retell: Callable[[dict[str, Any]], None] | None = None

    @property
    def n(self) -> int:
        """Answers to each prompt."""
        return int(self.asked.get("n") or 1)

    @property
    def in_one_step(self) -> bool:
        """Whether the engine is done after one batch of prompt: there is nothing in between to give up."""
        if self.checked.endpoint == "embedding":
            return True
        body = self.checked.body
        most = body.get("max_tokens", body.get("max_completion_tokens"))
        return most in (0, 1) and len(self.raw) < LONG_PROMPT

    @property
    def strict(self) -> bool:
        """Whether the client wants what it asked for or an error."""
        return self.checked.body.get("strict") is True

    @property
    def asked(self) -> Mapping[str, Any]:
        """What the worker is asked, but for what is changed on the way."""
        return self.checked.body if self.prepared.body is None else self.prepared.body

    def body(self, **changed: Any) -> bytes:
        """What goes to the worker."""
        if self.prepared.body is None and not changed:
            return self.raw
        try:
            return orjson.dumps({**self.asked, **changed})
        except orjson.JSONEncodeError:
            raise BadRequest("the body is nested too deeply; expected 250 levels at most") from None


async def ask(errand: Errand, lease: Lease, body: bytes, *, stream: bool) -> Response:
    """Send the request to the worker. Raises what the worker, or its end, gives as the reason."""
    try:
        response = await lease.channel.request("POST", errand.path, body, stream=stream)
        if response.status >= 300:
            said = await response.read(REFUSAL_LIMIT)
            raise refusal(response.status, said, lease.model.id, errand.checked.body)
    except ChannelBroken:
        raise await lease.fate() from None
    return response


async def whole(errand: Errand, lease: Lease) -> tuple[bytes, Figures]:
    """An answer that is not streamed, with the warnings put in."""
    try:
        return await _whole(errand, lease)
    except UnreadableAnswer as error:
        return await _joined(await _as_text(errand, lease, error), lease)


async def _as_text(errand: Errand, lease: Lease, error: UnreadableAnswer) -> Errand:
    """The same errand without the engine's parting of the answer. Raises the error where there is none."""
    try:
        body = None if errand.strict else await as_text(errand.asked, lease)
    except ChannelBroken:
        raise await lease.fate() from None
    if body is None:
        raise error
    prepared = Prepared(body, (*errand.prepared.warnings, notice(error, AS_IT_CAME)))
    return replace(errand, path=PATH, prepared=prepared, retell=AsChat())


async def _whole(errand: Errand, lease: Lease) -> tuple[bytes, Figures]:
    vectors = errand.checked.endpoint == "embedding"
    retold = errand.checked.choices > 1 or not (vectors or errand.shape is None or only_names(errand.shape))
    if retold or not (lease.spec.notices_leaving or errand.in_one_step):
        return await _joined(errand, lease)
    response = await ask(errand, lease, errand.body(), stream=False)
    try:
        data = await response.read(ANSWER_LIMIT)
    except ChannelBroken:
        raise await lease.fate() from None
    figures = count(data[-2048:])
    if errand.shape:
        reply = orjson.loads(data)
        errand.shape.apply(reply)
        data = orjson.dumps(reply)
    warnings = errand.prepared.warnings
    if warnings and data.rstrip().endswith(b"}"):
        data = data.rstrip()[:-1] + b',"warnings":' + orjson.dumps(warnings) + b"}"
    return data, figures


async def _joined(errand: Errand, lease: Lease) -> tuple[bytes, Figures]:
    body = errand.body(stream=True, stream_options={"include_usage": True}, **_changed(errand, lease))
    response = await ask(errand, lease, body, stream=True)
    events, values = Events(), list[dict[str, Any]]()
    try:
        async for chunk in response:
            for value in events.feed(chunk):
                if "error" in value:
                    raise from_engine(500, value["error"], lease.model.id, errand.checked.body)
                if "prompt_progress" not in value:
                    if errand.retell:
                        errand.retell(value)
                    values.append(value)
    except ChannelBroken:
        raise await lease.fate() from None
    finally:
        response.close()
    reply = join(values, errand.n)
    if errand.shape:
        errand.shape.apply(reply)
    if errand.prepared.warnings:
        reply["warnings"] = errand.prepared.warnings
    usage = reply.get("usage") or {}
    return orjson.dumps(reply), Figures(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))


async def stream(errand: Errand, lease: Lease, figures: Figures) -> None:
    """Pass a stream on to the client. Errors before the first byte are raised, later ones end the stream.

    figures: filled in as they become known, so that they are there however this ends.
    """
    call = errand.call
    try:
        try:
            await _streamed(errand, lease, figures)
        except UnreadableAnswer as error:
            if figures.said and not errand.strict:
                await _cut_off(errand, lease, figures, error)
            else:
                text = await _as_text(errand, lease, error)
                # What else there is to warn of is out.
                only = replace(text.prepared, warnings=text.prepared.warnings[-1:]) if call.streaming else text.prepared
                await _streamed(replace(text, prepared=only), lease, figures)
    except ChannelBroken:
        # The head is out: the client learns it as the last event, and misses the [DONE].
        await call.fail(await lease.fate())
    except UmlError as error:
        if not call.streaming:
            raise
        await call.fail(error)


async def _cut_off(errand: Errand, lease: Lease, figures: Figures, error: UnreadableAnswer) -> None:
    """End a stream of which something is out already: that is kept, and ends as an answer that was cut."""
    call, open_ones = errand.call, set(range(errand.checked.choices)) - figures.ended
    end = cut_off(lease.model.id, sorted(open_ones), notice(error, CUT))
    if errand.shape:
        errand.shape.apply(end)  # it may have held back the last words
    call.streaming = False
    await call.write(event(end) + DONE, more=False)


async def _streamed(errand: Errand, lease: Lease, figures: Figures) -> None:
    """One answer of the worker, from its head to its end."""
    call = errand.call
    retold = errand.checked.choices > 1 or errand.shape is not None or errand.retell is not None
    extra = _changed(errand, lease)
    if retold:
        # The figures of every answer are wanted for the sum, whether the client asked for them or not.
        extra["stream_options"] = {"include_usage": True}
    response = await ask(errand, lease, errand.body(**extra), stream=True)
    try:
        if not call.streaming:
            await call.start(200, [*EVENTS])
            call.streaming = True
        if errand.prepared.warnings:
            await call.write(_warning_event(errand, lease))
        figures.first_s = perf_counter() - call.began
        if retold:
            await _retold(errand, lease, response, figures, skip_progress="return_progress" in extra)
        else:
            await _passed_on(errand, lease, response, figures, skip_progress="return_progress" in extra)
        call.streaming = False
        await call.write(b"", more=False)
    finally:
        response.close()


def _changed(errand: Errand, lease: Lease) -> dict[str, Any]:
    """What the engine is told otherwise than the client said it, or beside it."""
    one = asking_for_one(lease.spec.dialect) if wants_nothing(errand.checked) else {}
    return _progress(errand, lease) | one


def _progress(errand: Errand, lease: Lease) -> dict[str, Any]:
    """What to add for a long prompt, so that the engine notices in its middle that the client has left.

    While it reads a prompt, llama.cpp looks at its connection only when it has something to tell; with
    progress it tells something after every batch.
    """
    if len(errand.raw) < LONG_PROMPT or lease.spec.dialect.get("return_progress") is None:
        return {}
    return {} if "return_progress" in errand.checked.body else {"return_progress": True}


async def past_progress(chunks: AsyncIterator[bytes]) -> bytes:
    """Reads over the events that tell how much of the prompt was read: the first bytes after them."""
    rest = b""
    async for chunk in chunks:
        *events, rest = (rest + chunk).split(_END)
        answer = [found for found in events if _PROGRESS not in found]
        if answer:
            return _END.join([*answer, rest])
    return rest


async def _passed_on(
    errand: Errand, lease: Lease, response: Response, figures: Figures, *, skip_progress: bool
) -> None:
    """Chunk by chunk, not looked into but for errors."""
    sink = Sink(errand.call.send, response)
    try:
        try:
            if skip_progress:
                sink(await past_progress(response))
            await response.pipe(sink)
        except ChannelBroken:
            if sink.failed is None:
                raise
        await sink.drained()
        if sink.failed is not None:
            figures.said = _SAID.search(b"".join((*sink.tail, sink.failed.partition(ERROR)[0]))) is not None
            await _pass_error(errand, lease, sink.failed)
    finally:
        sink.close()
        found = count(b"".join(sink.tail))
        figures.prompt_tokens, figures.completion_tokens = found.prompt_tokens, found.completion_tokens


async def _pass_error(errand: Errand, lease: Lease, chunk: bytes) -> None:
    """Pass on what comes before an engine's error event, and raise that error in our shape."""
    before, _, rest = chunk.partition(ERROR)
    complete = before.rpartition(b"\n\n")[0]
    if complete:
        await errand.call.write(complete + b"\n\n")
    try:
        error = orjson.loads((ERROR + rest).split(b"\n", 1)[0])["error"]
    except orjson.JSONDecodeError:
        error = rest[:200].decode("utf-8", "replace")
    if isinstance(error, dict):
        raise from_engine(500, error, lease.model.id, errand.checked.body)
    raise EngineError(lease.model.id, str(error))


async def _retold(errand: Errand, lease: Lease, response: Response, figures: Figures, *, skip_progress: bool) -> None:
    """Event by event, for several answers or other shapes: the figures come once, at the end, and are the sums."""
    call, events, sums, like = errand.call, Events(), Sums(errand.n), dict[str, Any]()
    async for chunk in response:
        passed = b""
        for value in events.feed(chunk):
            if "error" in value:
                if passed:
                    await call.write(passed)
                raise from_engine(500, value["error"], lease.model.id, errand.checked.body)
            if skip_progress and "prompt_progress" in value:
                continue
            if errand.retell:
                errand.retell(value)
            like = like or value
            figures.said = figures.said or _SAID.search(event(value)) is not None
            figures.ended |= {piece["index"] for piece in value.get("choices") or () if piece.get("finish_reason")}
            if errand.shape:
                errand.shape.apply(value)
            if without_sums(value, sums):
                passed += event(value)
        if passed:
            await call.write(passed)
    # An event without choices surprises clients that did not ask for it.
    wanted = (errand.checked.body.get("stream_options") or {}).get("include_usage")
    await call.write((event(last_event(like, sums)) if wanted else b"") + DONE)
    usage = sums.usage or {}
    figures.prompt_tokens, figures.completion_tokens = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)


def _warning_event(errand: Errand, lease: Lease) -> bytes:
    """A first event that every client takes for an empty piece, with the warnings beside it."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": None, "logprobs": None}
    chat = errand.checked.endpoint == "chat"
    choice |= {"delta": {"role": "assistant", "content": ""}} if chat else {"text": ""}
    return event(
        {
            "id": f"warnings-{errand.call.id.decode()}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 0,
            "model": lease.model.id,
            "choices": [choice],
            "warnings": errand.prepared.warnings,
        }
    )
