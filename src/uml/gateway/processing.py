"""What plug-ins do with a request before it is answered, and with its answer before it is sent."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Protocol

import orjson

from uml.core.errors import BadRequest
from uml.core.guard import Guard, LeftOut
from uml.generation import Endpoint
from uml.plugins.hooks import Pieces, Processor
from uml.plugins.load import Plugins

log: Final = logging.getLogger(__name__)

Step = tuple[Guard, Pieces]


class Rewriter(Protocol):
    """Rewrites the events, or the reply, of one request."""

    def apply(self, value: dict[str, Any]) -> None:
        """Rewrite an event or a reply in place."""
        ...


class Processing:
    """One request and its answer, in the hands of every processor there is.

    notices: `{"param", "reason"}` of those that were left out of this request.
    """

    def __init__(self, plugins: Plugins, endpoint: Endpoint) -> None:
        self._processors = plugins.processors
        self._endpoint = endpoint
        self.notices: tuple[dict[str, str], ...] = ()

    async def before(self, body: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
        """The body as all of them leave it, and its bytes. Raises what a processor refuses the request with."""
        changed = body
        for guard, processor in self._processors:
            found = await self._asked(guard, processor, changed)
            changed = changed if found is None else found
        if changed is body:
            return body, raw
        try:
            return changed, orjson.dumps(changed)
        except TypeError as error:
            raise BadRequest(f"a processor made a body of this request that is no JSON: {error}") from error

    async def _asked(self, guard: Guard, processor: Processor, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            # In a thread: it may take its time, and others must not wait for it.
            found = await asyncio.to_thread(guard.call, "before()", processor.before, self._endpoint, dict(body))
            if found is None or isinstance(found, dict):
                return found
            raise LeftOut(f"before() gives {type(found).__name__}, expected a body or None")
        except LeftOut as error:
            self._leave_out(guard, error)
            return None

    def _leave_out(self, guard: Guard, error: LeftOut) -> None:
        log.warning("the plug-in %s is left out of a request: %s", guard.name, error)
        self.notices += ({"param": "", "reason": f"the plug-in {guard.name} is left out: {error}"},)

    def answer(self, body: dict[str, Any], inner: Rewriter | None) -> Rewriter | None:
        """What rewrites the answer; `inner` does its part first. None where there is nothing to do."""
        if self._endpoint == "embedding" or not self._processors:
            return inner
        return _Answer(self._processors, self._endpoint, body, inner)


def processing(plugins: Plugins, endpoint: Endpoint) -> Processing | None:
    """For one request; None where no plug-in processes any."""
    return Processing(plugins, endpoint) if plugins.processors else None


class _Answer:
    """Rewrites the text of every choice, piece by piece."""

    def __init__(
        self,
        processors: list[tuple[Guard, Processor]],
        endpoint: Endpoint,
        body: dict[str, Any],
        inner: Rewriter | None,
    ) -> None:
        self._processors = processors
        self._endpoint = endpoint
        self._body = body
        self._inner = inner
        self._steps: dict[int, list[Step]] = {}

    def apply(self, value: dict[str, Any]) -> None:
        """Rewrite an event or a reply in place."""
        if self._inner:
            self._inner.apply(value)
        for choice in value.get("choices") or ():
            holder, key = _text_of(choice)
            if holder is None:
                continue
            text, last = holder.get(key), choice.get("finish_reason") is not None
            if text or last:
                made = self._through(choice.get("index", 0), text or "", last=last)
                if made or text:
                    holder[key] = made

    def _through(self, index: int, text: str, *, last: bool) -> str:
        if index not in self._steps:
            self._steps[index] = self._begun()
        steps = self._steps[index]
        for step in list(steps):
            guard, pieces = step
            try:
                made: object = guard.call("what after() gives", pieces, text, last)
                if not isinstance(made, str):
                    raise LeftOut(f"what after() gives makes {type(made).__name__} of a text")
                text = made
            except LeftOut as error:
                log.warning("the plug-in %s is left out of an answer: %s", guard.name, error)
                steps.remove(step)
        return text

    def _begun(self) -> list[Step]:
        steps: list[Step] = []
        for guard, processor in self._processors:
            try:
                pieces = guard.call("after()", processor.after, self._endpoint, self._body)
            except LeftOut as error:
                log.warning("the plug-in %s is left out of an answer: %s", guard.name, error)
                continue
            if pieces is not None:
                steps.append((guard, pieces))
        return steps


def _text_of(choice: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Where the text of a choice stands: in its delta, in its message, or in itself."""
    for name in ("delta", "message"):
        if isinstance(choice.get(name), dict):
            return choice[name], "content"
    return (choice, "text") if "text" in choice else (None, "")
