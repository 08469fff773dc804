"""What is read back is answered from as if it had stayed, also where the cache is no list of keys: states, windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.runtime.scheduling.shaped import write_shaped
from tests.runtime.stand_in import Bench
from tests.runtime.test_sessions import LLAMA, demo, engine, office, on_disk, restored
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.engines.llamacpp.engine import LlamaCpp
from uml.engines.llamacpp.slots import AGAIN_TOKENS
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


async def guesses(at: Bench, model: Model, prompt: str, options: LoadOptions) -> tuple[str, float, int]:
    """An answer, the share of its guesses that were right, and how many tokens of the prompt were not read for it."""
    body = {"prompt": prompt, "max_tokens": 40, "temperature": 0, "ignore_eos": True}
    async with at.supervisor.lease(model, options) as lease:
        reply = await lease.channel.request("POST", "/v1/completions", orjson.dumps(body))
        said = orjson.loads(await reply.read(1 << 20))
    assert reply.status == 200, said
    timings = said["timings"]
    return said["choices"][0]["text"], timings["draft_n_accepted"] / timings["draft_n"], timings["cache_n"]


async def test_a_draft_reads_the_end_of_what_was_read_back_and_guesses_well(engine: LlamaCpp, tmp_path: Path) -> None:
    model = demo(tmp_path)
    draft = demo(tmp_path, "draft").info.path
    options = replace(OPTIONS, draft_model=str(draft), draft_max=8)
    story = " ".join(["The cat sat on the mat.", "The dog ran to the river.", "A bird sang a song in the tree."] * 20)
    async with office(tmp_path, engine) as at:
        story += (await guesses(at, model, story, options))[0]
        stayed, share, _ = await guesses(at, model, story, options)
        await at.supervisor.unload()
        assert on_disk(tmp_path)
        back, share_back, cached = await guesses(at, model, story, options)
        held = restored(at)
        assert at.supervisor.status()[0].not_saved == ""
        assert back == stayed
        assert held - AGAIN_TOKENS - 50 < cached <= held - AGAIN_TOKENS, "the end of it was read again, and no more"
        # It was less than a fifth where the draft had read nothing of it.
        assert share_back > 0.6 * share
        await at.supervisor.unload()
        # Another draft: what it would go on from is not its own.
        draft.write_bytes(draft.read_bytes() + b"\0")
        assert (await guesses(at, model, story, options))[2] == 0
        assert restored(at) == 0
