"""Workers that outlived their server: written down at their start, swept at the next server's.

A worker ends by itself when its server does (its standard input closes, and the kernel sends it a
signal); this is for one that was too busy, or too broken, to notice.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from uml.runtime.workers.limits import Group


@dataclass(frozen=True, slots=True)
class Record:
    """One worker in the runtime folder. A process is its number and its `birth`: numbers come round again.

    group: the path of its control group, where it has one.
    """

    pid: int
    birth: str
    server_pid: int
    server_birth: str
    model: str
    group: str = ""

    def write(self, path: Path) -> None:
        """Write it down. Raises OSError."""
        path.write_text(json.dumps(asdict(self)), "utf-8")


def birth(pid: int) -> str:
    """When a process began, exact enough to tell it from a later one of the same number; empty: no such process."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        # Field 22 (proc_pid_stat(5)), counted from behind the name, which may hold anything.
        fields = stat.read_bytes().rpartition(b")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "" if stat.parents[1].joinpath("self").exists() else _birth_elsewhere(pid)
    # A zombie is dead already; it waits for its parent only.
    return "" if fields[0] in (b"Z", b"X") else f"{boot}:{int(fields[19])}"


def _birth_elsewhere(pid: int) -> str:
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""


def sweep(folder: Path) -> tuple[str, ...]:
    """End the workers whose server is gone, and remove what they left. Returns the models they had.

    Only what a record of ours names is ended, and only while number and birth both agree.
    """
    swept = []
    for path in sorted(folder.glob("*.worker")):
        try:
            record = Record(**json.loads(path.read_bytes()))
            alive = bool(record.server_birth) and birth(record.server_pid) == record.server_birth
        except (OSError, ValueError, TypeError):
            # A server that was killed while it wrote: the name still tells whose it was.
            record, alive = None, _named_server_lives(path)
        if alive:
            continue
        if record is not None and _end(record):
            swept.append(record.model)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        with suppress(OSError):
            path.unlink()
    for path in folder.iterdir():
        # A worker is written down before it can listen, and its folder is made just before: one without a record is
        # left over unless its server lives. The number in the name of a socket tells nothing: in a container every
        # server may have the same one.
        if path.with_suffix(".worker").exists():
            continue
        if path.suffix == ".sock":
            with suppress(OSError):
                path.unlink()
        elif path.is_dir() and path.name.replace("-", "").isdigit() and not _named_server_lives(path):
            shutil.rmtree(path, ignore_errors=True)
    return tuple(swept)


def _named_server_lives(path: Path) -> bool:
    number = path.name.partition("-")[0]
    return number.isdigit() and int(number) != os.getpid() and birth(int(number)) != ""


def _end(record: Record) -> bool:
    """End what is left of a worker: its process, its process group, its control group. Whether there was anything."""
    found = False
    alive = birth(record.pid)
    if record.birth and alive == record.birth:
        found = True
        with suppress(ProcessLookupError, PermissionError):
            # A worker leads a group of its own; should it not, only itself is meant.
            if os.getpgid(record.pid) == record.pid:
                os.killpg(record.pid, signal.SIGKILL)
            else:
                os.kill(record.pid, signal.SIGKILL)
    elif record.birth and not alive and _same_boot(record):
        # Its children may have stayed. The number of a group is not given out again while one of it lives.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(record.pid, signal.SIGKILL)
            found = True
    if record.group:
        Group(Path(record.group)).remove()
    return found


def _same_boot(record: Record) -> bool:
    """Whether the machine has not started anew since: only then do its numbers mean anything."""
    return record.birth.partition(":")[0] == birth(os.getpid()).partition(":")[0]
