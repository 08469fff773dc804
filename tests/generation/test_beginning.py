"""An empty prompt is begun as a text is, where the model has a token for that; else the reply says why nothing came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uml.core.errors import UnsupportedParameter
from uml.core.model import Format, ModelInfo, Role
from uml.engines import builtin
from uml.generation import Prepared, check, prepare
from uml.generation.beginning import first_token

LLAMA = builtin()["llamacpp"].spec


def said(prompt: Any, first: int | None, **more: Any) -> Prepared:
    return prepare(check("completion", {"prompt": prompt, **more}), LLAMA, first=first)


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [("", [7]), (["", "Once"], [[7], "Once"]), (["Once", ""], ["Once", [7]]), ([[], [1, 2]], [[7], [1, 2]])],
)
def test_an_empty_prompt_begins_as_a_text_does(prompt: Any, sent: Any) -> None:
    prepared = said(prompt, 7, max_tokens=3)
    assert prepared.body == {"prompt": sent, "max_tokens": 3} and not prepared.warnings
    assert said(prompt, 7, max_new_tokens=3).body == {"prompt": sent, "max_tokens": 3}


@pytest.mark.parametrize("prompt", ["Once", ["Once", "upon"], [1, 2], [[1], "upon"]])
def test_others_go_as_they_came(prompt: Any) -> None:
    assert said(prompt, 7) == said(prompt, None) == Prepared(None)


@pytest.mark.parametrize("prompt", ["", ["Once", ""]])
def test_a_model_without_such_a_token_says_why_nothing_came(prompt: Any) -> None:
    (warning,) = said(prompt, None).warnings
    assert warning["param"] == "prompt"
    assert "names no token that begins a text: there is nothing to go on from" in warning["reason"]
    with pytest.raises(UnsupportedParameter):
        said(prompt, None, strict=True)


def test_engines_that_refuse_it_themselves_get_it_as_it_is() -> None:
    assert prepare(check("completion", {"prompt": ""}), builtin()["fake"].spec) == Prepared(None)


@pytest.mark.parametrize(
    ("metadata", "token"),
    [
        ({"tokenizer.ggml.bos_token_id": 7}, 7),
        ({"bos_token_id": 0}, 0),
        ({"tokenizer.ggml.bos_token_id": -1, "bos_token_id": "7"}, None),
        ({"tokenizer.ggml.eos_token_id": 7}, None),
    ],
)
def test_the_token_is_what_the_header_says(metadata: dict[str, Any], token: int | None) -> None:
    info = ModelInfo(Path("/m"), Format.GGUF, Role.TEXT, 1.0, "test", 1, metadata=metadata)
    assert first_token(info) == token
