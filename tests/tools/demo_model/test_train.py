"""The trainer learns a small corpus, goes on where it was stopped, and writes what engines load."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

import torch

from tests.tools.demo_model.stand_in import small_corpus
from tools.demo_model.documents import documents
from tools.demo_model.network import Shape, Weights, document_mask, logits, new_weights
from tools.demo_model.optimizer import orthogonalized
from tools.demo_model.packing import Batch, Packer, encode, encoded
from tools.demo_model.run import WARM_UP, Clock, Run, Settings, rate_factor
from tools.demo_model.tokenizer import CONTROL, MARKERS, text_of, train_tokenizer
from tools.demo_model.train import language, main, scorer, train
from uml.formats import inspect

TINY = Settings(steps=12, batch_tokens=2048, vocabulary=320, documents_for_tokenizer=200, hidden=64, layers=2, mlp=128)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(map(text_of, itertools.islice(small_corpus(1, "train"), 200)), 320)


def test_the_tokenizer_is_the_same_every_time_and_loses_nothing(tokenizer: Any) -> None:
    again = train_tokenizer(map(text_of, itertools.islice(small_corpus(1, "train"), 200)), 320)
    assert again.to_str() == tokenizer.to_str()
    strange = "naïve \u017f'S 12\u00a0\t\n\n  日本 🦊\r\n</think>x"
    assert tokenizer.decode(tokenizer.encode(strange).ids) == strange


def test_named_tokens_are_one_token_and_only_those_of_the_chat_are_hidden(tokenizer: Any) -> None:
    assert [tokenizer.token_to_id(name) for name in (*CONTROL, *MARKERS)] == list(range(9))
    ids = tokenizer.encode("<|im_start|><tool_call>{}</tool_call><|im_end|>").ids
    assert tokenizer.decode(ids) == "<tool_call>{}</tool_call>"


def test_digits_stand_alone(tokenizer: Any) -> None:
    assert tokenizer.encode("1234").tokens == ["1", "2", "3", "4"]


def test_a_token_has_the_weight_of_who_says_it(tokenizer: Any) -> None:
    spans = next(small_corpus(1, "train"))
    (document,) = encode(tokenizer, [spans])
    said = tokenizer.decode([i for i, weight in zip(document.ids, document.weights, strict=True) if weight == 1])
    assert said == text_of(tuple(span for span in spans if span.weight == 1)).replace("<|im_end|>", "")


def test_windows_are_full_whole_documents_and_long_ones_come_later(tokenizer: Any) -> None:
    packer = Packer(encoded(tokenizer, small_corpus(1, "train")), 2048)
    early = [packer.next(0.0) for _ in range(10)]
    late = [packer.next(1.0) for _ in range(40)]
    assert {batch.tokens.shape for batch in early} == {(8, 256)}
    assert {batch.tokens.shape for batch in late} >= {(8, 256), (1, 2048)}
    assert np.mean([(batch.documents >= 0).mean() for batch in early + late]) > 0.95
    for batch in early:
        begins = np.diff(batch.documents, axis=1, prepend=-2) != 0
        assert set(batch.tokens[begins & (batch.documents >= 0)]) == {CONTROL.index("<|im_start|>")}


def test_no_token_is_asked_for_across_a_border(tokenizer: Any) -> None:
    batch = Packer(encoded(tokenizer, small_corpus(1, "train")), 2048).next(0.0)
    same = batch.documents[:, 1:] == batch.documents[:, :-1]
    assert (batch.weights[:, :-1][~same] == 0).all()
    assert (batch.targets[:, :-1][same] == batch.tokens[:, 1:][same]).all()


def tiny_weights() -> tuple[Shape, Weights]:
    shape = Shape(320, hidden=64, layers=2, mlp=128)
    return shape, new_weights(shape, 1)


@pytest.mark.parametrize("together", [256, 7, 1])
def test_a_document_reads_the_same_alone_and_behind_another(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.demo_model.network.TOGETHER", together)
    shape, weights = tiny_weights()
    first, second = torch.arange(10, 20)[None], torch.arange(30, 45)[None]
    borders = torch.tensor([[0] * 10 + [1] * 15])
    alone = logits(weights, shape, second)
    packed = logits(weights, shape, torch.cat((first, second), 1), document_mask(borders))[:, 10:]
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-4)


def test_a_later_token_changes_nothing_before_it() -> None:
    shape, weights = tiny_weights()
    tokens = torch.arange(10, 30)[None]
    other = tokens.clone()
    other[0, -1] = 5
    torch.testing.assert_close(logits(weights, shape, tokens)[:, :-1], logits(weights, shape, other)[:, :-1])


@pytest.mark.parametrize("form", [(2, 64, 64), (3, 32, 64), (1, 192, 64)])
def test_orthogonalized_matrices_stretch_all_directions_alike(form: tuple[int, int, int]) -> None:
    chance = torch.Generator().manual_seed(0)
    rough = torch.linalg.svdvals(orthogonalized(torch.randn(form, generator=chance) * 1e-3))
    # The smallest of a square one come from near nothing, and are not there yet after four steps.
    assert rough.max() < 1.6
    assert rough.quantile(0.1) > 0.4


def test_the_rate_rises_to_one_and_falls_to_nothing() -> None:
    factors = [rate_factor(progress / 1000) for progress in range(1001)]
    assert factors[10] == 1.0 == max(factors)
    assert factors[0] > 0 == factors[-1]
    assert rate_factor(1, until=0.5) == 0.5 and rate_factor(WARM_UP, until=0.5) == 1


def test_the_clock_counts_steps_where_they_are_set_else_time() -> None:
    assert Clock(minutes=60, steps=10, step=5).progress == 0.5
    assert 0.5 <= Clock(minutes=1, steps=None, earlier_s=30).progress < 0.6
    assert Clock(minutes=1, steps=None, earlier_s=90).progress == 1


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.demo_model.train.CHECKPOINT_EVERY_S", 0.0)
    whole = Run.open(TINY, tmp_path / "whole", small_corpus)
    scores = scorer(whole.shape, compiled=False)
    cost = language(whole.shape, False)
    train(whole, cost, scores)

    stopped = Run.open(TINY, tmp_path / "stopped", small_corpus)

    def stopping(weights: Weights, batch: Batch) -> torch.Tensor:
        if stopped.clock.step == 6:
            raise KeyboardInterrupt
        return cost(weights, batch)

    with pytest.raises(KeyboardInterrupt):
        train(stopped, stopping, scores)
    taken_up = Run.open(TINY, tmp_path / "stopped", small_corpus)
    assert taken_up.clock.step == 5
    train(taken_up, cost, scores)
    for name, weight in whole.weights.items():
        assert torch.equal(weight, taken_up.weights[name]), name


def test_what_was_compiled_for_another_training_does_not_count(tmp_path: Path) -> None:
    made = list[Any]()

    def doubled(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    def backend(graph: Any, examples: Any) -> Any:
        made.append(graph)
        return graph.forward

    def compiled(sizes: range) -> int:
        """How many sizes more of a function run compiled."""
        before = len(made)
        for size in sizes:
            torch.compile(doubled, backend=backend, dynamic=False)(torch.ones(size))
        return len(made) - before

    compiled(range(2, 20))
    assert compiled(range(20, 22)) == 0
    run = Run.open(replace(TINY, steps=1), tmp_path, small_corpus)
    train(run, language(run.shape, False), scorer(run.shape, compiled=False))
    assert compiled(range(20, 22)) == 2


def test_a_run_is_not_taken_up_with_other_settings(tmp_path: Path) -> None:
    Run.open(TINY, tmp_path, small_corpus).save()
    with pytest.raises(SystemExit, match="same settings"):
        Run.open(Settings(steps=31), tmp_path, small_corpus)


def test_one_command_makes_every_file(tmp_path: Path) -> None:
    main(
        [str(tmp_path), "--steps", "3", "--batch-tokens", "2048", "--documents-for-tokenizer", "200"],
        source=small_corpus,
    )
    info = inspect(tmp_path / "demo-q8_0.gguf")
    assert (info.architecture, info.context_length) == ("llama", 2048)
    folder = tmp_path / "model"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    }
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    assert lines[-1]["step"] == 3


def test_the_corpus_can_be_entered_anywhere() -> None:
    whole = list(itertools.islice(documents(1, "train", 4090), 10))
    assert list(itertools.islice(documents(1, "train", 4095), 5)) == whole[5:]
