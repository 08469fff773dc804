"""The worker of Transformers, over HTTP, beside what the library does by itself.

python -m benchmarks.transformers_worker [demo] [half] [THREADS]

Needs `uml engine install transformers`, or UML_TEST_TRANSFORMERS_PYTHON with an interpreter that has it. Rows of
`transformers serve` are left out where its own server does not start.
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
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import REPOSITORY, ask, chat, folder, healthy, table
from uml.config import Settings
from uml.core.engine import Endpoint
from uml.core.install import Install
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.engines.transformers.engine import Transformers
from uml.formats import inspect
from uml.hardware import snapshot
from uml.house import Library
from uml.runtime.channel import Channel

DEMO = REPOSITORY / "tools" / "demo_model" / "source"
SCRIPT = Path(__file__).with_name("transformers_library.py")
CLIENTS = (1, 4, 8, 16)
EVERY_SAMPLER = {
    "temperature": 0.8, "top_k": 100, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.95, "tfs": 0.95, "top_a": 0.1,
    "top_n_sigma": 2.0, "epsilon_cutoff": 3.0, "eta_cutoff": 3.0, "xtc_probability": 0.1, "xtc_threshold": 0.1,
    "repetition_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "dry_multiplier": 0.8,
    "smoothing_factor": 0.2, "no_repeat_ngram_size": 4,
}  # fmt: skip
SCHEMA = {"type": "array", "items": {"type": "integer", "maximum": 99}, "minItems": 200}


def python() -> Path:
    """An interpreter that has Transformers."""
    named = os.environ.get("UML_TEST_TRANSFORMERS_PYTHON")
    if named:
        return Path(named)
    found = Library.open(Settings.load({}, os.environ)).installs.find("transformers", "")
    if found is None:
        raise SystemExit("Transformers is not installed: uml engine install transformers")
    return found.python


def library(interpreter: Path, *words: str) -> Any:
    """What the script beside this one prints, as JSON; None where it prints nothing."""
    command = [str(interpreter), str(SCRIPT), *words]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    said = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ).stdout
    return json.loads(said) if said.strip() else None


@contextlib.asynccontextmanager
async def worker(interpreter: Path, model: Path, threads: int) -> AsyncIterator[tuple[Channel, float]]:
    """Our worker: the channel to it, and the seconds until it was ready."""
    install = Install("transformers", "", interpreter.parents[1], interpreter)
    options = LoadOptions(ctx=512, parallel=16, threads=threads, engine="transformers")
    plan = LoadPlan(Model("m", inspect(model)), "transformers", options, Footprint(0, 0, 0), Placement({"cpu": 0}))
    with folder() as scratch:
        endpoint = Endpoint("key", socket=scratch / "w.sock")
        launch = Transformers(lambda name, label: install).launch(plan, endpoint)
        began = time.perf_counter()
        process = subprocess.Popen(
            launch.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **launch.environment},
        )
        assert process.stdin is not None
        process.stdin.write(launch.stdin)
        process.stdin.flush()
        channel = Channel(endpoint)
        try:
            await healthy(channel, launch.health)
            yield channel, time.perf_counter() - began
        finally:
            channel.close()
            process.kill()
            process.wait(10)


@contextlib.asynccontextmanager
async def served(interpreter: Path, model: Path, threads: int) -> AsyncIterator[Channel | None]:
    """`transformers serve --continuous-batching`; None where it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = interpreter.with_name("transformers")
    words = ["serve", str(model), "--continuous-batching", "--port", str(port), "--host", "127.0.0.1"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [str(program), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    channel = Channel(Endpoint("none", host="127.0.0.1", port=port))
    try:
        try:
            await healthy(channel, "/health", 60.0)
        except TimeoutError:
            yield None
            return
        yield channel
    finally:
        channel.close()
        process.kill()
        process.wait(10)


async def together(channel: Channel, count: int, body: bytes, tokens: int, rounds: int = 3) -> float:
    """Tokens per second in all, the best of some rounds."""
    best = 0.0
    for _ in range(rounds):
        began = time.perf_counter()
        await asyncio.gather(*(ask(channel, body, stream=True) for _ in range(count)))
        best = max(best, count * tokens / (time.perf_counter() - began))
    return best


async def measure(interpreter: Path, name: str, model: Path, tokens: int, threads: int) -> None:
    """Print the tables of one model."""
    greedy = chat("m", tokens, stream=True, temperature=0, cache_prompt=False)
    alone = library(interpreter, "generate", str(model), str(tokens), str(threads))
    rows: list[list[str]] = [["`generate` in process", "1", f"{alone['tokens_per_s']:.1f}", "1.00"]]

    def row(what: str, count: int, speed: float) -> None:
        rows.append([what, str(count), f"{speed:.1f}", f"{speed / alone['tokens_per_s']:.2f}"])

    async with worker(interpreter, model, threads) as (channel, ready):
        for count in CLIENTS:
            row("worker", count, await together(channel, count, greedy, tokens))
        variants: Mapping[str, dict[str, Any]] = {
            "default samplers": {"temperature": 0.8, "seed": 1},
            "every sampler": {**EVERY_SAMPLER, "seed": 1},
            "a JSON schema": {"temperature": 0, "json_schema": SCHEMA},
        }
        for what, more in variants.items():
            body = chat("m", tokens, stream=True, cache_prompt=False, **more)
            row(f"worker, {what}", 1, await together(channel, 1, body, tokens))
    again = library(interpreter, "generate", str(model), str(tokens), str(threads))
    row("`generate` in process, again", 1, again["tokens_per_s"])
    async with served(interpreter, model, threads) as other:
        if other is not None:
            body = json.dumps({**json.loads(greedy), "model": str(model)}).encode()
            for count in CLIENTS:
                row("`transformers serve --continuous-batching`", count, await together(other, count, body, tokens))
    name = f"{name}, {threads} {'thread' if threads == 1 else 'threads'}"
    table(f"Transformers, {name}: tokens per second in all", ["what", "clients", "tokens/s", "of generate"], rows)
    table(
        f"Transformers, {name}: seconds until it is ready",
        ["import and load in process", "worker"],
        [[f"{alone['load_s']:.2f}", f"{ready:.2f}"]],
    )


def main() -> None:
    """Every model that was asked for, else all."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    interpreter, threads = python(), numbers[0] if numbers else snapshot().cores
    wanted = [word for word in sys.argv[1:] if not word.isdigit()] or ["demo", "half"]
    if "demo" in wanted:
        asyncio.run(measure(interpreter, "the demo model", DEMO, 100, threads))
    if "half" in wanted:
        with tempfile.TemporaryDirectory() as scratch:
            library(interpreter, "make", scratch, str(DEMO))
            asyncio.run(measure(interpreter, "0.5B shape in bfloat16", Path(scratch), 40, threads))


if __name__ == "__main__":
    main()
