"""`/v1/rerank` and `/v1/classify`: with models that invent scores, which are the words that texts share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import llama_config, write_hf_folder
from tests.gateway.server import Server
from uml.client import Client

DOCUMENTS = ["a cat", "the big red dog", "a red dog", {"text": "nothing"}]


def loaded(server: Server, folder: Path, labels: int) -> str:
    config = llama_config(architectures=["LlamaForSequenceClassification"], num_labels=labels)
    reply = server.post("/v1/models/add", {"path": str(write_hf_folder(folder, config))})
    model = str(reply.json()["id"])
    server.load_fake(model)
    return model


@pytest.fixture(scope="module")
def ranker(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = loaded(server, tmp_path_factory.mktemp("ranker") / "ranker", 1)
    yield model
    server.post("/v1/models/unload", {"model": model})


@pytest.fixture(scope="module")
def sorter(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = loaded(server, tmp_path_factory.mktemp("sorter") / "sorter", 2)
    yield model
    server.post("/v1/models/unload", {"model": model})


def ask(server: Server, model: str, **more: Any) -> dict[str, Any]:
    reply = server.post("/v1/rerank", {"model": model, "query": "the big dog", "documents": DOCUMENTS, **more})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def test_documents_come_best_first(server: Server, ranker: str) -> None:
    found = ask(server, ranker)
    assert (found["object"], found["model"]) == ("list", ranker)
    assert [one["index"] for one in found["results"]] == [1, 2, 0, 3]
    scores = [one["relevance_score"] for one in found["results"]]
    assert scores == pytest.approx([1 / (1 + math.exp(-count)) for count in (3, 1, 0, 0)])
    assert found["usage"] == {"prompt_tokens": 22, "total_tokens": 22}
    assert "document" not in found["results"][0] and "warnings" not in found


def test_some_of_them_with_their_texts_and_the_models_own_scores(server: Server, ranker: str) -> None:
    found = ask(server, ranker, top_n=2, return_documents=True, raw_scores=True)["results"]
    assert found == [
        {"index": 1, "relevance_score": 3.0, "document": {"text": "the big red dog"}},
        {"index": 2, "relevance_score": 1.0, "document": {"text": "a red dog"}},
    ]
    body = {"model": ranker, "query": "dog", "texts": ["dog", "cat"], "return_text": True}
    assert server.post("/v1/rerank", body).json()["results"][0]["document"] == {"text": "dog"}


def test_many_documents_keep_their_places(server: Server, ranker: str) -> None:
    documents = ["dog " + "x " * (place * 7 % 100) + "big" * (place == 55) for place in range(100)]
    found = ask(server, ranker, documents=documents, raw_scores=True)["results"]
    assert {one["index"] for one in found} == set(range(100))


def test_texts_are_sorted_into_labels(server: Server, sorter: str) -> None:
    reply = server.post("/v1/classify", {"model": sorter, "input": ["one two", "a b c d e f g h i"]})
    found = reply.json()
    assert (found["labels"], [one["label"] for one in found["data"]]) == (["short", "long"], ["short", "long"])
    assert [one["num_classes"] for one in found["data"]] == [2, 2]
    assert found["data"][0]["probs"] == pytest.approx([1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))])
    assert sum(found["data"][1]["probs"]) == pytest.approx(1)
    assert found["id"].startswith("classify-") and found["usage"]["total_tokens"] == 11
    one = server.post("/v1/classify", {"model": sorter, "input": "one", "odd": 1}).json()
    assert len(one["data"]) == 1 and one["warnings"][0]["param"] == "odd"


def test_a_reranker_is_a_classifier_with_one_label(server: Server, ranker: str) -> None:
    found = server.post("/v1/classify", {"model": ranker, "input": "one two"}).json()
    assert (found["labels"], len(found["data"][0]["probs"])) == (["relevant"], 1)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": None}, "query"),
        ({"query": 5}, "query"),
        ({"documents": None}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", 5]}, "documents[1]"),
        ({"documents": [{"title": "a"}]}, "documents[0]"),
        ({"documents": ["a"] * 4097}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"raw_scores": "yes"}, "raw_scores"),
    ],
)
def test_what_is_no_question_is_refused(server: Server, ranker: str, body: dict[str, Any], param: str) -> None:
    asked = {"model": ranker, "query": "a", "documents": ["a"], **body}
    error = server.post("/v1/rerank", asked).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_request", param)


@pytest.mark.parametrize(
    ("path", "which", "says"),
    [
        ("/v1/rerank", "alpha", "alpha is a language model, which answers; use /v1/chat/completions"),
        ("/v1/classify", "alpha", "use /v1/chat/completions"),
        ("/v1/rerank", "sorter", "is a classifier, which sorts texts; use /v1/classify"),
        ("/v1/embeddings", "ranker", "is a reranker, which scores documents for a query; use /v1/rerank"),
        ("/v1/chat/completions", "sorter", "use /v1/classify"),
        ("/v1/completions", "ranker", "use /v1/rerank"),
    ],
)
def test_a_model_of_another_kind_says_which_it_is(
    server: Server, ranker: str, sorter: str, path: str, which: str, says: str
) -> None:
    model = {"alpha": "alpha", "ranker": ranker, "sorter": sorter}[which]
    body = {
        "query": "a",
        "documents": ["a"],
        "input": "a",
        "prompt": "a",
        "messages": [{"role": "user", "content": "a"}],
    }
    reply = server.post(path, {"model": model, **body})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")
    assert says in reply.json()["error"]["message"]
    assert which != "alpha" or server.worker("alpha") == {}, "it was not loaded for that"


def test_the_matrix_says_what_it_can(server: Server, ranker: str, sorter: str) -> None:
    can = [server.get(f"/v1/models/{model}/capabilities").json()["abilities"] for model in (ranker, sorter)]
    assert [one["rerank"]["can"] for one in can] == [True, False]
    assert [one["classify"]["can"] for one in can] == [True, True]
    assert not can[0]["chat"]["can"] and "reranker" in can[0]["chat"]["why"]


def test_other_methods_are_refused(server: Server) -> None:
    assert server.get("/v1/rerank").status_code == 405


def test_the_client_asks_for_both(server: Server, ranker: str, sorter: str) -> None:
    with Client(server.url) as client:
        ranked = client.rerank(ranker, "the big dog", ["a cat", "a dog"], raw_scores=True)
        assert ranked == [(1, 1.0), (0, 0.0)]
        (found,) = client.classify(sorter, ["a b c d e f g"])
    assert found["long"] > found["short"] and list(found) == ["short", "long"]
