"""Stories by the demo model, alone and with its draft model guessing ahead, in turn, in llama.cpp and Transformers.

python -m benchmarks.guessing

Transformers is measured where it is installed, as in `benchmarks.transformers_worker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson

from benchmarks.common import CHAT, median, started, table, worker
from benchmarks.transformers_worker import engine_of, plan_of, python
from uml.engines.transformers.engine import Transformers
from uml.registry import packaged_model
from uml.runtime.workers.channel import Channel

STORIES = tuple(
    f"Tell me a story about {what}." for what in ("a fox", "a robot", "a girl named Mia", "a boat", "a wolf", "the sea")
)
OPTIONS = {"ctx": 1024, "parallel": 1, "batch": 512, "threads": 1}
GUESSES = (2, 3, 6)
ROUNDS = 6


async def speed(channel: Channel) -> float:
    """Tokens per second over all stories, greedy, one after the other."""
    tokens, began = 0, time.perf_counter()
    for story in STORIES:
        asked = {"messages": [{"role": "user", "content": story}], "max_tokens": 150, "temperature": 0}
        response = await channel.request("POST", CHAT, orjson.dumps({"model": "m", **asked}))
        answer = orjson.loads(await response.read(1 << 22))
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {answer}")
        tokens += answer["usage"]["completion_tokens"]
    return tokens / (time.perf_counter() - began)


async def in_turn(channels: Sequence[Channel]) -> list[list[float]]:
    """Speeds of each, a round for getting warm left out."""
    rounds = [[await speed(channel) for channel in channels] for _ in range(ROUNDS + 1)]
    return [list(found) for found in zip(*rounds[1:], strict=True)]


def guessing(draft: str, guesses: int) -> dict[str, Any]:
    """Load options for so many guesses at once; 0: none."""
    return {"draft_model": str(packaged_model(draft)), "draft_max": guesses} if guesses else {}


@contextlib.asynccontextmanager
async def in_llamacpp(guesses: int) -> AsyncIterator[Channel]:
    """The demo model in llama.cpp."""
    async with worker("demo", {**OPTIONS, **guessing("demo-draft", guesses)}) as (channel, _):
        yield channel


@contextlib.asynccontextmanager
async def in_transformers(guesses: int, engine: Transformers) -> AsyncIterator[Channel]:
    """The same in Transformers."""
    plan = plan_of(packaged_model("demo-safetensors"), {**OPTIONS, **guessing("demo-draft-safetensors", guesses)})
    async with started(engine, plan) as running:
        await running.idle()
        yield running.channel


async def main() -> None:
    """Run and print."""
    ways = {"llama.cpp, Q8_0": in_llamacpp}
    try:
        interpreter = python()
    except SystemExit as error:
        print(f"{error}; its row is left out\n")
    else:
        engine = engine_of(interpreter)
        ways["Transformers, bfloat16"] = lambda guesses: in_transformers(guesses, engine)
    rows = []
    for name, way in ways.items():
        async with contextlib.AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(way(guesses)) for guesses in (0, *GUESSES)]
            alone, *helped = await in_turn(channels)
        ratios = [median([after / before for before, after in zip(alone, found, strict=True)]) for found in helped]
        rows.append([name, f"{median(alone):.0f}", *(f"{ratio:.2f}" for ratio in ratios)])
    head = ("engine", "tokens per second alone", *(f"times with {guesses} guesses" for guesses in GUESSES))
    table("Guessing ahead with the draft model, stories, one thread", head, rows)


if __name__ == "__main__":
    asyncio.run(main())
