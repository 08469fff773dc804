"""The next turn of a long conversation after its model was swapped out: read back, against read again.

python -m benchmarks.sessions [LLAMA_SERVER]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.common import ask, folder, median, server, table
from benchmarks.shapes import write_small
from uml.client import Client
from uml.runtime.workers.channel import Channel

ROUNDS = 2
WORDS = 1_340
"""A random model knows no words but letters: these make 8,000 tokens."""
OPTIONS = {"ctx": 12_288, "parallel": 1, "threads": 1}
BUDGET = "220MiB"
"""One of the two models fits, and not both."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Milliseconds to the first token of a second turn, and of a third one; tokens, and bytes on disk.

    loaded: the model had been loaded again before. swapped: the request itself had it loaded, in another's place.
    """

    loaded: float
    swapped: float
    tokens: int
    disk_bytes: int


async def main() -> None:
    """Run and print."""
    with folder() as place:
        one = write_small(place / "one.gguf")
        two = Path(shutil.copyfile(one, place / "two.gguf"))
        again, back = [await measured(one, two, disk) for disk in ("0", "8GiB")]
    table(
        f"First token of the next turn of a conversation of {back.tokens:,} tokens, after a swap; 35M parameters, Q8_0",
        ["the model", "prompt read again", "conversation read back", "sooner", "goal"],
        [
            [title, f"{before:.0f} ms", f"{after:.0f} ms", f"{before / after:.0f} times", goal]
            for title, before, after, goal in (
                ("is loaded again when the turn comes", again.loaded, back.loaded, "10 times"),
                ("is swapped in by the turn", again.swapped, back.swapped, ""),
            )
        ],
    )
    print(f"On disk: {back.disk_bytes / (1 << 20):.0f} MiB.\n")


async def measured(one: Path, two: Path, disk: str) -> Turns:
    """The middle one of several rounds, in a server where one of the two models must go for the other."""
    # No model keeps its place for a while after it was swapped in: that would be measured too.
    os.environ |= {"UML_SESSION_DISK": disk, "UML_MEMORY_BUDGET": BUDGET, "UML_SWAP_TURN_S": "0"}
    os.environ |= {"UML_LLAMA_SERVER": sys.argv[1]} if len(sys.argv) > 1 else {}
    turns = []
    with server(OPTIONS) as gateway:
        client = Client(f"http://127.0.0.1:{gateway.endpoint.port}")
        first, second = (str(client.add(path)["id"]) for path in (one, two))
        channel = Channel(gateway.endpoint)
        for number in range(ROUNDS):
            talk = [said("user", f"round {number} " + "zebra " * WORDS)]
            await first_ms(channel, first, talk)
            await first_ms(channel, second, [said("user", "hello")])
            list(client.load(first))
            talk += [said("assistant", "yes"), said("user", "and then?")]
            loaded = await first_ms(channel, first, talk)
            await first_ms(channel, second, [said("user", "hello")])
            talk += [said("assistant", "yes"), said("user", "and after that?")]
            turns.append((loaded, await first_ms(channel, first, talk)))
        tokens = len(client.tokenize(first, "".join(turn["content"] for turn in talk)))
        channel.close()
        size = sum(path.stat().st_size for path in gateway.data.glob(f"sessions/{first}/*.kv"))
    loaded, swapped = (median(list(column)) for column in zip(*turns, strict=True))
    return Turns(loaded, swapped, tokens, size)


def said(role: str, text: str) -> dict[str, str]:
    """A turn."""
    return {"role": role, "content": text}


async def first_ms(channel: Channel, model: str, talk: list[dict[str, str]]) -> float:
    """Milliseconds from the request to the first token."""
    body = {"model": model, "messages": talk, "max_tokens": 4, "ignore_eos": True, "stream": True, "temperature": 0}
    sample = await ask(channel, orjson.dumps(body), stream=True)
    return (sample.first_s or sample.total_s) * 1000


if __name__ == "__main__":
    asyncio.run(main())
