"""What loads of libraries take, against what was told of them: at the start, and with every slot full.

python -m benchmarks.libraries FOLDER [FOLDER ...] [-- NAME=VALUE ...]

FOLDERs are of safetensors, or of ONNX Runtime GenAI as `uml convert --to onnx` makes them; the install in use runs
them. What follows `--` are load options of all of them (`dtype=float32`, `quantize=bnb-nf4`). Every request slot gets a
prompt that fills its context, all at once and twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.common import folder, healthy, table
from uml.config import Settings
from uml.core.engine import Endpoint
from uml.core.model import ModelInfo
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.formats import inspect
from uml.hardware import snapshot
from uml.house import Library
from uml.runtime.taken import Look, file_bytes, look
from uml.runtime.workers.channel import Channel

SHAPES = ((512, 1), (2048, 1), (2048, 4))
"""Contexts, with how many of them; those that a model was trained for are measured."""
MIB = 1 << 20
WARM_S = 1.0
IDLE_S = 0.05
"""Of a processor in a second: less is idle."""
STILL = 3
"""Seconds of that."""


@dataclass(frozen=True, slots=True)
class Load:
    """One load: the plan, and the process when it was ready and when every slot was full.

    spare: bytes of it that are pages of the model's files which are not read again, and are the system's to take.
    """

    plan: LoadPlan
    ready: Look
    used: Look
    spare: int


async def load(library: Library, path: Path, asked: dict[str, Any]) -> Load:
    """Load as the server does, and fill every slot."""
    plan = library.decide(library.look(str(path)), LoadOptions.parse(asked), snapshot())
    options = plan.options
    with folder() as place:
        endpoint = Endpoint(secrets.token_urlsafe(), socket=place / "w.sock")
        launch = library.engines[plan.engine].launch(plan, endpoint)
        environment = {**os.environ, **launch.environment}
        with subprocess.Popen(launch.argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as worker:
            assert worker.stdin is not None
            worker.stdin.write(launch.stdin)
            worker.stdin.flush()
            channel = Channel(endpoint)
            try:
                await healthy(channel, launch.health)
                await quiet(worker.pid)
                ready = look(worker.pid)
                for turn in range(2):
                    seeds = range(turn * 100, turn * 100 + options.parallel)
                    prompts = [_tokens(plan.model.info, options.ctx - 8, seed) for seed in seeds]
                    await asyncio.gather(*(_read(channel, prompt) for prompt in prompts))
                await quiet(worker.pid)
                used = look(worker.pid)
                pages = file_bytes(worker.pid, plan.model.info.files)
            finally:
                channel.close()
                worker.kill()
    assert ready is not None
    assert used is not None
    return Load(plan, ready, used, max(0, pages - plan.footprint.mapped_bytes))


async def quiet(pid: int, limit_s: float = 120.0) -> None:
    """Wait until a worker does nothing: an empty run, and weights that are packed anew, come after it is ready."""
    process, until = psutil.Process(pid), time.monotonic() + limit_s
    before, still = -1.0, 0
    # On a busy machine what has a low priority waits for seconds.
    while still < STILL and time.monotonic() < until:
        times = process.cpu_times()
        now = times.user + times.system
        still = still + 1 if now - before < IDLE_S * WARM_S else 0
        before = now
        await asyncio.sleep(WARM_S)


async def _read(channel: Channel, prompt: list[int]) -> None:
    body = {"prompt": prompt, "max_tokens": 4, "ignore_eos": True, "cache_prompt": False, "temperature": 0}
    response = await channel.request("POST", "/v1/completions", orjson.dumps(body))
    data = await response.read(1 << 20)
    if response.status != 200:
        raise RuntimeError(data.decode(errors="replace"))


def _tokens(info: ModelInfo, count: int, seed: int) -> list[int]:
    """From all over the vocabulary: tables that are mapped are in memory as far as they are read."""
    draw, size = random.Random(seed), info.shape.vocabulary if info.shape else 1000
    return [draw.randrange(3, size) for _ in range(count)]


def row(path: Path, found: Load) -> list[str]:
    """One load for the table."""
    plan, told = found.plan, found.plan.footprint
    options, real = plan.options, found.used.resident_bytes - found.spare
    kind = options.quantize if options.quantize not in ("", "none") else options.dtype
    over = found.ready.peak_bytes / found.ready.resident_bytes - 1
    return [
        f"{path.name} {'' if kind == 'auto' else kind}".strip(),
        f"{options.ctx} x {options.parallel}",
        _mib(told.total_bytes),
        _mib(real),
        f"{told.total_bytes / real - 1:+.1%} ({(told.total_bytes - real) / MIB:+.0f})",
        f"{_mib(told.low_bytes)} to {_mib(told.high_bytes)}",
        _mib(found.ready.resident_bytes),
        f"{over:+.1%}",
        f"{found.used.peak_bytes / found.used.resident_bytes - 1:+.1%}",
    ]


def _mib(count: int) -> str:
    return f"{count / MIB:.0f}"


async def main(paths: list[Path], options: dict[str, Any]) -> None:
    """Load everything, print the table."""
    own = Settings.load({}, os.environ).data
    rows = []
    with folder() as data:
        (data / "engines").symlink_to(own / "engines")
        library = Library.open(Settings.load({"data": str(data)}, os.environ))
        for path in paths:
            trained = inspect(path).context_length or 0
            for ctx, parallel in (shape for shape in SHAPES if shape[0] <= trained):
                asked = {"threads": 2, **options, "ctx": ctx, "parallel": parallel}
                found = await load(library, path, asked)
                if "-v" in sys.argv:
                    parts = {name: size // MIB for name, size in found.plan.footprint.parts.items()}
                    print(path.name, ctx, parallel, parts, found.ready, found.used, found.spare, flush=True)
                rows.append(row(path, found))
    head = ["model", "context", "told", "taken", "off", "range", "when ready", "peak of the load", "peak in use"]
    table("Estimates against memory of the process, MiB", head, rows)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "-v"]
    split = words.index("--") if "--" in words else len(words)
    named = dict(word.split("=", 1) for word in words[split + 1 :])
    asyncio.run(main([Path(word).absolute() for word in words[:split]], named))
