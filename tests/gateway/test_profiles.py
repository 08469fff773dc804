"""Load options that are saved for a model: whoever asks for it gets it loaded so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.server import Server


@pytest.fixture
def clean(server: Server) -> Iterator[Server]:
    """The server, on which `alpha` has no profile afterwards."""
    yield server
    server.post("/v1/models/unload", {"model": "alpha"})
    server.post("/v1/models/profile", {"model": "alpha", "clear": True})


def save(server: Server, **options: Any) -> dict[str, Any]:
    saved = server.post("/v1/models/profile", {"model": "alpha", "options": options}).json()
    assert saved["model"] == "alpha"
    return dict(saved["options"])


def loaded(server: Server) -> dict[str, Any]:
    """The options of the model's worker."""
    return dict(server.worker("alpha")["options"])


def test_a_request_that_says_nothing_gets_the_model_as_its_profile_says(clean: Server) -> None:
    assert save(clean, engine="fake", n_ctx=640) == {"engine": "fake", "ctx": 640}
    assert clean.chat("alpha").status_code == 200
    assert (loaded(clean)["ctx"], loaded(clean)["engine"]) == (640, "fake")
    about = clean.get("/v1/models/alpha").json()
    assert (about["profile"], about["engine"]) == ({"engine": "fake", "ctx": 640}, "fake")

    # What is loaded stays as it is; the next load is by what was saved last.
    save(clean, ctx=768)
    assert clean.chat("alpha").status_code == 200 and loaded(clean)["ctx"] == 640
    clean.post("/v1/models/unload", {"model": "alpha"})
    assert clean.chat("alpha").status_code == 200 and loaded(clean)["ctx"] == 768


def test_a_load_that_says_otherwise_does_so_over_the_profile_and_an_estimate_too(clean: Server) -> None:
    save(clean, engine="fake", ctx=640, parallel=3)
    answer = clean.post("/v1/models/load", {"model": "alpha", "options": {"ctx": 256}})
    assert answer.status_code == 200
    assert (loaded(clean)["ctx"], loaded(clean)["parallel"]) == (256, 3)
    estimate = clean.post("/v1/models/estimate", {"model": "alpha", "options": {"parallel": 1}}).json()
    assert (estimate["engine"], estimate["options"]["ctx"], estimate["options"]["parallel"]) == ("fake", 640, 1)


def test_options_are_saved_beside_one_another_and_null_takes_one_out(clean: Server) -> None:
    assert save(clean, engine="llamacpp==1.0") == {"engine": "llamacpp", "engine_version": "1.0"}
    assert save(clean, ctx=256, **{"gpu-layers": 0}) == {
        "engine": "llamacpp",
        "engine_version": "1.0",
        "ctx": 256,
        "gpu_layers": 0,
    }
    assert save(clean, engine=None, num_ctx=None) == {"gpu_layers": 0}
    assert clean.get("/v1/models/alpha/profile").json() == {"model": "alpha", "options": {"gpu_layers": 0}}
    replaced = clean.post("/v1/models/profile", {"model": "alpha", "options": {"ctx": 128}, "clear": True}).json()
    assert replaced["options"] == {"ctx": 128}


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"ctxx": 1}, "unknown_field", "ctx"),
        ({"ctxx": None}, "unknown_field", "ctx"),
        ({"ctx": -1}, "bad_option", "0 to"),
        ({"ctx": 90_000}, "bad_option", "was trained for"),
        ({"engine": "steam"}, "bad_option", "llamacpp"),
    ],
)
def test_what_no_load_could_have_is_not_saved(clean: Server, options: dict[str, Any], code: str, words: str) -> None:
    save(clean, ctx=256)
    error = clean.post("/v1/models/profile", {"model": "alpha", "options": options}).json()["error"]
    assert error["code"] == code and words in error["message"]
    assert clean.get("/v1/models/alpha/profile").json()["options"] == {"ctx": 256}
