"""The client against real sockets, with servers that behave as the engines' do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S, until
from uml.core.engine import Endpoint
from uml.runtime.workers import channel as channel_module
from uml.runtime.workers.channel import Channel, ChannelBroken

Answer = Callable[["Exchange"], Awaitable[None]]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Exchange:
    """One request as the server sees it. `connection`: the number of the connection, from 1."""

    def __init__(self, head: bytes, body: bytes, connection: int, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.body = body
        self.connection = connection
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, body: bytes, extra: bytes = b"") -> None:
        await self.say(b"HTTP/1.1 200 OK\r\nX-Name: Value\r\n%sContent-Length: %d\r\n\r\n%s" % (extra, len(body), body))

    async def chunk(self, data: bytes) -> None:
        await self.say(b"%x\r\n%s\r\n" % (len(data), data))

    def hang_up(self) -> None:
        self.writer.close()


class Server:
    """Hands every request to `answer` until the connection ends. `ended` counts the connections that did."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        self.ended = 0
        self.one_ended = asyncio.Condition()
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line[15:]) for line in head.splitlines() if line.startswith(b"Content-Length:")), 0)
                await self.answer(Exchange(head, await reader.readexactly(length), number, writer))
        writer.close()
        async with self.one_ended:
            self.ended += 1
            self.one_ended.notify_all()

    async def until_ended(self, count: int = 1) -> None:
        async with self.one_ended, asyncio.timeout(PATIENCE_S):
            await self.one_ended.wait_for(lambda: self.ended >= count)


@asynccontextmanager
async def worker(folder: Path, answer: Answer) -> AsyncIterator[tuple[Channel, Server]]:
    path, server = folder / "w.sock", Server(answer)
    listener = await asyncio.start_unix_server(server, path, limit=1 << 24)
    channel = Channel(Endpoint(key="secret", socket=path))
    try:
        yield channel, server
    finally:
        channel.close()
        listener.close()
        for writer in server.writers:
            writer.close()


async def ok(exchange: Exchange) -> None:
    await exchange.reply(b"%d" % exchange.connection)


async def test_a_request_carries_key_and_type_and_its_answer_comes_whole(tmp_path: Path) -> None:
    seen: list[Exchange] = []

    async def answer(exchange: Exchange) -> None:
        seen.append(exchange)
        await exchange.reply(b"hello")

    async with worker(tmp_path, answer) as (channel, _):
        response = await channel.request("POST", "/x?y=1", b"{}", [(b"x-request-id", b"7")])
        assert (response.status, await response.read(100)) == (200, b"hello")
        assert response.header(b"x-name") == b"Value"
        assert response.header(b"x-none") is None
        typed = await channel.request("POST", "/x", b"abc", [(b"Content-Type", b"text/plain")])
        await typed.read(100)
    first, second = seen
    assert first.head.startswith(b"POST /x?y=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n")
    assert b"Content-Type: application/json\r\n" in first.head
    assert b"x-request-id: 7\r\n" in first.head
    assert (first.body, second.body) == (b"{}", b"abc")
    assert second.head.lower().count(b"content-type") == 1


async def test_a_worker_on_loopback_is_reached_the_same_way() -> None:
    listener = await asyncio.start_server(Server(ok), "127.0.0.1", 0)
    channel = Channel(Endpoint(key="", port=listener.sockets[0].getsockname()[1]))
    assert await channel.health() == 200
    channel.close()
    listener.close()


async def test_connections_are_used_again_but_not_too_often(tmp_path: Path) -> None:
    async with worker(tmp_path, ok) as (channel, server):
        for _ in range(95):
            assert await channel.health() == 200
        assert server.connections == 2


async def test_idle_connections_are_given_up_before_the_server_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worker(tmp_path, ok) as (channel, server):
        await asyncio.gather(channel.health(), channel.health())
        assert server.connections == 2
        monkeypatch.setattr(channel_module, "IDLE_LIMIT_S", 0.0)
        await channel.health()
        assert server.connections == 3
        await server.until_ended(2)


async def test_a_worker_that_says_close_is_believed(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply(b"", b"Connection: close\r\n")

    async with worker(tmp_path, answer) as (channel, server):
        await channel.health()
        await channel.health()
        assert server.connections == 2


async def test_a_reused_connection_that_dies_before_the_first_byte_is_replaced_once(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        if b"/second" in exchange.head and exchange.connection == 1:
            exchange.hang_up()
        else:
            await exchange.reply(b"%d" % exchange.connection)

    async with worker(tmp_path, answer) as (channel, server):
        await channel.health()
        response = await channel.request("POST", "/second", b"{}")
        assert await response.read(10) == b"2"
        assert server.connections == 2


async def test_a_connection_that_ends_while_idle_is_forgotten(tmp_path: Path) -> None:
    async with worker(tmp_path, ok) as (channel, server):
        await channel.health()
        server.writers[0].close()
        await server.until_ended()
        assert await channel.health() == 200
        assert server.connections == 2


async def test_a_connection_that_talks_unasked_is_not_trusted(tmp_path: Path) -> None:
    async with worker(tmp_path, ok) as (channel, server):
        await channel.health()
        server.writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n?")
        await server.until_ended()
        response = await channel.request("GET", "/")
        assert await response.read(10) == b"2"


async def test_what_dies_on_a_fresh_connection_is_not_tried_again(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.hang_up()

    async with worker(tmp_path, answer) as (channel, server):
        with pytest.raises(ChannelBroken, match="closed the connection"):
            await channel.request("GET", "/")
        assert server.connections == 1
        assert await channel.health() == 0


async def test_an_answer_that_has_begun_is_not_asked_for_twice(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        if b"/half" in exchange.head:
            await exchange.say(b"HTTP/1.1 200 O")
            exchange.hang_up()
        else:
            await exchange.reply(b"")

    async with worker(tmp_path, answer) as (channel, server):
        await channel.health()
        with pytest.raises(ChannelBroken):
            await channel.request("GET", "/half")
        assert server.connections == 1


async def test_nobody_listening(tmp_path: Path) -> None:
    channel = Channel(Endpoint(key="", socket=tmp_path / "none.sock"))
    assert await channel.health() == 0
    with pytest.raises(ChannelBroken, match="does not listen"):
        await channel.request("GET", "/")


async def test_a_stream_gives_each_piece_as_it_comes_and_its_connection_is_not_used_again(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        if b"/stream" not in exchange.head:
            await ok(exchange)
            return
        await exchange.say(CHUNKED)
        for piece in (b"one", b"two", b"three"):
            await exchange.chunk(piece)
            await go_on.wait()
            go_on.clear()
        await exchange.say(b"0\r\n\r\n")

    async with worker(tmp_path, answer) as (channel, server):
        await channel.health()
        response = await channel.request("POST", "/stream", b"{}", stream=True)
        pieces = []
        async for piece in response:
            pieces.append(piece)
            go_on.set()
        assert pieces == [b"one", b"two", b"three"]
        assert server.connections == 1  # the idle one was taken for it
        await until(lambda: server.connections == 2)  # one is opened ahead, by itself
        await channel.health()
        assert server.connections == 2


async def test_pieces_that_arrive_together_come_together(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")

    async with worker(tmp_path, answer) as (channel, _):
        response = await channel.request("GET", "/", stream=True)
        assert [piece async for piece in response] == [b"onetwo"]
        piped: list[bytes] = []
        response = await channel.request("GET", "/", stream=True)
        await response.pipe(piped.append)
        assert piped == [b"onetwo"]


@pytest.mark.parametrize("way", ["read", "iterate", "pipe"])
async def test_an_answer_that_breaks_off_is_told_after_what_came(tmp_path: Path, way: str) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(CHUNKED)
        await exchange.chunk(b"some")
        exchange.hang_up()

    got: list[bytes] = []
    take = got.append
    async with worker(tmp_path, answer) as (channel, _):
        response = await channel.request("GET", "/", stream=True)
        with pytest.raises(ChannelBroken, match="closed the connection"):
            if way == "read":
                await response.read(100)
            elif way == "pipe":
                await response.pipe(take)
            else:
                async for piece in response:
                    take(piece)
    assert got == ([] if way == "read" else [b"some"])


async def test_a_body_of_known_length_that_breaks_off(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(b"HTTP/1.1 500 Oh\r\nContent-Length: 10\r\n\r\nhalf")
        exchange.hang_up()

    async with worker(tmp_path, answer) as (channel, _):
        response = await channel.request("GET", "/")
        assert response.status == 500
        with pytest.raises(ChannelBroken):
            await response.read(100)


async def test_a_body_without_a_length_ends_with_its_connection(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        exchange.hang_up()

    async with worker(tmp_path, answer) as (channel, _):
        response = await channel.request("GET", "/")
        assert await response.read(100) == b"all of it"


async def test_early_hints_are_not_the_answer(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        await exchange.reply(b"late")

    async with worker(tmp_path, answer) as (channel, server):
        for _ in range(2):
            response = await channel.request("GET", "/")
            assert (response.status, await response.read(10), response.header(b"link")) == (200, b"late", None)
        assert server.connections == 1


async def test_what_is_not_http_is_refused(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(b"SSH-2.0-OpenSSH\r\n")

    async with worker(tmp_path, answer) as (channel, _):
        with pytest.raises(ChannelBroken, match="not HTTP"):
            await channel.request("GET", "/")


async def test_a_longer_answer_than_allowed_is_cut_off(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply(b"x" * 100)

    async with worker(tmp_path, answer) as (channel, _):
        response = await channel.request("GET", "/")
        with pytest.raises(ChannelBroken, match="longer than 99 bytes"):
            await response.read(99)


async def test_a_huge_body_arrives_whole_in_both_directions(tmp_path: Path) -> None:
    size = 12_000_000

    async def answer(exchange: Exchange) -> None:
        await exchange.reply(exchange.body)

    async with worker(tmp_path, answer) as (channel, _):
        response = await channel.request("POST", "/", b"x" * size)
        assert await response.read(size) == b"x" * size


@pytest.mark.parametrize("way", ["iterate", "pipe"])
async def test_a_slow_reader_makes_the_worker_wait(tmp_path: Path, way: str) -> None:
    size, pieces = 1 << 16, 400
    sent = 0

    async def answer(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.say(CHUNKED)
        for _ in range(pieces):
            await exchange.chunk(b"x" * size)
            sent += size
        await exchange.say(b"0\r\n\r\n")

    async with worker(tmp_path, answer) as (channel, _):
        response = await channel.request("GET", "/", stream=True)
        got = 0

        def sink(data: bytes) -> None:
            nonlocal got
            got += len(data)
            if got == len(data):
                response.pause()

        piping = asyncio.ensure_future(response.pipe(sink)) if way == "pipe" else None
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.02)  # as long as nothing is sent in this time, the server stands still
        assert sent < 4 << 20
        if piping:
            response.resume()
            await piping
        else:
            async for data in response:
                got += len(data)
        assert got == size * pieces


async def test_closing_an_answer_ends_the_connection_at_once(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(CHUNKED)
        await exchange.chunk(b"some")

    async with worker(tmp_path, answer) as (channel, server):
        async with await channel.request("GET", "/", stream=True) as response:
            assert await anext(response) == b"some"
        await server.until_ended()
        with pytest.raises(ChannelBroken, match="was closed"):
            await anext(response)


async def test_cancelling_a_waiting_request_ends_the_connection_at_once(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        asked.set()

    async with worker(tmp_path, answer) as (channel, server):
        task = asyncio.ensure_future(channel.request("POST", "/", b"{}"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until_ended()


async def test_a_closed_channel_keeps_no_connection(tmp_path: Path) -> None:
    async with worker(tmp_path, ok) as (channel, server):
        await channel.health()
        channel.close()
        await server.until_ended()
        assert await channel.health() == 200
        await server.until_ended(2)
