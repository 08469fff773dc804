"""From the news of steps to the deltas of an answer."""

from __future__ import annotations

from typing import Any

import pytest

from uml.core.errors import EngineError
from uml.engines.hosted import tools
from uml.engines.hosted.answer import News, Teller
from uml.engines.hosted.prompt import Language
from uml.engines.hosted.speech import Marks, marks_of, read_hermes
from uml.sampling.grammar import Structures
from uml.sampling.vocabulary import Vocabulary

PIECES = [b"", b"<tool_call>", *(bytes([byte]) for byte in range(2, 128))]
LANGUAGE = Language(
    Vocabulary(PIECES, frozenset({0}), frozenset({0, 1})),
    Marks(None, ("<tool_call>", "</tool_call>"), read_hermes),
    None,
)
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def teller(**request: Any) -> Teller:
    return LANGUAGE.teller(request, LANGUAGE.ask({"prompt": "abc", **request}, 100))


def test_the_first_delta_tells_of_the_prompt_and_the_last_why_it_ends() -> None:
    told = teller(return_tokens=True)
    first = told.tell([News(97, cached=2), News(98)])
    assert (first.text, first.tokens, first.prompt_tokens, first.cached_tokens, first.ids) == ("ab", 2, 3, 2, (97, 98))
    last = told.tell([News(0, "stop")])
    assert (last.text, last.finish, last.prompt_tokens, last.tokens) == ("", "stop", 0, 1)


def test_tokens_of_which_nothing_else_is_told_stand_between_those_of_which_it_is() -> None:
    delta = teller(return_tokens=True).tell([News(97, cached=1), 98, 99, News(100, "length")])
    assert (delta.text, delta.tokens, delta.cached_tokens, delta.finish) == ("abcd", 4, 1, "length")
    assert delta.ids == (97, 98, 99, 100)


def test_probabilities_come_with_the_bytes_of_their_tokens() -> None:
    delta = teller().tell([News(97, logprob=-0.5, top=((97, -0.5), (98, -1.5)))])
    (token,) = delta.logprobs
    assert (token.id, token.piece, token.logprob) == (97, b"a", -0.5)
    assert [(one.piece, one.logprob) for one in token.top] == [(b"a", -0.5), (b"b", -1.5)]


def test_an_answer_that_calls_ends_for_that() -> None:
    asked = {"messages": [], "tools": [TOOL]}
    told = LANGUAGE.teller(asked, LANGUAGE.ask({"prompt": "abc"}, 100))
    text = b'{"name": "add", "arguments": {}}</tool_call>'
    deltas = [told.tell([News(1)]), *(told.tell([News(byte)]) for byte in text), told.tell([News(0, "stop")])]
    calls = [call for delta in deltas for call in delta.tool_calls]
    assert [(call.name, call.arguments) for call in calls] == [("add", "{}")]
    assert deltas[-1].finish == "tool_calls"
    assert "".join(delta.text for delta in deltas) == ""


def test_an_error_of_a_step_is_raised() -> None:
    with pytest.raises(EngineError):
        teller().tell([News(97), News(None, error=EngineError("m", "broke"))])


def follows(grammar: str, text: str) -> bool:
    """Whether a text is the whole of what a grammar lets be said."""
    pieces = [b"", *(bytes([byte]) for byte in range(1, 128))]
    guide = Structures(Vocabulary(pieces, frozenset({0}), frozenset({0}))).guide("tool_choice", grammar)
    for byte in text.encode():
        if not guide.mask()[byte // 32] >> (byte % 32) & 1:
            return False
        guide.accept(byte)
    return guide.complete


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("<tool_call>", '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'),
        ("[TOOL_CALLS]", '[TOOL_CALLS][{"name": "add", "arguments": {}}]'),
        ("<|python_tag|>", '{"name": "add", "parameters": {}}'),
    ],
)
def test_a_call_that_must_come_is_written_as_the_model_knows_it(template: str, written: str) -> None:
    marks = marks_of(template, lambda text: False)
    grammar = tools.grammar({"tools": [TOOL], "tool_choice": "required"}, marks)
    assert grammar
    assert follows(grammar, written)
    assert not follows(grammar, written.replace("add", "sub"))
    assert not follows(grammar, "no")


def test_one_function_is_the_only_one() -> None:
    other = {"type": "function", "function": {"name": "sub"}}
    chosen = {"type": "function", "function": {"name": "sub"}}
    grammar = tools.grammar({"tools": [TOOL, other], "tool_choice": chosen}, LANGUAGE.marks)
    assert grammar
    assert '"sub"' in grammar.replace("\\", "")
    assert '"add"' not in grammar.replace("\\", "")


@pytest.mark.parametrize("asked", [{}, {"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": "auto"}])
def test_nothing_is_forced_unless_it_is_asked_for(asked: dict[str, Any]) -> None:
    assert tools.grammar(asked, LANGUAGE.marks) is None
