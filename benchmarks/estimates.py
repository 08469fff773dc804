"""How far estimates are from what llama.cpp says it has allocated: `python -m benchmarks.estimates [NAME ...]`.

Random weights of 14 architectures (`benchmarks.architectures`) are loaded by the real engine, told what a worker
of ours is told, at three contexts and three cache types. Compared is the sum of all `buffer size` lines of its log:
weights where they are mapped and where they are copied, cache and states, compute and output buffers.
A further way to estimate is a further entry of METHODS.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.architectures import MODELS, PROJECTORS
from benchmarks.common import folder, table
from benchmarks.sketch import write
from uml.core.engine import Endpoint
from uml.core.model import Model, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan, Placement
from uml.engines.llamacpp import order
from uml.engines.llamacpp.engine import LlamaCpp
from uml.formats import inspect
from uml.planning import estimate
from uml.planning.refine import refine

CONTEXTS = (1024, 4096, 16_384)
CACHE_TYPES = ("f16", "q8_0", "q4_0")
MIB = 1 << 20
BUFFER = re.compile(r" (\S+) +(model|KV|RS|compute|output) buffer size = +([\d.]+) MiB")
PROJECTOR = re.compile(r"(model) size: +([\d.]+) MiB")

CHILD = """
import ctypes, json, os, sys
import xllamacpp
from uml.engines.llamacpp.embedded import build
attributes = json.loads(sys.stdin.read())
server = xllamacpp.Server(build(xllamacpp, attributes))
library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
log, flush = library["_Z15common_log_mainv"], library["_Z16common_log_flushP10common_log"]
log.restype, flush.argtypes, flush.restype = ctypes.c_void_p, [ctypes.c_void_p], None
flush(log())
os._exit(0)
"""
"""Ends without taking the server down. The log is written by a thread of its own: on a busy machine, or while nobody
reads, its end, which tells what was allocated, would be lost without the flush."""


@dataclass(frozen=True, slots=True)
class Case:
    """One load: a file with its header read, and options with nothing left to guess."""

    name: str
    info: ModelInfo
    options: LoadOptions
    companions: Mapping[str, ModelInfo]


def by_arithmetic(case: Case) -> int:
    """From the header alone."""
    found = estimate(case.info, case.options, LlamaCpp().spec, companions=case.companions)
    return sum(buffer.bytes for buffer in found.buffers)


def by_dry_run(case: Case) -> int:
    """By the engine's own allocator, which is asked and allocates nothing."""
    found = estimate(case.info, case.options, LlamaCpp().spec, companions=case.companions)
    model = Model(case.name, case.info)
    plan = LoadPlan(model, "llamacpp", case.options, found, Placement({"cpu": found.total_bytes}))
    ENGINE.foretell(plan)
    refined = refine(found, ENGINE.foretold(model)("llamacpp", case.options))
    if refined.method == found.method:
        raise RuntimeError(f"no dry run of {case.name} was possible, and arithmetic is measured already")
    return sum(buffer.bytes for buffer in refined.buffers)


ENGINE = LlamaCpp()
METHODS: dict[str, Callable[[Case], int]] = {"arithmetic": by_arithmetic, "dry run": by_dry_run}
"""Name of a column -> bytes of all buffers, told without loading."""


def allocated(case: Case, scratch: Path) -> tuple[int, dict[str, float]]:
    """Bytes in all, and MiB by part, that the engine says it has allocated."""
    info, options = case.info, case.options
    footprint = estimate(info, options, LlamaCpp().spec, companions=case.companions)
    plan = LoadPlan(Model(case.name, info), "llamacpp", options, footprint, Placement({"cpu": footprint.total_bytes}))
    attributes = order.attributes(plan, Endpoint("none", socket=scratch / "s.sock"))
    # Level 4 tells of buffers; an empty run would only cost time, but a projector makes its buffer in it.
    attributes |= {"verbosity": 4, "warmup": bool(options.mmproj)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(attributes), capture_output=True, text=True, errors="replace"
    )
    (scratch / "s.sock").unlink(missing_ok=True)
    parts: dict[str, float] = {}
    log = done.stdout + done.stderr
    told = [found[1:] for found in BUFFER.findall(log)] + (PROJECTOR.findall(log) if options.mmproj else [])
    for part, size in told:
        parts[part] = parts.get(part, 0.0) + float(size)
    if done.returncode or "compute" not in parts:
        reason = f"it ended with {done.returncode}" if done.returncode else "its log tells of no compute buffer"
        raise RuntimeError(f"{case.name} did not load: {reason}: {log[-1500:]}")
    return int(sum(parts.values()) * MIB), parts


def cases(name: str, path: Path, projector: Path | None = None) -> list[Case]:
    """Every context with every cache type; an encoder has no cache, and reads its text in one batch."""
    info = inspect(path)
    base = LoadOptions(
        parallel=1, batch=512, ubatch=512, device="cpu", gpu_layers=0, threads=2, threads_batch=2, cache_ram_mib=0
    )
    known = {str(projector): inspect(projector)} if projector else {}
    base = replace(base, mmproj=str(projector or ""))
    found = []
    for ctx in CONTEXTS:
        for kind in CACHE_TYPES:
            options = replace(base, ctx=ctx, cache_type_k=kind, cache_type_v=kind)
            if info.role is Role.EMBEDDING:
                whole = min(ctx, info.context_length or ctx)
                options = replace(options, ctx=whole, batch=whole, ubatch=whole, embeddings=True)
            found.append(Case(name, info, options, known))
    return found


def main(names: list[str]) -> None:
    """Load everything, print the table."""
    errors: dict[str, dict[str, list[tuple[float, float]]]] = {method: {} for method in METHODS}
    times: list[float] = []
    with folder() as scratch:
        for name in names or list(MODELS):
            path = write(MODELS[name](), scratch / f"{name}.gguf")
            projector = write(PROJECTORS[name](), scratch / "mmproj.gguf") if name in PROJECTORS else None
            began = time.perf_counter()
            inspect(path)
            header_s = time.perf_counter() - began
            for case in cases(name, path, projector):
                real, parts = allocated(case, scratch)
                for method, ask in METHODS.items():
                    began = time.perf_counter()
                    told = ask(case)
                    if method == "arithmetic":
                        times.append(header_s + time.perf_counter() - began)
                    errors[method].setdefault(name, []).append(((told - real) / real, (told - real) / MIB))
                    if "-v" in sys.argv:
                        print(name, case.options.ctx, case.options.cache_type_k, parts, f"{told / MIB:.2f}", flush=True)
            path.unlink()
    head = ["model", *(f"{method}: {what}" for method in METHODS for what in ("mean", "worst", "MiB", "lowest"))]
    rows = [[name, *_row(name, errors)] for name in errors["arithmetic"]]
    every = {method: {"all": [error for one in found.values() for error in one]} for method, found in errors.items()}
    rows.append(["all", *_row("all", every)])
    table("Estimates against what llama.cpp reports", head, rows)
    print(f"header and arithmetic: {statistics.median(times) * 1e3:.1f} ms, at most {max(times) * 1e3:.1f} ms\n")


def _row(name: str, errors: Mapping[str, Mapping[str, list[tuple[float, float]]]]) -> list[str]:
    cells = []
    for found in errors.values():
        shares = [share for share, _ in found[name]]
        worst = max(found[name], key=lambda error: abs(error[0]))
        cells += [f"{statistics.mean(map(abs, shares)):.2%}", f"{worst[0]:+.2%}", f"{worst[1]:+.2f}"]
        cells.append(f"{min(shares):+.2%}")
    return cells


if __name__ == "__main__":
    main([name for name in sys.argv[1:] if not name.startswith("-")])
