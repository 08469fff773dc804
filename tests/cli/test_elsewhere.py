"""Someone who comes from another program types its commands and flags, and is told what they are here."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Uml
from uml.cli import elsewhere
from uml.cli.app import COMMANDS
from uml.core.options import options_by_name


@pytest.mark.parametrize(
    ("typed", "here"),
    [
        ("--num_ctx 4096", "--num_ctx; it is --ctx here"),
        ("--ctx-size=4096", "--ctx-size; it is --ctx here"),
        ("-c 4096", "-c; it is --ctx here"),
        ("-ngl 99", "-ngl; it is --gpu-layers here"),
        ("--gpulayers 99", "--gpulayers; it is --gpu-layers here"),
        ("--keep_alive 5m", "--keep_alive; it is --keep-alive here"),
        ("-n 20", "-n; it is --max-tokens here"),
        ("--temp 0", "--temp; it is --temperature here"),
        ("--tensor-split 1,1", "--tensor-split; it is --option tensor_split=VALUE here"),
        ("--mlock", "--mlock; it is --option mlock=true here"),
        ("--no-mmap", "--no-mmap; it is --option mmap=false here"),
        ("-m model.gguf", "-m; MODEL stands without a flag: uml run MODEL PROMPT"),
    ],
)
def test_a_flag_of_another_program_is_told_its_name_here(uml: Uml, typed: str, here: str) -> None:
    said = uml("run", "demo", *typed.split(), "hi")
    assert said.code == 2 and said.err == f"error: No such option: {here}\n  try: uml run --help\n"


def test_a_flag_that_no_program_has_is_only_refused(uml: Uml) -> None:
    assert uml("run", "demo", "--frobnicate").err.startswith("error: No such option: --frobnicate\n")
    assert "--verbose" in uml("run", "demo", "--verbos").err
    # A command that loads nothing has no context to set.
    assert uml("ps", "-c", "4096").err.startswith("error: No such option: -c\n")


def test_a_flag_before_the_command_is_told_its_place(uml: Uml) -> None:
    assert "it stands after the command: uml COMMAND --server" in uml("--server", "http://localhost", "ps").err
    assert "after" not in uml("--frobnicate", "ps").err


@pytest.mark.parametrize(
    ("typed", "here"),
    [
        ("list", "`uml ls`"),
        ("rm", "`uml forget MODEL` here, which deletes no file"),
        ("pull", "not downloaded here"),
        ("chat", "`uml run MODEL`"),
        ("start", "`uml serve`"),
        ("create", "`uml profile MODEL`"),
        ("push", "nothing leaves this machine"),
        ("swap", "`uml load MODEL`"),
    ],
)
def test_a_command_of_another_program_is_told_its_name_here(uml: Uml, typed: str, here: str) -> None:
    said = uml(typed, "llama3")
    assert said.code == 2 and said.err.startswith(f"error: No such command '{typed}'; ") and here in said.err
    assert uml(typed, "--json").error["message"].startswith(f"No such command '{typed}'; ")


def test_a_model_given_by_a_flag_is_told_its_place(uml: Uml) -> None:
    assert "No such option: -m; it is uml run MODEL here" in uml("-m", "a.gguf").err
    assert "a request names its model" in uml("serve", "-m", "a.gguf").err
    assert "models are not downloaded here" in uml("inspect", "llama3:8b").err


@pytest.mark.parametrize("typed", [[], ["lora"], ["engine"]])
def test_a_word_without_a_command_shows_its_help_once(uml: Uml, typed: list[str]) -> None:
    said = uml(*typed)
    assert said.code == 2 and (said.out + said.err).count("Usage:") == 1


def test_what_is_told_is_there() -> None:
    named = {name for hint in elsewhere._COMMANDS.values() for name in re.findall(r"`uml ([a-z]+)", hint)}
    assert len(named) > 10 and named <= set(COMMANDS)
    assert not set(elsewhere._COMMANDS) & set(COMMANDS)
    flags = {"max_tokens", "temperature", "system", "model_folder"}
    assert set(elsewhere._FLAGS.values()) <= flags | {option.name for option in options_by_name().values()}
    assert not set(elsewhere._FLAGS) & set(options_by_name())
