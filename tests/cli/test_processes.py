"""The whole program: real server, real worker, the demo model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.conftest import Uml
from tests.cli.terminal import terminal
from tests.waiting import PATIENCE_S, eventually
from uml.cli.own_server import own_server
from uml.core.errors import UmlError
from uml.registry import packaged_model

DEMO = packaged_model()
UML = [sys.executable, "-m", "uml"]


def uml_process(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*UML, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, **environment},
    )


def servers(data: Path) -> list[psutil.Process]:
    """Processes that serve this data folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "serve" in line and str(data) in line:
            found.append(process)
    return found


@contextmanager
def serving(data: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    server = subprocess.Popen(
        [*UML, "serve", "--json", "--port", "0", "--data", str(data), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
        assert server.stdout is not None
        server.stdout.close()


def test_run_brings_its_own_server_and_takes_it_away(uml: Uml, tmp_path: Path) -> None:
    model = tmp_path / "never seen.gguf"
    model.write_bytes(DEMO.read_bytes())
    question = "What is the capital of Japan?"
    done = uml_process("run", str(model), question, "--temperature", "0", "--ctx", "512", "--threads", "1", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "The capital of Japan is Tokyo.\n" and "tokens/s" in done.stderr
    assert not servers(uml.data) and not (uml.data / "server.json").exists()


def test_a_model_that_cannot_be_read_is_told_by_its_own_error(uml: Uml, tmp_path: Path) -> None:
    broken = tmp_path / "cut.gguf"
    broken.write_bytes(DEMO.read_bytes()[:1000])
    done = uml_process("run", str(broken), "hi")
    assert done.returncode == 6 and str(broken) in done.stderr and done.stdout == ""
    assert uml_process("run", "nobody", "hi").returncode == 4
    assert not servers(uml.data)


def test_a_server_that_cannot_start_says_why(uml: Uml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UmlError, match="cannot write to"), own_server(file / "data"):
        raise AssertionError("it should not start")
    monkeypatch.setenv("UML_LOG_LEVEL", "shout")
    with pytest.raises(UmlError, match="UML_LOG_LEVEL"), own_server(tmp_path / "data"):
        raise AssertionError("it should not start")


def test_the_own_server_goes_when_its_program_is_killed(uml: Uml) -> None:
    with terminal("run", "demo", "-o", "engine=fake") as user:
        user.expect(">>> ")
        (server,) = servers(uml.data)
        family = [server, *server.children(recursive=True)]
        assert len(family) > 1
        user.process.send_signal(signal.SIGKILL)
        eventually(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family))


def test_ctrl_c_stops_an_answer_of_the_own_server(uml: Uml) -> None:
    with terminal(
        "run", "demo", "-o", "engine=fake", "-o", "extra_flags=tokens_per_s=20", "--max-tokens", "500"
    ) as user:
        user.expect(">>> ")
        user.enter("one two three")
        user.expect("three 1")
        user.interrupt()
        user.expect("(stopped)")
        user.expect(">>> ")
        user.enter("four")
        user.expect("four 1")
        user.interrupt()
        user.expect("(stopped)")
        user.expect(">>> ")
        user.type("\x04")
        assert user.leave() == 0
    eventually(lambda: not servers(uml.data))


def test_a_server_whose_parent_never_asks_after_it_is_stopped_at_once(uml: Uml) -> None:
    with serving(uml.data) as server:
        stopped = uml_process("stop")
        assert stopped.stdout == f"stopped the server at {server['url']}\n", stopped.stderr


def test_a_server_from_start_to_stop(uml: Uml) -> None:
    with serving(uml.data, "--threads", "1") as server:
        said = uml("load", "demo", "--ctx", "512")
        assert said.code == 0 and said.out.startswith("demo is ready (llamacpp, context 512"), said.err
        row = uml("ps").out.splitlines()[1].split()
        assert row[:3] == ["demo", "llamacpp", "ready"]
        assert "ready" in uml("ls").out
        assert uml("doctor", "--json").json["ok"]
        assert uml("estimate", "demo", "--ctx", "512").code == 0
        assert uml("inspect", "demo").out.startswith("name")
        assert isinstance(uml("logs", "demo", "--json").json["logs"]["demo"], list)
        done = uml_process("run", "demo", stdin="What is 7 + 8?")
        assert done.stdout == "7 + 8 = 15\n" and done.returncode == 0, done.stderr
        again = uml_process("serve", "--port", "0", "--data", str(uml.data))
        assert again.returncode == 1 and "already runs" in again.stderr
        assert uml("unload", "demo").out == "unloaded: demo\n"
        assert uml("stop").out == f"stopped the server at {server['url']}\n"
        assert uml("stop").code == 3


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_load_is_cancelled_by_ctrl_c(uml: Uml, form: tuple[str, ...]) -> None:
    with serving(uml.data):
        options = ["-o", "engine=fake", "-o", "extra_flags=load_s=30", *form]
        with terminal("load", "demo", "--data", str(uml.data), *options) as user:
            eventually(lambda: bool(uml("ps", "--json").json["workers"]))
            user.interrupt()
            user.expect("cancelled")
            assert user.leave() == 130
        eventually(lambda: not uml("ps", "--json").json["workers"])


def test_a_load_that_runs_out_of_memory_is_code_5(uml: Uml) -> None:
    with serving(uml.data, "-o", "engine=fake"):
        said = uml("load", "demo", "-o", "extra_flags=oom_on_load=1")
        assert said.code == 5 and "out of memory" in said.err
        assert uml_process("run", "demo", "hi", "-o", "extra_flags=oom_on_load=1").returncode == 5


def test_a_key_keeps_others_out(uml: Uml) -> None:
    with serving(uml.data, "--api-key", "sesame") as server:
        assert uml("ps").code == 0  # the key is in the data folder, which is ours
        assert uml("ps", "--server", server["url"]).code == 1
        assert uml("ps", "--server", server["url"], "--api-key", "sesame").code == 0


def test_a_port_that_is_taken_is_a_sentence(uml: Uml, tmp_path: Path) -> None:
    with serving(uml.data) as server:
        port = server["url"].rpartition(":")[2]
        done = uml_process("serve", "--port", port, "--data", str(tmp_path / "other"))
        assert done.returncode == 1 and f"port {port}" in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error(uml: Uml) -> None:
    pipe = f"{sys.executable} -m uml estimate demo -o help | head -1"
    done = subprocess.run(pipe, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("OPTION") and done.stderr == ""


def test_the_quick_way_in_brings_nothing_heavy() -> None:
    heavy = "('torch', 'fastapi', 'gradio', 'httpx2', 'rich', 'pydantic', 'xllamacpp', 'typer', 'uvicorn')"
    code = f"import sys, uml.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_listing_brings_no_server_and_no_engine(uml: Uml) -> None:
    heavy = "('torch', 'fastapi', 'gradio', 'httpx2', 'rich', 'xllamacpp', 'uvicorn')"
    code = f"import sys, uml.cli.main as m; m.main(['ls']); print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_shell_gets_completions(uml: Uml) -> None:
    def complete(words: str) -> str:
        position = str(len(words.split()) - 1 + words.endswith(" "))
        environment = {"_UML_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": position}
        return uml_process(**environment).stdout

    assert "estimate" in complete("uml est")
    assert "demo" in complete("uml run de")
    assert "--cache-type-k" in complete("uml estimate demo --cache-t")
    assert "q8_0" in complete("uml estimate demo --cache-type-k q8")


def test_a_server_that_hangs_is_killed_on_demand(uml: Uml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.cli.serve._STOP_S", 0.5)
    with serving(uml.data) as server:
        process = psutil.Process(server["pid"])
        process.suspend()
        said = uml("stop")
        assert said.code == 1 and "uml stop --force" in said.err
        assert uml("stop", "--force").code == 0
        eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert uml("stop").code == 3


def test_serve_warns_of_a_misspelt_variable_and_says_where_it_listens(uml: Uml) -> None:
    server = subprocess.Popen(
        [*UML, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True, env={**os.environ, "UML_PROT": "1"}
    )
    assert server.stderr is not None
    lines = [server.stderr.readline(), server.stderr.readline()]
    server.send_signal(signal.SIGINT)
    server.stderr.read()
    server.stderr.close()
    assert server.wait(PATIENCE_S) == 0
    assert "did you mean UML_PORT" in lines[0] and "listens on http://127.0.0.1:" in lines[1]
