from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.client.standin import World, standing_in
from uml.cli.main import main
from uml.config.folders import runtime_folder


@dataclass
class Said:
    """What one command line said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


class Uml:
    """`uml` in this process, with a data folder of its own and no server but the one that is named."""

    def __init__(self, capsys: pytest.CaptureFixture[str], data: Path) -> None:
        self._capsys = capsys
        self.data = data

    def __call__(self, *arguments: str | Path) -> Said:
        self._capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        return Said(code, out, err)


@pytest.fixture
def uml(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uml]:
    data = tmp_path / "data"
    for name in ("UML_SERVER", "UML_API_KEY", "UML_CONFIG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UML_DATA", str(data))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield Uml(capsys, data)
    # A server that was killed leaves its sockets to the next start, which here never comes.
    shutil.rmtree(runtime_folder(data, os.environ), ignore_errors=True)


@pytest.fixture
def world(uml: Uml, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A stand-in for a running server, which this user's commands find."""
    with standing_in() as world:
        uml.data.mkdir(parents=True)
        (uml.data / "server.json").write_text(json.dumps({"url": world.url, "pid": 2**22 + 1, "key": None}))
        yield world
