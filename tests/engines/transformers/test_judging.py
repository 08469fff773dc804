"""Models with a head for labels: scores are the library's, whichever texts are computed together."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.transformers.conftest import PYTHON, SOURCE, Start
from uml.core.model import Role
from uml.formats import inspect

# Every worker imports PyTorch, which takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TEXTS = ["The cat sat on the mat, and looked out of the window for a long time.", "A big dog", "Rain"]
QUERY = "Which animal is big?"
Made = dict[str, Any]


@pytest.fixture(scope="session")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What `make_judges.py` tells of each model, and their `folder`."""
    if not PYTHON:
        pytest.skip("UML_TEST_TRANSFORMERS_PYTHON names no interpreter with Transformers")
    folder = tmp_path_factory.mktemp("judges")
    command = [PYTHON, str(Path(__file__).with_name("make_judges.py")), str(folder), str(SOURCE)]
    asked = json.dumps({"texts": TEXTS, "query": QUERY})
    done = subprocess.run(command, check=True, capture_output=True, text=True, input=asked)
    return {"folder": folder, **json.loads(done.stdout)}


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def test_they_are_known_for_what_they_are(judges: Made) -> None:
    roles = [inspect(judges["folder"] / name).role for name in ("moods", "ranker", "topics")]
    assert roles == [Role.CLASSIFIER, Role.RERANKER, Role.CLASSIFIER]


def test_labels_are_the_librarys(judges: Made, start: Start) -> None:
    worker = start(judges["folder"] / "moods")
    answer = worker.post("/v1/classify", {"input": TEXTS * 15})
    assert answer["labels"] == ["good", "bad", "plain"]
    for row, scores in zip(answer["data"], judges["moods"]["alone"] * 15, strict=True):
        total = sum(map(math.exp, scores))
        assert row["probs"] == pytest.approx([math.exp(score) / total for score in scores], abs=1e-4)
    status, refused = worker.request("POST", "/v1/rerank", {"query": QUERY, "documents": TEXTS})
    assert (status, "3 labels" in refused["error"]["message"]) == (400, True)
    for path in ("/v1/embeddings", "/v1/completions"):
        assert worker.request("POST", path, {"input": "a", "prompt": "a"})[0] == 400


def test_a_decoder_without_a_token_to_fill_up_scores_its_last(judges: Made, start: Start) -> None:
    worker = start(judges["folder"] / "topics")
    answer = worker.post("/v1/classify", {"input": TEXTS})
    for row, scores in zip(answer["data"], judges["topics"]["alone"], strict=True):
        assert row["probs"] == pytest.approx([sigmoid(score) for score in scores], abs=1e-4)


def test_documents_are_scored_for_a_query(judges: Made, start: Start) -> None:
    worker = start(judges["folder"] / "ranker")
    answer = worker.post("/v1/rerank", {"query": QUERY, "documents": TEXTS})
    expected = [row[0] for row in judges["ranker"]["pairs"]]
    assert [one["relevance_score"] for one in answer["results"]] == pytest.approx(expected, abs=1e-4)
    status, refused = worker.request("POST", "/v1/rerank", {"query": QUERY, "documents": ["a", "a dog " * 200]})
    assert (status, refused["error"]["type"]) == (400, "exceed_context_size_error")
    assert "reranking" in worker.request("POST", "/v1/completions", {"prompt": "a"})[1]["error"]["message"]


def test_a_number_stays_what_it_is(judges: Made, start: Start) -> None:
    worker = start(judges["folder"] / "stars")
    answer = worker.post("/v1/classify", {"input": TEXTS[1]})
    assert answer["data"][0]["probs"] == pytest.approx(judges["stars"]["alone"][1], abs=1e-4)
