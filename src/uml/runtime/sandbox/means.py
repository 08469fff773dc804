"""What this system offers to keep a worker in: tried once, in a child, for a version number promises too much."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LAUNCHER: Final = Path(__file__).with_name("launcher.py")
PROBE_LIMIT_S: Final = 20.0
TCP_ABI: Final = 4
SCOPES_ABI: Final = 6


@dataclass(frozen=True, slots=True)
class Means:
    """What can be used here.

    landlock: its generation (ABI), 0 for none: files; from 4 TCP too, from 6 signals to others as well.
    seccomp: no sockets but Unix ones. namespace: a network of one's own. bubblewrap: the program, or None.
    reasons: why not, where the kernel gave one.
    """

    landlock: int = 0
    seccomp: bool = False
    namespace: bool = False
    bubblewrap: Path | None = None
    reasons: tuple[str, ...] = ()

    @property
    def files(self) -> bool:
        """Whether a worker can be kept from files that are not its own."""
        return self.landlock > 0 or self.bubblewrap is not None

    @property
    def network(self) -> bool:
        """Whether a worker can be kept from the network."""
        return self.seccomp or self.namespace or self.bubblewrap is not None

    @property
    def missing(self) -> tuple[str, ...]:
        """What a whole sandbox would need, each with the reason and what helps; empty where there is one."""
        needs = []
        if not self.files:
            why = _because(reason for reason in self.reasons if not reason.startswith(("seccomp", "network")))
            needs.append(f"a fence around files: Landlock of Linux 5.13 or later, or bubblewrap installed{why}")
        if not self.network:
            why = _because(reason for reason in self.reasons if not reason.startswith("Landlock"))
            needs.append(f"a fence around the network: seccomp, user namespaces, or bubblewrap installed{why}")
        return tuple(needs)

    @property
    def weaker(self) -> tuple[str, ...]:
        """What a newer or more generous kernel would add to a sandbox that is whole without it."""
        words = []
        if 0 < self.landlock < SCOPES_ABI:
            words.append(
                f"Landlock {self.landlock} does not keep workers from sending signals; that of Linux 6.12 does"
            )
        if not self.landlock and self.bubblewrap:
            words.append("without Landlock workers can read, though not change, every file that their user can")
        if not self.seccomp and self.network:
            words.append("without seccomp workers can connect to Unix sockets of other programs")
        return tuple(words)

    @property
    def used(self) -> tuple[str, ...]:
        """What is put around a worker, in words."""
        words = []
        if self.landlock:
            more = [", TCP" if self.landlock >= TCP_ABI else "", ", signals" if self.landlock >= SCOPES_ABI else ""]
            words.append(f"Landlock {self.landlock} (files{''.join(more)})")
        elif self.bubblewrap:
            words.append(f"bubblewrap (files, network; {self.bubblewrap})")
        if self.seccomp:
            words.append("seccomp (no sockets but its own)")
        elif self.namespace and not (self.bubblewrap and not self.landlock):
            words.append("a network namespace")
        return tuple(words)


def _because(reasons: Iterable[str]) -> str:
    return f" ({said})" if (said := "; ".join(reasons)) else ""


def means() -> Means:
    """Try everything; takes as long as a start of the interpreter. Nothing is offered where this is not Linux."""
    if sys.platform != "linux":
        return Means(reasons=(f"there is none for {sys.platform} yet",))
    found = _probe()
    program = shutil.which("bwrap")
    return Means(
        landlock=found.get("landlock", 0),
        seccomp=found.get("seccomp", False),
        namespace=found.get("namespace", False),
        bubblewrap=Path(program) if program and _bubblewrap_works(program) else None,
        reasons=tuple(found.get("reasons", ())),
    )


def _probe() -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", LAUNCHER, "--probe"],
            capture_output=True,
            timeout=PROBE_LIMIT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return {"reasons": [f"the probe failed: {error}"]}
    return found


def _bubblewrap_works(program: str) -> bool:
    """Whether it may make its namespaces here; a system can have it and forbid them."""
    argv = [program, "--unshare-net", "--ro-bind", "/", "/", "true"]
    try:
        return subprocess.run(argv, capture_output=True, timeout=PROBE_LIMIT_S, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
