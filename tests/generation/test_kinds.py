"""What a model is for decides what it can be asked; the answer names the right route."""

from __future__ import annotations

from pathlib import Path

import pytest

from uml.core.errors import BadRequest
from uml.core.model import Format, Model, ModelInfo, Role
from uml.generation import Endpoint
from uml.generation.kinds import check_kind


def model(role: Role) -> Model:
    return Model("mine", ModelInfo(Path("/m"), Format.GGUF, role, 1.0, "test", 1))


@pytest.mark.parametrize(
    ("endpoint", "role", "says"),
    [
        ("chat", Role.EMBEDDING, "mine is an embedding model, which makes vectors of texts; use /v1/embeddings"),
        ("completion", Role.RERANKER, "mine is a reranker, which scores documents for a query; use /v1/rerank"),
        ("chat", Role.CLASSIFIER, "mine is a classifier, which sorts texts; use /v1/classify"),
        ("embedding", Role.CLASSIFIER, "use /v1/classify"),
        ("embedding", Role.RERANKER, "use /v1/rerank"),
        ("rerank", Role.TEXT, "mine is a language model, which answers; use /v1/chat/completions"),
        ("rerank", Role.EMBEDDING, "use /v1/embeddings"),
        ("rerank", Role.CLASSIFIER, "use /v1/classify"),
        ("classify", Role.TEXT, "use /v1/chat/completions"),
        ("classify", Role.DRAFT, "use /v1/chat/completions"),
    ],
)
def test_another_kind_is_named_with_its_route(endpoint: Endpoint, role: Role, says: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_kind(endpoint, model(role))
    assert says in refused.value.message
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    ("endpoint", "role"),
    [
        ("chat", Role.TEXT),
        ("chat", Role.DRAFT),
        ("chat", Role.UNKNOWN),
        ("embedding", Role.TEXT),
        ("embedding", Role.EMBEDDING),
        ("rerank", Role.RERANKER),
        ("rerank", Role.UNKNOWN),
        ("classify", Role.CLASSIFIER),
        ("classify", Role.RERANKER),
    ],
)
def test_its_own_kind_and_the_unknown_are_asked(endpoint: Endpoint, role: Role) -> None:
    check_kind(endpoint, model(role))
