"""Engines as the faces see them, over a library of its own; environments are made of wheels of our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.installs.wheels import offers, packed, recipe, wheel
from uml.config import Settings
from uml.core.errors import BadOption, EngineNotInstalled, InstallFailed
from uml.core.install import Install
from uml.engine_room import EngineRoom
from uml.engines import builtin
from uml.engines.recipes import WORKER
from uml.hardware import snapshot
from uml.house import Library
from uml.registry import packaged_model
from uml.roster import Roster
from uml.runtime.installs import Installs, tiny


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """One whose engine `transformers` is made of a tiny wheel, and that knows no other."""
    for name, value in offers(tmp_path / "wheels", os.environ).items():
        monkeypatch.setenv(name, value)
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "wheels", "tinyengine", version)
    packed(tmp_path / "wheels", "uvicorn", "uvloop", "httptools", "orjson", "click", "h11")
    settings = Settings.load({"data": tmp_path / "data"}, {"UML_CONFIG": ""})
    opened = Library.open(settings)
    made = recipe((("tinyengine=={version}", *WORKER),), engine="transformers")
    installs = Installs(settings.data / "engines", {"transformers": made})
    yield replace(opened, installs=installs, roster=Roster(builtin(None, installs.find)))
    opened.registry.close()


def test_one_whose_test_fails_stays_and_is_not_used(library: Library) -> None:
    room = EngineRoom(library)
    # No library worth the name is in it, so that its worker cannot load the model.
    first = room.install("transformers")
    assert (first["smoke"], first["in_use"]) == ("failed", False)
    assert "tiny did not load" in first["smoke_says"]
    kept = library.installs.tested(library.installs.get("transformers", "1.0"), "passed", "as it were")
    library.installs.use("transformers", "1.0")
    second = room.install("transformers==2.0")
    assert (second["smoke"], second["in_use"]) == ("failed", False)
    assert library.installs.find("transformers") == kept
    assert room.test("transformers", "2.0")["smoke"] == "failed"
    assert room.use("transformers", "2.0")["in_use"] is True
    assert room.remove("transformers", "2.0")["in_use"] == "1.0"


def test_what_comes_with_this_package_is_tested_with_a_tiny_model_too(tmp_path: Path) -> None:
    opened = Library.open(Settings.load({"data": tmp_path}, {"UML_CONFIG": ""}))
    try:
        tested = EngineRoom(opened).test("llamacpp")
    finally:
        opened.registry.close()
    assert (tested["name"], tested["smoke"]) == ("llamacpp==shared", "passed"), tested["smoke_says"]
    assert repr(tiny.ANSWER) in tested["smoke_says"]


def test_the_overview_says_what_there_is_and_what_can_be_had(library: Library) -> None:
    found = {one["name"]: one for one in EngineRoom(library).overview()}
    assert "fake" not in found
    assert found["llamacpp"]["available"] is True
    tiny = found["transformers"]
    assert (tiny["available"], tiny["in_use"], tiny["installs"]) == (False, None, [])
    assert tiny["recipe"] | {"note": ""} == {
        "version": "1.0", "disk_bytes": 1 << 20, "download_bytes": 1 << 20, "needs": [], "possible": True, "note": "",
    }  # fmt: skip
    with pytest.raises(InstallFailed):
        EngineRoom(library).install("transformers==7")


def test_a_load_may_be_pinned_to_an_install(library: Library) -> None:
    model = library.look(str(packaged_model()))
    with pytest.raises(EngineNotInstalled, match=r"needs the engine llamacpp==9, which is not installed"):
        library.decide(model, library.options(model, {"engine": "llamacpp==9"}), snapshot())
    with pytest.raises(BadOption, match="engine_version"):
        library.decide(model, library.options(model, {"engine_version": "9"}), snapshot())
    pinned = library.options(model, {"engine": "llamacpp == 9"})
    assert (pinned.engine, pinned.engine_version) == ("llamacpp", "9")
    with pytest.raises(BadOption, match="engine_version"):
        library.options(model, {"engine": "llamacpp==9", "engine_version": "8"})


def test_the_setting_may_pin_one_and_a_request_for_another_engine_is_not_bound_by_it(tmp_path: Path) -> None:
    library = Library.open(Settings.load({"data": tmp_path, "engine": "transformers==5"}, {"UML_CONFIG": ""}))
    try:
        demo = library.find("demo")
        assert library.defaults.engine_version == "5"
        assert library.options(demo, {"ctx": 512}).engine_version == "5"
        assert library.options(demo, {"engine": "llamacpp"}).engine_version == ""
    finally:
        library.registry.close()


def test_an_install_is_named_by_its_label() -> None:
    made = Install("transformers", "5.23.0", Path("/e"), Path("/e/python"), "5.23.0-2")
    assert made.name == "transformers==5.23.0-2"
    assert replace(made, label="").name == "transformers==5.23.0"
