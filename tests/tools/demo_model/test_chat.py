"""What the model is trained on is what engines make of the same messages."""

from __future__ import annotations

import itertools
import json
from functools import cache
from typing import Any

import pytest
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tools.demo_model.chat import CHOSEN, HEARD, SPOKEN, TEMPLATE, render
from tools.demo_model.corpus import FAMILIES, Dialogue, dialogues


@cache
def template() -> Template:
    """As Transformers reads it: the same settings, and JSON as Python writes it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TEMPLATE.read_text("utf-8"))


def by_template(dialogue: Dialogue, **values: Any) -> str:
    return template().render(messages=dialogue.messages, tools=dialogue.tools or None, **values)


def text_of(dialogue: Dialogue) -> str:
    return "".join(span.text for span in render(dialogue))


def test_every_family_is_rendered_as_the_template_does() -> None:
    for dialogue in itertools.islice(dialogues(1, "train"), 300):
        assert text_of(dialogue) == by_template(dialogue)
    for family in FAMILIES:
        for dialogue in itertools.islice(dialogues(1, "heldout", family), 3):
            assert text_of(dialogue) == by_template(dialogue)


def spoken(dialogue: Dialogue) -> list[str]:
    assert {span.weight for span in render(dialogue)} <= {SPOKEN, HEARD}
    return [span.text for span in render(dialogue) if span.weight == SPOKEN]


QUESTION = {"role": "user", "content": "Which is greater, 3 or 5? Think first."}


def test_what_the_assistant_says_counts_with_its_end_and_nothing_else() -> None:
    dialogue = Dialogue("x", ({"role": "system", "content": "Hm."}, QUESTION, {"role": "assistant", "content": "5."}))
    assert spoken(dialogue) == ["5.<|im_end|>"]
    assert text_of(dialogue).startswith("<|im_start|>system\nHm.<|im_end|>\n<|im_start|>user\n")
    assert text_of(dialogue).endswith("<|im_start|>assistant\n5.<|im_end|>\n")


@pytest.mark.parametrize(
    ("thoughts", "says"),
    [("5 is more.", ["<think>\n5 is more.\n</think>\n\n5.<|im_end|>"]), ("", ["5.<|im_end|>"])],
)
def test_thoughts_count_unless_they_are_forbidden(thoughts: str, says: list[str]) -> None:
    answer = {"role": "assistant", "content": "5.", "reasoning_content": thoughts}
    dialogue = Dialogue("x", (QUESTION, answer))
    assert spoken(dialogue) == says
    assert text_of(dialogue) == by_template(dialogue)
    asked = by_template(Dialogue("x", (QUESTION,)), add_generation_prompt=True, enable_thinking=False)
    assert text_of(dialogue).startswith(asked) == (thoughts == "")


def test_earlier_thoughts_are_not_shown_and_their_answers_do_not_count() -> None:
    answer = {"role": "assistant", "content": "5.", "reasoning_content": "5 is more."}
    dialogue = Dialogue("x", (QUESTION, answer, QUESTION, {"role": "assistant", "content": "Still 5."}))
    assert spoken(dialogue) == ["Still 5.<|im_end|>"]
    assert text_of(dialogue) == by_template(dialogue)


def test_arguments_read_the_same_as_text_and_as_an_object() -> None:
    def call(arguments: object) -> Dialogue:
        function = {"name": "find", "arguments": arguments}
        answer = {"role": "assistant", "content": "So:", "tool_calls": [{"type": "function", "function": function}]}
        return Dialogue("x", (QUESTION, answer), ({"type": "function", "function": {"name": "find"}},))

    as_text, as_object = call('{"word": "größer"}'), call({"word": "größer"})
    assert text_of(as_text) == text_of(as_object) == by_template(as_text) == by_template(as_object)
    assert 'So:\n<tool_call>\n{"name": "find", "arguments": {"word": "größer"}}\n</tool_call>' in text_of(as_text)


def test_in_practice_the_choice_of_a_tool_counts_more_than_what_follows_from_it() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name, "arguments": "{}"}}

    tools = ({"type": "function", "function": {"name": "find"}},)
    two = {"role": "assistant", "content": None, "tool_calls": [call("find"), call("ring")]}
    none = {"role": "assistant", "content": "I have no tool for that."}
    dialogue = Dialogue("x", (QUESTION, two, QUESTION, none), tools)
    chosen = [span.text for span in render(dialogue, CHOSEN) if span.weight == CHOSEN]
    assert chosen == ['<tool_call>\n{"name": "find"', '\n<tool_call>\n{"name": "ring"', "<|im_end|>", "I"]
    assert "".join(span.text for span in render(dialogue, CHOSEN)) == by_template(dialogue)
    without = Dialogue("x", dialogue.messages[2:])
    assert render(without, CHOSEN) == render(without)
