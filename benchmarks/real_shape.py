"""A model of real shape under eight clients: straight to the worker against through `uml serve`.

python -m benchmarks.real_shape
"""

from __future__ import annotations

import asyncio

from benchmarks.common import chat, clients, folder, interleaved, median, server, table, worker
from benchmarks.shapes import write_half_b
from uml.client import Client
from uml.runtime.workers.channel import Channel

CLIENTS = 8
TOKENS = 32
OPTIONS = {"ctx": 512, "parallel": CLIENTS}
ROUNDS = 3


async def main() -> None:
    """Run and print."""
    with folder() as place, server(OPTIONS) as gateway:
        path = write_half_b(place / "random-0.5b-q8_0.gguf")
        client = Client(f"http://127.0.0.1:{gateway.endpoint.port}")
        model = client.add(path)["id"]
        body = chat(model, TOKENS, stream=True, words=64)
        async with worker(str(path), OPTIONS) as (direct, _):
            through = Channel(gateway.endpoint)

            async def rate(channel: Channel) -> float:
                samples, seconds = await clients(channel, body, count=CLIENTS, each=1, stream=True)
                return sum(sample.pieces for sample in samples) / seconds

            await rate(through), await rate(direct)
            plain, served = await interleaved(ROUNDS, lambda: rate(direct), lambda: rate(through))
            through.close()
    before, after = median(plain), median(served)
    table(
        f"A 0.5B shape, {CLIENTS} clients, {TOKENS} tokens each",
        ["what", "direct", "through uml", "share", "goal"],
        [["tokens per second", f"{before:.1f}", f"{after:.1f}", f"{after / before:.1%}", "98 %"]],
    )


if __name__ == "__main__":
    asyncio.run(main())
