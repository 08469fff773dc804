"""A data folder on a disk that is full, or becomes so: a sentence that names the folder, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

INSIDE = "mount -t tmpfs -o size={size}k tmpfs {disk} && cd {disk} && "
FILL = "head -c 4M /dev/zero > fill 2>/dev/null; "


def on_a_small_disk(disk: Path, commands: str, kib: int = 512) -> subprocess.CompletedProcess[str]:
    """Shell commands in a namespace of their own, where `disk` is a file system of so many KiB."""
    disk.mkdir()
    script = INSIDE.format(size=kib, disk=disk) + commands.replace("uml", f"{sys.executable} -m uml")
    line = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=50, check=False, env={**os.environ, "UML_DATA": str(disk / "d")}
    )


@pytest.fixture(autouse=True)
def _namespaces(tmp_path: Path) -> None:
    try:
        made = on_a_small_disk(tmp_path / "probe", "true")
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if made.returncode:
        pytest.skip(f"this machine makes no small file systems: {made.stderr.strip()}")


@pytest.mark.parametrize("before", ["", "uml ls > /dev/null; "])
def test_a_full_disk_is_said_with_its_folder(tmp_path: Path, before: str) -> None:
    disk = tmp_path / "disk"
    said = on_a_small_disk(disk, f"{before}{FILL} uml ls")
    assert said.returncode == 1
    (line,) = said.stderr.splitlines()
    assert str(disk / "d") in line and "make room there, or set UML_DATA to a folder elsewhere" in line, line
