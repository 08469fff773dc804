"""What is read back is answered from as if it had stayed, also where the cache is no list of keys: states, windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.runtime.scheduling.shaped import write_shaped
from tests.runtime.stand_in import Bench
from tests.runtime.test_sessions import LLAMA, demo, engine, office, on_disk, restored, say
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.engines.llamacpp.engine import LlamaCpp
from uml.formats import inspect

OPTIONS = replace(LLAMA, ctx=1024, parallel=1)
STORY = "The counting goes " + " ".join(f"w{number}" for number in range(70))
"""450 tokens: a window of 64 has moved on."""

__all__ = ["engine"]


async def answer(at: Bench, model: Model, prompt: str, options: LoadOptions = OPTIONS) -> tuple[list[int], int]:
    """The tokens of an answer, and how many of the prompt were not read for it."""
    body = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "ignore_eos": True, "logprobs": 1}
    async with at.supervisor.lease(model, options) as lease:
        reply = await lease.channel.request("POST", "/v1/completions", orjson.dumps(body))
        said = orjson.loads(await reply.read(1 << 20))
    assert reply.status == 200, said
    return [one["id"] for one in said["choices"][0]["logprobs"]["content"]], said["timings"]["cache_n"]


@pytest.mark.parametrize("architecture", ["mamba2", "gemma2", "falcon-h1"])
async def test_what_was_read_back_is_answered_from_as_if_it_had_been_read(
    engine: LlamaCpp, tmp_path: Path, architecture: str
) -> None:
    model = Model(architecture, inspect(write_shaped(architecture, tmp_path / f"{architecture}.gguf")))
    async with office(tmp_path, engine) as at:
        await answer(at, model, STORY)
        await at.supervisor.unload()
        assert on_disk(tmp_path)
        # Another turn than what was said: the state has to go back to before the answer.
        back, cached = await answer(at, model, STORY + " w5 w6")
        assert restored(at) > 400 < cached
        assert at.supervisor.status()[0].not_saved == ""
    async with office(tmp_path, engine, disk=0) as at:
        fresh, cached = await answer(at, model, STORY + " w5 w6")
        assert (fresh, cached) == (back, 0)
        assert (await answer(at, model, "w9 w5 w6"))[0] != fresh, "it hangs on what was read"


async def test_a_draft_models_conversations_are_not_saved_and_the_status_says_why(
    engine: LlamaCpp, tmp_path: Path
) -> None:
    model = demo(tmp_path)
    options = replace(LLAMA, draft_model=str(demo(tmp_path, "draft").info.path))
    async with office(tmp_path, engine) as at:
        await say(at, model, STORY, options)
        assert "its guesses would be wrong" in at.supervisor.status()[0].not_saved
        await at.supervisor.unload()
        assert await say(at, model, STORY, options) == 0
    assert on_disk(tmp_path) == []
