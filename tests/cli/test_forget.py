"""Names given and taken back, models and folders forgotten: with a server and without one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Uml
from uml.registry import packaged_model


@pytest.fixture
def folder(uml: Uml, tmp_path: Path) -> Path:
    """A folder that was added, with two models."""
    made = tmp_path / "models"
    made.mkdir()
    for name in ("one", "two"):
        shutil.copyfile(packaged_model(), made / f"{name}.gguf")
    assert uml("scan", made).code == 0
    return made


def ids(uml: Uml) -> set[str]:
    return {model["id"] for model in uml("ls", "--json").json["data"]} & {"one", "two"}


def test_a_name_is_given_and_taken_back(uml: Uml, folder: Path) -> None:
    assert uml("alias", "mine", "one").out == "one is called mine too\n"
    assert uml("inspect", "mine", "--json").json["path"] == str(folder / "one.gguf")
    assert uml("alias", "mine", folder / "two.gguf", "--json").json["id"] == "two"
    assert uml("inspect", "mine", "--json").json["path"] == str(folder / "two.gguf")
    assert uml("alias", "--remove", "mine").out == "mine is no name any more\n"
    assert uml("inspect", "mine").code == uml("alias", "--remove", "mine").code == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["alias", "mine"], 2, "NAME MODEL"),
        (["alias", "mine", "one", "--remove"], 2, "NAME MODEL"),
        (["alias", "mine", "onee"], 4, "one"),
        (["alias", "two", "one"], 2, "is the id of a model"),
        (["forget", "demo"], 2, "comes with the program"),
        (["forget", "onee"], 4, "one"),
        (["forget", "."], 2, "no folder that was added by `uml scan FOLDER`; those are: /"),
    ],
)
def test_what_makes_no_sense_is_refused(uml: Uml, folder: Path, arguments: list[str], code: int, words: str) -> None:
    said = uml(*arguments)
    assert (said.code, words in said.err) == (code, True), said.err
    assert ids(uml) == {"one", "two"}


def test_a_model_is_forgotten_and_its_file_stays(uml: Uml, folder: Path) -> None:
    uml("alias", "mine", "one")
    assert uml("forget", "mine").out == "one is forgotten; no file was deleted\n"
    assert (folder / "one.gguf").exists() and ids(uml) == {"two"}
    assert uml("inspect", "mine").code == 4
    uml("scan", folder)
    assert ids(uml) == {"one", "two"}


def test_a_folder_is_forgotten_with_all_that_was_found_in_it(
    uml: Uml, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = uml("forget", folder)
    assert said.out == f"{folder} is no longer looked through; one, two are forgotten; no file was deleted\n"
    assert ids(uml) == set() and len(list(folder.iterdir())) == 2
    uml("scan", folder)
    monkeypatch.chdir(folder.parent)
    assert uml("forget", "models", "--json").json == {"folder": str(folder), "models": ["one", "two"]}
