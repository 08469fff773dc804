"""`uml engine build llamacpp` from its source to the choice, but for the compiler.

The source distribution is one of ours: its build backend hands out the library that is installed here. So a real pip
builds, a real worker proves, and two of them are compared.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.installs.wheels import offers, packed
from uml.cli.main import main
from uml.config import Settings
from uml.core.errors import InstallFailed, InstallRefused
from uml.engine_room import EngineRoom
from uml.engines.llamacpp import native
from uml.house import Library

BACKEND = """
import json, os, pathlib, shutil
def build_wheel(folder, *rest):
    (wheel,) = pathlib.Path(__file__).parent.glob("*.whl")
    pathlib.Path(os.environ["SEEN"]).write_text(json.dumps(dict(os.environ)))
    return os.path.basename(shutil.copy(wheel, folder))
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'

# A library of 100 MB is packed, unpacked and loaded twice; beside other work that takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose pip finds the source; the file in which the build tells its environment."""
    folder = tmp_path / "wheels"
    packed(tmp_path / "packed", "xllamacpp")
    (wheel,) = (tmp_path / "packed").iterdir()
    folder.mkdir()
    name = f"xllamacpp-{native.RECIPE.version}"
    about = f"Metadata-Version: 2.1\nName: xllamacpp\nVersion: {native.RECIPE.version}\n"
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(wheel, f"{name}/{wheel.name}")
        for file, text in {"PKG-INFO": about, "pyproject.toml": PROJECT, "backend.py": BACKEND}.items():
            entry = tarfile.TarInfo(f"{name}/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    for variable, value in offers(folder, os.environ, SEEN=str(tmp_path / "seen")).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("UML_DATA", str(tmp_path / "data"))
    return tmp_path / "seen"


@pytest.fixture
def library(seen: Path, tmp_path: Path) -> Iterator[Library]:
    opened = Library.open(Settings.load({"data": tmp_path / "data"}, {"UML_CONFIG": ""}))
    yield opened
    opened.registry.close()


def test_a_build_is_proved_compared_and_used_when_it_is_chosen(library: Library, seen: Path) -> None:
    room = EngineRoom(library)
    done = room.build()
    label = f"{native.RECIPE.version}-native"
    assert done["install"]["label"] == label
    assert (done["install"]["smoke"], done["install"]["in_use"]) == ("passed", False)
    assert set(done["speeds"]) == {"shared", label}
    assert all(speed["prompt_per_s"] > 0 and speed["answer_per_s"] > 0 for speed in done["speeds"].values())
    says = library.installs.get("llamacpp", label).smoke_says
    assert re.search(rf"tokens a second of prompt and answer: shared \d+ and \d+, {label} \d+ and \d+$", says)
    told = json.loads(seen.read_text())
    assert "-DGGML_NATIVE=ON" in told["CMAKE_ARGS"]
    assert library.specs["llamacpp"][1].way == "embedded", "the wheel stays until somebody chooses"
    room.use("llamacpp", label)
    state = library.specs["llamacpp"][1]
    assert (state.way, state.version) == ("native", native.RECIPE.version)
    room.use("llamacpp", "shared")
    assert library.specs["llamacpp"][1].way == "embedded"
    with pytest.raises(InstallRefused, match="uml engine build llamacpp"):
        room.install("llamacpp")


def test_a_build_that_dies_is_removed_and_the_wheel_stays(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a processor without an instruction does to a worker.
    dies = "import os, sys; sys.modules[__name__] = None; os.kill(os.getpid(), 4) if 'uml' in sys.modules else None"
    real = EngineRoom._compared

    def spoilt(room: EngineRoom, made: object, wheel: object) -> object:
        (module,) = made.folder.glob("lib/python*/site-packages/xllamacpp/__init__.py")  # type: ignore[attr-defined]
        module.write_text(dies)
        return real(room, made, wheel)  # type: ignore[arg-type]

    monkeypatch.setattr(EngineRoom, "_compared", spoilt)
    with pytest.raises(InstallFailed, match=r"does not work here.*the wheel stays in use"):
        EngineRoom(library).build()
    assert [install.name for install in library.installs.all("llamacpp")] == ["llamacpp==shared"]


def test_without_a_compiler_it_says_what_to_install(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InstallRefused, match=r"lacks a C\+\+ compiler \(apt install g\+\+"):
        EngineRoom(library).build()


def test_the_command_shows_both_and_asks_nobody_who_is_not_there(
    seen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", "build", "llamacpp"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == "Tokens a second, demo model"
    assert f"{native.RECIPE.version}-native" in told.out
    assert "llamacpp: building xllamacpp" in told.err
    assert main(["engine", "build", "vllm"]) == 2
