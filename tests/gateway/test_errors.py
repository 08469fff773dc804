"""Every error is one JSON object, says which field it means, and costs the server nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.gateway.server import Server, ask


def error_of(reply: Any, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    error: dict[str, Any] = reply.json()["error"]
    assert error["message"] and set(error) >= {"type", "param", "code"}
    return error


def test_an_unknown_model_comes_with_close_names(server: Server) -> None:
    error = error_of(server.chat("dmo"), 404)
    assert (error["code"], error["param"], error["details"]["close"]) == ("model_not_found", "model", ["demo"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "usr", "content": "b"}]}, "messages[1].role"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 7}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"seed": 0.5}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"tools": 5}, "tools"),
        ({"repeat_last_n": 2_000_000_000}, "repeat_last_n"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_completion_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"grammar": "root ::= 1", "json_schema": {}}, "grammar"),
        ({"dynamic_temperature": True, "dynatemp_low": 2, "dynatemp_high": 1}, "dynatemp_low"),
        ({"sampler_priority": ["top_k", "guess"]}, "sampler_priority"),
        ({"custom_token_bans": "one"}, "custom_token_bans"),
        ({"grammar": "this is no grammar"}, "grammar"),
        ({"n": 5}, "n"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "?"}}}}, "response_format"),
    ],
)
def test_a_wrong_field_is_named(server: Server, body: dict[str, Any], param: str) -> None:
    error = error_of(server.chat("demo", **body), 400)
    assert error["param"] == param, error
    assert error["type"] == "invalid_request_error"


def test_wrong_bodies_are_told_apart(server: Server) -> None:
    def sent(content: bytes) -> str:
        return str(error_of(server.http.post("/v1/chat/completions", content=content), 400)["message"])

    assert "line 2, column" in sent(b'{"model": "demo",\n "messages": }')
    assert "empty" in sent(b"")
    assert "the body is []; expected a JSON object" in sent(b"[]")
    assert "not JSON" in sent(b'{"model": "\xff"}')
    error = error_of(server.post("/v1/completions", {"model": "demo"}), 400)
    assert error["param"] == "prompt"
    assert error_of(server.post("/v1/embeddings", {"model": "demo"}), 400)["param"] == "input"
    assert error_of(server.post("/v1/chat/completions", {**ask("demo"), "model": 5}), 400)["param"] == "model"


def _saying(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "a"}]}]}


def _calling(**call: Any) -> dict[str, Any]:
    asked = {"role": "user", "content": "a"}
    return {"messages": [asked, {"role": "assistant", "tool_calls": [call]}, asked]}


_F = {"type": "function", "id": "a", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        (_saying({"type": "image", "source": {}}), "messages[0].content[0].type", "image_url"),
        (_saying({"type": "input_text", "text": "b"}), "messages[0].content[0].type", '{"type": "text", "text"'),
        (_saying({"type": "strange"}), "messages[0].content[0].type", "expected text, image_url or input_audio"),
        (
            _saying({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
            "messages[0].content[0]",
            "by the option mmproj",
        ),
        (
            _calling(type="function", id="a", function={"name": "f", "arguments": "{b"}),
            "messages[1].tool_calls[0].function.arguments",
            "expected a JSON object, written as a text",
        ),
        (_calling(function={"name": "f", "arguments": "{}"}), "messages[1].tool_calls[0].type", "expected function"),
        (_calling(type="function"), "messages[1].tool_calls[0]", '"function": {"name"'),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": "x"}]},
            "messages[1].tool_calls",
            "expected a list of calls",
        ),
        ({"messages": [{"role": "user", "content": "a", "images": ["AAAA"]}]}, "messages[0].images", "image_url"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [_F]}]},
            "messages",
            "Cannot continue",
        ),
        ({"stop": ["a", ""]}, "stop", "empty text"),
        ({"stop": ""}, "stop", "empty text"),
        ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage", "true or false"),
    ],
)
def test_what_other_protocols_write_is_told_by_its_place(
    server: Server, body: dict[str, Any], param: str, said: str
) -> None:
    error = error_of(server.chat("demo", **body), 400)
    assert error["param"] == param and said in error["message"], error


def test_fields_of_other_programs_are_named_as_they_are_here(server: Server) -> None:
    asked = {"format": "json", "system": "a", "max_output_tokens": 5, "functions": [], "stream_options": {"b": True}}
    reply = server.chat("demo", max_tokens=1, **asked).json()
    reasons = {warning["param"]: warning["reason"] for warning in reply["warnings"]}
    for field, here in (
        ("format", "response_format"),
        ("system", "message of the role system"),
        ("functions", "tools"),
    ):
        assert here in reasons[field], reasons
    assert "max_tokens" in reasons["max_output_tokens"] and reasons["stream_options.b"] == "not known here"
    refused = error_of(server.chat("demo", strict=True, format="json"), 400)
    assert "left out" not in refused["message"] and "response_format" in refused["message"]


def test_a_slash_too_many_after_the_models_is_seen(server: Server) -> None:
    error = error_of(server.get("/v1/models/"), 404)
    assert error["code"] == "not_found" and "did you mean /v1/models?" in error["message"]


def test_inputs_of_embeddings_are_told_by_their_place(server: Server) -> None:
    def error(given: Any) -> dict[str, Any]:
        return error_of(server.post("/v1/embeddings", {"model": "demo-embedding", "input": given}), 400)

    empty, strange = error(["a", ""]), error([999_999])
    assert empty["param"] == "input[1]" and "is empty" in empty["message"]
    assert strange["param"] == "input" and "outside the model's vocabulary" in strange["message"]


def test_our_own_endpoints_are_strict(server: Server) -> None:
    def error(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return error_of(server.post(path, body), 400)

    unknown = error("/v1/models/load", {"model": "demo", "optoins": {}})
    assert (unknown["code"], unknown["param"]) == ("unknown_field", "optoins")
    assert "did you mean options?" in unknown["message"]
    assert "options.ctx" in error("/v1/models/load", {"model": "demo", "ctx": 512})["message"]
    option = error("/v1/models/load", {"model": "demo", "options": {"ctxx": 5}})
    assert (option["code"], option["param"]) == ("unknown_field", "options.ctxx")
    assert error("/v1/models/load", {"model": "demo", "options": {"ctx": -5}})["code"] == "bad_option"
    assert error("/v1/models/load", {"model": 5})["param"] == "model"
    assert error("/v1/models/load", {})["param"] == "model"
    assert error("/v1/models/load", {"model": "demo", "stream": 1})["param"] == "stream"
    assert error("/v1/models/unload", {"model": "demo", "all": True})["param"] == "model"
    assert error("/v1/models/scan", {"folder": "relative"})["param"] == "folder"
    assert error("/v1/tokenize", {"model": "demo", "text": 5})["param"] == "text"
    assert error("/v1/tokenize", {"model": "demo"})["param"] == "text"
    assert error("/v1/tokenize", {"model": "demo", "text": "a", "txt": "b"})["param"] == "txt"
    assert error("/v1/tokenize", {"model": "demo", "text": "a", "with_pieces": 1})["param"] == "with_pieces"
    assert error("/v1/detokenize", {"model": "demo", "tokens": ["a"]})["param"] == "tokens"
    assert error("/v1/detokenize", {"model": "demo", "tokens": [99_999]})["param"] == "tokens"
    broken = server.http.post("/v1/models/load", content=b'{"model": ')
    assert "not JSON" in error_of(broken, 400)["message"]


def test_files_that_cannot_be_used_start_no_engine(server: Server) -> None:
    text = server.data / "notes.gguf"
    text.write_text("not a model at all")
    assert error_of(server.post("/v1/models/add", {"path": str(text)}), 422)["details"]["path"] == str(text)
    half = server.data / "half.gguf"
    half.write_bytes((server.data / "models" / "alpha.gguf").read_bytes()[:100_000])
    error = error_of(server.post("/v1/models/load", {"model": str(half)}), 422)
    assert (error["code"], str(half) in error["message"]) == ("corrupt_file", True)
    gone = error_of(server.post("/v1/models/add", {"path": "/nowhere/at.gguf"}), 422)
    assert "/nowhere/at.gguf" in gone["message"]


def test_what_is_not_there_is_told_in_json(server: Server) -> None:
    assert error_of(server.get("/nowhere"), 404)["code"] == "not_found"
    assert error_of(server.get("/v1/models/nobody"), 404)["code"] == "model_not_found"
    for path, method in (("/v1/chat/completions", "GET"), ("/v1/models", "DELETE")):
        reply = server.http.request(method, path)
        assert error_of(reply, 405)["code"] == "method_not_allowed"
        assert reply.headers["allow"]


def test_a_missing_model_is_the_loaded_one(server: Server, fake: Callable[..., str]) -> None:
    server.post("/v1/models/unload", {"all": True})
    body = {name: value for name, value in ask("").items() if name != "model"}
    assert "none is loaded" in error_of(server.post("/v1/chat/completions", body), 400)["message"]
    fake()
    assert server.post("/v1/chat/completions", body).json()["model"] == "alpha"
    assert server.chat("demo", max_tokens=1).status_code == 200
    assert "alpha, demo are loaded" in error_of(server.post("/v1/chat/completions", body), 400)["message"]


def test_a_prompt_over_the_context_comes_with_both_numbers(server: Server, fake: Callable[..., str]) -> None:
    model = fake(ctx=16)
    for path, body in (
        ("/v1/chat/completions", ask(model, "word " * 50)),
        ("/v1/chat/completions", ask(model, "word " * 50, stream=True)),
        ("/v1/chat/completions", ask(model, "word " * 50, n=2)),
        ("/v1/completions", {"model": model, "prompt": "word " * 50}),
    ):
        error = error_of(server.post(path, body), 400)
        assert error["code"] == "context_length_exceeded"
        assert error["details"]["context_length"] == 16 and error["details"]["prompt_tokens"] >= 50


def test_a_load_that_fails_is_told_with_its_cause(server: Server, fake: Callable[..., str]) -> None:
    body = {"model": "alpha", "options": {"engine": "fake", "extra_flags": ["oom_on_load=1"]}}
    assert error_of(server.post("/v1/models/load", body), 507)["code"] == "out_of_memory"
    assert server.worker("alpha")["state"] == "failed"
    fake()
    assert server.worker("alpha")["state"] == "ready"


def test_a_request_id_of_the_clients_own_is_kept(server: Server) -> None:
    reply = server.http.get("/version", headers={"x-request-id": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"
    strange = server.http.get("/version", headers={"x-request-id": "a b"})
    assert strange.headers["x-request-id"] != "a b"


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    for path in ("/v1/chat/completions", "/v1/models/load"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 40}\r\n\r\n"
            connection.sendall(head.encode())
            reply = b""
            while part := connection.recv(4096):
                reply += part
        assert b" 413 " in reply.split(b"\r\n")[0]
        assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_large"


def test_a_body_without_a_length_is_counted_as_it_comes(server: Server) -> None:
    def endless() -> Any:
        yield b'{"model": "'
        for _ in range(70):
            yield b"x" * (1 << 20)

    reply = server.http.post("/v1/chat/completions", content=endless())
    assert error_of(reply, 413)["code"] == "body_too_large"
