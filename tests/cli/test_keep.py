"""`uml pin`, `unpin` and `--keep-alive` towards a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.gateway.server import running
from tests.waiting import eventually


def test_pin_keep_and_let_go(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:

        def uml(*arguments: str) -> str:
            # A server of the same data folder is found without being named.
            environment = {**os.environ, "UML_DATA": str(server.data), "UML_CONFIG": "", "HOME": str(tmp_path)}
            done = subprocess.run(
                [sys.executable, "-m", "uml", *arguments], env=environment, capture_output=True, text=True, check=True
            )
            return done.stdout

        assert "demo is pinned" in uml("pin", "demo", "--engine", "fake")
        assert "ready, pinned" in uml("ps")
        assert json.loads(uml("unpin", "demo", "--json")) == {"model": "demo", "was_kept": True}
        assert "demo was not to be kept" in uml("unpin", "demo")
        os.kill(server.worker("demo")["pid"], signal.SIGKILL)
        eventually(lambda: server.worker("demo")["state"] == "failed")
        shown = uml("ps")
        assert "WHAT WENT WRONG" in shown
        assert "killed by SIGKILL" in shown
        assert "with the next request" in shown
        uml("load", "demo", "--engine", "fake", "--keep-alive", "1s")
        eventually(lambda: not server.worker("demo"))
