"""Runs every benchmark, one after the other: the tables of docs/performance.md.

python -m benchmarks
"""

from __future__ import annotations

import subprocess
import sys

SCRIPTS = (
    *("gateway", "busy", "gateway_parts", "real_shape", "startup", "sessions", "measured", "formats", "fresh_demo"),
    *("sampling", "guessing"),
)


def main() -> int:
    """Run them all; 1 when one failed."""
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in SCRIPTS]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
