"""JSON schemas that llama.cpp follows in part: the rest is followed, and the reply names what is not."""

from __future__ import annotations

from typing import Any

import orjson

from tests.gateway.server import Server

YES: dict[str, Any] = {"const": "yes", "not": {"const": "no"}}


def test_a_chat_says_what_of_its_schema_has_no_effect(server: Server) -> None:
    format_ = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "number", "minimum": 9000}}}
    reply = server.chat("demo", response_format=format_, max_tokens=2).json()
    (warning,) = reply["warnings"]
    assert warning["param"] == "response_format" and "llama.cpp: minimum;" in warning["reason"]
    refused = server.chat("demo", response_format=format_, strict=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_parameter")


def test_a_completion_follows_the_rest_of_its_schema(server: Server) -> None:
    """One keyword that llguidance does not know left an answer free altogether."""
    asked = {"model": "demo", "prompt": "hi", "json_schema": YES, "temperature": 0, "max_tokens": 20}
    reply = server.post("/v1/completions", asked).json()
    (choice,) = reply["choices"]
    assert choice["finish_reason"] == "stop" and orjson.loads(choice["text"]) == "yes"
    assert "llama.cpp: not;" in reply["warnings"][0]["reason"]
    pattern = {"type": "string", "pattern": "^(?!a)b$"}
    refused = server.post("/v1/completions", {**asked, "json_schema": pattern}).json()["error"]
    assert refused["param"] == "json_schema" and "look-around" in refused["message"]
