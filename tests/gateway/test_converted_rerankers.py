"""Rerankers that became GGUF score texts for a query as Transformers does: by the engine, over the wire."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.server import Server
from tests.runtime.conversions.test_gguf_truth import converted, made_by

CASES = ("bert", "roberta", "xlm-roberta", "camembert", "modernbert", "modernbert-silu")
FOUND = 0.05
"""Largest difference of a score, as a share of the spread of all: as it is loaded, the engine computes in halves too,
and scores lie near each other.
"""
# Importing Transformers and making models, and a worker for each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    names = [f"{name}-rerank" for name in CASES]
    yield made_by("transformers_makes.py", tmp_path_factory.mktemp("rerankers"), *names)


@pytest.mark.parametrize("name", CASES)
def test_documents_are_scored_as_transformers_scores_them(
    server: Server, models: Path, tmp_path: Path, name: str
) -> None:
    source = models / f"{name}-rerank"
    converted(source / "model", tmp_path / f"{name}.gguf")
    judged = json.loads((source / "judged.json").read_text())
    model = str(server.post("/v1/models/add", {"path": str(tmp_path / f"{name}.gguf")}).json()["id"])
    asked = {"model": model, "query": judged["query"], "documents": judged["documents"], "raw_scores": True}
    try:
        reply = server.post("/v1/rerank", asked)
    finally:
        server.post("/v1/models/unload", {"model": model})
    assert reply.status_code == 200, reply.text
    found = {one["index"]: one["relevance_score"] for one in reply.json()["results"]}
    worst = max(abs(found[index] - score) for index, score in enumerate(judged["scores"]))
    assert worst < FOUND * statistics.pstdev(judged["scores"])
