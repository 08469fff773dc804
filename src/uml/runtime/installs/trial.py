"""Trying an engine: a real worker loads a model and answers, and what it says is compared."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.engine import Endpoint, Engine
from uml.core.errors import UmlError
from uml.core.install import Smoke
from uml.core.plan import LoadPlan
from uml.runtime.sandbox.confinement import Confinement
from uml.runtime.workers.channel import ChannelBroken
from uml.runtime.workers.logs import WorkerLog
from uml.runtime.workers.process import WorkerProcess

STALL_LIMIT_S: Final = 120.0
ANSWER_LIMIT_S: Final = 120.0
TIMED_LIMIT_S: Final = 900.0
"""For an answer whose speed is taken: a build of many minutes is not thrown away because its machine is busy."""
MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it: a result, and a sentence."""

    result: Smoke
    says: str


async def answer(
    engine: Engine, plan: LoadPlan, prompt: str, tokens: int, folder: Path, fence: Confinement | None = None
) -> str:
    """What a worker of this plan says to a prompt, greedily. folder: a private one, for its socket.

    Raises the UmlError of a load that failed; LookupError, with what came, for an answer that is none.
    """
    async with _worker(engine, plan, folder, fence) as process:
        return _text(await _asked(process, prompt, tokens))


@asynccontextmanager
async def _worker(
    engine: Engine, plan: LoadPlan, folder: Path, fence: Confinement | None
) -> AsyncIterator[WorkerProcess]:
    """A worker that is ready, until the block ends."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="t") as name:
        place = Path(name)
        # In the worker's own folder: a confined one may write nowhere else.
        endpoint = Endpoint(key=secrets.token_urlsafe(24), socket=place / "trial" / "w.sock")
        log, record = WorkerLog(place, "trial"), place / "trial.worker"
        process = WorkerProcess(engine, plan, endpoint, log, record, STALL_LIMIT_S, confinement=fence)
        life = asyncio.ensure_future(process.run())
        ready = asyncio.ensure_future(process.ready.wait())
        try:
            await asyncio.wait({life, ready}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise life.result().error or LookupError("its worker ended")
            yield process
        finally:
            ready.cancel()
            process.stop()
            await life


async def _asked(
    process: WorkerProcess, prompt: str, tokens: int, limit_s: float = ANSWER_LIMIT_S, **more: Any
) -> dict[str, Any]:
    asked = {"model": process.plan.model.id, "prompt": prompt, "max_tokens": tokens, "temperature": 0, **more}
    try:
        async with asyncio.timeout(limit_s):
            response = await process.channel.request("POST", "/v1/completions", json.dumps(asked).encode())
            body = await response.read(MOST_BYTES)
    except ChannelBroken as error:
        raise LookupError("its worker went away in mid-answer") from error
    except TimeoutError as error:
        raise LookupError(f"it gave no answer within {limit_s:g} s") from error
    try:
        found: dict[str, Any] = json.loads(body)
        _text(found)
    except (ValueError, LookupError, TypeError) as error:
        raise LookupError(f"it answered {response.status}: {body[:200].decode(errors='replace')}") from error
    return found


def _text(found: Mapping[str, Any]) -> str:
    return str(found["choices"][0]["text"])


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second, by the engine's own clock: of a prompt that is read, and of an answer."""

    prompt_per_s: float
    answer_per_s: float

    def __str__(self) -> str:
        return f"{self.prompt_per_s:.0f} and {self.answer_per_s:.0f}"


async def timed(
    engine: Engine, plan: LoadPlan, prompt: str, tokens: int, folder: Path, rounds: int = 3
) -> tuple[str, Speed]:
    """What a worker says to a prompt, and how fast: the median of some rounds, each read anew.

    For engines whose answers have `timings`, as llama.cpp's. Raises as `answer`.
    """
    async with _worker(engine, plan, folder, None) as process:
        found = [
            await _asked(process, prompt, tokens, TIMED_LIMIT_S, cache_prompt=False, ignore_eos=True)
            for _ in range(rounds)
        ]
    try:
        timings = [one["timings"] for one in found]
        read = sorted(float(one["prompt_per_second"]) for one in timings)[rounds // 2]
        made = sorted(float(one["predicted_per_second"]) for one in timings)[rounds // 2]
    except (KeyError, TypeError, ValueError) as error:
        raise LookupError("its answer tells no times") from error
    return _text(found[0]), Speed(read, made)


async def compared(
    engine: Engine, plan: LoadPlan, prompt: str, expected: str, folder: Path, fence: Confinement | None = None
) -> Trial:
    """Whether the answer to a prompt is the expected one, of one token a character."""
    try:
        text = await answer(engine, plan, prompt, len(expected), folder, fence)
    except UmlError as error:
        return Trial("failed", error.message)
    except LookupError as error:
        return Trial("failed", str(error))
    if text != expected:
        return Trial("failed", f"a tiny model answered {text!r}, and {expected!r} is right")
    return Trial("passed", f"a tiny model answered {expected!r}, which is right")
