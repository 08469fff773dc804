"""What `uml run` takes as its question, from the command line and from a pipe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import typer

from tests.cli.conftest import Uml
from tests.client.standin import World
from uml.cli import question
from uml.cli.names import as_path
from uml.cli.question import read_question


@contextmanager
def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes = b"", ends: bool = True) -> Iterator[None]:
    """Standard input is a pipe with this in it, which ends or stays open."""
    monkeypatch.setattr(question, "_SILENCE_S", 0.05)
    out, into = os.pipe()
    os.write(into, data)
    with os.fdopen(into, "wb", buffering=0) as writer, os.fdopen(out, encoding="utf-8") as reader:
        if ends:
            writer.close()
        monkeypatch.setattr("sys.stdin", reader)
        yield


def test_a_pipe_follows_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    with stdin(monkeypatch, b"a\nb\n"):
        assert read_question("sum up:") == "sum up:\n\na\nb"
    with stdin(monkeypatch, b"a\n"):
        assert read_question(None) == "a"


def test_a_pipe_that_says_nothing_and_never_ends_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with stdin(monkeypatch, ends=False):
        assert read_question("hello") == "hello"
    assert "goes without it" in capsys.readouterr().err


def test_what_is_no_question_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ((None, b"", "empty"), ("", b"", "empty"), (None, b"\xff", "UTF-8"), ("\udcff", b"", "UTF-8"))
    for prompt, data, words in refused:
        with stdin(monkeypatch, data), pytest.raises(typer.BadParameter, match=words):
            read_question(prompt)


def test_warnings_are_sentences_for_people_and_objects_for_scripts(
    uml: Uml, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stdin(monkeypatch):
        assert "warning: mirostat: not here\n" in uml("run", "demo", "hi").err
    with stdin(monkeypatch):
        lines = uml("run", "demo", "hi", "--json").lines
    assert [line["warnings"] for line in lines if "warnings" in line] == [[{"param": "mirostat", "reason": "not here"}]]


def test_names_that_are_no_paths_are_told_without_a_traceback(uml: Uml) -> None:
    assert uml("estimate", "~nobody-of-this-name/model").code == 6
    path = as_path("~nobody-of-this-name/model")
    assert path is not None and path.is_absolute()
    assert as_path("a/" * 5000) is None
