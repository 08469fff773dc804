"""What loads take: their peak over what stays, and how far estimates were off before and after they were measured.

python -m benchmarks.measured
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import architectures
from benchmarks.common import folder, server, table
from benchmarks.shapes import write_half_b
from benchmarks.sketch import write
from uml.client import Client

OPTIONS: Mapping[str, Any] = {"ctx": 2048, "parallel": 2}
OTHER_CTX = 1024
WORDS = ("zebra", "lantern", "cloud", "river", "stone", "apple", "window", "garden")
PROMPT_TOKENS = 800
"""More than a batch: compute buffers are resident once they were read."""
WEIGHED_S = 10.0
ALIKE = 8
MIB = 1 << 20


def models(place: Path) -> dict[str, Path | None]:
    """Name -> file; None for the demo model."""
    sketches = {
        "llama Q4_0 (re-ordered copies)": "llama",
        "gemma3 Q4_0 (sliding window)": "gemma3",
        "mixtral Q4_0": "mixtral",
    }
    files: dict[str, Path | None] = {"demo": None, "qwen2 0.5B Q8_0": write_half_b(place / "half.gguf")}
    for name, architecture in sketches.items():
        make = getattr(architectures, architecture)
        files[name] = write(make(), place / f"{architecture}.gguf")
    return files


def loaded(client: Client, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a model that was loaded and weighed."""
    for event in client.load(model, options):
        if event["event"] == "error":
            raise RuntimeError(event)
    until = time.monotonic() + WEIGHED_S
    while time.monotonic() < until:
        worker = next(one for one in client.status()["workers"] if one["model"] == model)
        if worker["measured_bytes"]:
            return dict(worker)
        time.sleep(0.02)
    raise TimeoutError(f"{model} was not weighed")


def used(client: Client, model: str, talk: int = 0) -> dict[str, Any]:
    """The status of a model after two long prompts, the same for the same `talk`."""
    words = " ".join((*WORDS[talk:], *WORDS[:talk], ""))
    prompt = words * (PROMPT_TOKENS // len(client.tokenize(model, words)))
    for _ in range(2):
        list(client.complete(model, prompt, max_tokens=4, ignore_eos=True))
    time.sleep(1.2)  # resident memory is looked at once a second
    return dict(next(one for one in client.status()["workers"] if one["model"] == model))


def rows(client: Client, name: str, path: Path | None) -> tuple[list[str], list[str]]:
    """A row of either of the first two tables: loads are used alike, and none has an earlier one's conversations."""
    model = client.add(path)["id"] if path else "demo"
    other = {**OPTIONS, "ctx": OTHER_CTX}
    first = loaded(client, model, OPTIONS)
    ready, in_use = first["memory_bytes"], used(client, model)["memory_bytes"]
    corrected = client.estimate(model, other)
    client.unload(model)
    said = client.estimate(model, OPTIONS)
    loaded(client, model, OPTIONS)
    second = used(client, model)
    client.unload(model)
    loaded(client, model, other)
    smaller = used(client, model)
    client.unload(model)
    peak = [name, mib(first["peak_bytes"]), mib(ready), mib(in_use), f"{first['peak_bytes'] / ready - 1:+.1%}", "+10 %"]
    errors = [
        name,
        f"{first['method']}: {off(first['estimated_bytes'], second['measured_bytes'])}",
        f"{said['method']}: {off(said['total']['likely'], second['measured_bytes'])}",
        f"{corrected['method']}: {off(corrected['total']['likely'], smaller['measured_bytes'])}",
    ]
    return peak, errors


def talks(client: Client, name: str, path: Path | None) -> list[str]:
    """A row of the third table: loads that get the conversations of earlier ones back."""
    model = client.add(path)["id"] if path else "demo"
    row = [name]
    loaded(client, model, OPTIONS)
    used(client, model)
    client.unload(model)
    for talk in (0, 1):
        said = client.estimate(model, OPTIONS)["total"]
        loaded(client, model, OPTIONS)
        took = used(client, model, talk)["measured_bytes"]
        client.unload(model)
        within = "in" if said["low"] <= took <= said["high"] else "out of"
        row.append(f"{off(said['likely'], took)}, {within} its range")
    return row


def mib(count: int) -> str:
    """Bytes for people."""
    return f"{count / MIB:.1f} MiB"


def off(predicted: int, measured: int) -> str:
    """How far an estimate lies from the truth."""
    return f"{predicted / measured - 1:+.2%} ({(predicted - measured) / MIB:+.1f} MiB)"


def alike(client: Client, model: str) -> list[int]:
    """What identical loads of one model took, one after another: what no estimate can know."""
    found = []
    for _ in range(ALIKE):
        loaded(client, model, OPTIONS)
        found.append(used(client, model)["measured_bytes"])
        client.unload(model)
    return found


def main() -> None:
    """Run and print."""
    with folder() as place:
        files = models(place)
        with server(settings={"session_disk": 0}) as gateway:
            client = Client(f"http://127.0.0.1:{gateway.endpoint.port}", timeout_s=120.0)
            found = [rows(client, name, path) for name, path in files.items()]
            same = alike(client, "demo")
        with server() as gateway:
            client = Client(f"http://127.0.0.1:{gateway.endpoint.port}", timeout_s=120.0)
            kept = [talks(client, name, path) for name, path in files.items()]
    table(
        "Highest memory while loading, over what stays (llama.cpp, mmap)",
        ["model", "highest while loading", "when ready", "after two long prompts", "over what stays", "goal"],
        [peak for peak, _ in found],
    )
    table(
        f"Estimates, ctx {OPTIONS['ctx']}, against the measured load",
        ["model", "before any load", "of a second load", f"of ctx {OTHER_CTX}"],
        [errors for _, errors in found],
    )
    table(
        "Estimates of loads that get conversations back",
        ["model", "and go on with theirs", "and then have another"],
        kept,
    )
    sys.stdout.write(f"\n{ALIKE} identical loads of demo took {mib(min(same))} to {mib(max(same))}\n")


if __name__ == "__main__":
    main()
