"""`make demo` as on a fresh machine: a clone, an empty pip cache, two cores; to the end of the first answer.

python -m benchmarks.fresh_demo
"""

from __future__ import annotations

import os
import subprocess
import time

from benchmarks.common import REPOSITORY, folder, table

CORES = 2


def main() -> None:
    """Run and print."""
    cores = sorted(os.sched_getaffinity(0))
    with folder() as place:
        clone = place / "clone"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        os.sched_setaffinity(0, cores[:CORES])
        began, answered = time.perf_counter(), 0.0
        with subprocess.Popen(
            ["make", "demo"],
            cwd=clone,
            env={**os.environ, "PIP_CACHE_DIR": str(place / "pip")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as demo:
            assert demo.stdout is not None
            for line in demo.stdout:
                if "tokens/s" in line and not answered:
                    answered = time.perf_counter() - began
        whole = time.perf_counter() - began
        os.sched_setaffinity(0, cores)
    if demo.returncode:
        raise SystemExit(f"make demo failed with {demo.returncode}")
    table(
        f"A fresh clone, {min(CORES, len(cores))} cores",
        ["what", "measured", "goal"],
        [
            ["`make demo` to the end of the first answer", f"{answered:.0f} s", "60 s"],
            ["to its end", f"{whole:.0f} s", ""],
        ],
    )


if __name__ == "__main__":
    main()
