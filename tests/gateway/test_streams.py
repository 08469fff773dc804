"""Who leaves frees what he held; what breaks is told; what is slow is waited for."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.builders import write_tiny_gguf
from tests.gateway.server import Server, ask, events, spoken
from tests.waiting import eventually

SLOW = "tokens_per_s=5"
"""It would answer for minutes: what ends sooner has been ended."""


def in_flight(server: Server) -> int:
    return int(server.worker("alpha").get("in_flight", 0))


def leave(server: Server, body: dict[str, Any], when: Callable[[], object]) -> None:
    """Ask, and close the connection as soon as something has come about."""
    data = json.dumps(body).encode()
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        eventually(when)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_a_client_that_leaves_frees_its_slot(server: Server, fake: Callable[..., str], stream: bool, n: int) -> None:
    model = fake(SLOW)
    if stream:
        body = ask(model, stream=True, max_tokens=1000, n=n)
        with server.http.stream("POST", "/v1/chat/completions", json=body) as reply:
            assert "data: {" in next(reply.iter_text())
    else:
        leave(server, ask(model, max_tokens=1000, n=n), lambda: in_flight(server) == 1)
    eventually(lambda: in_flight(server) == 0)
    assert server.chat(model, max_tokens=1).status_code == 200


def test_a_client_that_leaves_the_queue_is_not_served(server: Server, fake: Callable[..., str]) -> None:
    model = fake(SLOW, parallel=1)
    body = ask(model, stream=True, max_tokens=1000)
    with server.http.stream("POST", "/v1/chat/completions", json=body) as first:
        pieces = first.iter_text()
        next(pieces)
        before = server.worker(model)["requests"]
        leave(server, ask(model), lambda: server.worker(model)["queued"] == 1)
        eventually(lambda: server.worker(model)["queued"] == 0)
        assert server.get("/v1/models/status").json()["queue"] == []
        assert "data" in next(pieces)
    eventually(lambda: in_flight(server) == 0)
    assert server.worker(model)["requests"] == before


def test_requests_wait_in_order(server: Server, fake: Callable[..., str]) -> None:
    model = fake("tokens_per_s=50", parallel=1)
    done: list[str] = []

    def asking(name: str) -> None:
        reply = server.chat(model, max_tokens=5)
        assert reply.status_code == 200
        done.append(name)

    def arrived(count: int) -> bool:
        return int(server.worker(model)["queued"]) + in_flight(server) + len(done) >= count

    threads = []
    for place, name in enumerate(("first", "second", "third")):
        threads.append(threading.Thread(target=asking, args=(name,)))
        threads[-1].start()
        eventually(partial(arrived, place + 1))
    for thread in threads:
        thread.join(10)
    assert done == ["first", "second", "third"]


def test_a_worker_that_dies_ends_the_stream_with_an_error(server: Server, fake: Callable[..., str]) -> None:
    model = fake(SLOW)
    pid = server.worker(model)["pid"]
    body = ask(model, stream=True, max_tokens=1000)
    with server.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        pieces = reply.iter_text()
        text = next(pieces)
        os.kill(pid, signal.SIGKILL)
        text += "".join(pieces)
    values = events(text)
    assert values[-1]["error"]["code"] in ("worker_died", "out_of_memory"), values[-1]
    assert spoken(values[:-1]).startswith("one")
    assert "[DONE]" not in values
    # The server lives, and the next request gets a fresh worker.
    again = server.chat("demo", max_tokens=1)
    assert again.status_code == 200


@pytest.mark.parametrize("n", [1, 2])
def test_a_worker_that_dies_before_the_answer_is_an_error(server: Server, fake: Callable[..., str], n: int) -> None:
    model = fake("crash_after_tokens=3")
    reply = server.chat(model, n=n)
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "worker_died"
    streamed = server.chat("alpha", stream=True, n=n, max_tokens=2)
    assert streamed.status_code == 200


def test_a_crash_in_mid_stream_and_the_next_request(server: Server, fake: Callable[..., str], tmp_path: Path) -> None:
    model = fake("crash_once_after_tokens=3", f"marker={tmp_path / 'crashed'}")
    values = events(server.chat(model, stream=True, text="a b c d e f").text)
    assert values[-1]["error"]["code"] == "worker_died"
    assert server.worker(model)["state"] == "failed"
    fake("crash_once_after_tokens=3", f"marker={tmp_path / 'crashed'}")
    assert events(server.chat(model, stream=True).text)[-1] == "[DONE]"


def test_a_slow_reader_loses_nothing(server: Server, tmp_path: Path) -> None:
    tokens = 30_000
    path = write_tiny_gguf(tmp_path / "long.gguf", **{"llama.context_length": 1 << 20})
    model = str(server.post("/v1/models/add", {"path": str(path)}).json()["id"])
    server.load_fake(model, ctx=tokens + 100, parallel=1)
    with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as http:
        body = ask(model, "a", stream=True, max_tokens=tokens)
        with http.stream("POST", "/v1/chat/completions", json=body) as reply:
            pieces = reply.iter_text()
            text = next(pieces)
            worker = psutil.Process(server.worker(model)["pid"])

            def stands_still() -> bool:
                before = sum(worker.cpu_times()[:2])
                time.sleep(0.1)  # ten ticks of the clock by which processors are shared out
                return sum(worker.cpu_times()[:2]) == before

            # The worker is made to wait long before the end: what nobody reads is kept nowhere.
            eventually(stands_still)
            assert server.worker(model)["in_flight"] == 1
            text += "".join(pieces)
    values = events(text)
    assert values[-1] == "[DONE]"
    assert len(spoken(values).split()) == tokens
    server.post("/v1/models/unload", {"model": model})


def test_warnings_and_strict(server: Server) -> None:
    whole = server.chat("demo", tfs=0.5, colour="red", max_tokens=1).json()
    assert {warning["param"] for warning in whole["warnings"]} == {"tfs", "colour"}
    assert whole["choices"]
    several = server.chat("demo", tfs=0.5, max_tokens=1, n=2).json()
    assert [warning["param"] for warning in several["warnings"]] == ["tfs"]
    first, *rest = events(server.chat("demo", tfs=0.5, max_tokens=1, stream=True).text)
    assert first["warnings"][0]["param"] == "tfs" and rest[-1] == "[DONE]"
    completion = {"model": "demo", "prompt": "a", "echo": True, "max_tokens": 1, "stream": True}
    first, *rest = events(server.post("/v1/completions", completion).text)
    assert first["warnings"][0]["param"] == "echo" and first["choices"][0]["text"] == ""
    refused = server.chat("demo", tfs=0.5, strict=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_parameter")
    fine = server.chat("demo", temperature=0.5, strict=True, max_tokens=1)
    assert fine.status_code == 200 and "warnings" not in fine.json()


def test_parameters_of_other_systems_reach_the_engine(server: Server) -> None:
    def said(**more: Any) -> str:
        text = "What is the capital of Japan?"
        reply = server.post("/v1/chat/completions", ask("demo", text, **more))
        assert reply.status_code == 200, reply.text
        assert "warnings" not in reply.json(), reply.text
        return str(reply.json()["choices"][0]["message"]["content"])

    japan = "The capital of Japan is Tokyo."
    assert said(do_sample=False) == japan
    assert said(temp=0, typical=1, nsigma=0, repeat_penalty=1.0, repeat_last_n=-1, sampler_seed=3) == japan
    assert said(temperature=0, max_new_tokens=3) == "The capital of"
    first, *_ = server.post("/v1/tokenize", {"model": "demo", "content": japan}).json()["tokens"]
    assert not said(temperature=0, custom_token_bans=f"{first}", logit_bias={"1": 1.0}).startswith("The")
    assert said(temperature=0, grammar_string='root ::= "no"', ban_eos_token=False) == "no"
    assert said(dynamic_temperature=True, dynatemp_low=0, dynatemp_high=0, enable_thinking=False) == japan
    order = ["repetition_penalty", "dry", "top_k", "temperature"]
    assert said(temperature=0, sampler_priority=order, dry_sequence_breakers='["\\n", ":"]', adaptive_target=0) == japan


def test_replies_tell_the_model_and_the_wait(server: Server) -> None:
    reply = server.chat("DEMO", max_tokens=1)
    assert reply.headers["x-uml-model"] == "demo"
    assert int(reply.headers["x-uml-queue-ms"]) >= 0
