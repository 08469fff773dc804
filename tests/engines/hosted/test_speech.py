"""What a model wrote, taken apart: thoughts, calls of tools and the answer, however it comes in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml.engines.hosted.speech import Marks, Reader, marks_of, read_hermes, read_llama, read_mistral

HERMES = Marks(("<think>", "</think>"), ("<tool_call>", "</tool_call>"), read_hermes)
MISTRAL = Marks(None, ("[TOOL_CALLS]", ""), read_mistral)
LLAMA = Marks(None, ("{", ""), read_llama)
Heard = tuple[str, str, list[tuple[str, str]]]


def heard(reader: Reader, parts: list[str]) -> Heard:
    """Text, thoughts and calls of an answer that comes in these parts."""
    text, thoughts, calls = "", "", []
    for place, part in enumerate(parts):
        said = reader.feed(part, last=place + 1 == len(parts))
        text, thoughts = text + said.text, thoughts + said.reasoning
        calls += [(call.name, call.arguments) for call in said.calls]
    return text, thoughts, calls


def in_pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)] or [""]


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("marks", "written", "expected"),
    [
        (HERMES, "plain < text", ("plain < text", "", [])),
        (HERMES, "<think>\nlet me\nsee\n</think>\n\nfour", ("four", "let me\nsee", [])),
        (HERMES, f"Sure.\n{CALL}", ("Sure.", "", [("add", '{"a": 1}')])),
        (HERMES, f"<think>x</think>\n{CALL}\n{CALL}", ("", "x", [("add", '{"a": 1}')] * 2)),
        (
            HERMES,
            "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
            ("", "", [("add", '{"a": 1}')]),
        ),
        (HERMES, "<tool_call>no call</tool_call>", ("<tool_call>no call</tool_call>", "", [])),
        (HERMES, '<tool_call>{"name": "add", "arguments": {}}', ("", "", [("add", "{}")])),
        (HERMES, "<think>never ends", ("", "never ends", [])),
        (MISTRAL, '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]', ("", "", [("add", '{"a": 1}')])),
        (MISTRAL, '[TOOL_CALLS]add[ARGS]{"a": 1}', ("", "", [("add", '{"a": 1}')])),
        (LLAMA, '{"name": "add", "parameters": {"a": 1}}', ("", "", [("add", '{"a": 1}')])),
        (LLAMA, 'it is {"name": "add"}', ('it is {"name": "add"}', "", [])),
        (LLAMA, '{"a": 1}', ('{"a": 1}', "", [])),
    ],
)
def test_an_answer_is_taken_apart(marks: Marks, written: str, expected: Heard, size: int) -> None:
    assert heard(Reader(marks, tools=True), in_pieces(written, size)) == expected


def test_a_thought_that_the_prompt_has_opened_goes_on() -> None:
    assert heard(Reader(HERMES, thinking=True), ["so ", "it is</th", "ink>\n\nfour"]) == ("four", "so it is", [])


def test_without_thoughts_and_tools_everything_is_text() -> None:
    written = f"<think>x</think>{CALL}"
    assert heard(Reader(HERMES, thoughts=False), in_pieces(written, 3)) == (written, "", [])


@given(st.text("<think>/ ab\n", max_size=40), st.integers(1, 7))
def test_the_pieces_make_no_difference(text: str, size: int) -> None:
    whole = heard(Reader(HERMES, tools=True), [text])
    assert heard(Reader(HERMES, tools=True), in_pieces(text, size)) == whole


def test_each_call_has_an_id_of_its_own() -> None:
    said = Reader(HERMES, tools=True).feed(CALL + CALL, last=True)
    first, second = said.calls
    assert (first.index, second.index) == (0, 1)
    assert first.id != second.id


def test_several_arguments_of_every_kind_are_read() -> None:
    written = "<function=f>\n<parameter=n>\n[1, 2]\n</parameter>\n<parameter=s>\nbare words\n</parameter>\n</function>"
    found = read_hermes(written)
    assert found
    assert json.loads(found[0][1]) == {"n": [1, 2], "s": "bare words"}


@pytest.mark.parametrize(
    ("template", "call"),
    [
        ("... <tool_call> ...", "<tool_call>"),
        ("... [TOOL_CALLS] ...", "[TOOL_CALLS]"),
        ("... <|python_tag|> ...", "{"),
        ("{{ messages }}", None),
    ],
)
def test_the_template_tells_how_calls_are_written(template: str, call: str | None) -> None:
    marks = marks_of(template, lambda text: text == "</think>")
    assert (marks.call and marks.call[0]) == call
    assert marks.think == ("<think>", "</think>")
    assert "</think>" in marks.texts
