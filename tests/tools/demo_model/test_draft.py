"""The draft learns to say what its teacher says, in the teacher's tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

import torch

from tests.tools.demo_model.stand_in import small_corpus
from tools.demo_model.draft import agreement, distilled, main
from tools.demo_model.network import FINAL_NORM
from tools.demo_model.run import Run, Settings
from tools.demo_model.train import language, scorer, train
from uml.formats import inspect

SMALL: dict[str, Any] = {
    "batch_tokens": 2048,
    "vocabulary": 320,
    "documents_for_tokenizer": 200,
    "hidden": 64,
    "mlp": 128,
    # Twenty steps are few: larger ones.
    "matrix_rate": 0.03,
    "rate": 6e-3,
}


def test_one_command_makes_a_draft_of_the_same_words_under_a_million_parameters(tmp_path: Path) -> None:
    teacher = Run.open(Settings(steps=1, **SMALL), tmp_path / "teacher", small_corpus)
    teacher.save()
    options = ["--teacher", str(tmp_path / "teacher"), "--steps", "2", "--batch-tokens", "2048"]
    main([str(tmp_path / "draft"), *options], source=small_corpus)
    info = inspect(tmp_path / "draft" / "draft-q8_0.gguf")
    assert info.parameters is not None
    assert info.parameters < 1_000_000
    assert info.shape is not None
    assert info.shape.vocabulary == teacher.tokenizer.get_vocab_size()
    lines = [json.loads(line) for line in (tmp_path / "draft" / "log.jsonl").read_text("utf-8").splitlines()]
    assert 0 <= lines[-1]["agreement"] <= 1


def test_a_draft_comes_nearer_to_its_teacher(tmp_path: Path) -> None:
    teacher = Run.open(Settings(steps=20, layers=2, **SMALL), tmp_path / "teacher", small_corpus)
    teacher_scores = scorer(teacher.shape, compiled=False)
    train(teacher, language(teacher.shape, False), teacher_scores)
    run = Run.open(Settings(steps=20, seed=2, layers=1, **SMALL), tmp_path / "draft", small_corpus)
    scores = scorer(run.shape, compiled=False)
    before = agreement(run, scores, teacher.weights, teacher_scores)
    train(run, distilled(run.shape, teacher.shape, teacher.weights, False), scores)
    assert agreement(run, scores, teacher.weights, teacher_scores) > before + 0.2


def test_nothing_is_cheaper_than_the_teacher_itself(tmp_path: Path) -> None:
    run = Run.open(Settings(steps=1, layers=1, **SMALL), tmp_path, small_corpus)
    cost = distilled(run.shape, run.shape, run.weights, False)
    with torch.no_grad():
        own = cost(run.weights, run.held_out)
        for factor in (0.5, 2):
            # The norm before the output stretches every score.
            other = {**run.weights, FINAL_NORM: run.weights[FINAL_NORM] * factor}
            assert own < cost(other, run.held_out)
