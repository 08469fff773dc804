"""The chat template of a folder of EXL2 or EXL3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uml.core.errors import BadOption, CorruptFile
from uml.core.options import LoadOptions
from uml.engines.exllama.language import template_of

ASKED = {"messages": [{"role": "user", "content": "hi"}]}


def rendered(folder: Path, **options: Any) -> str | None:
    template, _ = template_of(folder, LoadOptions.parse(options))
    return template.render(ASKED) if template else None


def write(folder: Path, **settings: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_the_users_comes_before_the_models(tmp_path: Path) -> None:
    assert rendered(tmp_path) is None
    write(tmp_path, chat_template="{{ bos_token }}{{ messages[0].content }}", bos_token={"content": "<s>"})
    assert rendered(tmp_path) == "<s>hi"
    write(tmp_path, chat_template=[{"name": "tools", "template": "x"}, {"name": "default", "template": "default"}])
    assert rendered(tmp_path) == "default"
    (tmp_path / "chat_template.jinja").write_text("a file of its own")
    assert rendered(tmp_path) == "a file of its own"
    assert rendered(tmp_path, chat_template="mine") == "mine"
    (tmp_path / "mine.jinja").write_text("mine, in a file")
    assert rendered(tmp_path, chat_template_file=str(tmp_path / "mine.jinja")) == "mine, in a file"


def test_marks_count_where_the_tokenizer_has_them(tmp_path: Path) -> None:
    write(tmp_path, chat_template="<think></think>{{ messages[0].content }}")
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"added_tokens": [{"content": "<think>"}, {"content": "</think>"}]})
    )
    assert template_of(tmp_path, LoadOptions())[1].think == ("<think>", "</think>")


def test_what_is_no_template_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="a Jinja template"):
        rendered(tmp_path, chat_template="{% if %}")
    with pytest.raises(BadOption, match="a file with a template"):
        rendered(tmp_path, chat_template_file=str(tmp_path / "none"))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CorruptFile, match="not JSON"):
        rendered(tmp_path)
