"""`uml profile` without a server: load options that are saved for a model."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Uml


def test_options_are_saved_shown_and_forgotten(uml: Uml) -> None:
    assert uml("profile", "demo").out == "demo has no profile; `uml profile demo --ctx 4096` makes one\n"
    assert uml("profile", "demo", "--ctx", "512", "-o", "parallel=1").code == 0
    assert uml("profile", "demo", "--json").json == {"model": "demo", "options": {"ctx": 512, "parallel": 1}}
    assert "ctx" in uml("profile", "demo").out
    options = uml("estimate", "demo", "--json").json["options"]
    assert (options["ctx"], options["parallel"]) == (512, 1)
    assert uml("estimate", "demo", "--ctx", "256", "--json").json["options"]["ctx"] == 256
    assert uml("profile", "demo", "--unset", "ctx", "--json").json["options"] == {"parallel": 1}
    assert uml("profile", "demo", "--clear", "--json").json["options"] == {}


def test_a_version_that_is_pinned_is_what_a_load_needs(uml: Uml) -> None:
    assert uml("profile", "demo-safetensors", "--engine", "transformers==4.2").code == 0
    refused = uml("estimate", "demo-safetensors")
    assert refused.code != 0 and "uml engine install transformers==4.2" in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["demoo", "--ctx", "1"], 4, "demo"),
        (["demo", "--ctx", "-5"], 2, "0 to"),
        (["demo", "--unset", "ctxx"], 2, "did you mean ctx"),
        (["demo", "--engine", "steam"], 2, "llamacpp"),
    ],
)
def test_what_makes_no_sense_is_refused(uml: Uml, arguments: list[str], code: int, words: str) -> None:
    refused = uml("profile", *arguments)
    assert refused.code == code and words in refused.err
