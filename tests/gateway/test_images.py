"""Images in a chat, from the client to llama.cpp and back: a model and its projector with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import pictures
from tests.gateway.server import Server, events
from tests.random_gguf import reranker, seeing, yes_or_no

IMAGE, OTHER = pictures.png(60, 40), pictures.bmp(50, 50)


@pytest.fixture(scope="module")
def seer(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model, projector = seeing(tmp_path_factory.mktemp("seeing"))
    name = str(server.post("/v1/models/add", {"path": str(model)}).json()["id"])
    options = {"mmproj": str(projector), "ctx": 512, "parallel": 1}
    reply = server.post("/v1/models/load", {"model": name, "options": options})
    assert reply.status_code == 200, reply.text
    yield name
    server.post("/v1/models/unload", {"model": name})


def look(server: Server, model: str, *images: bytes, **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [pictures.seen("w1 w2", *images)], "temperature": 0, "max_tokens": 3, **more}
    reply = server.post("/v1/chat/completions", body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def surprise(answer: dict[str, Any]) -> list[float]:
    return [token["logprob"] for token in answer["choices"][0]["logprobs"]["content"]]


def test_images_are_read_and_counted(server: Server, seer: str) -> None:
    none, one, other, both = (
        look(server, seer, *images, logprobs=True) for images in ((), (IMAGE,), (OTHER,), (IMAGE, OTHER))
    )
    sizes = [answer["usage"]["prompt_tokens"] for answer in (none, one, other, both)]
    assert sizes[1] == sizes[2] > sizes[0]
    assert sizes[3] > sizes[1]
    assert len({tuple(surprise(answer)) for answer in (none, one, other, both)}) == 4, "each image matters"
    assert surprise(look(server, seer, IMAGE, logprobs=True)) == pytest.approx(surprise(one), abs=1e-2)


def test_the_next_turn_does_not_read_an_image_again(server: Server, seer: str) -> None:
    def turn(messages: list[dict[str, Any]]) -> tuple[str, int, int]:
        body = {"model": seer, "messages": messages, "temperature": 0, "max_tokens": 4, "ignore_eos": True}
        found = server.post("/v1/chat/completions", body).json()
        usage = found["usage"]
        said = found["choices"][0]["message"]["content"]
        return said, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]

    words = " ".join(f"w{number}" for number in range(20))
    said, read, _ = turn([pictures.seen(words, IMAGE)])
    more = [{"role": "assistant", "content": said}, {"role": "user", "content": "w7"}]
    assert turn([pictures.seen(words, IMAGE), *more])[2] >= read - 6, "all of the first turn but its end"
    assert turn([pictures.seen(words, OTHER), *more])[2] < 8, "another image is another beginning"


def test_a_stream_of_an_image_says_the_same(server: Server, seer: str) -> None:
    body = {"model": seer, "messages": [pictures.seen("w1 w2", IMAGE)], "temperature": 0, "max_tokens": 3}
    reply = server.post("/v1/chat/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})
    found = [event for event in events(reply.text) if event != "[DONE]"]
    assert found[-1]["usage"]["prompt_tokens"] == look(server, seer, IMAGE)["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("images", "param", "says"),
    [
        ((IMAGE, b"no image"), "messages[0].content[1].image_url.url", "no image with a size in its header"),
        ((IMAGE[:90], IMAGE), "messages[0].content[0].image_url.url", "cut short"),
        ((pictures.huge_png(),), "messages[0].content[0].image_url.url", "100000 x 100000 pixels"),
        ((pictures.gif(9, 9),), "messages[0].content[0].image_url.url", "could not decode"),
        ((IMAGE, pictures.webp(9, 9, b"VP8 ")), "messages[0].content[1].image_url.url", "(WebP); it reads PNG"),
    ],
)
def test_it_is_said_which_image_is_at_fault(
    server: Server, seer: str, images: tuple[bytes, ...], param: str, says: str
) -> None:
    reply = server.post("/v1/chat/completions", {"model": seer, "messages": [pictures.seen("w1", *images)]})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param), error
    assert says in error["message"]


@pytest.mark.parametrize("engine", ["llamacpp", "fake"])
def test_a_model_for_texts_says_so(server: Server, engine: str) -> None:
    server.post("/v1/models/load", {"model": "alpha", "options": {"engine": engine, "ctx": 256, "parallel": 1}})
    try:
        reply = server.post("/v1/chat/completions", {"model": "alpha", "messages": [pictures.seen("w1", IMAGE)]})
    finally:
        server.post("/v1/models/unload", {"model": "alpha"})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"][:8]) == (400, "messages"), error
    assert {"llamacpp": "by the option mmproj", "fake": "reads texts only"}[engine] in error["message"]


def test_llama_cpp_scores_documents(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = reranker(tmp_path_factory.mktemp("reranker"))
    model = str(server.post("/v1/models/add", {"path": str(path)}).json()["id"])
    asked = {"model": model, "query": "w1 w2", "documents": ["w1 w2", {"text": "w5"}, "w7 w8 w9"]}
    try:
        found = server.post("/v1/rerank", asked).json()
        raw = server.post("/v1/rerank", {**asked, "raw_scores": True, "top_n": 1}).json()["results"]
        long = server.post("/v1/rerank", {**asked, "documents": ["w1", "w5 " * 600]})
        sorts = server.post("/v1/classify", {"model": model, "input": "w1"}).json()["error"]
        chats = server.post("/v1/chat/completions", {"model": model, "messages": [pictures.seen("w1")]})
    finally:
        server.post("/v1/models/unload", {"model": model})
    scores = [one["relevance_score"] for one in found["results"]]
    assert scores == sorted(scores, reverse=True) and all(0 < score < 1 for score in scores)
    assert (len(set(scores)), found["usage"]["prompt_tokens"]) == (3, 18)
    assert [one["index"] for one in raw] == [found["results"][0]["index"]] and raw[0]["relevance_score"] < 0
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded"), long.text
    assert long.json()["error"]["param"] == "documents"
    assert (sorts["param"], "use /v1/rerank" in sorts["message"]) == ("model", True)
    assert (chats.status_code, "use /v1/rerank" in chats.json()["error"]["message"]) == (400, True)


def test_scores_that_are_probabilities_already_stay_what_they_are(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = yes_or_no(tmp_path_factory.mktemp("yes-or-no"))
    model = str(server.post("/v1/models/add", {"path": str(path)}).json()["id"])
    asked = {"model": model, "query": "w1 w2", "documents": ["w1 w2", "w5", "w7 w8 w9"]}
    try:
        found, raw = (
            server.post("/v1/rerank", {**asked, "raw_scores": own}).json()["results"] for own in (False, True)
        )
    finally:
        server.post("/v1/models/unload", {"model": model})
    scores = [one["relevance_score"] for one in found]
    assert all(0 <= score <= 1 for score in scores) and min(scores) < 0.45, "a sigmoid of them would be 0.5 or more"
    assert scores == pytest.approx([one["relevance_score"] for one in raw], abs=1e-3)
