"""The embedding model puts two ways to ask one thing near each other."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

import torch

from tests.tools.demo_model.stand_in import small_corpus
from tools.demo_model.embedding import contrast, embeddings, found_first, main, rows, train
from tools.demo_model.run import Clock, Run, Settings
from uml.core.model import Role
from uml.formats import inspect

SMALL = Settings(steps=1, batch_tokens=2048, documents_for_tokenizer=200, hidden=64, layers=2, mlp=128)


def test_pairs_are_different_questions_and_the_same_every_time() -> None:
    found = list(itertools.islice(rows(1, "train", 50), 6))
    assert all(one != other for row in found for one, other in row)
    assert found == list(itertools.islice(rows(1, "train", 50), 6))


def test_no_question_is_asked_twice_in_a_row() -> None:
    for row in itertools.islice(rows(1, "heldout", 50), 6):
        questions = [question for pair in row for question in pair]
        assert len(questions) == len(set(questions)) == 100


def test_a_text_has_one_vector_whatever_stands_beside_it(tmp_path: Path) -> None:
    run = Run.open(SMALL, tmp_path, small_corpus)
    alone = embeddings(run.weights, run.shape, run.tokenizer, ["Hello"])
    beside = embeddings(run.weights, run.shape, run.tokenizer, ["Hello", "What color is the sky today?"])
    torch.testing.assert_close(alone, beside[:1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(beside.norm(dim=1), torch.ones(2))


def test_near_is_cheap_and_far_is_dear() -> None:
    apart = torch.eye(8)
    assert contrast(apart, apart) < 0.01 < contrast(apart, apart.roll(1, 0))


def test_paraphrases_come_nearer(tmp_path: Path) -> None:
    run = Run.open(SMALL, tmp_path, small_corpus)
    before = found_first(run.weights, run.shape, run.tokenizer, 1, rounds=1)
    train(run.weights, run.shape, run.tokenizer, Clock(1, steps=10), seed=1)
    assert found_first(run.weights, run.shape, run.tokenizer, 1, rounds=1) > before


def test_one_command_makes_a_file_that_engines_take_for_an_embedding_model(tmp_path: Path) -> None:
    Run.open(SMALL, tmp_path / "base", small_corpus).save()
    main([str(tmp_path / "out"), "--base", str(tmp_path / "base"), "--steps", "1"])
    info = inspect(tmp_path / "out/embedding-q8_0.gguf")
    assert info.role is Role.EMBEDDING
    assert (tmp_path / "out/model/model.safetensors").exists()
