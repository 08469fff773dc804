"""A bare .onnx file that reads texts, by ONNX Runtime: vectors as PyTorch makes them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.hosted.test_projection import folder_of, unit, write_dense
from tests.engines.onnx.conftest import plan_of
from tests.worker.process import Worker
from uml.core.install import Install
from uml.core.model import Format, Role
from uml.engines.onnx.engine import Onnx
from uml.formats import inspect

pytestmark = pytest.mark.slow  # PyTorch is imported to make the model

TEXTS = ["the cat sat on the mat", "big dog", "river"]
_MAKE = """
import json, os, sys, torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel
out, texts, pooling = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
os.makedirs(out + "/onnx")
torch.manual_seed(1)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"the a cat dog sat ran on mat big small red blue house river sun".split()]
tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
tokenizer.add_special_tokens(words[:4])
tokenizer.save(out + "/tokenizer.json")
config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                    intermediate_size=64, max_position_embeddings=64)
config.architectures = ["BertModel"]
config.save_pretrained(out)
model = BertModel(config, add_pooling_layer=False).eval()
class Graph(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = model
    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
names = ["input_ids", "attention_mask", "token_type_ids"]
torch.onnx.export(Graph().eval(), (ids, (ids > 0).long(), torch.zeros_like(ids)), out + "/onnx/model.onnx",
    input_names=names, output_names=["last_hidden_state"], dynamo=False, opset_version=17,
    dynamic_axes={name: {0: "texts", 1: "tokens"} for name in [*names, "last_hidden_state"]})
found = []
with torch.no_grad():
    for text in texts:
        row = torch.tensor([tokenizer.encode(text).ids])
        states = model(row).last_hidden_state[0]
        vector = states[0] if pooling == "cls" else states.mean(0)
        found.append((vector / vector.norm()).tolist())
print(json.dumps(found))
"""


def make(builder: Install, folder: Path, pooling: str) -> list[list[float]]:
    """A tiny BERT in a folder as the hub has them; what PyTorch says of `TEXTS`."""
    argv = (str(builder.python), "-I", "-W", "ignore", "-c", _MAKE, str(folder), json.dumps(TEXTS), pooling)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders") / "tiny-bert"


@pytest.fixture(scope="module")
def vectors(builder: Install, folder: Path) -> list[list[float]]:
    return make(builder, folder, "mean")


@pytest.fixture(scope="module")
def worker(
    engine: Onnx, folder: Path, vectors: list[list[float]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    plan = plan_of(folder / "onnx" / "model.onnx")
    with Worker(engine, plan, tmp_path_factory.mktemp("w")) as started:
        yield started.ready()


def test_it_is_known_for_what_it_is(folder: Path, vectors: list[list[float]]) -> None:
    info = inspect(folder / "onnx" / "model.onnx")
    assert (info.format, info.role, info.architecture) == (Format.ONNX, Role.EMBEDDING, "BertModel")
    assert (info.name, info.context_length) == ("tiny-bert-model", 64)
    assert {file.name for file in info.files} == {"model.onnx", "config.json", "tokenizer.json"}


def test_vectors_are_those_of_pytorch(worker: Worker, vectors: list[list[float]]) -> None:
    answer = worker.post("/v1/embeddings", {"input": TEXTS})
    for row, expected in zip(answer["data"], vectors, strict=True):
        assert row["embedding"] == pytest.approx(expected, abs=1e-5)
    (alone,) = worker.post("/v1/embeddings", {"input": TEXTS[1]})["data"]
    assert alone["embedding"] == pytest.approx(vectors[1], abs=1e-5)


def test_many_texts_are_computed_in_parts(worker: Worker, vectors: list[list[float]]) -> None:
    data = worker.post("/v1/embeddings", {"input": TEXTS * 30, "encoding_format": "base64"})["data"]
    last = struct.unpack("<32f", base64.b64decode(data[-1]["embedding"]))
    assert list(last) == pytest.approx(vectors[2], abs=1e-5)


def test_a_text_that_does_not_fit_is_refused_and_not_cut(worker: Worker) -> None:
    status, body = worker.request("POST", "/v1/embeddings", {"input": "the " * 80})
    assert (status, body["error"]["n_prompt_tokens"], body["error"]["n_ctx"]) == (400, 82, 64)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_it_writes_nothing(worker: Worker, path: str) -> None:
    body: dict[str, Any] = {"prompt": "the", "messages": [{"role": "user", "content": "the"}]}
    status, answer = worker.request("POST", path, body)
    assert status == 400
    assert "/v1/embeddings" in answer["error"]["message"]


def test_it_pools_as_its_folder_says(builder: Install, engine: Onnx, tmp_path: Path) -> None:
    folder = tmp_path / "cls"
    expected = make(builder, folder, "cls")
    (folder / "1_Pooling").mkdir()
    for said in ({"pooling_mode_cls_token": True}, {"pooling_mode": "cls"}):
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
        with Worker(engine, plan_of(folder / "onnx" / "model.onnx"), tmp_path) as worker:
            found = worker.ready().post("/v1/embeddings", {"input": TEXTS})["data"]
        assert found[0]["embedding"] == pytest.approx(expected[0], abs=1e-5)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "max"}))
    plan = plan_of(folder / "onnx" / "model.onnx")
    with Worker(engine, plan, tmp_path) as worker:
        code = worker.end()
    assert "one vector of many by 'max'" in str(engine.cause(plan, worker.log, code))


def test_what_stands_behind_the_pooling_is_done(
    engine: Onnx, folder: Path, vectors: list[list[float]], tmp_path: Path
) -> None:
    dense = folder_of(tmp_path, "Pooling", "Normalize", "Dense") / "3_Dense"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weight = np.random.default_rng(1).normal(size=(8, 32)).astype(np.float32)
    write_dense(dense, tensors={"linear.weight": weight}, bias=False, in_features=32, out_features=8)
    plan = plan_of(tmp_path / "onnx" / "model.onnx")
    assert dense / "model.safetensors" in plan.model.info.files
    with Worker(engine, plan, tmp_path) as worker:
        found = worker.ready().post("/v1/embeddings", {"input": TEXTS})["data"]
    for row, vector in zip(found, vectors, strict=True):
        assert row["embedding"] == pytest.approx(unit(np.tanh(weight @ vector)), abs=1e-5)
    write_dense(dense, activation_function="torch.nn.modules.activation.GELU")
    with Worker(engine, plan, tmp_path) as worker:
        code = worker.end()
    assert "has the activation GELU" in str(engine.cause(plan, worker.log, code))
