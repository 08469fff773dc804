"""Who speaks in a message: a role that nobody knows is refused, and whatever some template knows is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests import builders
from tests.gateway.server import Server

LLAMA = (
    "{% for m in messages %}{% if m.role == 'tool' or m.role == \"ipython\" %}{{ m.content }}{% endif %}{% endfor %}"
)
"""As of Llama 3.1: it writes what a tool has said by two roles."""
ANY = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def said_by(role: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "one two"}, {"role": role, "content": "three"}], "max_tokens": 2}


def test_a_role_that_nobody_knows_is_refused_before_a_model_is_loaded_for_it(server: Server) -> None:
    def workers() -> set[int]:
        return {worker["pid"] for worker in server.get("/v1/models/status").json()["workers"]}

    loaded = workers()
    reply = server.chat("alpha", **said_by("usr"))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "messages[1].role")
    assert reply.json()["error"]["message"] == (
        'messages[1].role is "usr"; expected one of system, developer, user, assistant, tool, function, or one that '
        "the chat template of alpha names; did you mean user?"
    )
    assert workers() == loaded


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool", "function"])
def test_the_roles_of_the_protocols_are_taken(server: Server, fake: Callable[..., str], role: str) -> None:
    reply = server.chat(fake(), **said_by(role))
    assert reply.status_code == 200, reply.text


def test_a_role_that_the_models_template_names_is_taken(server: Server) -> None:
    path = builders.write_tiny_gguf(server.data / "models" / "llama.gguf", chat_template=LLAMA)
    model = str(server.post("/v1/models/add", {"path": str(path)}).json()["id"])
    server.load_fake(model)
    try:
        assert server.chat(model, **said_by("ipython")).status_code == 200
        refused = server.chat(model, **said_by("python")).json()["error"]
        assert (refused["param"], "one that the chat template of llama names" in refused["message"]) == (
            "messages[1].role",
            True,
        )
    finally:
        server.post("/v1/models/unload", {"model": model})
        server.post("/v1/models/forget", {"model": model})


@pytest.mark.parametrize("path", ["/v1/models/load", "/v1/models/profile"])
def test_a_template_of_ones_own_decides_by_itself(server: Server, path: str) -> None:
    reply = server.post(path, {"model": "alpha", "options": {"chat_template": ANY, "ctx": 256}})
    assert reply.status_code == 200, reply.text
    try:
        reply = server.chat("alpha", **said_by("narrator"))
        assert reply.status_code == 200, reply.text
    finally:
        server.post("/v1/models/unload", {"model": "alpha"})
        server.post("/v1/models/profile", {"model": "alpha", "clear": True})
