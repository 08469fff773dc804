"""Files from before GGUF, asked over HTTP as any other: the demo model as programs of early 2023 would write it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from tests.gateway.server import Server
from tests.legacy_files import as_written, demo_llama
from uml.registry import packaged_model

QUESTION = "<|im_start|>user\nWhat is the capital of Japan?<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Asked:
    """The question in the demo model's tokens, and in those of its older files; what it says; its vocabulary."""

    tokens: list[int]
    older: list[int]
    answer: Mapping[str, Any]


def said(server: Server, model: str, tokens: list[int]) -> Any:
    reply = server.post(
        "/v1/completions", {"model": model, "prompt": tokens, "max_tokens": 16, "temperature": 0, "logprobs": 1}
    )
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]


@pytest.fixture(scope="module")
def asked(server: Server) -> Iterator[Asked]:
    tokens = server.post("/v1/tokenize", {"model": "demo", "content": QUESTION}).json()["tokens"]
    field = GGUFReader(packaged_model()).fields["tokenizer.ggml.tokens"]
    texts = [bytes(field.parts[index]).decode() for index in field.data]
    places = demo_llama("ggml", "F16", packaged_model())[1]
    older = [places[as_written(number, texts[number])] for number in tokens]
    yield Asked(tokens, older, said(server, "demo", tokens))
    server.post("/v1/models/unload", {"model": "demo"})


def add(server: Server, path: Path) -> str:
    reply = server.post("/v1/models/add", {"path": str(path)})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def kept(server: Server, name: str) -> list[Path]:
    return sorted((server.data / "converted").glob(f"{name}-*/*.gguf"))


SLOW = pytest.mark.slow  # two loads and an answer each; the other two go the same way with other blocks


@pytest.mark.parametrize(
    ("generation", "kind", "parts"),
    [
        pytest.param("ggml", "Q4_1", 1, marks=SLOW),
        ("ggmf", "Q8_0", 2),
        ("ggjt1", "Q4_0", 1),
        pytest.param("ggjt3", "F16", 1, marks=SLOW),
    ],
)
def test_an_old_file_answers(
    server: Server, asked: Asked, tmp_path: Path, generation: str, kind: str, parts: int
) -> None:
    path = tmp_path / f"old-{generation}.bin"
    demo_llama(generation, kind, packaged_model())[0].write(path, parts)
    model = add(server, path)
    listed = [found["id"] for found in server.get("/v1/models").json()["data"]]
    answer = said(server, model, asked.older)
    assert answer["text"] == asked.answer["text"] and "Tokyo" in answer["text"]
    if kind == "Q8_0":  # the very weights that the demo model has
        told = [choice["logprobs"]["token_logprobs"] for choice in (answer, asked.answer)]
        assert told[0] == pytest.approx(told[1], abs=0.02)
    assert any("made into GGUF at its first load" in warning for warning in server.worker(model)["warnings"])
    (place,) = kept(server, path.stem)
    written = place.stat().st_mtime_ns
    # It is listed once, as what it is.
    assert [found["id"] for found in server.get("/v1/models").json()["data"]] == listed
    about = server.get(f"/v1/models/{model}").json()
    assert (about["format"], about["engine"]) == ("ggml", "llamacpp")
    notes = server.get(f"/v1/models/{model}/inspect").json()["notes"]
    assert "it was made into GGUF" in notes[0] and str(place) in notes[0]
    server.post("/v1/models/unload", {"model": model})
    assert server.post("/v1/models/load", {"model": model}).status_code == 200
    assert place.stat().st_mtime_ns == written
    server.post("/v1/models/unload", {"model": model})
    assert server.post("/v1/models/forget", {"model": model}).status_code == 200
    assert not place.exists() and path.exists()


def test_what_it_will_take_is_told_before(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "before.bin"
    demo_llama("ggjt2", "Q4_0", packaged_model())[0].write(path)
    found = server.post("/v1/models/inspect", {"model": str(path)}).json()
    assert "at the first load" in found["notes"][0] and "32 bits to 16" in found["notes"][1]
    told = server.post("/v1/models/estimate", {"model": str(path), "options": {}}).json()
    assert (told["engine"], told["fits"]) == ("llamacpp", True)
    assert any("made into GGUF at its first load" in warning for warning in told["warnings"])
    refused = server.post("/v1/models/estimate", {"model": "demo", "options": {"draft_model": str(path)}})
    assert refused.status_code == 400
    assert f"this one is GGJT v2; `uml convert {path} --to gguf` makes one" in refused.json()["error"]["message"]
    assert kept(server, "before") == []
    able = server.get(f"/v1/models/{add(server, path)}/capabilities").json()
    assert able["engine"] == "llamacpp" and able["parameters"]


def test_one_that_cannot_be_made_says_why_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "broken.bin"
    demo_llama("ggjt1", "Q4_0", packaged_model())[0].write(path)
    raw = bytearray(path.read_bytes())
    where = raw.index(b"layers.3.feed_forward.w1.weight") + 31
    struct.pack_into("<f", raw, where + -where % 32, float("inf"))
    path.write_bytes(raw)
    model = add(server, path)
    replies = [server.post("/v1/completions", {"model": model, "prompt": "a"}) for _ in range(2)]
    errors = [reply.json()["error"] for reply in replies]
    assert (replies[0].status_code, errors[0]["code"]) == (500, "conversion_failed")
    assert "blk.3.ffn_gate.weight: a scale is no number" in errors[0]["message"]
    assert (replies[1].status_code, errors[1]["code"]) == (503, "load_suspended")
    assert not list((server.data / "converted").glob("broken-*"))
    server.post("/v1/models/unload", {"model": model})
    assert server.worker(model) == {}


def test_other_families_of_those_formats_are_refused(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "gptj.bin"
    start = b"lmgg" + struct.pack("<8I", 5000, 2048, 4096, 16, 28, 64, 1, 5000)
    start += (struct.pack("<I", 1) + b"x") * 5000
    path.write_bytes(start + struct.pack("<3I", 1, 26, 0) + b"transformer.h.0.ln_1.weight" + bytes(64))
    reply = server.post("/v1/models/load", {"model": add(server, path)})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "unsupported_format")
    assert "only LLaMA models are made into it" in reply.json()["error"]["message"]
