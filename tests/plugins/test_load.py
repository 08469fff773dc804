"""Plug-ins that are no good: each is reported, left out, and harms nobody."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.plugins.packages import write_package
from tests.worker.process import plan_for
from uml.core.engine import Availability, Endpoint, EngineSpec
from uml.core.errors import LoadFailed, OutOfMemory
from uml.core.guard import Guard, LeftOut
from uml.core.model import Format, ModelInfo, Role
from uml.engines import builtin
from uml.formats import inspect
from uml.plugins import load as loading
from uml.plugins.engine import GuardedEngine
from uml.plugins.load import Plugins, declared, load

HEAD = "from uml.plugins import hookimpl\n"
ENGINE = """
from types import SimpleNamespace
from uml.engines.fake import Fake, SPEC
from dataclasses import replace
class Other(Fake):
    def __init__(self):
        self.spec = replace(SPEC, name={name!r})
@hookimpl
def register_engines():
    return [Other()]
"""


SAMPLER = """
from pathlib import Path
from uml.core.plan import SamplerFile
@hookimpl
def register_samplers():
    return [SamplerFile({name!r}, Path({file!r}))]
"""

RUDE = """
class Rude:
    @property
    def spec(self): return 1 / 0
@hookimpl
def register_engines(): return [Rude()]
"""


def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> Plugins:
    """What comes of one plug-in of this code."""
    monkeypatch.syspath_prepend(str(write_package(tmp_path / "site", name, HEAD + code)))
    return load(builtin(), [EntryPoint(name, name, "uml.plugins")])


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("raises", "1 / 0", "its import raised ZeroDivisionError"),
        ("exits", "import sys; sys.exit(3)", "its import raised SystemExit: 3"),
        ("sleeps", "import threading; threading.Event().wait(30)", "its import did not come back within 0.3 s"),
        ("nothing", "", "it has none of the hooks: register_engines"),
        ("unknown_hook", "@hookimpl\ndef register_wishes(): return []", "a hook is not as it should be"),
        ("no_file", SAMPLER.format(name="quiet", file="/none.py"), "the file of the sampler quiet cannot be read: "),
        ("no_python", SAMPLER.format(name="quiet", file="/etc/hostname:"), "the file of the sampler quiet cannot be"),
        ("ours", SAMPLER.format(name="top_k", file=__file__), "a sampler is called top_k already"),
        ("loud", SAMPLER.format(name="Loud", file=__file__), "that is no SamplerFile, or whose name is not lower case"),
        ("no_function", SAMPLER.format(name="quiet", file=__file__), "has no function sampler(setting, about)"),
        ("number", SAMPLER.format(name=5, file=__file__), "what it gives cannot be taken: TypeError"),
        ("rude", RUDE, "what it gives cannot be taken: ZeroDivisionError"),
        ("arguments", "@hookimpl\ndef register_engines(a, b): return []", "a hook is not as it should be"),
        ("hook_raises", "@hookimpl\ndef register_engines(): raise OSError('no')", "register_engines() raised OSError"),
        ("no_list", "@hookimpl\ndef register_engines(): return 5", "register_engines gives int, expected a list"),
        ("no_spec", "@hookimpl\ndef register_engines(): return [object()]", "gives something without a spec"),
        ("taken", ENGINE.format(name="llamacpp"), "an engine is called llamacpp already"),
        ("capitals", ENGINE.format(name="Big One"), "a name that is not lower case"),
        ("no_call", "@hookimpl\ndef register_detectors(): return ['x']", "something that cannot be called"),
        ("half", "@hookimpl\ndef register_processors(): return [object()]", "without before() and after()"),
        ("words", "@hookimpl\ndef register_commands(): return {'Two Words': print}", "no table of names"),
        ("a_number", "@hookimpl\ndef register_commands(): return {'five': 5}", "the command five is there already"),
    ],
)  # fmt: skip
def test_a_plugin_that_is_no_good_is_left_out_and_says_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    code: str,
    says: str,
) -> None:
    if name == "sleeps":  # the others have time: the first import of a package may take a busy machine seconds
        monkeypatch.setattr(loading, "LOAD_LIMIT_S", 0.3)
    with caplog.at_level(logging.WARNING):
        plugins = loaded(tmp_path, monkeypatch, name, code)
    (found,) = plugins.found
    assert found.state == ("hung" if name == "sleeps" else "failed")
    assert says in found.says and not found.adds
    assert not (plugins.engines or plugins.detectors or plugins.processors or plugins.commands or plugins.samplers)
    assert f"the plug-in {name} is left out: " in caplog.text


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("deep", b"x = " + b"-" * 200_000 + b"1", "cannot be read: too deep"),
        ("long_chain", b"x = a" + b".b" * 100_000, "recursion"),
        ("large", b"#" * (1 << 20) + b"\ndef sampler(setting, about): ...", "at most 1048576 are read"),
        ("binary", b"\0", "null bytes"),
        ("pipe", None, "is not a regular file"),
    ],
)
def test_a_samplers_file_that_is_no_good_keeps_no_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: bytes | None, says: str
) -> None:
    path = tmp_path / "sampler.py"
    if code is None:
        os.mkfifo(path)  # to open it would wait for a writer for ever
    else:
        path.write_bytes(code)
    plugins = loaded(tmp_path, monkeypatch, name, SAMPLER.format(name="quiet", file=str(path)))
    assert says in plugins.found[0].says and not plugins.samplers


def test_what_it_added_before_it_failed_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = ENGINE.format(name="second") + (
        "@hookimpl\ndef register_detectors(): return [lambda path: None]\n"
        "@hookimpl\ndef register_commands(): return {'other': print, 'five': 5}\n"
    )
    plugins = loaded(tmp_path, monkeypatch, "late", code)
    assert plugins.found[0].state == "failed"
    assert not (plugins.engines or plugins.detectors or plugins.commands)


def test_one_that_is_good_adds_all_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = loaded(tmp_path, monkeypatch, "good", ENGINE.format(name="second"))
    assert plugins.found[0].adds == {"register_engines": ("second",)} and plugins.found[0].state == "ready"
    assert plugins.engines["second"].available().available


def test_without_a_declaration_nothing_is_imported(tmp_path: Path) -> None:
    assert not declared([str(tmp_path), str(tmp_path / "none"), ""])
    (tmp_path / "other-1.dist-info").mkdir()
    (tmp_path / "other-1.dist-info" / "entry_points.txt").write_text("[console_scripts]\nx = y\n")
    assert not declared([str(tmp_path)])
    assert declared([str(write_package(tmp_path, "some", ""))])


def test_a_detector_is_asked_for_what_nobody_knows(tmp_path: Path) -> None:
    strange, text = tmp_path / "strange.xyz", tmp_path / "m.txt"
    strange.write_bytes(b"xyz!")
    text.write_bytes(b"plain words")
    known = ModelInfo(strange, Format.UNKNOWN, Role.TEXT, 1.0, "it ends so", 4, version="xyz")

    def raises(path: Path) -> ModelInfo | None:
        raise OSError("not today")

    plugins = Plugins()
    assert plugins.inspector(inspect) is inspect, "nothing is in the way where there is none"
    plugins.detectors += [(Guard("a"), raises), (Guard("b"), lambda path: known if path.suffix == ".xyz" else None)]
    assert plugins.inspector(inspect)(strange) == known
    assert plugins.inspector(inspect)(text).version == ""


class Rude:
    """An engine that answers nothing as it should."""

    spec = EngineSpec(
        name="rude", title="Rude", formats=frozenset({Format.GGUF}), roles=frozenset({Role.TEXT}),
        devices=frozenset({"cpu"}), split="whole", served=False, options=frozenset(),
    )  # fmt: skip

    def available(self) -> Availability:
        raise RuntimeError("why do you ask")

    def launch(self, plan: object, endpoint: object) -> str:
        return "make it so"

    def cause(self, plan: object, log: str, exit_code: int | None) -> object:
        raise KeyError("log")


def test_an_engine_that_answers_nothing_as_it_should_is_not_available() -> None:
    engine = GuardedEngine(Rude(), Guard("rude"))  # type: ignore[arg-type]
    state = engine.available()
    assert not state.available and "RuntimeError: why do you ask" in state.reason
    with pytest.raises(LoadFailed, match="gives no command"):
        engine.launch(plan_for(), Endpoint("key"))
    assert engine.cause(plan_for(), "log", 1) is None


def test_one_that_hangs_is_not_called_again() -> None:
    held = Guard("held")
    with pytest.raises(LeftOut, match=r"did not come back within 0\.05 s"):
        held.call("it", threading.Event().wait, 30, limit_s=0.05)
    assert held.state == "hung"
    with pytest.raises(LeftOut, match="did not come back"):
        held.call("another", lambda: 1)


def test_an_error_of_ours_comes_through_as_it_is() -> None:
    def refuse() -> None:
        raise OutOfMemory("m", "cpu")

    own = Guard("own")
    with pytest.raises(OutOfMemory):
        own.call("it", refuse)
    assert own.call("it", lambda: 5) == 5 and own.state == "ready"


def test_who_has_no_plugin_does_not_wait_for_the_means_to_load_one() -> None:
    code = (
        "import sys, uml.cli.main, uml.cli.models\n"
        "from uml.plugins.load import load\n"
        "assert not load(points=[]).found\n"
        "print([name for name in ('pluggy', 'uml.plugins.hooks') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_several_at_once_wait_for_each_other() -> None:
    shared, seen = Guard("shared"), list[int]()

    def slow(number: int) -> None:
        seen.append(number)
        seen.append(number)

    threads = [threading.Thread(target=shared.call, args=("it", slow, number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(seen[place] == seen[place + 1] for place in range(0, 16, 2))
