"""llama.cpp in a real process, over a real socket, with the demo model.

Every story is told of the library, and of a `llama-server` too where UML_TEST_LLAMA_SERVER names one.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually
from tests.worker.process import DEMO, LLAMACPP, Worker, plan_for, question, text_of
from uml.core.errors import BadFile, BadOption, CorruptFile, UmlError, UnsupportedArchitecture
from uml.engines.llamacpp.engine import LlamaCpp


@pytest.fixture(scope="module", params=LLAMACPP)
def engine(request: pytest.FixtureRequest) -> LlamaCpp:
    return LlamaCpp(LLAMACPP[request.param])


@pytest.fixture(scope="module")
def worker(engine: LlamaCpp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(engine, plan_for(parallel=2, ctx=2048, embeddings=True), tmp_path_factory.mktemp("w")) as started:
        yield started.ready()


def test_it_answers_a_chat_under_the_models_name(worker: Worker) -> None:
    answer = worker.post("/v1/chat/completions", question("What is the capital of Japan?"))
    assert "Tokyo" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == "demo"


def test_it_streams_and_ends_with_usage(worker: Worker) -> None:
    asked = question("What is the capital of Japan?", stream_options={"include_usage": True})
    chunks = worker.stream("/v1/chat/completions", asked)
    assert "Tokyo" in text_of(chunks)
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["usage"]["completion_tokens"] > 3


def test_text_models_embed_too(worker: Worker) -> None:
    answer = worker.post("/v1/embeddings", {"input": ["one", "two"]})
    first, second = (item["embedding"] for item in answer["data"])
    assert len(first) == len(second) == 256
    assert first != second
    assert sum(value * value for value in first) == pytest.approx(1.0, abs=1e-3)


def test_tokens_go_there_and_back(worker: Worker) -> None:
    text = "Repeat after me: zebra lantern cloud"
    tokens = worker.post("/tokenize", {"content": text})["tokens"]
    assert worker.post("/detokenize", {"tokens": tokens})["content"] == text
    pieces = worker.post("/tokenize", {"content": text, "with_pieces": True})["tokens"]
    assert "".join(piece["piece"] for piece in pieces) == text


def test_nobody_without_the_key_gets_in(worker: Worker) -> None:
    assert worker.request("POST", "/tokenize", {"content": "x"}, key=None)[0] == 401
    assert worker.request("GET", "/slots", key="wrong")[0] == 401
    assert worker.request("GET", "/health", key=None) == (200, {"status": "ok"})


def test_a_prompt_over_the_context_names_both_numbers(worker: Worker) -> None:
    status, answer = worker.request("POST", "/v1/completions", {"prompt": "word " * 4000})
    assert (status, answer["error"]["type"]) == (400, "exceed_context_size_error")
    assert answer["error"]["n_prompt_tokens"] > answer["error"]["n_ctx"] == 2048


def test_a_client_that_leaves_its_stream_frees_the_slot(worker: Worker) -> None:
    # Only of streams: the engine looks after a client that waits for a whole answer once a second, and not at all
    # while it has results for others (server_response::recv_with_timeout). So ask workers for streams.
    asked = {"prompt": "Once", "max_tokens": 1900, "ignore_eos": True, "stream": True}
    before = predicted(worker)
    connection = worker.send("POST", "/v1/completions", asked)
    worker.wait_until_busy(1)
    connection.close()
    worker.wait_until_busy(0)
    assert predicted(worker) - before < 1900


def predicted(worker: Worker) -> int:
    """Tokens that the engine has answered with since its start, by its own count."""
    _, figures = worker.request("GET", "/metrics")
    (value,) = re.findall(r"^llamacpp:tokens_predicted_total (\d+)", figures, re.MULTILINE)
    return int(value)


def test_prompts_are_not_written_to_the_log(worker: Worker) -> None:
    worker.post("/v1/chat/completions", question("a secret word: xylophone"))
    worker.request("POST", "/v1/completions", {"prompt": "xylophone " * 4000})
    assert "xylophone" not in worker.log


def test_a_context_of_every_slot_is_the_one_asked_for(engine: LlamaCpp, tmp_path: Path) -> None:
    with Worker(engine, plan_for(parallel=4, ctx=256), tmp_path).ready() as worker:
        assert [slot["n_ctx"] for slot in worker.request("GET", "/slots")[1]] == [256] * 4


def test_health_answers_while_the_model_loads(engine: LlamaCpp, tmp_path: Path) -> None:
    with Worker(engine, plan_for(ctx=2048, parallel=64), tmp_path) as worker:
        seen = set()

        def ready() -> bool:
            seen.add(worker.health())
            assert worker.process.poll() is None, worker.log
            return 200 in seen

        eventually(ready)
        assert seen <= {0, 503, 200}


def damaged(kind: str, folder: Path) -> Path:
    data = DEMO.read_bytes()
    file = folder / f"{kind}.gguf"
    name = b"\x05\0\0\0\0\0\0\0"
    file.write_bytes(
        {
            "random": bytes(range(256)) * 40,
            "empty": b"",
            "half": data[: len(data) // 2],
            "cut": data[:4000],
            "renamed": data.replace(name + b"llama", name + b"lluma", 1),
            "tensor": data.replace(b"blk.3.attn_k.weight", b"blk.3.attn_z.weight", 1),
        }[kind]
    )
    return file


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("random", CorruptFile),
        ("empty", CorruptFile),
        ("half", CorruptFile),
        ("cut", CorruptFile),
        ("renamed", UnsupportedArchitecture),
        ("tensor", CorruptFile),
    ],
)
def test_a_damaged_file_has_a_cause(engine: LlamaCpp, kind: str, expected: type[UmlError], tmp_path: Path) -> None:
    file = damaged(kind, tmp_path)
    with Worker(engine, plan_for(file), tmp_path) as worker:
        code = worker.end()
        found = worker.engine.cause(worker.plan, worker.log, code)
    assert type(found) is expected
    if isinstance(found, BadFile):
        assert str(file) in found.message


@pytest.mark.parametrize(
    ("options", "blamed"),
    [
        ({"lora": [str(DEMO)]}, "lora"),
        ({"mmproj": str(DEMO)}, "mmproj"),
        ({"chat_template": "{% for x in %}"}, "chat_template"),
        ({"spec_type": "mtp"}, "spec_type"),
        ({"override_tensor": ["blk=CUDA9"]}, "override_tensor"),
    ],
)
def test_an_option_that_the_engine_refuses_is_named(
    engine: LlamaCpp, options: dict[str, Any], blamed: str, tmp_path: Path
) -> None:
    with Worker(engine, plan_for(DEMO, **options), tmp_path) as worker:
        code = worker.end()
        found = worker.engine.cause(worker.plan, worker.log, code)
    assert isinstance(found, BadOption)
    assert found.param == f"options.{blamed}"


def test_a_draft_model_changes_the_speed_and_not_the_answer(engine: LlamaCpp, tmp_path: Path) -> None:
    plan = plan_for(DEMO, draft_model=str(DEMO), parallel=1)
    with Worker(engine, plan, tmp_path).ready() as worker:
        answer = worker.post("/v1/chat/completions", question("What is the capital of Japan?"))
        assert "Tokyo" in answer["choices"][0]["message"]["content"]
        assert answer["timings"]["draft_n"] > 0


def test_a_connection_may_be_kept_for_the_next_request(worker: Worker) -> None:
    connection = worker.send("POST", "/tokenize", {"content": "one"})
    assert connection.getresponse().read()
    connection.request("POST", "/tokenize", b'{"content": "two"}', {"Authorization": "Bearer test-key"})
    response: http.client.HTTPResponse = connection.getresponse()
    assert response.status == 200
    response.read()
    connection.close()
