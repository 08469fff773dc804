"""The files that ship say what the libraries of the field say of the same weights: tokens, logits, adapter."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import torch
from tokenizers import Tokenizer

from tools.demo_model.convert import convert
from tools.demo_model.lora import new_adapter, write_gguf, write_peft
from tools.demo_model.network import Shape
from uml.config import Settings
from uml.house import House
from uml.registry import packaged_model
from uml.runtime.workers.channel import Channel

FOLDER: Final = Path("src/uml/models/demo-safetensors")
PROMPTS: Final = (
    "<|im_start|>user\nWhat is the capital of Japan?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nRepeat after me: zebra lantern cloud<|im_end|>\n<|im_start|>assistant\nzebra",
    "<|im_start|>user\nWhat is 17 + 8?<|im_end|>\n<|im_start|>assistant\n17 + 8 = ",
    "<|im_start|>user\nTell me a story about a wolf.<|im_end|>\n<|im_start|>assistant\nOnce there was a",
    "<|im_start|>user\nTell me a short story.<|im_end|>\n<|im_start|>assistant\nIn a",
)
LIKELY: Final = 1e-3
BOUNDS: Final = {"f32": 1e-4, "f16": 2e-3, "q8_0": 0.15, "q4_k_m": 0.5, "q4_0": 1.0}
"""Largest difference of a log probability, of tokens with a probability over `LIKELY`."""
EXACT: Final = {"flash_attn": "off", "cache_type_k": "f32", "cache_type_v": "f32"}
"""Else the engine rounds queries, keys and values to 16 bits, which hides what the files do."""

LETTERS: Final = (
    *((0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x370, 0x600), (0x900, 0xE00), (0x1E00, 0x2100)),
    *((0x2190, 0x2800), (0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (0x9, 0xE)),
)


@asynccontextmanager
async def serving(model: Path, data: Path, **options: object) -> AsyncIterator[Channel]:
    settings = Settings.load({"data": str(data)}, {"HOME": str(data), "PATH": os.environ["PATH"]})
    async with House.open(settings) as house:
        found = house.library.find(str(model))
        wanted = house.library.options(found, {"ctx": 2048, "parallel": 1, "threads": 1, **EXACT, **options})
        async with house.supervisor.lease(found, wanted) as lease:
            yield lease.channel


async def ask(channel: Channel, path: str, **body: Any) -> Any:
    response = await channel.request("POST", path, json.dumps(body).encode())
    answer = json.loads(await response.read(1 << 24))
    assert response.status == 200, answer
    return answer


def strange(chance: random.Random) -> str:
    """Letters of many scripts, spaces, digits, emoji, controls; now and then a word, so that merges apply."""
    parts = []
    for _ in range(chance.randint(1, 12)):
        if chance.random() < 0.4:
            parts.append(chance.choice((" the", "capital", "  ", "\n\n", "12", "'s", "<|im_end|>", "<think>", "\r\n")))
        else:
            first, last = chance.choice(LETTERS)
            parts.append("".join(chr(chance.randrange(first, last)) for _ in range(chance.randint(1, 6))))
    return "".join(parts)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_the_engine_cuts_any_text_into_the_same_tokens(tmp_path: Path, count: int) -> None:
    chance = random.Random(count)
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    async with serving(packaged_model(), tmp_path) as channel:
        for _ in range(count):
            text = strange(chance)
            expected = tokenizer.encode(text, add_special_tokens=False).ids
            assert (await ask(channel, "/tokenize", content=text, parse_special=True))["tokens"] == expected, text


def expected_log_probabilities(model: Any, tokenizer: Tokenizer, prompt: str) -> list[float]:
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    with torch.no_grad():
        return list(model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1).tolist())


async def differences(channel: Channel, model: Any, tokenizer: Tokenizer) -> list[float]:
    """The largest difference of each prompt."""
    found, compared = [], 0
    for prompt in PROMPTS:
        expected = expected_log_probabilities(model, tokenizer, prompt)
        answer = await ask(channel, "/completion", prompt=prompt, n_predict=1, n_probs=len(expected), temperature=1.0)
        told = {entry["id"]: entry["logprob"] for entry in answer["completion_probabilities"][0]["top_logprobs"]}
        likely = [i for i, value in enumerate(expected) if value > math.log(LIKELY)]
        compared += len(likely)
        found.append(max(abs(told.get(i, -math.inf) - expected[i]) for i in likely))
    assert compared > 2 * len(PROMPTS), "too few tokens were likely to tell anything"
    return found


@pytest.fixture(scope="module")
def reference() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.mark.parametrize("kind", BOUNDS)
async def test_every_kind_of_file_gives_the_logits_of_transformers(tmp_path: Path, reference: Any, kind: str) -> None:
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    path = convert(FOLDER, tmp_path / f"demo-{kind}.gguf", kind)
    async with serving(path, tmp_path / "data") as channel:
        assert max(await differences(channel, reference, tokenizer)) < BOUNDS[kind]


# PEFT asks for it under the name of before.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
async def test_an_adapter_does_in_the_engine_what_it_does_in_peft(tmp_path: Path, reference: Any) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    chance = torch.Generator().manual_seed(1)
    base = load_file(FOLDER / "model.safetensors")
    # Small, and in every projection: as far from the base as a trained one.
    adapter = {
        name: weight if "lora_A" in name else torch.randn(weight.shape, generator=chance) * 0.01
        for name, weight in new_adapter(base, 1).items()
    }
    files = write_gguf(tmp_path / "adapter.gguf", Shape(2000), adapter), write_peft(tmp_path / "peft", adapter)
    path = convert(FOLDER, tmp_path / "demo-f32.gguf", "f32")
    changed = PeftModel.from_pretrained(reference, files[1]).eval()
    async with serving(path, tmp_path / "data", lora=[str(files[0])]) as channel:
        found = max(await differences(channel, changed, tokenizer))
    changed.unload()
    async with serving(path, tmp_path / "plain") as channel:
        plain = max(await differences(channel, reference, tokenizer))
    assert max(found, plain) < 1e-3, (found, plain)
