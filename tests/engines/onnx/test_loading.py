"""What goes wrong before a model of ONNX Runtime answers, and what never leaves the machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.engines.onnx.conftest import Made, Start, install_of, plan_of, source
from tests.worker.process import Worker
from uml.core.engine import Endpoint
from uml.core.errors import (
    BadFile,
    BadOption,
    BadRequest,
    CorruptFile,
    EngineNotInstalled,
    MissingShard,
    UmlError,
    UnsupportedArchitecture,
)
from uml.engines.onnx import native
from uml.engines.onnx.adapters import Adapters
from uml.engines.onnx.engine import ENVIRONMENT, Onnx

slow = pytest.mark.slow  # the builder imports PyTorch and makes the model: ten seconds on an idle machine


def _cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "genai_config.json"
        document = json.loads(path.read_text())
        document["model"] |= changes
        path.write_text(json.dumps(document))

    return change


def _outside(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / "model.onnx.data", elsewhere / "blob")
    (folder / "model.onnx.data").symlink_to(elsewhere / "blob")


BROKEN: dict[str, tuple[Callable[[Path], object], type[UmlError], str]] = {
    "garbage in place of the graph": (
        lambda folder: (folder / "model.onnx").write_bytes(os.urandom(40_000)),
        CorruptFile,
        "model.onnx",
    ),
    "a graph cut short": (lambda folder: _cut(folder / "model.onnx", 0.6), CorruptFile, "model.onnx"),
    "weights cut short": (lambda folder: _cut(folder / "model.onnx.data", 0.5), CorruptFile, "the weights end at byte"),
    "no weights": (lambda folder: (folder / "model.onnx.data").unlink(), MissingShard, "model.onnx.data"),
    "weights behind a link": (_outside, BadFile, "reads weights beside their graph only"),
    "a type that is none": (_config(type="nonesuch"), UnsupportedArchitecture, "nonesuch"),
    "a key that is none": (_config(nonesuch=1), CorruptFile, "nonesuch"),
    "a wrong vocabulary": (_config(vocab_size=99_999), CorruptFile, "it says vocab_size 99999, expected"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), MissingShard, "tokenizer.json"),
    "a tokenizer cut short": (lambda folder: _cut(folder / "tokenizer.json", 0.5), CorruptFile, "tokenizer.json"),
    "a template that is no text": (
        lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff\xfe"),
        CorruptFile,
        "chat_template.jinja",
    ),
}


@slow
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_has_a_typed_cause(case: str, engine: Onnx, fp32: Made, tmp_path: Path) -> None:
    """The plan is of the whole one: planning refuses most of these before a process starts."""
    break_it, kind, says = BROKEN[case]
    folder = tmp_path / "broken"
    shutil.copytree(fp32.folder, folder)
    plan = plan_of(folder)
    break_it(folder)
    with Worker(engine, plan, tmp_path) as worker:
        code = worker.end()
    error = engine.cause(plan, worker.log, code)
    assert type(error) is kind, worker.log[-2000:]
    assert says in str(error)


@slow
def test_nothing_is_told_to_anybody(start: Start, fp32: Made, tmp_path: Path) -> None:
    """Neither library opens a connection, and neither keeps events or a device id for the next process."""
    home = tmp_path / "home"
    home.mkdir()
    quiet = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    worker = start(fp32.folder, environment=quiet).ready()
    worker.post("/v1/completions", {"prompt": "Hi", "max_tokens": 4})
    assert _internet_sockets(worker.process.pid) == []
    environment = Path(f"/proc/{worker.process.pid}/environ").read_bytes()
    assert b"ORT_DISABLE_TELEMETRY=1" in environment
    worker.__exit__(None, None, None)
    assert [path for path in home.rglob("*") if path.is_file()] == []


@slow
def test_the_libraries_would_keep_something_if_nobody_forbade_it(engine: Onnx, fp32: Made, tmp_path: Path) -> None:
    """What the story above looks for is there where the variables are not: else it could not fail."""
    install = engine._installed("onnx", "")
    assert install is not None
    code = "import sys, onnxruntime_genai as og; og.Model(sys.argv[1])"
    free = {key: value for key, value in os.environ.items() if key not in native.TELEMETRY}
    # A network that is not there: it is told to nobody in this test either.
    subprocess.run(
        (str(install.python), "-I", "-c", code, str(fp32.folder)),
        check=True,
        env={**free, "HOME": str(tmp_path), "XDG_CACHE_HOME": "", "HTTPS_PROXY": "http://127.0.0.1:9"},
    )
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file() and ".onnxruntime" in str(path)]
    assert any(name.endswith(".db") for name in kept)


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.json"])
@slow
def test_a_chat_template_is_found_wherever_it_lies(start: Start, fp32: Made, tmp_path: Path, place: str) -> None:
    folder = Path(shutil.copytree(fp32.folder, tmp_path / "older"))
    template = folder / "chat_template.jinja"
    path = folder / place
    settings = json.loads(path.read_text()) if path.exists() else {}
    # Named as models of several uses have it, and none of the names is the usual one.
    path.write_text(json.dumps({**settings, "chat_template": [{"name": "talk", "template": template.read_text()}]}))
    template.unlink()
    worker = start(folder).ready()
    messages = [{"role": "user", "content": "What is the capital of Japan?"}]
    answer = worker.post("/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 16})
    assert "Tokyo" in answer["choices"][0]["message"]["content"]


def _internet_sockets(pid: int) -> list[str]:
    ends = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it lives, and may close one meanwhile
            ends.append(str(link.readlink()))
    inodes = {end.removeprefix("socket:[").removesuffix("]") for end in ends if end.startswith("socket:")}
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6", "udp", "udp6")]
    rows = [row for table in tables if table.exists() for row in table.read_text().splitlines()[1:]]
    return [row for row in rows if row.split()[9] in inodes]


def test_every_worker_is_told_to_keep_quiet() -> None:
    assert native.TELEMETRY.items() <= ENVIRONMENT.items()


def test_without_an_install_it_says_what_installs_it() -> None:
    nobody = Onnx()
    told = nobody.available()
    assert (told.available, told.reason) == (False, "uml engine install onnx")
    with pytest.raises(EngineNotInstalled, match="uml engine install onnx"):
        nobody.launch(plan_of(source()), _nowhere())


@pytest.mark.parametrize("adapter", ["x.onnx_adapter=0.5", "x.safetensors"])
def test_adapters_that_it_cannot_take_are_refused_before_a_process_starts(adapter: str) -> None:
    somebody = Onnx(lambda engine, label: install_of(engine, Path("/usr/bin/python3")))
    with pytest.raises(BadOption, match="lora"):
        somebody.launch(plan_of(source(), lora=[adapter]), _nowhere())


def test_a_request_for_an_adapter_is_told_that_none_is_loaded() -> None:
    nothing: Any = None
    with pytest.raises(BadRequest, match="lora: there is no adapter 0; none is loaded"):
        Adapters(nothing, nothing).of({"lora": [{"id": 0}]})


def _nowhere() -> Endpoint:
    return Endpoint(key="k", socket=Path("/nonexistent/w.sock"))
