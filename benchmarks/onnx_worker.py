"""The ONNX worker against the library's own loop: the same model, the same threads, one after the other.

python -m benchmarks.onnx_worker FOLDER [FOLDER ...]

FOLDERs are of ONNX Runtime GenAI, as `uml convert --to onnx` makes them; the install of `onnx` in use runs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil

from benchmarks.common import CHAT, ask, clients, folder, healthy, median, table
from uml.config import Settings
from uml.core.engine import Endpoint
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.engines.onnx.engine import ENVIRONMENT, Onnx
from uml.formats import inspect
from uml.runtime.installs import Installs
from uml.runtime.workers.channel import Channel

ROUNDS = 15
TOKENS = 200
SLOTS = 8
THREADS = int(os.environ.get("UML_BENCH_THREADS", "2"))
PROMPT = "zebra lantern cloud river stone apple window garden"

OWN_LOOP = """
import json, sys, time
import onnxruntime_genai as og
folder, threads = sys.argv[1], int(sys.argv[2])
config = og.Config(folder)
config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
model = og.Model(config)
tokenizer = og.Tokenizer(model)
text = tokenizer.apply_chat_template(json.dumps([{"role": "user", "content": sys.argv[3]}]))
prompt = tokenizer.encode(text)
print("ready", flush=True)
for line in sys.stdin:
    tokens = int(line)
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(
        max_length=len(prompt) + tokens, min_length=len(prompt) + tokens, do_sample=False)
    began = time.perf_counter()
    generator = og.Generator(model, parameters)
    generator.append_tokens(prompt)
    stream = tokenizer.create_stream()
    made, first = 0, 0.0
    while made < tokens and not generator.is_done():
        generator.generate_next_token()
        stream.decode(generator.get_next_tokens()[0])
        made += 1
        first = first or time.perf_counter() - began
    print(made / (time.perf_counter() - began), first, flush=True)
"""


@contextlib.contextmanager
def own_loop(python: Path, model: Path) -> Iterator[subprocess.Popen[str]]:
    """The library in a process of its own, that answers a number of tokens with tokens a second."""
    command = [str(python), "-I", "-c", OWN_LOOP, str(model), str(THREADS), PROMPT]
    environment = {**os.environ, **ENVIRONMENT}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@contextlib.asynccontextmanager
async def worker(engine: Onnx, path: Path) -> AsyncIterator[tuple[Channel, int]]:
    """A worker of the model, as the server starts it, and its process."""
    info = inspect(path)
    options = LoadOptions.parse({"ctx": 1024, "parallel": SLOTS, "batch": 512, "threads": THREADS, "engine": "onnx"})
    plan = LoadPlan(Model("model", info), "onnx", options, Footprint(info.size_bytes, 0, 0), Placement({"cpu": 1}))
    with folder() as place:
        endpoint = Endpoint(secrets.token_urlsafe(), socket=place / "w.sock")
        launch = engine.launch(plan, endpoint)
        environment = {**os.environ, **launch.environment}
        process = subprocess.Popen(launch.argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        assert process.stdin is not None
        process.stdin.write(launch.stdin)
        process.stdin.flush()
        channel = Channel(endpoint)
        try:
            await healthy(channel, launch.health)
            yield channel, process.pid
        finally:
            channel.close()
            process.kill()
            process.wait(10)


def body(*, stream: bool = True, **more: object) -> bytes:
    """A chat of exactly so many tokens, the prompt read anew every time."""
    asked = {
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "cache_prompt": False,
        "stream": stream,
    }
    return orjson.dumps({**asked, **more})


@dataclass(slots=True)
class Way:
    """One way to the same tokens: its rates, the seconds to its first tokens, and its processor's seconds in all."""

    process: psutil.Process
    rates: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    async def measure(self, answer: Callable[[], Awaitable[tuple[float, float]]]) -> float:
        """One answer; gives its rate."""
        before = self._cpu_s()
        rate, first_s = await answer()
        self.cpu_s += self._cpu_s() - before
        self.rates.append(rate)
        self.firsts.append(first_s)
        return rate

    def of(self, other: Way) -> float:
        """Its rate as a share of another's: the median of the rounds' shares, for a busy machine is so for both."""
        return median([one / two for one, two in zip(self.rates, other.rates, strict=True)])

    def _cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def cpu_us(self) -> float:
        """Processor time a token."""
        return self.cpu_s / (TOKENS * len(self.rates)) * 1e6


async def measure(engine: Onnx, python: Path, path: Path) -> list[str]:
    """One row: the loop, the worker at one client, with all defaults of samplers, with a schema, at 4 and 8."""
    with own_loop(python, path) as loop:
        async with worker(engine, path) as (channel, pid):

            async def own() -> tuple[float, float]:
                assert loop.stdin is not None
                assert loop.stdout is not None
                loop.stdin.write(f"{TOKENS}\n")
                loop.stdin.flush()
                rate, first = (await asyncio.to_thread(loop.stdout.readline)).split()
                return float(rate), float(first)

            async def ours(asked: bytes = body()) -> tuple[float, float]:
                sample = await ask(channel, asked, stream=True)
                return TOKENS / sample.total_s, sample.first_s

            await own()
            # Each slot makes its room at its first request.
            await clients(channel, body(), count=SLOTS, each=1, stream=True)
            theirs, greedy, default = (Way(psutil.Process(one)) for one in (loop.pid, pid, pid))
            for _ in range(ROUNDS):
                await theirs.measure(own)
                await greedy.measure(ours)
                await default.measure(lambda: ours(body(temperature=0.8)))
            many = []
            for count in (4, 8):
                _, seconds = await clients(channel, body(), count=count, each=2, stream=True)
                many.append(count * 2 * TOKENS / seconds)
            guided = await structured(channel)
    alone = median(theirs.rates)
    return [
        path.name,
        f"{alone:.0f}",
        *(f"{median(way.rates):.0f} ({way.of(theirs):.0%})" for way in (greedy, default)),
        *(f"{rate:.0f}" for rate in many),
        guided,
        f"{theirs.cpu_us:.0f}, {greedy.cpu_us:.0f}, {default.cpu_us:.0f}",
        f"{median(theirs.firsts) * 1e3:.1f}, {median(greedy.firsts) * 1e3:.1f}",
    ]


async def structured(channel: Channel) -> str:
    """Tokens a second of an answer that follows a schema, against the same without."""
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": TOKENS, "maxItems": 2 * TOKENS}

    async def rate(**more: object) -> float:
        response = await channel.request("POST", CHAT, body(stream=False, **more))
        answer = json.loads(await response.read(1 << 24))
        return float(answer["usage"]["completion_tokens"])

    async def timed(**more: object) -> float:
        began = asyncio.get_running_loop().time()
        tokens = await rate(**more)
        return tokens / (asyncio.get_running_loop().time() - began)

    await timed(json_schema=schema)
    pairs = [(await timed(), await timed(json_schema=schema)) for _ in range(ROUNDS)]
    return f"{median([bound / free for free, bound in pairs]):.0%}"


async def main(paths: list[Path]) -> None:
    """Run and print."""
    installs = Installs(Settings.load({}, os.environ).data / "engines")
    install = installs.find("onnx")
    if install is None:
        sys.exit("the engine onnx is not installed: uml engine install onnx")
    engine = Onnx(installs.find)
    rows = [await measure(engine, install.python, path) for path in paths]
    head = (
        *("Model", "own loop", "worker, 1 client", "with samplers", "4 clients", "8 clients", "schema on, of off"),
        *("processor us a token: loop, worker, with samplers", "first token, ms: loop, worker"),
    )
    table(f"ONNX Runtime GenAI {install.version}: tokens a second, {THREADS} threads", head, rows)


if __name__ == "__main__":
    asyncio.run(main([Path(argument).absolute() for argument in sys.argv[1:]]))
