"""From the thread that computes to the loop that sends: nothing is lost, nothing waits long, and an end not at all."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from uml.core.errors import EngineError
from uml.engines.hosted.answer import News, Told
from uml.engines.onnx.feed import PAUSE_S, SURE, Feed


async def taken(feed: Feed) -> list[list[Told]]:
    """All that is told, as it comes, to its end."""
    found = [await feed.take()]
    while isinstance(found[-1][-1], int) or found[-1][-1].finish is None:
        found.append(await feed.take())
    return found


def tokens_of(told: list[Told]) -> list[int | None]:
    return [item if isinstance(item, int) else item.token for item in told]


def computing(feed: Feed, count: int, step_s: float) -> threading.Thread:
    """A thread that tells of so many tokens."""

    def run() -> None:
        for token in range(count):
            until = time.perf_counter() + step_s
            while time.perf_counter() < until:
                time.sleep(0)
            feed.put(News(token, "length") if token == count - 1 else token)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


async def test_fast_tokens_come_together_and_in_order() -> None:
    feed = Feed(asyncio.get_running_loop())
    feed.put(-1)
    await feed.take()  # the first one tells nothing of the speed, also where all others come with it
    thread = computing(feed, 2000, 0.0)
    found = await taken(feed)
    thread.join()
    assert [token for told in found for token in tokens_of(told)] == list(range(2000))
    assert len(found) < 1000
    assert feed.fast


async def test_a_slow_token_comes_by_itself_and_at_once() -> None:
    feed = Feed(asyncio.get_running_loop())
    for token in range(SURE * 2):
        await asyncio.sleep(PAUSE_S)  # what makes it slow
        feed.put(News(token))
        taking = asyncio.ensure_future(feed.take())
        await asyncio.sleep(0)  # one turn of the loop
        # It lay there already: no pause was made for it.
        assert taking.done() or token > SURE
        assert tokens_of(await taking) == [token]


async def test_an_end_is_not_paused_for() -> None:
    feed = Feed(asyncio.get_running_loop())
    for token in range(SURE * 4):
        feed.put(News(token))
        await feed.take()
    waiting = asyncio.ensure_future(feed.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.put(News(None, error=EngineError("a model", "no more")))
    # No timer is due in so few turns of the loop.
    for _ in range(4):
        await asyncio.sleep(0)
    assert waiting.done()
    assert tokens_of(waiting.result()) == [None]


async def test_a_stream_that_grows_slow_is_listened_to_again() -> None:
    feed = Feed(asyncio.get_running_loop())
    for token in range(SURE * 4):
        feed.put(News(token))
        await feed.take()
    waiting = asyncio.ensure_future(feed.take())
    await asyncio.sleep(PAUSE_S * 10)  # long after it would have looked by itself
    assert not waiting.done()
    feed.put(News(1))
    assert tokens_of(await waiting) == [1]


async def test_after_a_fast_answer_only_the_first_token_is_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml.engines.onnx.feed.PAUSE_S", 3600.0)  # however long this machine takes for a turn
    feed = Feed(asyncio.get_running_loop(), fast=True)
    waiting = asyncio.ensure_future(feed.take())
    await asyncio.sleep(0)
    feed.put(1)
    assert tokens_of(await waiting) == [1]
    waiting = asyncio.ensure_future(feed.take())
    await asyncio.sleep(0)
    feed.put(2)
    for _ in range(4):
        await asyncio.sleep(0)
    assert not waiting.done()
    feed.put(News(3, "stop"))
    assert tokens_of(await waiting) == [2, 3]


async def test_an_answer_that_is_slow_behind_a_fast_one_is_listened_to() -> None:
    feed = Feed(asyncio.get_running_loop(), fast=True)
    for token in range(SURE + 1):
        feed.put(token)
        await feed.take()
        await asyncio.sleep(PAUSE_S)  # what makes it slow
    assert not feed.fast


async def test_who_leaves_takes_nothing_more() -> None:
    feed = Feed(asyncio.get_running_loop())
    waiting = asyncio.ensure_future(feed.take())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    feed.put(News(1, "stop"))
    assert tokens_of(await feed.take()) == [1]
