"""Our own server around a hosted engine, in a real process: the fake invents tokens, and faults."""

from __future__ import annotations

import base64
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually
from tests.worker.process import Worker, plan_for, question, text_of
from uml.core.errors import BadOption, IllegalInstruction, OutOfMemory
from uml.engines.fake import Fake, FakeHost, Faults


def fake(folder: Path, *flags: str, **options: Any) -> Worker:
    return Worker(Fake(), plan_for(engine="fake", extra_flags=list(flags), **options), folder)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with fake(tmp_path_factory.mktemp("w")) as started:
        yield started.ready()


WHOLE_S = 10.0
"""What the longest answers asked of `slow` take to their end: 500 tokens."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Fifty tokens a second, one request at a time."""
    with fake(tmp_path_factory.mktemp("w"), "tokens_per_s=50", parallel=1) as started:
        yield started.ready()


def test_it_repeats_and_counts(worker: Worker) -> None:
    answer = worker.post("/v1/chat/completions", question("hello there", max_tokens=4))
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("hello there 1 2", "length")
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert answer["model"] == "demo"


def test_a_prompt_counts_once_for_all_its_choices(worker: Worker) -> None:
    answer = worker.post("/v1/chat/completions", question("hello there", max_tokens=4, n=3))
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 12, "total_tokens": 14}
    two = worker.post("/v1/completions", {"prompt": ["hello there", "hello"], "max_tokens": 4, "n": 2})
    assert two["usage"] == {"prompt_tokens": 3, "completion_tokens": 16, "total_tokens": 19}


def test_it_streams_with_usage(worker: Worker) -> None:
    asked = question("hello there", max_tokens=4, stream_options={"include_usage": True})
    chunks = worker.stream("/v1/chat/completions", asked)
    assert text_of(chunks) == "hello there 1 2"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["object"] for chunk in chunks[:-1]] == ["chat.completion.chunk"] * 5
    assert chunks[-3]["choices"][0]["finish_reason"] == "length"
    assert chunks[-2]["usage"]["total_tokens"] == 6
    assert chunks[-1] == "[DONE]"


def test_parts_of_a_message_count_as_text(worker: Worker) -> None:
    content = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": content}], "max_tokens": 2}
    assert worker.post("/v1/chat/completions", asked)["choices"][0]["message"]["content"] == "one two"
    asked = {"messages": [{"role": "user", "content": [*content, {"type": "image_url"}]}]}
    status, refused = worker.request("POST", "/v1/chat/completions", asked)
    assert (status, refused["error"]["param"]) == (400, "messages[0].content[2]")
    assert refused["error"]["message"].endswith("is of type image_url; this engine reads texts only")


def test_several_prompts_and_choices_each_have_an_answer(worker: Worker) -> None:
    answer = worker.post("/v1/completions", {"prompt": ["a", "b"], "n": 2, "max_tokens": 2})
    assert [choice["text"] for choice in answer["choices"]] == ["a 1", "a 1", "b 1", "b 1"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    chunks = worker.stream("/v1/completions", {"prompt": "a", "n": 2, "max_tokens": 1})
    assert [chunk["choices"][0]["index"] for chunk in chunks[:-1]] == [0, 1]


def test_a_stop_string_ends_an_answer(worker: Worker) -> None:
    answer = worker.post("/v1/completions", {"prompt": "a", "stop": "1 2", "max_tokens": 20})
    assert answer["choices"][0] == {"index": 0, "text": "a ", "logprobs": None, "finish_reason": "stop"}


def test_embeddings_come_as_numbers_or_packed(worker: Worker) -> None:
    plain = worker.post("/v1/embeddings", {"input": ["one", "two words"]})
    assert [item["index"] for item in plain["data"]] == [0, 1]
    assert plain["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    packed = worker.post("/v1/embeddings", {"input": "one", "encoding_format": "base64"})["data"][0]["embedding"]
    numbers = struct.unpack("<8f", base64.b64decode(packed))
    assert numbers == pytest.approx(plain["data"][0]["embedding"])
    tokens = worker.post("/tokenize", {"content": "one"})["tokens"]
    assert worker.post("/v1/embeddings", {"input": tokens})["data"][0] == plain["data"][0]


def test_tokens_go_there_and_back(worker: Worker) -> None:
    text = "  some words,\nand blanks "
    tokens = worker.post("/tokenize", {"content": text, "add_special": True})["tokens"]
    assert worker.post("/detokenize", {"tokens": tokens})["content"] == text
    pieces = worker.post("/tokenize", {"content": text, "with_pieces": True})["tokens"]
    assert [piece["id"] for piece in pieces] == tokens
    assert "".join(piece["piece"] for piece in pieces) == text
    assert worker.post("/detokenize", {"tokens": []})["content"] == ""


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/chat/completions", b"{", 400, "not JSON"),
        ("/v1/chat/completions", b"[]", 400, "object"),
        ("/v1/chat/completions", b"", 400, "messages"),
        ("/v1/completions", b'{"prompt": 3}', 400, "prompt"),
        ("/v1/completions", b'{"prompt": "a", "n": "x"}', 400, "n must"),
        ("/v1/completions", b'{"prompt": "a", "stop": 3}', 400, "stop"),
        ("/v1/embeddings", b'{"input": 3}', 400, "input"),
        ("/tokenize", b'{"content": 3}', 400, "content"),
        ("/detokenize", b'{"tokens": "x"}', 400, "tokens"),
        ("/detokenize", b'{"tokens": [99999999]}', 400, "known so far"),
        ("/v1/other", b"{}", 404, "no route"),
    ],
)
def test_bad_requests_are_errors_of_one_shape(worker: Worker, path: str, body: bytes, status: int, says: str) -> None:
    found, answer = worker.request("POST", path, body)
    assert found == answer["error"]["code"] == status
    assert says in answer["error"]["message"]
    assert answer["error"]["type"] in ("invalid_request_error", "not_found_error")


def test_nobody_without_the_key_gets_in(worker: Worker) -> None:
    for key in (None, "wrong"):
        status, answer = worker.request("POST", "/tokenize", {"content": "x"}, key=key)
        assert (status, answer["error"]["type"]) == (401, "authentication_error")
    assert worker.request("GET", "/health", key=None) == (200, {"status": "ok"})


def test_a_prompt_over_the_context_names_both_numbers(worker: Worker) -> None:
    for stream in (False, True):
        status, answer = worker.request("POST", "/v1/completions", {"prompt": "w " * 600, "stream": stream})
        error = answer["error"]
        assert (status, error["type"]) == (400, "exceed_context_size_error")
        assert (error["n_prompt_tokens"], error["n_ctx"]) == (601, 512)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(slow: Worker, stream: bool) -> None:
    connection = slow.send("POST", "/v1/completions", {"prompt": "a", "max_tokens": 500, "stream": stream})
    slow.wait_until_busy(1)
    connection.close()
    assert slow.wait_until_busy(0) < WHOLE_S / 2


def test_one_that_waits_for_a_slot_leaves_the_queue(slow: Worker) -> None:
    first = slow.send("POST", "/v1/completions", {"prompt": "a", "max_tokens": 500, "stream": True})
    slow.wait_until_busy(1)
    waiting = slow.send("POST", "/v1/completions", {"prompt": "b", "max_tokens": 500})
    waiting.close()
    first.close()
    slow.wait_until_busy(0)
    start = time.monotonic()
    assert slow.post("/v1/completions", {"prompt": "c", "max_tokens": 2})["choices"][0]["text"] == "c 1"
    assert time.monotonic() - start < WHOLE_S / 2


def test_one_slot_answers_everybody_in_turn(slow: Worker) -> None:
    order: list[str] = []

    def ask(name: str) -> None:
        slow.post("/v1/completions", {"prompt": name, "max_tokens": 10})
        order.append(name)

    threads = []
    for name in "abc":
        threads.append(threading.Thread(target=ask, args=(name,)))
        threads[-1].start()
        slow.wait_until_busy(1)
    for thread in threads:
        thread.join()
    assert sorted(order) == ["a", "b", "c"] and order[0] == "a"


def test_it_is_no_faster_than_asked(slow: Worker) -> None:
    start = time.monotonic()
    slow.post("/v1/completions", {"prompt": "a", "max_tokens": 10})
    assert time.monotonic() - start >= 0.2


def test_a_load_takes_its_time_and_health_tells(tmp_path: Path) -> None:
    with fake(tmp_path, "load_s=0.8", "memory_mib=4") as worker:
        eventually(lambda: worker.health() == 503)
        status, answer = worker.request("POST", "/tokenize", {"content": "x"})
        assert status in (200, 503), answer
        worker.ready()


@pytest.mark.parametrize(
    ("flag", "kind"), [("oom_on_load=1", OutOfMemory), ("illegal_instruction=1", IllegalInstruction)]
)
def test_a_failed_load_has_a_cause(flag: str, kind: type[Exception], tmp_path: Path) -> None:
    with fake(tmp_path, flag) as worker:
        code = worker.end()
        found = worker.engine.cause(worker.plan, worker.log, code)
    assert isinstance(found, kind)


def test_a_crash_while_loading_is_a_crash(tmp_path: Path) -> None:
    with fake(tmp_path, "crash_on_load=1") as worker:
        assert worker.end() == -6
        assert worker.engine.cause(worker.plan, worker.log, -6) is None


def test_a_crash_in_mid_answer_ends_the_stream(tmp_path: Path) -> None:
    with fake(tmp_path, "crash_after_tokens=3").ready() as worker:
        chunks = worker.stream("/v1/completions", {"prompt": "a", "max_tokens": 9})
        assert text_of(chunks) == "a 1 2" and "[DONE]" not in chunks
        assert worker.end() == -6


def test_a_crash_once_is_not_repeated(tmp_path: Path) -> None:
    flags = ("crash_once_after_tokens=2", f"marker={tmp_path / 'marker'}")
    with fake(tmp_path, *flags).ready() as worker:
        assert text_of(worker.stream("/v1/completions", {"prompt": "a"})) == "a 1"
        assert worker.end() == -6
    with fake(tmp_path, *flags).ready() as worker:
        assert worker.post("/v1/completions", {"prompt": "a", "max_tokens": 4})["choices"][0]["text"] == "a 1 2 3"


def test_a_hang_is_left_by_leaving(tmp_path: Path) -> None:
    with fake(tmp_path, "hang_after_tokens=1", parallel=1).ready() as worker:
        connection = worker.send("POST", "/v1/completions", {"prompt": "a"})
        worker.wait_until_busy(1)
        connection.close()
        worker.wait_until_busy(0)


def test_it_ends_when_asked_to(tmp_path: Path) -> None:
    with fake(tmp_path).ready() as worker:
        worker.process.terminate()
        assert worker.end() == 0


def test_it_ends_when_asked_to_while_loading(tmp_path: Path) -> None:
    with fake(tmp_path, "hang_on_load=1") as worker:
        eventually(lambda: worker.health() == 503)
        worker.process.terminate()
        assert worker.end() == 0


def test_one_that_ignores_the_request_to_end_must_be_killed(tmp_path: Path) -> None:
    with fake(tmp_path, "ignore_sigterm=1").ready() as worker:
        worker.process.terminate()
        with pytest.raises(Exception, match="timed out"):
            worker.process.wait(0.5)


@pytest.mark.parametrize(
    "flags", [["tokens_per_second=3"], ["load_s"], ["load_s=soon"], ["crash_once_after_tokens=3"], ["--flag"]]
)
def test_an_unknown_fault_is_refused(flags: list[str], tmp_path: Path) -> None:
    with pytest.raises(BadOption):
        fake(tmp_path, *flags)


def test_the_fake_is_there_for_every_format() -> None:
    engine = Fake()
    assert engine.available().available
    assert not engine.spec.served
    assert Faults.parse(plan_for(extra_flags=["load_s=2", "marker=/x"]).options) == Faults(load_s=2.0, marker="/x")
    host = FakeHost()
    host.close()
    assert host.embed([""]) == [[pytest.approx(8**-0.5)] * 8]
