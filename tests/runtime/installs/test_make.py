"""Installs are whole or not there: made, chosen and removed, by a real pip out of wheels of our own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.runtime.installs.wheels import MIB, offers, recipe, wheel
from tests.waiting import eventually
from uml.core.errors import (
    BadOption,
    BadRequest,
    Cancelled,
    EngineNotInstalled,
    InstallFailed,
    InstallNotFound,
    InstallRefused,
    NoRoom,
)
from uml.core.install import Install, Recipe, Step
from uml.core.options import LoadOptions
from uml.runtime.installs import Installs
from uml.runtime.installs.installer import Installer

NOTHING: frozenset[str] = frozenset({"cpu"})
UV = pytest.mark.skipif(not shutil.which("uv"), reason="uv is not on PATH")


class Bench:
    """A shelf of installs in a folder, and a user whose pip reads a folder of wheels."""

    def __init__(self, folder: Path, made: Recipe | None = None) -> None:
        self.folder = folder / "engines"
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.environ = offers(self.wheels, os.environ)
        self.steps: list[Step] = []
        self.installs = Installs(self.folder, {"tiny": made or recipe()})

    def install(self, name: str = "tiny", *, again: bool = False) -> Install:
        order = self.installs.order(name, NOTHING, again=again)
        made = self.installs.install(order, self.steps.append, environ=self.environ)
        return self.installs.use("tiny", made.label)

    @property
    def left(self) -> list[str]:
        """What lies in the folder of the engine."""
        folder = self.folder / "tiny"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_install_is_made_whole_tried_and_put_in_use(bench: Bench) -> None:
    code = "import sys\ndef main():\n    print('tiny in', sys.prefix)\n"
    wheel(bench.wheels, "tinyengine", "1.0", code, needs=["tinyhelp>=1"], commands=["tiny-serve"])
    wheel(bench.wheels, "tinyhelp", "1.5")
    made = bench.install()
    assert (made.name, made.version, made.accelerator, made.shared) == ("tiny==1.0", "1.0", "cpu", False)
    assert made.packages == {"tinyengine": "1.0", "tinyhelp": "1.5"}
    assert made.size_bytes > 1000
    assert made.smoke_says.startswith("imported in")
    assert bench.installs.find("tiny") == made
    assert bench.left == ["1.0", "in-use"]
    # It was made in another folder: its programs know their interpreter all the same, and see nothing of ours.
    told = subprocess.run([made.folder / "bin" / "tiny-serve"], capture_output=True, text=True, check=True)
    assert told.stdout == f"tiny in {made.folder}\n"
    alone = subprocess.run([made.python, "-I", "-c", "import pytest"], capture_output=True, text=True, check=False)
    assert "No module named 'pytest'" in alone.stderr
    stages = [step.stage for step in bench.steps]
    assert list(dict.fromkeys(stages)) == ["environment", "installing", "testing", "done"]
    assert [step.percent for step in bench.steps] == sorted(step.percent for step in bench.steps)
    assert bench.steps[-1].percent == 100


def test_libraries_for_a_gpu_that_is_not_there_are_told_of(bench: Bench) -> None:
    wheel(bench.wheels, "tinyengine", "1.0", needs=["nvidia-cublas"])
    wheel(bench.wheels, "cublas", "13.0", called="nvidia_cublas")
    assert bench.install().accelerator == "cuda"
    assert "is for CUDA, which this machine does not have" in bench.steps[-1].text
    assert "PIP_EXTRA_INDEX_URL" in bench.steps[-1].text


def test_libraries_of_cuda_that_nobody_reckoned_with_need_room_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recipe(disk_bytes={"cpu": MIB, "cuda": 1 << 50}))
    wheel(bench.wheels, "tinyengine", "1.0", needs=["nvidia-cublas"])
    wheel(bench.wheels, "cublas", "13.0", called="nvidia_cublas")
    with pytest.raises(NoRoom, match=r"tiny==1\.0, whose PyTorch is one for CUDA here, needs 1048576\.\d+ GiB"):
        bench.install()
    assert bench.left == []


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A package index with a build for processors alone: its address, and the paths that it was asked for."""
    file = wheel(tmp_path / "index", "tinyengine", "1.0+cpu")
    page = tmp_path / "index" / "simple" / "tinyengine" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="/{quote(file.name)}">{file.name}</a>')
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "index")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple", asked
        server.shutdown()


@pytest.mark.parametrize("tool", ["pip", pytest.param("uv", marks=UV)])
def test_where_nobody_has_told_where_to_look_a_build_without_cuda_is_taken(
    tmp_path: Path, index: tuple[str, list[str]], tool: Installer
) -> None:
    url, asked = index
    bench = Bench(tmp_path, recipe(cpu_index=url))
    # A user with no configuration, to whom the public index is out of reach.
    environ = {name: value for name, value in bench.environ.items() if not name.startswith(("PIP_", "UV_"))}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "HTTPS_PROXY": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    order = bench.installs.order("tiny", NOTHING, tool=tool)
    assert bench.installs.install(order, environ=environ).packages == {"tinyengine": "1.0+cpu"}
    assert "/simple/tinyengine/" in asked


@pytest.mark.parametrize("tool", ["pip", pytest.param("uv", marks=UV)])
def test_who_has_told_it_is_asked_nothing_else(tmp_path: Path, index: tuple[str, list[str]], tool: Installer) -> None:
    url, asked = index
    bench = Bench(tmp_path, recipe(cpu_index=url))
    wheel(bench.wheels, "tinyengine", "1.0")
    environ = {**bench.environ, "UV_FIND_LINKS": str(bench.wheels), "UV_NO_INDEX": "1"}
    order = bench.installs.order("tiny", NOTHING, tool=tool)
    assert bench.installs.install(order, environ=environ).packages == {"tinyengine": "1.0"}
    assert asked == []


@pytest.mark.parametrize("tool", ["pip", pytest.param("uv", marks=UV)])
def test_an_index_that_is_of_no_help_is_done_without(
    tmp_path: Path, index: tuple[str, list[str]], tool: Installer
) -> None:
    bench = Bench(tmp_path, recipe(cpu_index="http://127.0.0.1:9/simple"))
    environ = {name: value for name, value in bench.environ.items() if not name.startswith(("PIP_", "UV_"))}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "HTTPS_PROXY": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    environ["PIP_RETRIES"] = "0"
    steps: list[Step] = []
    with pytest.raises(InstallFailed, match="cannot be reached"):
        bench.installs.install(bench.installs.order("tiny", NOTHING, tool=tool), steps.append, environ=environ)
    assert any("is of no help; looking where packages usually are" in step.text for step in steps)


def test_versions_stand_side_by_side_and_use_goes_back_at_once(bench: Bench) -> None:
    for version in ("1.0", "2.0"):
        wheel(bench.wheels, "tinyengine", version)
    old = bench.install()
    new = bench.install("tiny==2.0")
    assert [install.name for install in bench.installs.all("tiny")] == ["tiny==2.0", "tiny==1.0"]
    assert bench.installs.find("tiny") == new
    assert bench.installs.use("tiny", "1.0") == old
    assert bench.installs.find("tiny") == old
    assert bench.installs.find("tiny", "2.0") == new
    again = bench.install(again=True)
    assert (again.name, again.version) == ("tiny==1.0-2", "1.0")
    # What was in use is gone: the newest of the others is in use then.
    bench.installs.remove("tiny", "1.0-2")
    assert bench.installs.find("tiny") == new
    bench.installs.remove("tiny", "2.0")
    bench.installs.remove("tiny", "1.0")
    assert bench.installs.find("tiny") is None
    assert bench.left == ["in-use"]


def test_what_is_there_already_is_not_made_again_unasked(bench: Bench) -> None:
    wheel(bench.wheels, "tinyengine", "1.0")
    bench.install()
    with pytest.raises(InstallRefused, match=r"uml engine use tiny==1\.0"):
        bench.install()


def test_without_a_network_it_says_so_and_leaves_nothing(bench: Bench) -> None:
    wheel(bench.wheels, "tinyengine", "1.0")
    before = bench.install()
    bench.environ = {
        **{name: value for name, value in bench.environ.items() if not name.startswith("PIP_")},
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "1",
    }
    with pytest.raises(InstallFailed, match="the package index cannot be reached") as caught:
        bench.install("tiny==2.0")
    assert "nothing of it is left" in caught.value.message
    assert any("pip" in line for line in caught.value.details["log"])
    assert bench.left == ["1.0", "in-use"]
    assert bench.installs.find("tiny") == before


def test_where_nothing_may_leave_the_machine_no_index_is_asked(bench: Bench) -> None:
    wheel(bench.wheels, "other", "1.0")
    del bench.environ["PIP_NO_INDEX"]
    order = bench.installs.order("tiny", NOTHING, offline=True)
    with pytest.raises(InstallFailed, match="nothing may leave this machine"):
        bench.installs.install(order, environ=bench.environ)
    wheel(bench.wheels, "tinyengine", "1.0")
    assert bench.installs.install(order, environ=bench.environ).name == "tiny==1.0"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "is broken"),
        (lambda path: path.write_bytes(b"PK\3\4" + b"\0" * 500), "is broken"),
        (lambda path: path.unlink(), "there is no tinyengine==1.0 where pip looks"),
    ],
    ids=["cut short", "garbage", "absent"],
)
def test_a_broken_wheel_is_named_and_nothing_stays(bench: Bench, spoil: object, sentence: str) -> None:
    assert callable(spoil)
    spoil(wheel(bench.wheels, "tinyengine", "1.0"))
    with pytest.raises(InstallFailed, match=sentence):
        bench.install()
    assert bench.left == []
    assert bench.installs.find("tiny") is None


def test_what_cannot_be_imported_is_not_installed(bench: Bench) -> None:
    wheel(bench.wheels, "tinyengine", "1.0", "raise ImportError('libcuda.so.1: cannot open shared object file')")
    with pytest.raises(InstallFailed, match=r"cannot be imported: ImportError: libcuda\.so\.1"):
        bench.install()
    assert bench.left == []


def test_a_version_that_nobody_has_is_found_out_before_the_rest_is_fetched(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recipe(steps=(("big==1",), ("tinyengine=={version}",))))
    wheel(bench.wheels, "tinyengine", "1.0")
    wheel(bench.wheels, "big", "1")
    with pytest.raises(InstallFailed, match="there is no tinyengine==7 for this Python and system"):
        bench.install("tiny==7")
    assert not any("big" in step.text for step in bench.steps)


def test_the_disk_is_looked_at_first(tmp_path: Path) -> None:
    asked: list[Path] = []

    def free(folder: Path) -> int:
        asked.append(folder)
        return 200 * MIB

    installs = Installs(
        tmp_path, {"tiny": recipe(disk_bytes={"cpu": 300 * MIB}, download_bytes={"cpu": 100 * MIB})}, free
    )
    with pytest.raises(NoRoom, match=r"tiny==1\.0 needs 656 MiB of disk, and 200 MiB are free") as caught:
        installs.install(installs.order("tiny", NOTHING))
    assert caught.value.status == 507
    assert asked == [tmp_path / "tiny"]
    assert list((tmp_path / "tiny").iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_is_told_of(bench: Bench) -> None:
    full = bench.wheels / "python"
    full.write_text("#!/bin/sh\necho 'Error: [Errno 28] No space left on device: /data'\nexit 1\n")
    full.chmod(0o755)
    order = replace(bench.installs.order("tiny", NOTHING), python=full)
    with pytest.raises(InstallFailed, match=r"the disk is full \(.* are free\)"):
        bench.installs.install(order, environ=bench.environ)
    assert bench.left == []


# --- interruptions ------------------------------------------------------------------------------


@pytest.fixture
def silent_index() -> Iterator[str]:
    """An index that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/simple"


def test_one_that_is_stopped_leaves_nothing_and_no_process(bench: Bench, silent_index: str) -> None:
    environ = {**bench.environ, "PIP_NO_INDEX": "0", "PIP_INDEX_URL": silent_index}
    begun = threading.Event()

    def tell(step: Step) -> None:
        if step.stage == "installing" or (step.stage == "environment" and step.bytes):
            begun.set()

    order = bench.installs.order("tiny", NOTHING)
    with pytest.raises(Cancelled):
        bench.installs.install(order, tell, cancelled=begun.is_set, environ=environ)
    assert bench.left == []
    assert not _processes(bench.folder)


def test_what_a_killed_install_leaves_is_swept_up_at_the_next_start(bench: Bench, silent_index: str) -> None:
    words = (
        "import sys; from pathlib import Path; from uml.runtime.installs import Installs;"
        "from tests.runtime.installs.wheels import recipe;"
        f"shelf = Installs(Path({str(bench.folder)!r}), {{'tiny': recipe()}});"
        "shelf.install(shelf.order('tiny', frozenset()), lambda step: print(step.stage, step.bytes, flush=True))"
    )
    environ = {**bench.environ, "PIP_NO_INDEX": "0", "PIP_INDEX_URL": silent_index}
    with subprocess.Popen([sys.executable, "-c", words], env=environ, stdout=subprocess.PIPE) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == b"environment 0\n"
        assert len(bench.left) == 1
        assert bench.installs.sweep() == 0, "it is being made"
        with pytest.raises(InstallRefused, match=r"tiny==1\.0 is being installed by somebody else this moment; wait"):
            bench.installs.order("tiny", NOTHING)
        assert bench.installs.order("tiny", NOTHING, again=True).version == "1.0"
        assert bench.installs.order("tiny==2.0", NOTHING).version == "2.0"
        pip = _until_pip(bench.folder)
        maker.kill()
    assert len(bench.left) == 1
    # Its pip lives on until it wants to say something, and may still write.
    assert bench.installs.sweep() == 0
    assert bench.installs.order("tiny", NOTHING).version == "1.0", "nobody waits for one that was killed"
    os.kill(pip, signal.SIGKILL)
    eventually(bench.installs.sweep)
    assert bench.left == []


def _until_pip(folder: Path) -> int:
    def found() -> list[int]:
        return [pid for pid, words in _processes(folder).items() if "install" in words]

    eventually(found, "no pip was started")
    return found()[-1]


def _processes(folder: Path) -> dict[int, list[str]]:
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if any(word.startswith(str(folder)) for word in words) and int(place.name) != os.getpid():
            found[int(place.name)] = words
    return found


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("tinny", BadRequest, "did you mean tiny"),
        ("", BadRequest, "there are tiny"),
        ("tiny==", BadRequest, "try: tiny==1.0"),
        ("tiny==../../x", BadRequest, "try: tiny==1.0"),
        ("tiny==1.0 --index-url=http://x", BadRequest, "try: tiny==1.0"),
        ("tiny==--pre", BadRequest, "try: tiny==1.0"),
    ],
)
def test_a_name_that_cannot_be_is_refused(bench: Bench, name: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        bench.install(name)
    assert bench.left == []


def test_an_engine_for_gpus_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recipe(needs=frozenset({"cuda"})))
    with pytest.raises(InstallRefused, match=r"an NVIDIA GPU .* nothing was fetched") as caught:
        bench.install()
    assert caught.value.details == {"needs": ["cuda"]}
    assert bench.installs.order("tiny", frozenset({"cpu", "cuda"})).accelerator == "cuda"


def test_an_engine_that_needs_another_python_says_which(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recipe(pythons=((3, 2),)))
    with pytest.raises(InstallRefused, match=r"needs Python 3\.2, and no such program is on PATH"):
        bench.install()


def test_uv_must_be_there_to_be_used(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(InstallRefused, match="uv is not on PATH"):
        Installs(bench.folder, {"tiny": recipe()}).order("tiny", NOTHING, tool="uv", environ={"PATH": str(tmp_path)})


def test_an_install_is_not_removed_while_something_runs_in_it(bench: Bench) -> None:
    wheel(bench.wheels, "tinyengine", "1.0")
    made = bench.install()
    with subprocess.Popen([made.python, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        with pytest.raises(InstallRefused, match=f"in use by process {worker.pid}; unload its models first"):
            bench.installs.remove("tiny", "1.0")
        assert worker.stdin is not None
        worker.stdin.close()
    bench.installs.remove("tiny", "1.0")


def test_of_two_who_remove_an_install_at_once_one_finds_it_gone_and_nothing_is_left(bench: Bench) -> None:
    wheel(bench.wheels, "tinyengine", "1.0")
    made = bench.install()
    labels = [f"3.{number}" for number in range(10)]
    for label in labels:
        shutil.copytree(made.folder, made.folder.with_name(label), symlinks=True)
    for label in labels:
        together = threading.Barrier(2)

        def remove(label: str = label, together: threading.Barrier = together) -> str:
            together.wait()
            try:
                return bench.installs.remove("tiny", label).folder.name
            except InstallNotFound as error:
                return error.code

        with ThreadPoolExecutor(2) as pool:
            said = [one.result() for one in [pool.submit(remove), pool.submit(remove)]]
        assert sorted(said) == [label, "install_not_found"]
        assert not (made.folder.with_name(label)).exists()
    assert bench.left == ["1.0", "in-use"]


def test_only_what_is_there_can_be_removed_chosen_or_pinned(bench: Bench) -> None:
    with pytest.raises(InstallNotFound, match="no install 'tiny'"):
        bench.installs.remove("tiny")
    with pytest.raises(InstallNotFound, match="no install 'tiny==9'; try: uml engine install tiny==9"):
        bench.installs.use("tiny", "9")
    with pytest.raises(BadRequest, match="no engine that can be installed"):
        bench.installs.use("huge", "9")
    wheel(bench.wheels, "tinyengine", "1.0")
    bench.install()
    with pytest.raises(InstallNotFound, match=r"there are tiny==1\.0"):
        bench.installs.remove("tiny", "9")
    bench.installs.check(LoadOptions.parse({"engine": "tiny==1.0"}), "m")
    bench.installs.check(LoadOptions.parse({"engine": "tiny"}), "m")
    with pytest.raises(EngineNotInstalled, match=r"m needs the engine tiny==9, .* uml engine install tiny==9"):
        bench.installs.check(LoadOptions.parse({"engine": "tiny==9"}), "m")
    with pytest.raises(BadOption, match="engine_version"):
        bench.installs.check(LoadOptions.parse({"engine_version": "1.0"}), "m")
    # A model that another install of the engine runs is not pinned by the version of this one.
    with pytest.raises(BadOption, match="an install of huge, which runs this model: of which none is installed"):
        bench.installs.check(LoadOptions.parse({"engine": "tiny==1.0"}), "m", "huge")
    with pytest.raises(EngineNotInstalled, match=r"uml engine install huge==3"):
        bench.installs.check(LoadOptions.parse({"engine": "tiny==3"}), "m", "huge")


# --- what is found ------------------------------------------------------------------------------


def test_libraries_beside_uml_are_an_install_that_is_shared(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recipe(steps=(("pytest=={version}", "pluggy>=1"),), distribution="pytest"))
    (shared,) = bench.installs.all("tiny")
    assert (shared.name, shared.version, shared.shared) == ("tiny==shared", pytest.__version__, True)
    assert shared.python == Path(sys.executable)
    assert set(shared.packages) == {"pytest", "pluggy"}
    assert bench.installs.find("tiny") == bench.installs.find("tiny", "shared") == shared
    with pytest.raises(InstallRefused, match="pip uninstall"):
        bench.installs.remove("tiny", "shared")
    assert bench.installs.use("tiny", "shared") == shared
    assert bench.installs.tested(shared, "passed", "well").smoke_says == "well"


def test_folders_that_are_no_install_are_passed_over(bench: Bench) -> None:
    wheel(bench.wheels, "tinyengine", "1.0")
    made = bench.install()
    for name, text in {"1.1": "", "1.2": "{}", "1.3": '{"manifest": 99}', "1.4": "[1]"}.items():
        folder = bench.folder / "tiny" / name
        folder.mkdir()
        (folder / "uml-install.json").write_text(text)
    (bench.folder / "tiny" / "in-use").write_text("../../etc\n")
    assert bench.installs.all("tiny") == (made,)
    assert bench.installs.find("tiny") == made
    assert bench.installs.find("tiny", "../tiny/1.0") is None
    assert bench.installs.engines() == ("tiny",)


def test_an_install_whose_python_is_gone_is_not_used(bench: Bench) -> None:
    for version in ("1.0", "2.0"):
        wheel(bench.wheels, "tinyengine", version)
        bench.install(f"tiny=={version}")
    new = bench.installs.get("tiny")
    new.python.unlink()
    new.python.symlink_to("/nowhere/python3.9")
    assert bench.installs.get("tiny").name == "tiny==1.0"
    lost = bench.installs.get("tiny", "2.0")
    assert (lost.smoke, lost.smoke_says) == ("failed", "its Python, /nowhere/python3.9, is gone: install it anew")
    with pytest.raises(InstallRefused, match="is gone"):
        bench.installs.use("tiny", "2.0")


def test_what_the_disk_refuses_is_said(bench: Bench) -> None:
    wheel(bench.wheels, "tinyengine", "1.0")
    made = bench.install()
    (bench.folder / "tiny" / "in-use").unlink()
    (bench.folder / "tiny" / "in-use").mkdir()
    with pytest.raises(InstallRefused, match=r"tiny==1\.0 cannot be put in use: Is a directory"):
        bench.installs.use("tiny", "1.0")
    assert bench.installs.find("tiny") == made


def test_a_test_is_written_down(bench: Bench) -> None:
    wheel(bench.wheels, "tinyengine", "1.0")
    made = bench.install()
    done = bench.installs.tested(made, "failed", "it answered nonsense")
    assert bench.installs.find("tiny") == done, "it was chosen, and stays so"
    assert json.loads((made.folder / "uml-install.json").read_text())["smoke"]["result"] == "failed"
    (bench.folder / "tiny" / "in-use").unlink()
    assert bench.installs.find("tiny") is None, "of itself none is taken that has failed"
