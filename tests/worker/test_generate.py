"""Stop strings across the borders of tokens, finish reasons, and what a request may say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml.core.engine import Delta
from uml.core.errors import BadRequest
from uml.engines.fake import FakeHost
from uml.worker.generate import Usage, first_stop, pieces, stops_of
from uml.worker.wire import check_messages, prompts_of, requests_of


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
