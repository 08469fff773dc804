"""How long things take to be there, and what they hold meanwhile.

python -m benchmarks.startup
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.common import median, server, table
from uml.client import Client

ROUNDS = 9

BY_HAND = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_parallel, params.verbosity = 4096, 4, 0
params.cpuparams.n_threads = 2
server = xllamacpp.Server(params)
print("ready", flush=True)
sys.stdin.read()
os._exit(0)  # its destructor may wait for ever
"""


def seconds(*command: str) -> float:
    """A whole process, from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def by_hand(model: str) -> float:
    """The engine in a bare Python process, until it serves."""
    began = time.perf_counter()
    pipe, command = subprocess.PIPE, [sys.executable, "-c", BY_HAND, model]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as p:
        assert p.stdout is not None
        p.stdout.readline()
        return time.perf_counter() - began


def main() -> None:
    """Run and print."""
    bare, version = [], []
    for _ in range(ROUNDS):
        bare.append(seconds(sys.executable, "-c", "pass") * 1000)
        version.append(seconds(str(sys.executable).replace("python", "uml"), "version") * 1000)
    ready, memory, hand, loaded = [], [], [], []
    for _ in range(ROUNDS):
        with server({"ctx": 1024, "parallel": 4, "threads": 2}) as gateway:
            ready.append(gateway.ready_s)
            memory.append(gateway.memory_mib)
            client = Client(f"http://127.0.0.1:{gateway.endpoint.port}")
            path = str(client.model("demo")["path"])
            hand.append(by_hand(path) * 1000)
            began = time.perf_counter()
            list(client.load("demo"))
            loaded.append((time.perf_counter() - began) * 1000)
    table(
        "Start",
        ["what", "measured", "against", "difference", "goal"],
        [
            ["`uml version`", f"{median(version):.0f} ms", f"python -c pass: {median(bare):.0f} ms",
             f"+{median(version) - median(bare):.0f} ms", "+80 ms"],
            ["`uml serve` to ready, no model", f"{median(ready):.2f} s", "", "", "1.0 s"],
            ["memory of the gateway, no model", f"{median(memory):.0f} MiB", "", "", "90 MB"],
            ["load of the demo model", f"{median(loaded):.0f} ms", f"engine by hand: {median(hand):.0f} ms",
             f"+{median(loaded) - median(hand):.0f} ms", "+200 ms"],
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
