"""What a saved conversation depends on, and what a slot says."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.worker.process import DEMO, plan_for
from uml.core.engine import Ask, Held, KeepsSessions, SessionKey
from uml.core.errors import EngineError
from uml.core.model import Role
from uml.engines.fake import Fake
from uml.engines.llamacpp import slots
from uml.engines.llamacpp.engine import LlamaCpp


def answering(status: int, body: Any) -> Ask:
    """A worker that says one thing."""

    async def ask(method: str, path: str, sent: bytes) -> tuple[int, bytes]:
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()

    return ask


def test_only_engines_that_can_keep_conversations() -> None:
    assert isinstance(LlamaCpp(), KeepsSessions)
    assert not isinstance(Fake(), KeepsSessions)


def test_a_key_names_the_files_and_all_that_changes_the_cache(tmp_path: Path) -> None:
    key = slots.session_key(plan_for(lora=[f"{tmp_path}/a.gguf=0.5"], mmproj=str(tmp_path / "m.gguf")), "embedded 1")
    assert isinstance(key, SessionKey)
    assert key.files == (DEMO, tmp_path / "m.gguf", tmp_path / "a.gguf")
    assert key.traits["engine"] == "embedded 1"
    json.dumps(dict(key.traits))  # they are JSON values


@pytest.mark.parametrize(
    "options",
    [
        {"cache_type_k": "q8_0"},
        {"chat_template": "{{ messages }}"},
        {"rope_freq_base": 1000.0},
        {"swa_full": True},
        {"flash_attention": "off"},
        {"draft_model": "/d.gguf"},
        {"spec_type": "mtp"},
        {"parallel": 4},
    ],
)
def test_another_cache_is_another_key(options: dict[str, Any]) -> None:
    assert slots.session_key(plan_for(**options), "1") != slots.session_key(plan_for(), "1")


@pytest.mark.parametrize("options", [{"threads": 1}, {"ctx": 1024}, {"batch": 64}, {"warmup": False}])
def test_what_does_not_change_the_cache_changes_no_key(options: dict[str, Any]) -> None:
    assert slots.session_key(plan_for(**options), "1") == slots.session_key(plan_for(), "1")


def test_one_cache_for_all_is_the_same_for_however_many() -> None:
    one, four = (slots.session_key(plan_for(kv_unified=True, parallel=count), "1") for count in (1, 4))
    assert one == four


def test_another_build_is_another_key() -> None:
    assert slots.session_key(plan_for(), "1") != slots.session_key(plan_for(), "2")


def test_a_context_beyond_the_original_counts_positions_otherwise() -> None:
    plan = plan_for(ctx=2048)
    metadata = {"llama.rope.scaling.original_context_length": 1024}
    info = replace(plan.model.info, metadata=metadata)
    longer = replace(plan, model=replace(plan.model, info=info))
    shorter = replace(longer, options=replace(longer.options, ctx=1024))
    assert slots.session_key(longer, "1") != slots.session_key(shorter, "1")


@pytest.mark.parametrize(
    ("role", "options", "why"),
    [
        (Role.EMBEDDING, {}, "embedding"),
        (Role.RERANKER, {}, "reranker"),
        (Role.TEXT, {"cache_prompt": False}, "cache_prompt"),
    ],
)
def test_where_nothing_can_be_gone_on_with_nothing_is_kept(role: Role, options: dict[str, Any], why: str) -> None:
    reason = slots.session_key(plan_for(role=role, **options), "1")
    assert isinstance(reason, str) and why in reason


def written(path: Path, tokens: list[int], head: tuple[int, ...] = (0x67677371, 4)) -> Path:
    """The begin of a file as llama.cpp writes it."""
    packed = struct.pack(f"<iII{len(tokens)}iI", -1, 1, len(tokens), *tokens, 0)
    path.write_bytes(struct.pack("<3I", *head, len(packed) // 4) + packed + b"the cache")
    return path


def listed(path: Path, count: int) -> list[int]:
    return list(struct.unpack_from(f"<{count}i", path.read_bytes(), 24))


def test_only_where_a_draft_goes_along_the_end_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path / "a", list(range(1000)))
    before = path.read_bytes()
    slots.seal(plan_for(), path)
    slots.seal(plan_for(spec_type="ngram-mod"), path)
    assert path.read_bytes() == before
    slots.seal(plan_for(draft_model="/d.gguf"), path)
    place = 1000 - slots.AGAIN_TOKENS
    assert listed(path, 1000) == [*range(place), place - 1, *range(place + 1, 1000)]
    assert len(path.read_bytes()) == len(before)


@pytest.mark.parametrize(
    ("tokens", "sealed"),
    [
        ([0, 7], [1, 7]),
        ([], []),
        # An image is read again as a whole or not at all.
        ([5, -1, -1, 9, 8], [5, -1, -1, 8, 8]),
        ([5, -1], [5, -1]),
    ],
)
def test_another_token_stands_where_reading_begins(tmp_path: Path, tokens: list[int], sealed: list[int]) -> None:
    path = written(tmp_path / "a", tokens)
    slots.seal(plan_for(draft_model="/d.gguf"), path)
    assert listed(path, len(tokens)) == sealed


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "ends in its head"),
        (struct.pack("<3I", 1, 4, 9) + bytes(40), "laid out in a way that is not known"),
        (struct.pack("<3I", 0x67677371, 5, 9) + bytes(40), "version 5"),
        (struct.pack("<3I", 0x67677371, 4, 9) + bytes(40), "lists its tokens in a way"),
        (struct.pack("<3IiII", 0x67677371, 4, 9, -1, 1, 1 << 30) + bytes(40), "lists its tokens in a way"),
    ],
)
def test_a_file_of_another_build_is_not_written_into(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.raises(EngineError, match=sentence):
        slots.seal(plan_for(draft_model="/d.gguf"), path)
    assert path.read_bytes() == data


def test_a_file_is_as_large_as_its_tokens() -> None:
    plan = plan_for(ctx=1024, parallel=4)  # 1 MiB of cache for 4096 cells
    assert slots.session_bytes(plan, 500) == pytest.approx((1 << 20) // 8, rel=0.1)
    assert slots.session_bytes(plan, 1024) == pytest.approx((1 << 20) // 4, rel=0.1)
    shared = plan_for(ctx=1024, parallel=4, kv_unified=True)
    assert slots.session_bytes(shared, 1024) == pytest.approx(1 << 20, rel=0.1)


async def test_empty_slots_hold_nothing() -> None:
    said = [
        {"id": 0, "is_processing": False},
        {"id": 1, "is_processing": True, "id_task": 7, "n_prompt_tokens": 50},
        {"id": 2, "is_processing": False, "id_task": 3, "n_prompt_tokens": 0},
    ]
    assert await slots.held(plan_for(), answering(200, said)) == (Held(1, 50, 7, busy=True),)


async def test_a_slot_whose_adapters_worked_otherwise_is_left_out() -> None:
    def slot(number: int, *scales: float) -> dict[str, Any]:
        lora = [{"id": id, "scale": scale} for id, scale in enumerate(scales)]
        return {"id": number, "is_processing": False, "id_task": 1, "n_prompt_tokens": 50, "params": {"lora": lora}}

    said = [slot(0, 1.0, 0.30000001192092896), slot(1, 0.0, 0.3), slot(2, 1.0, 0.31)]
    plan = plan_for(lora=("/a.gguf", "/b.gguf=0.3"))
    assert [one.slot for one in await slots.held(plan, answering(200, said))] == [0]


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (500, {"error": {"message": "Unable to save slot"}}, "500: Unable to save slot"),
        (501, b"not here", "501: not here"),
        (200, b"<html>", "200: <html>"),
        (200, [1], r"200: \[1\]"),
        (404, {"error": "no such route"}, "404: no such route"),
    ],
)
async def test_a_refusal_is_an_error_with_the_engines_words(status: int, body: Any, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        await slots.save(answering(status, body), 0, "name")
