"""Joins the coverage of all test processes and holds it against the floors."""

from __future__ import annotations

import subprocess
import sys

# Branch coverage in percent that a part must have, by the files that it covers.
FLOORS = {
    "src/uml/core/*": 95,
    "src/uml/formats/*": 95,
    "src/uml/planning/*": 95,
    "src/uml/runtime/scheduling/*": 95,
    "src/uml/*": 85,
}


def main() -> int:
    """Print the report and return 1 when a part lies below its floor."""
    command = [sys.executable, "-m", "coverage"]
    # What the tests' own process joined is kept, even where a killed process left half a file.
    subprocess.run([*command, "combine", "--append", "--quiet"], check=False)
    subprocess.run([*command, "report", "--skip-covered"], check=True)
    failed = 0
    for part, floor in FLOORS.items():
        report = [*command, "report", f"--include={part}", "--format=total", "--precision=1"]
        total = float(subprocess.run(report, check=True, capture_output=True, text=True).stdout)
        verdict = "ok" if total >= floor else "TOO LOW"
        print(f"{part:34} {total:5.1f} %  (at least {floor} %)  {verdict}")
        failed |= total < floor
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
