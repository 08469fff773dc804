"""Bare .onnx files with a head for labels: classifiers and rerankers, with the scores of PyTorch."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engines.onnx.conftest import plan_of
from tests.worker.process import Worker
from uml.core.install import Install
from uml.core.model import Format, Role
from uml.engines.onnx.engine import Onnx
from uml.formats import inspect

pytestmark = pytest.mark.slow  # PyTorch is imported to make the models

TEXTS = ["the cat sat on the mat", "big dog", "river sun river sun"]
QUERY = "the big dog"
_MAKE = """
import json, os, sys, torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification
out, asked = sys.argv[1], json.load(sys.stdin)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"the a cat dog sat ran on mat big small red blue house river sun".split()]
tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
    special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
tokenizer.add_special_tokens(words[:4])
found = {}
for seed, (name, more) in enumerate(asked["models"].items()):
    torch.manual_seed(seed)
    os.makedirs(f"{out}/{name}")
    tokenizer.save(f"{out}/{name}/tokenizer.json")
    config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=64, max_position_embeddings=64, initializer_range=0.5, **more)
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(f"{out}/{name}")
    model = BertForSequenceClassification(config).eval()
    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model
        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {one: {0: "texts", 1: "tokens"} for one in names} | {"logits": {0: "texts"}}
    torch.onnx.export(Graph().eval(), (ids, (ids > 0).long(), torch.zeros_like(ids)), f"{out}/{name}/model.onnx",
        input_names=names, output_names=["logits"], dynamo=False, opset_version=17, dynamic_axes=axes)
    def scores(*text):
        made = tokenizer.encode(*text)
        with torch.no_grad():
            return model(torch.tensor([made.ids]), token_type_ids=torch.tensor([made.type_ids])).logits[0].tolist()
    found[name] = {"alone": [scores(text) for text in asked["texts"]],
                   "pairs": [scores(asked["query"], text) for text in asked["texts"]]}
print(json.dumps(found))
"""
MODELS: dict[str, dict[str, Any]] = {
    "moods": {"id2label": {"0": "good", "1": "bad", "2": "plain"}},
    "ranker": {"num_labels": 1},
    "topics": {"num_labels": 2, "problem_type": "multi_label_classification"},
}


@dataclass(frozen=True)
class Made:
    folder: Path
    said: dict[str, Any]


@pytest.fixture(scope="module")
def made(builder: Install, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("judges")
    argv = (str(builder.python), "-I", "-W", "ignore", "-c", _MAKE, str(folder))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    asked = json.dumps({"models": MODELS, "texts": TEXTS, "query": QUERY})
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment, input=asked)
    return Made(folder, json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def workers(engine: Onnx, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Worker]]:
    found = {}
    try:
        for name in MODELS:
            plan = plan_of(made.folder / name / "model.onnx")
            found[name] = Worker(engine, plan, tmp_path_factory.mktemp("w")).ready()
        yield found
    finally:
        for worker in found.values():
            worker.__exit__(None, None, None)


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


@pytest.mark.parametrize(("name", "role"), [("moods", Role.CLASSIFIER), ("ranker", Role.RERANKER)])
def test_it_is_known_for_what_it_is(made: Made, name: str, role: Role) -> None:
    info = inspect(made.folder / name / "model.onnx")
    assert (info.format, info.role, info.context_length) == (Format.ONNX, role, 64)


def test_labels_are_those_of_pytorch(made: Made, workers: dict[str, Worker]) -> None:
    answer = workers["moods"].post("/v1/classify", {"input": TEXTS})
    assert answer["labels"] == ["good", "bad", "plain"]
    for row, scores in zip(answer["data"], made.said["moods"]["alone"], strict=True):
        total = sum(map(math.exp, scores))
        assert row["probs"] == pytest.approx([math.exp(score) / total for score in scores], abs=1e-5)
        assert row["label"] == answer["labels"][scores.index(max(scores))]
    assert answer["usage"]["prompt_tokens"] == 8 + 4 + 6


def test_labels_that_are_each_for_themselves(made: Made, workers: dict[str, Worker]) -> None:
    answer = workers["topics"].post("/v1/classify", {"input": TEXTS[0]})
    assert answer["labels"] == ["LABEL_0", "LABEL_1"]
    expected = [sigmoid(score) for score in made.said["topics"]["alone"][0]]
    assert answer["data"][0]["probs"] == pytest.approx(expected, abs=1e-5)


def test_a_query_and_a_document_are_read_as_a_pair(made: Made, workers: dict[str, Worker]) -> None:
    answer = workers["ranker"].post("/v1/rerank", {"query": QUERY, "documents": TEXTS * 20})
    scores = [one["relevance_score"] for one in answer["results"]]
    expected = [row[0] for row in made.said["ranker"]["pairs"]]
    assert scores == pytest.approx(expected * 20, abs=1e-4)
    assert len({round(score, 3) for score in scores}) == 3
    one = workers["ranker"].post("/v1/classify", {"input": TEXTS[1]})["data"][0]
    assert one["probs"] == pytest.approx([sigmoid(made.said["ranker"]["alone"][1][0])], abs=1e-5)


def test_what_does_not_fit_and_what_it_is_not_for(workers: dict[str, Worker]) -> None:
    status, refused = workers["ranker"].request("POST", "/v1/rerank", {"query": QUERY, "documents": ["a", "a " * 80]})
    assert (status, refused["error"]["n_prompt_tokens"], refused["error"]["n_ctx"]) == (400, 86, 64)
    for path, name, route in (
        ("/v1/rerank", "moods", "/v1/classify"),
        ("/v1/embeddings", "moods", "/v1/classify"),
        ("/v1/embeddings", "ranker", "/v1/rerank"),
        ("/v1/completions", "ranker", "/v1/rerank"),
    ):
        body = {"query": "a", "documents": ["a"], "input": "a", "prompt": "a"}
        status, refused = workers[name].request("POST", path, body)
        assert (status, route in refused["error"]["message"]) == (400, True), refused


def test_a_configuration_that_names_other_labels_is_refused(made: Made, engine: Onnx, tmp_path: Path) -> None:
    for path in (made.folder / "moods").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": {"0": "a", "1": "b"}}))
    with Worker(engine, plan_of(tmp_path / "model.onnx"), tmp_path) as worker:
        worker.end()
        cause = engine.cause(worker.plan, worker.log, 3)
    assert cause is not None and "3 labels, and config.json beside it names 2" in cause.message
