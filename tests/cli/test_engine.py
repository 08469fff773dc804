"""`uml engine` as it is typed: real environments, made of empty wheels that have the real names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Uml
from tests.installed import without_transformers
from tests.runtime.installs.wheels import offers, stand_ins
from uml.config import Settings
from uml.engines.recipes import RECIPES
from uml.house import Library


@pytest.fixture
def wheels(uml: Uml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that this user's pip reads."""
    folder = tmp_path / "wheels"
    for name, value in offers(folder, os.environ).items():
        monkeypatch.setenv(name, value)
    return stand_ins(folder, RECIPES["onnx-builder"])


def test_an_engine_is_installed_chosen_and_removed(uml: Uml, wheels: Path) -> None:
    stand_ins(wheels, RECIPES["onnx-builder"], "0.17.0")
    assert "uml engine install onnx-builder (version 0.18.0" in uml("engine", "ls").out
    said = uml("engine", "install", "onnx-builder")
    assert (said.code, said.err.splitlines()[0]) == (0, "onnx-builder: making an environment of python")
    assert said.out.startswith("onnx-builder==0.18.0 is installed (")
    assert uml("engine", "install", "onnx-builder==0.17.0").code == 0
    listed = {(one["name"], install["label"]): install for one in _engines(uml) for install in one["installs"]}
    assert [name for name in listed if name[0] == "onnx-builder"] == [
        ("onnx-builder", "0.17.0"),
        ("onnx-builder", "0.18.0"),
    ]
    assert listed["onnx-builder", "0.17.0"]["in_use"] is True
    assert uml("engine", "use", "onnx-builder==0.18.0").out == "onnx-builder==0.18.0 is in use from the next load on\n"
    (row,) = [
        line for line in uml("engine", "ls").out.splitlines() if " * " in line and line.startswith("onnx-builder")
    ]
    assert row.split()[:3] == ["onnx-builder", "0.18.0", "*"]
    refused = uml("engine", "rm", "onnx-builder")
    assert refused.code == 2 and "2 installs: onnx-builder==0.17.0, onnx-builder==0.18.0; say which" in refused.err
    kept = Library.open(Settings.load({"data": uml.data}, {"UML_CONFIG": ""}))
    kept.registry.profiles.keep("demo", {"engine": "onnx-builder", "engine_version": "0.18.0"})
    kept.registry.profiles.keep("demo-draft", {"engine": "onnx-builder==0.17.0", "ctx": 512})
    kept.registry.close()
    gone = uml("engine", "rm", "onnx-builder==0.18.0")
    assert "the profile of demo names it" in gone.out and "uml profile demo --unset engine_version" in gone.out
    assert "demo-draft" not in gone.out
    assert "onnx-builder==0.17.0 is in use now" in gone.out
    assert not (uml.data / "engines" / "onnx-builder" / "0.18.0").exists()
    assert "onnx-builder==0.17.0 (in use" in uml("doctor").out
    assert uml("engine", "rm", "onnx-builder").out.startswith("onnx-builder==0.17.0 is removed, "), "there is one only"
    assert uml("engine", "rm", "onnx-builder").code == 1


def _engines(uml: Uml) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = uml("engine", "ls", "--json").json["data"]
    return found


def test_every_step_is_a_line_for_scripts(uml: Uml, wheels: Path) -> None:
    said = uml("engine", "install", "onnx-builder", "--json")
    *steps, last = said.lines
    assert {step["event"] for step in steps} == {"progress"}
    assert (last["event"], last["name"], last["in_use"]) == ("ready", "onnx-builder==0.18.0", True)
    assert last["packages"]["transformers"] == "5.23.0"
    assert said.err == ""


def test_one_that_cannot_be_had_is_refused_in_a_sentence(uml: Uml, wheels: Path) -> None:
    for wheel in wheels.glob("onnx_ir-*"):
        wheel.unlink()
    said = uml("engine", "install", "onnx-builder", "--json")
    assert (said.code, said.lines[-1]["event"]) == (1, "progress")
    assert said.error["code"] == "install_failed"
    assert "there is no onnx-ir==1.1.0" in said.error["message"]
    assert list((uml.data / "engines" / "onnx-builder").iterdir()) == []


def test_people_are_shown_the_installers_last_words(uml: Uml, wheels: Path) -> None:
    for wheel in wheels.glob("onnx_ir-*"):
        wheel.unlink()
    said = uml("engine", "install", "onnx-builder")
    assert "the engine's last words:" in said.err


def test_one_that_is_not_for_this_machine_is_refused(uml: Uml) -> None:
    refused = uml("engine", "install", "vllm", "--json")
    assert (refused.code, refused.error["code"]) == (1, "install_refused")
    assert "an NVIDIA GPU" in refused.error["message"]


@without_transformers
def test_what_is_not_installed_is_not_tried_out(uml: Uml) -> None:
    assert "try: uml engine install transformers" in uml("engine", "test", "transformers").err


def test_names_that_mean_nothing(uml: Uml) -> None:
    assert "did you mean transformers" in uml("engine", "install", "transformer").err
    assert uml("engine", "install", "onnx-builder", "--installer", "npm").code == 2
    assert "there is no install 'onnx-builder'; try: uml engine ls" in uml("engine", "rm", "onnx-builder").err
    assert "no engine that can be installed" in uml("engine", "rm", "nobody").err
    assert "No such command 'lss'" in uml("engine", "lss").err
    assert "List engines" in uml("engine", "--help").out


def test_the_shell_completes_names(uml: Uml, wheels: Path) -> None:
    from uml.cli import complete

    uml("engine", "install", "onnx-builder")
    assert complete.engines("trans") == ["transformers"]
    assert complete.installs("onnx-builder") == ["onnx-builder==0.18.0"]
