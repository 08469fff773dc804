"""A worker ends with its parent, however that ends, and leaves nobody behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import alive, eventually
from tests.worker.process import LLAMACPP, Worker, plan_for
from uml.core.engine import Engine
from uml.engines.fake import Fake
from uml.engines.llamacpp.engine import LlamaCpp
from uml.engines.llamacpp.order import arguments

PARENT = """
import sys, time
from pathlib import Path
from tests.worker.process import Worker, plan_for
from tests.worker.test_lifeline import ENGINES
name, folder = sys.argv[1:]
engine = ENGINES[name]()
worker = Worker(engine, plan_for(engine=engine.spec.name), Path(folder)).ready()
print(worker.process.pid, flush=True)
time.sleep(600)
"""

SERVER = """#!{python}
import json, os, socket, sys
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer
line = dict(argv=sys.argv[1:], key=os.environ.get("LLAMA_API_KEY"), stray=os.environ.get("LLAMA_ARG_CTX_SIZE"))
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(line).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *rest):
        pass
    def address_string(self):
        return ""
UnixStreamServer(sys.argv[sys.argv.index("--host") + 1], Handler).serve_forever()
"""


ENGINES: dict[str, Callable[[], Engine]] = {
    "fake": Fake,
    **{name: lambda server=server: LlamaCpp(server) for name, server in LLAMACPP.items()},  # type: ignore[misc]
}


OURS = [name for name in ENGINES if name != "external"]
"""Those whose whole process is ours: a program does not look at its standard input."""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]()


@pytest.mark.parametrize("engine", OURS, indirect=True)
def test_the_end_of_standard_input_ends_it(engine: Engine, tmp_path: Path) -> None:
    with Worker(engine, plan_for(engine=engine.spec.name), tmp_path).ready() as worker:
        assert worker.process.stdin
        worker.process.stdin.close()
        assert worker.end() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_killed_parent_leaves_no_orphan(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, request.node.callspec.params["engine"], str(tmp_path)],
        cwd=root,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not alive(child))


def test_a_worker_that_hangs_ends_with_the_pipe(tmp_path: Path) -> None:
    with Worker(Fake(), plan_for(engine="fake", extra_flags=["hang_on_load=1"]), tmp_path) as worker:
        assert worker.process.stdin
        worker.process.stdin.close()
        assert worker.end() == 0


def test_a_program_whose_parent_went_first_is_not_started(tmp_path: Path) -> None:
    order = json.dumps({"argv": ["/bin/touch", str(tmp_path / "started")], "environment": {}})
    for said in (order.encode() + b"\n", b""):
        done = subprocess.run([sys.executable, "-m", "uml.worker", "--exec"], input=said, check=False)
        assert done.returncode == 0
    assert not (tmp_path / "started").exists()


# A program may catch it; in a session of its own, as workers have, no terminal sends it one.
@pytest.mark.parametrize("engine", OURS, indirect=True)
def test_ctrl_c_is_the_parents_business(engine: Engine, tmp_path: Path) -> None:
    with Worker(engine, plan_for(engine=engine.spec.name), tmp_path).ready() as worker:
        worker.process.send_signal(signal.SIGINT)
        assert worker.health() == 200
        worker.process.terminate()
        assert worker.end() in (0, -signal.SIGTERM)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_a_program_gets_its_line_its_key_and_nothing_stray(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(SERVER.format(python=sys.executable))
    program.chmod(0o755)
    engine = LlamaCpp(program)
    with Worker(engine, plan_for(ctx=256, parallel=4), tmp_path, LLAMA_ARG_CTX_SIZE="7").ready() as worker:
        told = worker.request("GET", "/")[1]
        assert told["argv"] == arguments(worker.plan, worker.endpoint)
        assert told["argv"][told["argv"].index("--ctx-size") + 1] == "1024"
        assert (told["key"], told["stray"]) == (worker.endpoint.key, None)
        # The kernel still holds the promise that was made before the exec.
        assert worker.process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_a_program_dies_with_its_parent_too(tmp_path: Path) -> None:
    order = json.dumps({"argv": ["/bin/sleep", "600"], "environment": {}})
    script = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "uml.worker", "--exec"], stdin=subprocess.PIPE)
child.stdin.write({order!r}.encode() + b"\\n"); child.stdin.flush()
print(child.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout
    child = int(parent.stdout.readline())
    eventually(lambda: "sleep" in Path(f"/proc/{child}/cmdline").read_text())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not alive(child))


def test_a_wrong_command_line_says_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-m", "uml.worker"], capture_output=True, check=False)
    assert done.returncode == 2 and b"usage" in done.stderr


def test_a_parent_that_says_nothing_is_gone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uml.worker", "--engine", "fake"], stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0
