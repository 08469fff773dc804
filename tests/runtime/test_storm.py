"""A minute in the life of a busy server: everything at once, and nothing is left behind.

UML_TEST_STORM_S makes it longer than its few seconds.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.runtime.stand_in import Bench, bench, model
from tests.waiting import alive, until
from tests.worker.process import DEMO, LLAMACPP
from uml.core.errors import Cancelled, LoadFailed, WorkerDied
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.engines.llamacpp.engine import LlamaCpp
from uml.runtime.workers.channel import ChannelBroken
from uml.runtime.workers.progress import look

SECONDS = float(os.environ.get("UML_TEST_STORM_S", "10"))
CLIENTS = 16
PATIENCE_S = 120.0
"""Longest that one thing may take: a minute on a busy machine; longer takes only what is lost."""


def real(name: str) -> Model:
    """The demo model under another name."""
    return Model(name, replace(model(name).info, path=DEMO))


MODELS = [
    (real("first"), LoadOptions.parse({"engine": "llamacpp", "threads": 1})),
    (real("second"), LoadOptions.parse({"engine": "llamacpp-2", "threads": 1})),
    (model("third"), LoadOptions.parse({"engine": "fake", "extra_flags": ["tokens_per_s=300"]})),
]
"""Three models where two have room; `llamacpp-2` is a `llama-server`, where the tests are given one."""


class Storm:
    """Clients that do at random what clients do, and worse."""

    def __init__(self, office: Bench, seed: int) -> None:
        self.office, self.random = office, random.Random(seed)
        self.pids: set[int] = set()
        self.seen: Counter[str] = Counter()

    async def client(self, until_s: float) -> None:
        """One after the other until it is time."""
        often, rarely = [self.ask] * 12 + [self.leave_the_queue] * 3, [self.watch_a_load, self.unload, self.kill]
        acts: Sequence[Callable[[], Awaitable[None]]] = often + rarely
        while time.monotonic() < until_s:
            act = self.random.choice(acts)
            async with asyncio.timeout(PATIENCE_S):
                try:
                    await act()
                    self.seen[act.__name__] += 1
                except (WorkerDied, Cancelled, LoadFailed, ChannelBroken) as error:
                    self.seen[type(error).__name__] += 1

    async def ask(self) -> None:
        """A stream, read to its end or left before."""
        wanted, options = self.random.choice(MODELS)
        async with self.office.supervisor.lease(wanted, options) as lease:
            messages = [{"role": "user", "content": "What is the capital of Japan?"}]
            body = {"stream": True, "max_tokens": self.random.randint(1, 40), "messages": messages}
            left = self.random.randint(1, 60)
            try:
                async with await lease.channel.request(
                    "POST", "/v1/chat/completions", orjson.dumps(body), stream=True
                ) as response:
                    assert response.status == 200, await response.read(1 << 16)
                    async for _ in response:
                        left -= 1
                        if not left:
                            break
            except ChannelBroken:
                raise await lease.fate() from None

    async def leave_the_queue(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.random.random() * 0.1):
                await self.ask()

    async def watch_a_load(self) -> None:
        steps = self.random.randint(1, 6)
        progress: Any = self.office.supervisor.load_progress(*self.random.choice(MODELS))
        async with aclosing(progress):
            async for _ in progress:
                steps -= 1
                if not steps:
                    break

    async def unload(self) -> None:
        await self.office.supervisor.unload([self.random.choice(MODELS)[0].id])

    async def kill(self) -> None:
        pids = [status.pid for status in self.office.supervisor.status() if status.pid]
        self.pids.update(pids)
        if pids:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(pids), signal.SIGKILL)
        await asyncio.sleep(self.random.random() * 0.2)  # else nothing would live long enough to answer


def resident_mib() -> int:
    """Memory of this process."""
    sample = look(os.getpid())
    return sample.resident_bytes >> 20 if sample else 0


def descriptors() -> Counter[str]:
    """What this process has open, with the number that the kernel gave it left out."""
    found: Counter[str] = Counter()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this very look
            found[re.sub(r"\d+", "", str(path.readlink()))] += 1
    return found


@pytest.mark.slow
async def test_nothing_is_lost_and_nothing_left_behind_in_a_storm(tmp_path: Path) -> None:
    tasks = len(asyncio.all_tasks())
    engines = {"llamacpp": LlamaCpp(), "llamacpp-2": LlamaCpp(LLAMACPP.get("external"))}
    async with bench(tmp_path, room_for=2, engines=engines) as office:
        before = descriptors()
        storm = Storm(office, seed=int(os.environ.get("UML_TEST_STORM_SEED", "1")))
        until_s = time.monotonic() + SECONDS
        await asyncio.gather(*(storm.client(until_s) for _ in range(CLIENTS)))
        print(dict(storm.seen), len(storm.pids), "workers seen,", resident_mib(), "MiB held")
        # Nobody waits and nobody holds anything: all of them can be loaded again, one after the other.
        assert office.supervisor.queue() == ()
        assert sum(status.in_flight for status in office.supervisor.status()) == 0
        for wanted, options in MODELS:
            assert (await office.supervisor.load(wanted, options)).state == "ready"
        storm.pids.update(status.pid for status in office.supervisor.status() if status.pid)
        await office.supervisor.unload()
        await until(lambda: descriptors() <= before)
    assert storm.seen["ask"] > CLIENTS
    assert not any(alive(pid) for pid in storm.pids)
    assert len(asyncio.all_tasks()) == tasks
