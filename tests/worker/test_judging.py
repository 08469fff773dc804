"""Workers that score and sort texts, by the engine that invents scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.process import Worker, plan_for
from uml.core.model import Role
from uml.engines.fake import Fake
from uml.worker.judging import probable, sigmoid

Start = Callable[[Role], Worker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Worker] = []

    def begin(role: Role) -> Worker:
        started.append(Worker(Fake(), plan_for(engine="fake", role=role), tmp_path))
        return started[-1].ready()

    yield begin
    for worker in started:
        worker.__exit__(None, None, None)


def test_a_reranker_scores_pairs(start: Start) -> None:
    worker = start(Role.RERANKER)
    answer = worker.post("/v1/rerank", {"query": "a b", "documents": ["c", "b a", "a"]})
    assert [one["relevance_score"] for one in answer["results"]] == [0.0, 2.0, 1.0]
    assert answer["usage"] == {"prompt_tokens": 10, "total_tokens": 10}
    for body, param in (
        ({"documents": ["a"]}, "query"),
        ({"query": "a"}, "documents"),
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "a", "documents": [5]}, "documents"),
    ):
        status, refused = worker.request("POST", "/v1/rerank", body)
        assert (status, refused["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("role", "path", "says"),
    [
        (Role.CLASSIFIER, "/v1/rerank", "2 labels, and a reranker has one; use /v1/classify"),
        (Role.TEXT, "/v1/classify", "gives texts no labels"),
        (Role.TEXT, "/v1/rerank", "gives texts no labels"),
    ],
)
def test_a_model_of_another_kind_says_so(start: Start, role: Role, path: str, says: str) -> None:
    body: dict[str, Any] = {"query": "a", "documents": ["a"], "input": "a"}
    status, refused = start(role).request("POST", path, body)
    assert (status, refused["error"]["param"]) == (400, "model")
    assert says in refused["error"]["message"]


def test_scores_become_probabilities_as_the_model_means_them() -> None:
    assert probable([1000.0, 1000.0], "softmax") == [0.5, 0.5]
    assert probable([3.5], "none") == [3.5]
    assert probable([0.0, 800.0, -800.0], "sigmoid") == pytest.approx([0.5, 1.0, 0.0])
    assert sigmoid(-1) == pytest.approx(1 - sigmoid(1))
