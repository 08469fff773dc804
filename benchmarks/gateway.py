"""What the gateway adds: straight to the worker against through `uml serve`, in turn, same model.

python -m benchmarks.gateway
"""

from __future__ import annotations

import asyncio

from benchmarks.common import Server, ask, chat, clients, median, percentile, server, table, worker
from uml.runtime.workers.channel import Channel

MODEL = "demo"
STREAMS = 32
OPTIONS = {"ctx": 1024, "parallel": STREAMS, "threads": 1, "threads_batch": 1}
ROUNDS = 5


async def latency(direct: Channel, through: Channel) -> list[list[str]]:
    """Added milliseconds of a one-token request, and of the first token of a stream."""
    rows = []
    for title, stream, tokens in (("one-token request", False, 1), ("first token of a stream", True, 8)):
        body = chat(MODEL, tokens, stream=stream)
        plain: list[float] = []
        served: list[float] = []
        for _ in range(400):
            plain.append((await ask(direct, body, stream=stream)).first_s * 1000)
            served.append((await ask(through, body, stream=stream)).first_s * 1000)
        for name, share, goals in (("p50", 0.5, ("0.5", "0.7")), ("p95", 0.95, ("1.0", "1.5"))):
            before, after = percentile(plain, share), percentile(served, share)
            rows.append(
                [
                    f"{title}, {name}",
                    f"{before:.2f} ms",
                    f"{after:.2f} ms",
                    f"+{after - before:.2f} ms",
                    f"+{goals[stream]} ms",
                ]
            )
    return rows


async def throughput(direct: Channel, through: Channel, gateway: Server) -> list[list[str]]:
    """Shares of the direct rate, and the gateway's processor time a token."""
    one = chat(MODEL, 1, stream=False)
    many = chat(MODEL, 128, stream=True)
    requests: dict[str, list[float]] = {"direct": [], "through": []}
    tokens: dict[str, list[float]] = {"direct": [], "through": []}
    costs: list[float] = []
    for _ in range(ROUNDS):
        for name, channel in (("direct", direct), ("through", through)):
            samples, seconds = await clients(channel, one, count=8, each=50, stream=False)
            requests[name].append(len(samples) / seconds)
            used = gateway.cpu_s
            samples, seconds = await clients(channel, many, count=STREAMS, each=2, stream=True)
            pieces = sum(sample.pieces for sample in samples)
            tokens[name].append(pieces / seconds)
            if name == "through":
                costs.append((gateway.cpu_s - used) / pieces * 1e6)

    def row(title: str, rates: dict[str, list[float]], goal: str) -> list[str]:
        before, after = median(rates["direct"]), median(rates["through"])
        return [title, f"{before:.0f}", f"{after:.0f}", f"{after / before:.0%}", goal]

    return [
        row("requests per second, 8 clients", requests, "82 %"),
        row(f"tokens per second, {STREAMS} streams", tokens, "92 %"),
        ["gateway CPU per token", "", f"{median(costs):.0f} us", "", "50 us"],
    ]


async def main() -> None:
    """Run and print."""
    with server(OPTIONS) as gateway:
        async with worker(MODEL, OPTIONS) as (direct, _):
            through = Channel(gateway.endpoint)
            for channel in (through, direct):
                await clients(channel, chat(MODEL, 4, stream=True), count=4, each=10, stream=True)
            rows = [*await latency(direct, through), *await throughput(direct, through, gateway)]
            through.close()
    table("What the gateway adds (demo model)", ["what", "direct", "through uml", "difference", "goal"], rows)


if __name__ == "__main__":
    asyncio.run(main())
