"""A processor: does nothing unless a request asks for it, as a good one should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uml.core.errors import BadRequest
from uml.plugins.hooks import Pieces


class Polite:
    """With `"metadata": {"polite": true}`: refuses shouting, and ends the answer with thanks."""

    name = "polite"

    def before(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Refuse a prompt in capitals. An error of the program's own kinds refuses a request."""
        if not wanted(body):
            return None
        said = str(body.get("prompt") or (body.get("messages") or [{}])[-1].get("content") or "")
        if said.isupper():
            raise BadRequest("no need to shout", param="prompt" if endpoint == "completion" else "messages")
        return {**body, "temperature": body.get("temperature", 0)}

    def after(self, endpoint: str, body: Mapping[str, Any]) -> Pieces | None:
        """Put something behind the last piece."""
        if not wanted(body):
            return None
        return lambda text, last: text + " Thank you." if last else text


def wanted(body: Mapping[str, Any]) -> bool:
    """Whether a request asks for it."""
    metadata = body.get("metadata")
    return isinstance(metadata, dict) and metadata.get("polite") is True
