"""The worker of Transformers, over HTTP, beside what the library does by itself.

python -m benchmarks.transformers_worker [demo] [half] [THREADS]

Needs `uml engine install transformers`, or UML_TEST_TRANSFORMERS_PYTHON with an interpreter that has it. Its own server
needs more packages (`pip install transformers[serving]`): UML_BENCH_TRANSFORMERS names the program `transformers` of an
environment that has them; rows of it are left out where it does not start. UML_BENCH_ROUNDS: 3 where it says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import REPOSITORY, ask, chat, healthy, median, started, table
from uml.config import Settings
from uml.core.engine import Endpoint
from uml.core.install import Install
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.engines.transformers.engine import SPIN, Transformers
from uml.formats import inspect
from uml.hardware import snapshot
from uml.house import Library
from uml.runtime.workers.channel import Channel

DEMO = REPOSITORY / "src" / "uml" / "models" / "demo-safetensors"
SCRIPT = Path(__file__).with_name("transformers_library.py")
CLIENTS = (1, 4, 8, 16)
EVERY_SAMPLER = {
    "temperature": 0.8, "top_k": 100, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.95, "tfs": 0.95, "top_a": 0.1,
    "top_n_sigma": 2.0, "epsilon_cutoff": 3.0, "eta_cutoff": 3.0, "xtc_probability": 0.1, "xtc_threshold": 0.1,
    "repetition_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "dry_multiplier": 0.8,
    "smoothing_factor": 0.2, "no_repeat_ngram_size": 4,
}  # fmt: skip
SCHEMA = {"type": "array", "items": {"type": "integer", "maximum": 99}, "minItems": 200}
VARIANTS: Mapping[str, dict[str, Any]] = {
    "default samplers": {"temperature": 0.8, "seed": 1},
    "every sampler": {**EVERY_SAMPLER, "seed": 1},
    "a JSON schema": {"temperature": 0, "json_schema": SCHEMA},
}
SERVE = "`transformers serve --continuous-batching`"
ROUNDS = int(os.environ.get("UML_BENCH_ROUNDS", "3"))


def python() -> Path:
    """An interpreter that has Transformers."""
    named = os.environ.get("UML_TEST_TRANSFORMERS_PYTHON")
    if named:
        return Path(named)
    found = Library.open(Settings.load({}, os.environ)).installs.find("transformers", "")
    if found is None:
        raise SystemExit("Transformers is not installed: uml engine install transformers")
    return found.python


def library(interpreter: Path, *words: str) -> subprocess.Popen[str]:
    """The script beside this one, at work."""
    return subprocess.Popen(
        [str(interpreter), str(SCRIPT), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**SPIN, **os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )


@contextlib.contextmanager
def generating(
    interpreter: Path, model: Path, tokens: int, threads: int
) -> Iterator[tuple[Callable[[], float], float]]:
    """`generate` in a process of its own: tokens per second whenever it is asked, and seconds until it was ready."""
    with library(interpreter, "generate", str(model), str(tokens), str(threads)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def speed() -> float:
            asked.write("\n")
            asked.flush()
            return float(told.readline())

        try:
            yield speed, float(told.readline())
        finally:
            process.kill()


def engine_of(interpreter: Path) -> Transformers:
    """The engine with the library that `interpreter` has."""
    install = Install("transformers", "", interpreter.parents[1], interpreter)
    return Transformers(lambda name, label: install)


def plan_of(model: Path, options: Mapping[str, Any]) -> LoadPlan:
    """On processors; options: as a client gives them."""
    parsed = LoadOptions.parse({**options, "engine": "transformers"})
    return LoadPlan(Model("m", inspect(model)), "transformers", parsed, Footprint(0, 0, 0), Placement({"cpu": 0}))


@contextlib.asynccontextmanager
async def served(interpreter: Path, model: Path, threads: int) -> AsyncIterator[Channel | None]:
    """`transformers serve --continuous-batching`; None where it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = os.environ.get("UML_BENCH_TRANSFORMERS") or str(interpreter.with_name("transformers"))
    # Of its own it takes 60 % of the memory there is.
    words = ["serve", str(model), "--continuous-batching", "--cb-max-memory-percent", "0.1"]
    words += ["--port", str(port), "--host", "127.0.0.1"]
    # Threads that wait spin as ours do, for beside other programs that decides everything.
    environment = {**SPIN, **os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    channel = Channel(Endpoint("none", host="127.0.0.1", port=port))
    try:
        try:
            await healthy(channel, "/health", 120.0, process)
        except (TimeoutError, RuntimeError) as error:
            sys.stderr.write(f"transformers serve: {error}; it needs pip install transformers[serving]\n")
            yield None
            return
        yield channel
    finally:
        channel.close()
        process.kill()
        process.wait(10)


async def together(channel: Channel, count: int, body: bytes, tokens: int) -> float:
    """Tokens per second in all."""
    began = time.perf_counter()
    await asyncio.gather(*(ask(channel, body, stream=True) for _ in range(count)))
    return count * tokens / (time.perf_counter() - began)


async def measure(interpreter: Path, name: str, model: Path, tokens: int, threads: int) -> None:
    """Print the tables of one model: everything in turn, and again, for a machine is slower than it is now and then."""
    options = {"ctx": 512, "parallel": max(CLIENTS), "batch": 512, "threads": threads}
    greedy = chat("m", tokens, stream=True, temperature=0, cache_prompt=False)
    bodies = {
        f"worker, {what}": chat("m", tokens, stream=True, cache_prompt=False, **more) for what, more in VARIANTS.items()
    }
    free = json.dumps({"eos_token_id": None, "do_sample": False})
    known = {key: json.loads(greedy)[key] for key in ("messages", "max_tokens", "temperature", "stream")}
    theirs = json.dumps({**known, "model": str(model), "generation_config": free}).encode()
    speeds: dict[tuple[str, int], list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        alone, load_s = stack.enter_context(generating(interpreter, model, tokens, threads))
        ours = await stack.enter_async_context(started(engine_of(interpreter), plan_of(model, options)))
        other = await stack.enter_async_context(served(interpreter, model, threads))
        await ours.idle()
        for number in range(ROUNDS + 1):
            found = {("`generate` in process", 1): alone()}
            for count in CLIENTS:
                found["worker", count] = await together(ours.channel, count, greedy, tokens)
                if other is not None:
                    found[SERVE, count] = await together(other, count, theirs, tokens)
            for what, body in bodies.items():
                found[what, 1] = await together(ours.channel, 1, body, tokens)
            for key, speed in found.items() if number else ():  # the first round is for getting warm
                speeds.setdefault(key, []).append(speed)
        ready = ours.ready_s
    own = speeds["`generate` in process", 1]

    def shown(what: str, count: int) -> list[str]:
        found = speeds[what, count]
        beside = speeds.get((SERVE, count), ()) if what == "worker" else ()
        return [
            *(what, str(count), f"{median(found):.3g}"),
            *(f"{ratio:.2f}" if ratio else "" for ratio in (ratio_of(found, own), ratio_of(found, beside))),
        ]

    name = f"{name}, {threads} {'thread' if threads == 1 else 'threads'}, {ROUNDS} rounds"
    head = ["what", "clients", "tokens/s", "of generate", "of serve"]
    table(f"Transformers, {name}: tokens per second in all", head, [shown(*key) for key in sorted(speeds)])
    table(
        f"Transformers, {name}: seconds until it is ready",
        ["import and load in process", "worker"],
        [[f"{load_s:.2f}", f"{ready:.2f}"]],
    )


def ratio_of(found: Sequence[float], others: Sequence[float]) -> float:
    """The median of what each round gave, against the same round of others; 0 where there is none."""
    pairs = list(zip(found, others, strict=False))
    return median([one / other for one, other in pairs]) if pairs else 0.0


def main() -> None:
    """Every model that was asked for, else all."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    interpreter, threads = python(), numbers[0] if numbers else snapshot().cores
    wanted = [word for word in sys.argv[1:] if not word.isdigit()] or ["demo", "half"]
    if "demo" in wanted:
        asyncio.run(measure(interpreter, "the demo model", DEMO, 100, threads))
    if "half" in wanted:
        with tempfile.TemporaryDirectory() as scratch:
            library(interpreter, "make", scratch, str(DEMO)).communicate()
            asyncio.run(measure(interpreter, "0.5B shape in bfloat16", Path(scratch), 40, threads))


if __name__ == "__main__":
    main()
