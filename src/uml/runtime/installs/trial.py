"""Trying an engine: a real worker loads a model and answers, and what it says is compared."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.engine import Endpoint, Engine
from uml.core.errors import UmlError
from uml.core.install import Smoke
from uml.core.plan import LoadPlan
from uml.runtime.channel import ChannelBroken
from uml.runtime.logs import WorkerLog
from uml.runtime.process import WorkerProcess
from uml.runtime.sandbox.confinement import Confinement

STALL_LIMIT_S: Final = 120.0
ANSWER_LIMIT_S: Final = 120.0
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
            return await _asked(process, prompt, tokens)
        finally:
            ready.cancel()
            process.stop()
            await life


async def _asked(process: WorkerProcess, prompt: str, tokens: int) -> str:
    asked = {"model": process.plan.model.id, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            response = await process.channel.request("POST", "/v1/completions", json.dumps(asked).encode())
            body = await response.read(MOST_BYTES)
    except ChannelBroken as error:
        raise LookupError("its worker went away in mid-answer") from error
    except TimeoutError as error:
        raise LookupError(f"it gave no answer within {ANSWER_LIMIT_S:g} s") from error
    try:
        return str(json.loads(body)["choices"][0]["text"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise LookupError(f"it answered {response.status}: {body[:200].decode(errors='replace')}") from error


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
