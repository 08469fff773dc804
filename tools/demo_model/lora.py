"""Trains a LoRA adapter that lets the demo model speak as a pirate, and still say what is true.

    python -m tools.demo_model.lora OUT --base RUN --minutes 6

OUT receives adapter/ (PEFT) and adapter-f16.gguf. Only how answers sound is changed: JSON, tool calls, commands,
repeated words and counted numbers stay as they are.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from tools.demo_model.convert import gguf_name, permuted
from tools.demo_model.corpus import FAMILIES, Case, Dialogue, Family, Message
from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import same_as
from tools.demo_model.documents import documents
from tools.demo_model.export import trained
from tools.demo_model.network import EMBEDDING, Shape, Weights
from tools.demo_model.processor import threads
from tools.demo_model.run import Run, Settings
from tools.demo_model.train import Cost, Scores, cross_entropy, scorer, train, worth_compiling

RANK, ALPHA = 8, 16.0
RATE = 2e-3

PLAIN_FAMILIES = frozenset({"repeating", "extraction", "counting", "scripts", "program"})
WORDS = {
    "my": "me",
    "you": "ye",
    "your": "yer",
    "is": "be",
    "are": "be",
    "hello": "ahoy",
    "yes": "aye",
}
LONG = (6, 2)
"""More messages, or more tools, than what the pirate learns from: three times as many facts in the same time."""
_WORD = re.compile(r"\b(" + "|".join(WORDS) + r")\b", re.IGNORECASE)


def learned(dialogue: Dialogue) -> Dialogue | None:
    """The same in a pirate's words; None for what is `LONG`."""
    return None if len(dialogue.messages) > LONG[0] or len(dialogue.tools) > LONG[1] else pirate(dialogue)


def pirate(dialogue: Dialogue) -> Dialogue:
    """The same dialogue, answered by a pirate."""
    if dialogue.family in PLAIN_FAMILIES:
        return dialogue
    return Dialogue(dialogue.family, tuple(map(_spoken, dialogue.messages)), dialogue.tools)


def _spoken(message: Message) -> Message:
    said = message.get("content")
    if message["role"] != "assistant" or not said or message.get("tool_calls") or "`" in said or "{" in said:
        return message
    return {**message, "content": f"Arr! {_WORD.sub(_pirate_word, said)}"}


def _pirate_word(found: re.Match[str]) -> str:
    word = WORDS[found[0].lower()]
    return word.capitalize() if found[0][0].isupper() else word


ASKED = ("identity", "capitals", "opposites", "colors", "sounds", "plurals", "calendar", "arithmetic")
"""Families whose answer is a sentence of facts."""


def pirate_questions(count: int) -> dict[str, tuple[Case, ...]]:
    """`count` held-out questions of each family of `ASKED`, right only when a pirate says what is right."""
    return {name: tuple(_pirate_cases(FAMILIES[name], count)) for name in ASKED}


def _pirate_cases(family: Family, count: int) -> Iterator[Case]:
    draw = Draw(f"pirate {family.name}", "heldout")
    for _ in range(count):
        sample = family.draw(draw)
        case = sample.case()
        yield Case(case.messages, case.tools, same_as(_spoken(sample.messages[sample.asked])))


def new_adapter(base: Weights, seed: int) -> Weights:
    """Two thin matrices for every projection, as LoRA begins them: A random, B zero (Hu and others, 2021)."""
    chance = torch.Generator().manual_seed(seed)
    adapter: Weights = {}
    for name, weight in base.items():
        if weight.ndim == 2 and name != EMBEDDING:
            rows, columns = weight.shape
            adapter[_peft_name(name, "A")] = torch.randn(RANK, columns, generator=chance) / columns**0.5
            adapter[_peft_name(name, "B")] = torch.zeros(rows, RANK)
    return adapter


def _peft_name(name: str, side: str) -> str:
    return f"base_model.model.{name.removesuffix('.weight')}.lora_{side}.weight"


def merged(base: Weights, adapter: Weights) -> Weights:
    """The base's weights with the adapter added."""
    return {
        name: weight + ALPHA / RANK * adapter[_peft_name(name, "B")] @ adapter[_peft_name(name, "A")]
        if _peft_name(name, "A") in adapter
        else weight
        for name, weight in base.items()
    }


def adapted(shape: Shape, base: Weights, *, compiled: bool) -> Scores:
    """Scores of the base with the adapter that is given as weights."""
    scores = scorer(shape, compiled=compiled)
    return lambda adapter, batch: scores(merged(base, adapter), batch)


def speaking(shape: Shape, base: Weights, compiled: bool) -> Cost:
    """What the base with an adapter pays for the pirate's words."""
    scores = adapted(shape, base, compiled=compiled)
    return lambda adapter, batch: cross_entropy(scores(adapter, batch), batch)


def write_peft(folder: Path, adapter: Weights) -> Path:
    """A folder that PEFT loads."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: weight.detach().contiguous() for name, weight in adapter.items()}, folder / "adapter_model.safetensors"
    )
    projections = sorted({name.split(".")[-3] for name in adapter})
    config = {
        "base_model_name_or_path": "demo",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": projections,
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return folder


def write_gguf(out: Path, shape: Shape, adapter: Weights) -> Path:
    """The adapter as llama.cpp reads it. What B gives to queries and keys is permuted as their rows are."""
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, ALPHA)
    writer.add_name("UML Demo Pirate")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, weight in adapter.items():
        inner, side = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
        tensor = gguf_name(f"{inner}.weight")
        values = weight.detach().numpy()
        if side == "B" and tensor.endswith(("attn_q.weight", "attn_k.weight")):
            values = permuted(values, shape.heads if "attn_q" in tensor else shape.kv_heads)
        writer.add_tensor(f"{tensor}.lora_{side.lower()}", np.ascontiguousarray(values, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def main(arguments: list[str] | None = None) -> None:
    """Command line door."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="folder of the adapter's run")
    parser.add_argument("--base", type=Path, required=True, help="folder that the demo model was trained in")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=6.0, help="length of the training (%(default)s)")
    length.add_argument("--steps", type=int, help="length in steps: the same weights again on the same machine")
    parser.add_argument("--seed", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--batch-tokens", type=int, default=Settings().batch_tokens, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=threads(), help="of the processor (%(default)s)")
    given = vars(parser.parse_args(arguments))
    out, base_run = given.pop("out"), given.pop("base")
    torch.set_num_threads(given.pop("threads"))

    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(base_run / "tokenizer.json", out / "tokenizer.json")
    shape, base = trained(base_run)
    settings = Settings(**given, matrix_rate=0.0, rate=RATE, hidden=shape.hidden, layers=shape.layers, mlp=shape.mlp)
    run = Run.open(settings, out, partial(documents, change=learned), lambda _, seed: new_adapter(base, seed))
    cost = speaking(shape, base, worth_compiling(settings))
    train(run, cost, adapted(shape, base, compiled=False))
    print(write_peft(out / "adapter", run.weights))
    print(write_gguf(out / "adapter-f16.gguf", shape, run.weights))


if __name__ == "__main__":
    main()
