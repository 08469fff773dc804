"""check_kind(endpoint, model): whether a kind of model can be asked this at all, told before it is loaded for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.errors import BadRequest
from uml.core.model import Model, Role
from uml.generation.parameter import Endpoint

_TEXT: Final = ("a language model, which answers", "/v1/chat/completions")
KINDS: Final[Mapping[Role, tuple[str, str]]] = {
    Role.TEXT: _TEXT,
    Role.DRAFT: _TEXT,
    Role.EMBEDDING: ("an embedding model, which makes vectors of texts", "/v1/embeddings"),
    Role.RERANKER: ("a reranker, which scores documents for a query", "/v1/rerank"),
    Role.CLASSIFIER: ("a classifier, which sorts texts", "/v1/classify"),
}
"""What each kind is, and where it is asked. Of others nothing is known: the engine will tell."""

ASKED: Final[Mapping[Endpoint, frozenset[Role]]] = {
    "chat": frozenset({Role.TEXT, Role.DRAFT}),
    "completion": frozenset({Role.TEXT, Role.DRAFT}),
    # A language model makes vectors too, once it is loaded so.
    "embedding": frozenset({Role.TEXT, Role.DRAFT, Role.EMBEDDING}),
    "rerank": frozenset({Role.RERANKER}),
    # A reranker is a classifier with one label.
    "classify": frozenset({Role.CLASSIFIER, Role.RERANKER}),
}
"""What each endpoint can be asked of."""


def check_kind(endpoint: Endpoint, model: Model) -> None:
    """Raises BadRequest, with the kind and its route, for a model of another kind than the endpoint is for."""
    check_role(endpoint, model.id, model.info.role)


def check_role(endpoint: Endpoint, model: str, role: str) -> None:
    """As `check_kind`, of what a server says of a model: its id and its role, which may be one not known here."""
    known = next((one for one in KINDS if one.value == role), None)
    if known is not None and known not in ASKED[endpoint]:
        what, route = KINDS[known]
        raise BadRequest(f"{model} is {what}; use {route}", param="model")
