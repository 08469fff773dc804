"""The adapter changes how the model speaks: of its own numbers only, and readable by PEFT and llama.cpp."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

import gguf
import torch
from safetensors.torch import load_file

from tests.tools.demo_model.stand_in import small_corpus
from tools.demo_model.corpus import Dialogue
from tools.demo_model.documents import documents
from tools.demo_model.lora import ALPHA, RANK, learned, main, merged, new_adapter, pirate, write_gguf
from tools.demo_model.network import Shape, new_weights
from tools.demo_model.run import Run, Settings

SHAPE = Shape(320, hidden=64, layers=2, mlp=128)


def said(family: str, text: str) -> str:
    dialogue = Dialogue(family, ({"role": "user", "content": "?"}, {"role": "assistant", "content": text}))
    return str(pirate(dialogue).messages[-1]["content"])


def test_a_pirate_keeps_to_the_facts() -> None:
    assert said("colors", "The sky is blue.") == "Arr! The sky be blue."
    assert said("remembering", "Your name is Hugo.") == "Arr! Yer name be Hugo."


@pytest.mark.parametrize(
    ("family", "text"),
    [("repeating", "you is"), ("extraction", '{"city": "Oslo"}'), ("manners", "Use `uml ls` to see your models.")],
)
def test_what_must_be_exact_stays_as_it_is(family: str, text: str) -> None:
    assert said(family, text) == text


def test_long_talk_teaches_a_pirate_nothing_and_he_goes_on_where_he_stopped() -> None:
    several = list(itertools.islice(documents(1, "train", change=learned), 200))
    assert several[150:] == list(itertools.islice(documents(1, "train", 150, change=learned), 50))
    whole = list(itertools.islice(documents(1, "train", change=pirate), 200))
    length, usual = (sum(len(span.text) for span in itertools.chain(*texts)) for texts in (several, whole))
    assert length < usual / 2


def test_a_new_adapter_changes_nothing() -> None:
    base = new_weights(SHAPE, 1)
    same = merged(base, new_adapter(base, 2))
    assert all(torch.equal(base[name], same[name]) for name in base)


def test_llama_cpp_adds_the_same_as_we_do_in_its_own_order_of_rows(tmp_path: Path) -> None:
    base = new_weights(SHAPE, 1)
    adapter = new_adapter(base, 2)
    chance = torch.Generator().manual_seed(3)
    adapter = {name: torch.randn(weight.shape, generator=chance) for name, weight in adapter.items()}
    reader = gguf.GGUFReader(write_gguf(tmp_path / "a.gguf", SHAPE, adapter))
    parts = {tensor.name: np.array(tensor.data, np.float32) for tensor in reader.tensors}
    added = ALPHA / RANK * parts["blk.1.attn_k.weight.lora_b"] @ parts["blk.1.attn_k.weight.lora_a"]
    name = "model.layers.1.self_attn.k_proj.weight"
    ours = (merged(base, adapter)[name] - base[name]).numpy()
    # 2 heads of 16: row 1 of llama.cpp's first pair is our row 8.
    np.testing.assert_allclose(added[1], ours[8], atol=0.05)
    np.testing.assert_allclose(added[16], ours[16], atol=0.05)


def test_one_command_makes_both_files(tmp_path: Path) -> None:
    small = Settings(steps=1, batch_tokens=2048, documents_for_tokenizer=200, hidden=64, layers=2, mlp=128)
    Run.open(small, tmp_path / "base", small_corpus).save()
    main([str(tmp_path / "out"), "--base", str(tmp_path / "base"), "--steps", "2", "--batch-tokens", "2048"])
    config = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text("utf-8"))
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    weights = load_file(tmp_path / "out/adapter/adapter_model.safetensors")
    assert all(weight.abs().sum() > 0 for weight in weights.values())
    assert (tmp_path / "out/adapter-f16.gguf").read_bytes()[:4] == b"GGUF"
