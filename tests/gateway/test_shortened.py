"""Vectors of the length that was asked for."""

from __future__ import annotations

import base64
import math
import struct

import pytest

from tests.gateway.server import Server


@pytest.fixture(scope="module")
def vectors(server: Server) -> str:
    return "demo-embedding"


def ask(server: Server, model: str, **more: object) -> dict[str, object]:
    reply = server.post("/v1/embeddings", {"model": model, "input": ["hello", "the sea"], **more})
    found: dict[str, object] = reply.json()
    return found


def numbers(found: object) -> list[float]:
    if isinstance(found, str):
        packed = base64.b64decode(found)
        return list(struct.unpack(f"<{len(packed) // 4}f", packed))
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("format_", ["float", "base64"])
def test_vectors_are_cut_and_of_length_one_again(server: Server, vectors: str, format_: str) -> None:
    whole = ask(server, vectors, encoding_format=format_)
    short = ask(server, vectors, encoding_format=format_, dimensions=8, strict=True)
    assert short["usage"] == whole["usage"] and "warnings" not in short
    for one, other in zip(short["data"], whole["data"], strict=True):  # type: ignore[call-overload]
        assert type(one["embedding"]) is type(other["embedding"])
        cut, full = numbers(one["embedding"]), numbers(other["embedding"])
        assert len(cut) == 8 < len(full) and math.hypot(*cut) == pytest.approx(1, abs=1e-5)
        assert cut == pytest.approx([number / math.hypot(*full[:8]) for number in full[:8]], abs=1e-5)


def test_more_than_there_is_is_refused(server: Server, vectors: str) -> None:
    error = ask(server, vectors, dimensions=4000)["error"]
    assert (
        isinstance(error, dict)
        and error["param"] == "dimensions"
        and "which the model's vectors have" in error["message"]
    )
