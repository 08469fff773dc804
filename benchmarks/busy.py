"""A model beside other programs: what waiting threads cost when every core is wanted elsewhere.

python -m benchmarks.busy
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.common import ask, chat, median, table, worker
from uml.engines.llamacpp.engine import SPIN

MODEL = "demo"
ROUNDS = 3
LIBRARY_DEFAULT = "300000"
"""What libgomp does by itself where there are as many threads as cores (its manual, GOMP_SPINCOUNT)."""


@contextlib.contextmanager
def every_core_wanted() -> Iterator[None]:
    """One busy process a core, until the block ends."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


async def speed(spin: str, tokens: int) -> float:
    """Tokens per second of one stream, with this spin count."""
    os.environ["GOMP_SPINCOUNT"] = spin
    async with worker(MODEL, {"ctx": 512, "parallel": 1}) as (channel, _):
        body = chat(MODEL, tokens, stream=True, cache_prompt=False)
        await ask(channel, body, stream=True)
        rates = []
        for _ in range(ROUNDS):
            sample = await ask(channel, body, stream=True)
            rates.append((tokens - 1) / (sample.total_s - sample.first_s))
    return median(rates)


async def main() -> None:
    """Run and print."""
    ours = SPIN["GOMP_SPINCOUNT"]
    rows = []
    cases = (("nothing else runs", contextlib.nullcontext(), 256), ("every core is wanted", every_core_wanted(), 16))
    for title, around, tokens in cases:
        with around:
            before, after = await speed(LIBRARY_DEFAULT, tokens), await speed(ours, tokens)
        rows.append([title, f"{before:.0f}", f"{after:.0f}", f"{after / before:.2f}"])
    table(
        "Tokens per second beside other programs (demo model, one thread a core)",
        ["", "libgomp's own", f"GOMP_SPINCOUNT={ours}", "ratio"],
        rows,
    )


if __name__ == "__main__":
    asyncio.run(main())
