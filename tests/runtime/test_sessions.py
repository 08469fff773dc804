"""Conversations that outlive their worker: real workers of llama.cpp, and everything that can go wrong."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.runtime.stand_in import Bench, bench, flags
from tests.waiting import alive, until
from tests.worker.process import DEMO as FILE
from tests.worker.process import LLAMACPP
from uml.core.engine import Ask, Held
from uml.core.model import Format, Model, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.engines.llamacpp.engine import LlamaCpp
from uml.runtime.scheduling.policy import Policy
from uml.runtime.sessions import Sessions, saving

STORY = "The counting goes " + " ".join(str(number) for number in range(90))
OTHER = "Of quite another kind: " + " ".join(f"zebra {number}" for number in range(40))
LLAMA = LoadOptions.parse({"engine": "llamacpp", "threads": 1})


@pytest.fixture(params=LLAMACPP)
def engine(request: pytest.FixtureRequest) -> LlamaCpp:
    """The library, and a `llama-server` too where one is named."""
    return LlamaCpp(LLAMACPP[request.param])


def demo(folder: Path, name: str = "demo") -> Model:
    """A copy of the demo model."""
    path = folder / f"{name}.gguf"
    if not path.exists():
        shutil.copyfile(FILE, path)
    info = ModelInfo(path, Format.GGUF, Role.TEXT, 1.0, "", path.stat().st_size, (path,), architecture="llama")
    return Model(name, info)


def office(
    folder: Path, engine: LlamaCpp, disk: int = 1 << 30, stop_s: float = 10.0, room_for: int = 4
) -> AbstractAsyncContextManager[Bench]:
    saved = Sessions(folder / "sessions", disk, stop_s)
    return bench(folder, room_for=room_for, policy=Policy(turn_s=0), engines={"llamacpp": engine}, sessions=saved)


async def say(
    at: Bench, model: Model, prompt: str, options: LoadOptions = LLAMA, tokens: int = 8, **more: object
) -> int:
    """One request; the tokens of it that were not read."""
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **more}
    async with at.supervisor.lease(model, options) as lease:
        answer = await lease.channel.request("POST", "/v1/completions", orjson.dumps(body))
        said = orjson.loads(await answer.read(1 << 20))
        assert answer.status == 200, said
        return int(said["timings"]["cache_n"])


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return demo(tmp_path)


@pytest.fixture
async def at(engine: LlamaCpp, tmp_path: Path) -> AsyncIterator[Bench]:
    """A supervisor with room for four models and for a gigabyte of conversations."""
    async with office(tmp_path, engine) as opened:
        yield opened


def restored(at: Bench) -> int:
    return at.supervisor.status()[0].restored_tokens


def on_disk(folder: Path) -> list[Path]:
    return sorted(folder.glob("sessions/*/*.kv"))


async def test_the_next_turn_after_a_swap_reads_only_what_is_new(engine: LlamaCpp, tmp_path: Path) -> None:
    one, two = demo(tmp_path), demo(tmp_path, "two")
    async with office(tmp_path, engine, room_for=1) as at:
        assert await say(at, one, STORY) == 0
        await say(at, two, OTHER)
        assert [status.model for status in at.supervisor.status()] == ["two"]
        assert await say(at, one, STORY + " and so on") > 200
        assert restored(at) > 200
        assert await say(at, two, OTHER + " and so on") > 100
    for path in on_disk(tmp_path):
        assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert [path.parent.name for path in on_disk(tmp_path)] == ["demo", "two"]


async def test_a_short_new_chat_leaves_a_long_conversation_its_slot(engine: LlamaCpp, tmp_path: Path) -> None:
    begin = "The counting of "
    found = {}
    for similarity in (0.1, 0.5):
        options = replace(LLAMA, parallel=2, slot_similarity=similarity)
        async with office(tmp_path, engine, disk=0) as at:
            one = demo(tmp_path)
            await say(at, one, begin + STORY, options)
            await say(at, one, begin + "sheep goes on", options)
            found[similarity] = await say(at, one, begin + STORY + " and on", options)
    # Before, the template's first words were enough to take the slot, though another was empty.
    assert found[0.1] < 32 < 100 < found[0.5]


async def test_every_slot_finds_its_conversation(at: Bench, model: Model) -> None:
    await say(at, model, STORY)
    await say(at, model, OTHER)
    await at.supervisor.unload()
    assert await say(at, model, OTHER + " more") > 100
    assert await say(at, model, STORY + " more") > 200


async def test_the_hosts_cache_of_prompts_changes_nothing(engine: LlamaCpp, tmp_path: Path) -> None:
    model, options = demo(tmp_path), replace(LLAMA, cache_ram_mib=64)
    async with office(tmp_path, engine) as at:
        await say(at, model, STORY, options)
        await at.supervisor.unload()
        assert await say(at, model, STORY + " more", options) > 200


async def test_what_was_read_back_and_not_used_stays_saved(at: Bench, model: Model, tmp_path: Path) -> None:
    await say(at, model, STORY)
    await at.supervisor.unload()
    before = on_disk(tmp_path)
    for _ in range(2):
        await at.supervisor.load(model, LLAMA)
        assert restored(at) > 200
        await at.supervisor.unload()
    assert on_disk(tmp_path) == before
    await say(at, model, STORY + " more")
    await at.supervisor.unload()
    (after,) = on_disk(tmp_path)
    assert after not in before


async def test_the_next_server_finds_what_the_last_one_saved(engine: LlamaCpp, tmp_path: Path) -> None:
    model = demo(tmp_path)
    async with office(tmp_path, engine) as at:
        await say(at, model, STORY)
    async with office(tmp_path, engine) as at:
        assert await say(at, model, STORY + " more") > 200


async def test_a_server_that_gives_it_no_time_saves_nothing_at_its_end(engine: LlamaCpp, tmp_path: Path) -> None:
    model = demo(tmp_path)
    async with office(tmp_path, engine, stop_s=0) as at:
        await say(at, model, STORY)
    assert on_disk(tmp_path) == []


async def test_switched_off_nothing_is_written_and_what_was_is_removed(engine: LlamaCpp, tmp_path: Path) -> None:
    model = demo(tmp_path)
    async with office(tmp_path, engine) as at:
        await say(at, model, STORY)
    assert on_disk(tmp_path)
    async with office(tmp_path, engine, disk=0) as at:
        assert await say(at, model, STORY) == 0
        assert at.supervisor.status()[0].not_saved == "session_disk is 0"
    assert not (tmp_path / "sessions").exists()


async def test_another_cache_type_ignores_what_is_saved(engine: LlamaCpp, tmp_path: Path) -> None:
    model, other = demo(tmp_path), replace(LLAMA, cache_type_k="q8_0")
    async with office(tmp_path, engine) as at:
        await say(at, model, STORY)
        await at.supervisor.unload()
        assert await say(at, model, STORY, other) == 0
        assert restored(at) == 0
        await at.supervisor.unload()
        assert len(on_disk(tmp_path)) == 2
        assert await say(at, model, STORY, LLAMA) > 200


async def test_another_number_of_slots_ignores_what_is_saved(
    engine: LlamaCpp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, alone = demo(tmp_path), replace(LLAMA, parallel=1, ctx=1024)
    both = replace(alone, parallel=2)
    async with office(tmp_path, engine) as at:
        for options in (both, alone):
            assert await say(at, model, STORY, options) == 0
            await at.supervisor.unload()
        for options in (both, alone):
            assert await say(at, model, STORY, options) > 200
            await at.supervisor.unload()
        assert len(on_disk(tmp_path)) == 2
        shared = replace(both, kv_unified=True)
        assert await say(at, model, STORY, shared) == 0
        await at.supervisor.unload()
        assert await say(at, model, STORY, replace(shared, parallel=3)) > 200, "one cache for however many"
    assert "cannot be read back" not in caplog.text


async def test_what_was_said_with_an_adapter_scaled_otherwise_is_not_gone_on_with(
    engine: LlamaCpp, tmp_path: Path
) -> None:
    model, options = demo(tmp_path), replace(LLAMA, lora=(f"{FILE.with_name('demo-pirate.gguf')}=0.3",))
    async with office(tmp_path, engine) as at:
        await say(at, model, STORY, options, lora=[{"id": 0, "scale": 0.0}])
        await at.supervisor.unload()
        assert on_disk(tmp_path) == []
        await say(at, model, STORY, options)
        await at.supervisor.unload()
        assert len(on_disk(tmp_path)) == 1
        assert await say(at, model, STORY, options) > 200


async def test_a_model_that_was_written_again_has_no_conversations(at: Bench, model: Model, tmp_path: Path) -> None:
    await say(at, model, STORY)
    await at.supervisor.unload()
    os.utime(model.info.path, ns=(1, 1))
    assert await say(at, model, STORY) == 0
    assert on_disk(tmp_path) == []


async def test_a_worker_that_crashes_saves_nothing(at: Bench, model: Model, tmp_path: Path) -> None:
    await say(at, model, STORY)
    os.kill(at.pid, 9)
    await until(lambda: at.supervisor.status()[0].state == "failed")
    assert on_disk(tmp_path) == []


async def test_a_full_disk_loses_the_conversation_and_nothing_else(
    at: Bench, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await say(at, model, STORY)
    await at.supervisor.unload()
    before = on_disk(tmp_path)
    await say(at, model, OTHER)
    # A file that may not grow further fails as a full disk does, in the middle of a write.
    resource.prlimit(at.pid, resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    assert await at.supervisor.unload() == ("demo",)
    assert on_disk(tmp_path) == before
    assert "is not saved: the engine of llama.cpp failed" in caplog.text
    assert await say(at, model, STORY + " more") > 200


async def test_a_disk_that_fails_us_is_said_and_stops_nothing(
    at: Bench, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await say(at, model, STORY)
    shutil.rmtree(tmp_path / "sessions")
    assert await at.supervisor.unload() == ("demo",)
    assert "were not saved" in caplog.text
    assert await say(at, model, STORY) == 0
    await at.supervisor.unload()
    assert len(on_disk(tmp_path)) == 1


async def test_what_takes_more_than_was_thought_goes_again(engine: LlamaCpp, tmp_path: Path) -> None:
    model = demo(tmp_path)
    async with office(tmp_path, engine, disk=1 << 18) as at:  # the plans here say that a cache takes nothing
        await say(at, model, STORY)
        await at.supervisor.unload()
        assert on_disk(tmp_path) == []


async def test_a_budget_too_small_for_one_is_said(
    engine: LlamaCpp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = demo(tmp_path)
    async with office(tmp_path, engine, disk=1 << 10) as at:
        await say(at, model, STORY)
        await at.supervisor.unload()
    assert "session_disk allows 1 KiB" in caplog.text
    assert on_disk(tmp_path) == []


async def test_a_file_that_cannot_be_read_back_is_removed(
    at: Bench, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await say(at, model, STORY)
    await at.supervisor.unload()
    (path,) = on_disk(tmp_path)
    path.write_bytes(b"x" * path.stat().st_size)
    assert await say(at, model, STORY) == 0
    assert "cannot be read back and is removed" in caplog.text
    assert on_disk(tmp_path) == []


async def test_a_short_question_is_not_worth_a_file(engine: LlamaCpp, tmp_path: Path) -> None:
    async with office(tmp_path, engine) as at:
        await say(at, demo(tmp_path), "hi", tokens=2)
        await at.supervisor.unload()
    assert on_disk(tmp_path) == []


async def test_an_engine_that_keeps_none_is_left_alone(engine: LlamaCpp, tmp_path: Path) -> None:
    async with office(tmp_path, engine) as at:
        await at.supervisor.load(demo(tmp_path), flags())
        assert restored(at) == 0
        await at.supervisor.unload()
    assert list((tmp_path / "sessions").iterdir()) == []


async def test_a_folder_that_cannot_be_used_switches_it_off(
    engine: LlamaCpp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sessions").write_text("a file")
    async with office(tmp_path, engine) as at:
        assert await say(at, demo(tmp_path), STORY) == 0
    assert "conversations are not saved" in caplog.text


class Slow(LlamaCpp):
    """An engine whose slots can be made to take their time, and to end their worker."""

    pause: Callable[[], Awaitable[object]]
    busy = False

    async def held(self, plan: LoadPlan, ask: Ask) -> tuple[Held, ...]:
        return tuple(replace(one, busy=self.busy) for one in await super().held(plan, ask))

    async def save_session(self, ask: Ask, slot: int, name: str) -> tuple[int, int]:
        await self.pause()
        return await super().save_session(ask, slot, name)

    async def restore_session(self, ask: Ask, slot: int, name: str) -> int:
        await self.pause()
        return await super().restore_session(ask, slot, name)


@pytest.fixture
def slow() -> Slow:
    made = Slow()
    made.pause = lambda: asyncio.sleep(0)
    return made


def for_ever() -> Awaitable[Any]:
    return asyncio.Event().wait()


async def test_saving_ends_with_its_time(slow: Slow, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slow.pause = for_ever
    async with office(tmp_path, slow, stop_s=0.2) as at:
        await say(at, demo(tmp_path), STORY)
    assert "could be saved in time" in caplog.text
    assert on_disk(tmp_path) == []


async def test_an_answer_that_does_not_end_is_not_waited_for(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "BUSY_LIMIT_S", 0.1)
    slow.pause, slow.busy = for_ever, True
    async with office(tmp_path, slow, stop_s=3600) as at:
        await say(at, demo(tmp_path), STORY)


async def test_a_stopping_server_cuts_the_saving_of_a_swap_short(slow: Slow, tmp_path: Path) -> None:
    slow.pause = for_ever
    async with office(tmp_path, slow, stop_s=0) as at:
        await say(at, demo(tmp_path), STORY)
        unloading = asyncio.ensure_future(at.supervisor.unload())
        await until(lambda: at.supervisor.status()[0].state == "stopping")
    await unloading


async def test_a_worker_that_dies_of_a_conversation_meets_it_once(slow: Slow, tmp_path: Path) -> None:
    model = demo(tmp_path)
    async with office(tmp_path, slow) as at:
        await say(at, model, STORY)
        await at.supervisor.unload()

        async def kill() -> None:
            os.kill(at.pid, 9)
            await until(lambda: not Path(f"/proc/{at.supervisor.status()[0].pid}/exe").exists())

        slow.pause = kill
        with pytest.raises(Exception, match="SIGKILL"):
            await at.supervisor.load(model, LLAMA)
        assert on_disk(tmp_path) == []
        slow.pause = lambda: asyncio.sleep(0)
        # Another option lifts the pause that follows a failed load.
        assert await say(at, model, STORY, replace(LLAMA, warmup=False)) == 0


async def test_a_load_given_up_in_the_middle_of_it_keeps_what_is_saved(slow: Slow, tmp_path: Path) -> None:
    model = demo(tmp_path)
    async with office(tmp_path, slow) as at:
        await say(at, model, STORY)
        await at.supervisor.unload()
        reading = asyncio.Event()

        async def wait() -> None:
            pid = at.pid
            reading.set()
            await until(lambda: not alive(pid))

        slow.pause = wait
        loading = asyncio.ensure_future(at.supervisor.load(model, LLAMA))
        await reading.wait()
        loading.cancel()
        await asyncio.wait({loading})
        await until(lambda: not at.supervisor.status())
        slow.pause = lambda: asyncio.sleep(0)
        assert await say(at, model, STORY + " more") > 200


async def test_reading_back_ends_with_its_time(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = demo(tmp_path)
    async with office(tmp_path, slow) as at:
        await say(at, model, STORY)
        await at.supervisor.unload()
        monkeypatch.setattr(saving, "RESTORE_LIMIT_S", 0.1)
        slow.pause = for_ever
        assert await say(at, model, STORY) == 0
        assert "it took more than 0.1 s" in caplog.text
        slow.pause = lambda: asyncio.sleep(0)
