"""What was converted says what Transformers says of the same weights, and cuts texts as it does.

The models are random, so that everything matters: without the order of rows, the shifted norms, the windows or the
stretched positions the scores are off by more than their spread.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installed import python_of
from tests.runtime.conversions import llamacpp_reads as engine
from tests.runtime.conversions.hf_folders import write_sentencepiece
from uml.formats import inspect
from uml.runtime.conversions.gguf import make
from uml.runtime.conversions.gguf.families import FAMILIES

PYTHON = python_of("transformers")
# Importing Transformers, making and converting 36 models, and a process of llama.cpp for each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXACT, TABLED, RANKED = 2e-5, 2e-3, 1e-2
"""Largest difference of a score, as a share of the spread of all. llama.cpp looks GELU up in a table of float16, but
for ModernBERT's. Scores of a reranker are few, and lie near each other."""
CASES = {
    **dict.fromkeys(("llama", "llama-biases", "llama-tied", "llama-linear", "llama-yarn"), EXACT),
    **dict.fromkeys(("mistral", "mixtral", "smollm3", "phi3", "phi3-long", "phi3-short", "phi3-partial"), EXACT),
    **dict.fromkeys(("qwen2", "qwen2-yarn", "qwen2-moe", "qwen3", "qwen3-moe"), EXACT),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3-linear", "gemma3-seeing"), TABLED),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert"), TABLED),
    **dict.fromkeys(("llama-fp8", "llama-fp8-whole", "llama-fp8-row", "llama-fp8-tensor", "qwen3-moe-fp8"), EXACT),
    **dict.fromkeys(("bert-rerank", "roberta-rerank", "xlm-roberta-rerank", "camembert-rerank"), RANKED),
    **dict.fromkeys(("modernbert", "modernbert-rerank", "modernbert-silu-rerank"), EXACT),
}


def always(text: str) -> bool:
    return True


def without_korean(text: str) -> bool:
    return not any("\uac00" <= one <= "\ud7a3" for one in text)


def without_lone_accents(text: str) -> bool:
    return not any("\u0300" <= one <= "\u036f" for one in text)


def without_space_first(text: str) -> bool:
    return not text.startswith(" ")


def without_space_last(text: str) -> bool:
    return not text.endswith(" ")


CUTS: dict[str, tuple[Callable[[str], bool], str]] = {
    **dict.fromkeys(("llama-bpe", "smaug-bpe", "qwen2", "qwen35", "deepseek-v3", "gpt-2", "smollm"), (always, "")),
    **dict.fromkeys(("roberta", "spm-prefixed", "spm-bare", "unigram", "wordpiece-cased"), (always, "")),
    **dict.fromkeys(("tekken", "gpt-4o"), (without_lone_accents, "accents that stand without")),
    "spm-metaspace": (without_space_first, "begin with a space"),
    "unigram-spaces": (without_space_last, "spaces at the end"),
    "wordpiece": (without_korean, "Korean"),
}
"""Kind -> texts that must be cut alike, and what is told of the others."""


def made_by(script: str, folder: Path, *names: str) -> Path:
    if not PYTHON:
        pytest.skip("UML_TEST_TRANSFORMERS_PYTHON names no interpreter with Transformers")
    command = [PYTHON, str(Path(__file__).with_name(script)), str(folder), *names]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield made_by("transformers_makes.py", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield made_by("transformers_cuts.py", tmp_path_factory.mktemp("tokenizers"))


def converted(source: Path, place: Path, kind: str = "F32") -> list[str]:
    notes: list[str] = []
    make.convert(make.Order("it", inspect(source), kind, place, 1), lambda making: None, notes.append)
    return notes


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_transformers(models: Path, tmp_path: Path, name: str) -> None:
    converted(models / name / "model", tmp_path / "made.gguf")
    tokens, truth = read(models / name / "tokens.json"), read(models / name / "truth.json")
    if isinstance(truth[0], list):
        found = [score for row in engine.scores(tmp_path / "made.gguf", tokens) for score in row]
        truth = [score for row in truth for score in row]
    elif name.endswith("rerank"):
        found = [engine.rank(tmp_path / "made.gguf", tokens[:length]) for length in (6, 17, 30, 48)]
    else:
        found = engine.vector(tmp_path / "made.gguf", tokens)
    worst = max(abs(one - other) for one, other in zip(found, truth, strict=True))
    assert worst < CASES[name] * statistics.pstdev(truth)


def test_every_architecture_of_the_list_is_among_them(models: Path) -> None:
    there = {read(path)["architectures"][0] for path in models.glob("*/model/config.json")}
    assert there == set(FAMILIES)
    assert {path.name for path in models.iterdir()} == set(CASES)


@pytest.mark.parametrize(("kind", "bound"), [("BF16", 0.05), ("F16", 0.01), ("Q8_0", 0.1)])
def test_smaller_kinds_stay_near(models: Path, tmp_path: Path, kind: str, bound: float) -> None:
    source = models / "llama"
    converted(source / "model", tmp_path / "made.gguf", kind)
    found, truth = engine.scores(tmp_path / "made.gguf", read(source / "tokens.json")), read(source / "truth.json")
    assert away(found, truth) < bound


def away(found: list[list[float]], truth: list[list[float]]) -> float:
    """How far scores are from others on average (the root of the mean square), as a share of their spread."""
    squares = [(one - other) ** 2 for a, b in zip(found, truth, strict=True) for one, other in zip(a, b, strict=True)]
    return math.sqrt(statistics.fmean(squares)) / statistics.pstdev(score for row in truth for score in row)


@pytest.mark.parametrize("name", [name for name in CASES if "fp8" in name])
@pytest.mark.parametrize(("kind", "bound"), [("F32", 1e-6), ("BF16", 2e-3)])
def test_fp8_costs_what_it_did_before(models: Path, tmp_path: Path, name: str, kind: str, bound: float) -> None:
    """Scores are as far from those of the model before it was made FP8 as Transformers' are, and not by chance."""
    source = models / name
    notes = converted(source / "model", tmp_path / "made.gguf", kind)
    assert any("FP8" in note for note in notes)
    found, before = engine.scores(tmp_path / "made.gguf", read(source / "tokens.json")), read(source / "original.json")
    lost = away(read(source / "truth.json"), before)
    assert 0.01 < lost < 0.2
    assert abs(away(found, before) - lost) < bound


@pytest.mark.parametrize("name", CUTS)
def test_texts_are_cut_as_transformers_cuts_them(tokenizers: Path, tmp_path: Path, name: str) -> None:
    same, told = CUTS[name]
    notes = converted(tokenizers / name, tmp_path / "made.gguf")
    assert [told in note for note in notes] == ([True] if told else [])
    check_cuts(tokenizers, name, tmp_path / "made.gguf", same)


def check_cuts(tokenizers: Path, name: str, made: Path, same: Callable[[str], bool] = always) -> None:
    texts = read(tokenizers / f"{name}.texts.json")
    compared = [number for number, text in enumerate(texts) if same(text)]
    assert len(compared) > len(texts) // 2
    for kind in ("plain", "whole"):
        expected = read(tokenizers / f"{name}.{kind}.json")
        found = engine.cut(made, texts, special=kind == "whole")
        assert [found[number] for number in compared] == [expected[number] for number in compared]


@pytest.mark.parametrize("name", ["spm-prefixed", "spm-bare"])
def test_a_tokenizer_model_of_sentencepiece_alone_is_enough(tokenizers: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tokenizers / name, tmp_path / name)
    write_sentencepiece(folder / "tokenizer.model", read(folder / "tokenizer.json"), prefixed=name == "spm-prefixed")
    (folder / "tokenizer.json").unlink()
    assert converted(folder, tmp_path / "made.gguf") == []
    check_cuts(tokenizers, name, tmp_path / "made.gguf")
