"""Stop strings across the borders of tokens, finish reasons, and what a request may say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml.core.errors import BadRequest
from uml.core.host import Delta, TokenLogprob, ToolCall
from uml.engines.fake import FakeHost
from uml.worker.generate import Piece, Usage, first_stop, pieces, stops_of
from uml.worker.wire import LEAST, Shape, check_messages, prompts_of, requests_of, scale_of


class Told(FakeHost):
    """Says what it is told, and remembers whether it was closed."""

    def __init__(self, *parts: str, finish: str | None = None) -> None:
        super().__init__()
        self.parts, self.finish, self.closed = parts, finish, False

    async def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        try:
            for index, part in enumerate(self.parts):
                last = index + 1 == len(self.parts)
                yield Delta(part, finish=self.finish if last else None, prompt_tokens=3 if index == 0 else 0)
        finally:
            self.closed = True


async def said(host: Told, **request: Any) -> tuple[str, str | None]:
    usage = Usage()
    async with aclosing(pieces(host, request, usage)) as found:
        parts = [piece async for piece in found]
    assert host.closed
    assert usage.prompt == (3 if host.parts else 0)
    return "".join(part.text for part in parts), parts[-1].finish


async def test_a_stop_string_over_three_tokens_is_cut_out() -> None:
    assert await said(Told("one S", "TO", "P two"), stop="STOP") == ("one ", "stop")


async def test_what_only_looked_like_a_stop_is_said() -> None:
    assert await said(Told("one S", "TO", "NE"), stop=["STOP"]) == ("one STONE", "stop")
    assert await said(Told("a S", finish="length"), stop=["STOP"]) == ("a S", "length")


async def test_the_earliest_of_several_stops_wins() -> None:
    assert await said(Told("a b c d"), stop=["d", "b"]) == ("a ", "stop")


async def test_no_stop_no_waiting() -> None:
    assert await said(Told("a", "b", finish="length"), stop=None) == ("ab", "length")
    assert await said(Told(), stop=[""]) == ("", "stop")


@given(st.text("ab", max_size=20), st.lists(st.text("ab", min_size=1, max_size=3), max_size=3), st.integers(1, 4))
async def test_cutting_while_streaming_is_cutting_the_whole(text: str, stops: list[str], size: int) -> None:
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    cut = first_stop(text, stops)
    # Within one piece a later and longer text may hold an earlier stop; piece by piece the first complete one counts.
    if size == 1 or cut is None:
        host = Told(*parts)
        found, _ = await said(host, stop=stops)
        ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
        expected = text if cut is None else text[: first_stop(text[: min(ends)], stops)]
        assert found == expected


@pytest.mark.parametrize("stop", [3, [3], {"a": 1}])
def test_a_stop_that_is_no_text_is_refused(stop: object) -> None:
    with pytest.raises(BadRequest):
        stops_of({"stop": stop})


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": "hi"}, {"messages": ["hi"]}])
def test_messages_are_needed(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        check_messages(body)


@pytest.mark.parametrize("prompt", [None, 3, [], ["a", 3]])
def test_a_prompt_is_text(prompt: object) -> None:
    with pytest.raises(BadRequest):
        prompts_of({"prompt": prompt})


@pytest.mark.parametrize("body", [{"n": 0.5}, {"n": 1000}, {"max_tokens": 0}, {"max_tokens": True}, {"n": -1}])
def test_counts_are_counts(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        requests_of(body)


def test_every_choice_has_a_seed_of_its_own() -> None:
    made = requests_of({"prompt": ["a", "b"], "n": 2, "seed": 7, "max_completion_tokens": 5})
    assert [(request["prompt"], request["seed"], request["max_tokens"]) for request in made] == [
        ("a", 7, 5),
        ("a", 8, 5),
        ("b", 7, 5),
        ("b", 8, 5),
    ]


class Deltas(FakeHost):
    """Gives the deltas that it was given."""

    def __init__(self, *deltas: Delta) -> None:
        super().__init__()
        self.deltas = deltas

    async def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        for delta in self.deltas:
            yield delta


def token(id: int, piece: bytes, logprob: float = -0.5) -> TokenLogprob:
    return TokenLogprob(id, piece, logprob, (TokenLogprob(id, piece, logprob),))


async def told(*deltas: Delta, **request: Any) -> list[Piece]:
    usage = Usage()
    async with aclosing(pieces(Deltas(*deltas), request, usage)) as found:
        return [piece async for piece in found]


async def test_a_stop_string_ends_thoughts_too() -> None:
    found = await told(Delta("", reasoning="one ST"), Delta("", reasoning="OP two"), Delta("never"), stop="STOP")
    assert "".join(piece.reasoning for piece in found) == "one "
    assert "".join(piece.text for piece in found) == ""
    assert found[-1].finish == "stop"


async def test_thoughts_end_where_the_answer_begins() -> None:
    found = await told(Delta("", reasoning="a ST"), Delta("OP b", finish="stop"), stop="STOP")
    assert ("".join(piece.reasoning for piece in found), "".join(piece.text for piece in found)) == ("a ST", "OP b")


async def test_probabilities_wait_with_their_text_and_end_with_it() -> None:
    first, second, third = token(1, b"a"), token(2, b" S"), token(3, b"TOP")
    found = await told(
        Delta("a", ids=(1,), logprobs=(first,)),
        Delta(" S", ids=(2,), logprobs=(second,)),
        Delta("TOP", ids=(3,), logprobs=(third,)),
        stop=["STOP"],
    )
    assert "".join(piece.text for piece in found) == "a "
    assert [one.id for piece in found for one in piece.logprobs] == [1, 2]
    assert [id for piece in found for id in piece.ids] == [1, 2]


async def test_calls_and_warnings_are_not_held_back() -> None:
    call = ToolCall(0, "call_1", "add", "{}")
    notice = {"param": "n_keep", "reason": "no"}
    found = await told(
        Delta("S", warnings=(notice,)), Delta("", tool_calls=(call,)), Delta("", finish="tool_calls"), stop="STOP"
    )
    assert [piece.warnings for piece in found if piece.warnings] == [(notice,)]
    assert [piece.tool_calls for piece in found if piece.tool_calls] == [(call,)]
    assert "".join(piece.text for piece in found) == "S"
    assert found[-1].finish == "tool_calls"


def test_an_answer_that_calls_and_thinks_has_openais_shape() -> None:
    shape = Shape("chatcmpl-", "chat.completion", "m")
    call = ToolCall(0, "call_1", "add", "{}")
    parts = [Piece("", reasoning="hm"), Piece("", "tool_calls", tool_calls=(call,), ids=(4,))]
    choice = shape.choice(0, parts)
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
    }
    assert choice["tokens"] == [4]
    first = shape.chunk(0, parts[0], first=True)["choices"][0]["delta"]
    assert first == {"role": "assistant", "reasoning_content": "hm"}
    later = shape.chunk(0, parts[1], first=False)["choices"][0]["delta"]
    assert later["tool_calls"][0]["index"] == 0
    assert "content" not in later


def test_a_probability_of_nothing_is_a_number_in_json() -> None:
    shape = Shape("cmpl-", "text_completion", "m")
    piece = Piece("a", "stop", reasoning="hm ", logprobs=(token(7, b"\xe3", float("-inf")),))
    choice = shape.choice(0, [piece])
    assert choice["text"] == "hm a"
    (shown,) = choice["logprobs"]["content"]
    assert (shown["token"], shown["bytes"], shown["logprob"]) == ("\ufffd", [0xE3], LEAST)
    assert shown["top_logprobs"] == [{"id": 7, "token": "\ufffd", "bytes": [0xE3], "logprob": LEAST}]


@pytest.mark.parametrize("scale", [True, "1", 1000])
def test_a_scale_is_a_number_in_a_range(scale: object) -> None:
    assert scale_of({}) == 1.0
    with pytest.raises(BadRequest):
        scale_of({"scale": scale})


def test_tokens_are_prompts_and_no_limit_is_none() -> None:
    assert prompts_of({"prompt": [1, 2]}) == [[1, 2]]
    assert prompts_of({"prompt": [[1], "a"]}) == [[1], "a"]
    assert requests_of({"max_tokens": -1, "seed": -1, "n": 2})[1] == {"max_tokens": None, "seed": -1, "n": 2}
