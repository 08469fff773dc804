"""LoRA adapters by request: what PEFT says with one, the model says with its .onnx_adapter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.onnx.conftest import Start, source
from tests.waiting import eventually
from tests.worker.process import Worker, events, question, text_of
from uml.core.install import Install

pytestmark = pytest.mark.slow  # PyTorch is imported to make model and adapter

_MAKE = """
import json, os, subprocess, sys
import numpy as np, onnx, onnxruntime, torch
from onnx import helper, numpy_helper
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
source, out, question = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(3)
base = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])).eval()
for name, weights in model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(weights, std=0.8)
model.save_pretrained(out + "/peft")
tokenizer = AutoTokenizer.from_pretrained(source)
ids = tokenizer.apply_chat_template(
    [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
def said():
    with torch.no_grad():
        return model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1]:].tolist()
answers = {"with": said()}
with model.disable_adapter():
    answers["without"] = said()
subprocess.run([sys.executable, "-I", "-m", "onnxruntime_genai.models.builder", "-i", source, "-o", out + "/built",
    "-p", "fp32", "-e", "cpu", "-c", out + "/cache", "--extra_options", "adapter_path=" + out + "/peft"],
    check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
# An adapter's weights become inputs that have no effect by default, and a file beside the model.
graph, values = onnx.load(out + "/built/model.onnx"), {}
for one in graph.graph.initializer:
    if ".lora_A." in one.name or ".lora_B." in one.name:
        data = numpy_helper.to_array(one)
        values[one.name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(data))
        graph.graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, data.shape))
        one.CopyFrom(numpy_helper.from_array(np.zeros_like(data), one.name))
for name in ("model.onnx", "model.onnx.data"):
    os.remove(out + "/built/" + name)
onnx.save(graph, out + "/built/model.onnx", save_as_external_data=True, location="model.onnx.data")
adapter = onnxruntime.AdapterFormat()
adapter.set_adapter_version(1)
adapter.set_model_version(1)
adapter.set_parameters(values)
adapter.export_adapter(out + "/mine.onnx_adapter")
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def made(builder: Install, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[int]]]:
    """A folder with `built`, a model whose adapters are inputs, and `mine.onnx_adapter`; what PEFT says of it."""
    folder = tmp_path_factory.mktemp("lora")
    argv = (str(builder.python), "-I", "-W", "ignore", "-c", _MAKE, str(source()), str(folder), "What is your name?")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_each_request_chooses_its_adapter(made: tuple[Path, dict[str, list[int]]], start: Start) -> None:
    folder, expected = made
    adapter = str(folder / "mine.onnx_adapter")
    worker = start(folder / "built", lora=[adapter]).ready()

    def said(**more: Any) -> list[int]:
        asked = question("What is your name?", max_tokens=12, return_tokens=True, **more)
        found: list[int] = worker.post("/v1/chat/completions", asked)["choices"][0]["tokens"]
        return found

    assert expected["with"] != expected["without"]
    assert said() == expected["with"]
    assert said(lora=[{"id": 0, "scale": 0}]) == expected["without"]
    assert said(lora=[{"id": 0, "scale": 1}]) == expected["with"]
    assert said(lora=[]) == expected["without"]
    status, body = worker.request("POST", "/v1/chat/completions", question("Hi", lora=[{"id": 0, "scale": 0.5}]))
    assert status == 400 and "takes it as it is" in body["error"]["message"]
    status, body = worker.request("POST", "/v1/chat/completions", question("Hi", lora=[{"id": 7}]))
    assert status == 400 and "there is no adapter 7" in body["error"]["message"]

    assert [one["id"] for one in worker.request("GET", "/lora-adapters")[1]] == [0]
    worker.post("/lora-adapters", {"unload": 0})
    assert said() == expected["without"]
    assert worker.post("/lora-adapters", {"path": adapter}) == {"id": 1}
    assert said() == expected["with"]
    status, body = worker.request("POST", "/lora-adapters", {"path": str(folder / "built" / "model.onnx")})
    assert status == 400 and "is no adapter of this model" in body["error"]["message"]


def test_who_has_an_adapter_while_it_is_taken_out_keeps_it_to_the_end(
    made: tuple[Path, dict[str, list[int]]], start: Start
) -> None:
    folder, _ = made
    adapter = shutil.copyfile(folder / "mine.onnx_adapter", folder / "second.onnx_adapter")
    worker = start(folder / "built").ready()
    for _ in range(2):  # and another one after it goes as well
        id = worker.post("/lora-adapters", {"path": str(adapter)})["id"]
        long = question("Tell me a story.", max_tokens=200, ignore_eos=True, temperature=0, lora=[{"id": id}])
        whole = text_of(worker.stream("/v1/chat/completions", long))
        answering = events(worker.send("POST", "/v1/chat/completions", {**long, "stream": True}).getresponse())
        begun = [next(answering)]
        worker.post("/lora-adapters", {"unload": id})
        assert worker.request("GET", "/lora-adapters")[1] == []
        assert _mapped(worker, adapter)
        status, refused = worker.request("POST", "/v1/chat/completions", question("Hi", lora=[{"id": id}]))
        assert (status, refused["error"]["message"].partition(";")[0]) == (400, f"lora: there is no adapter {id}")
        assert text_of([*begun, *answering]) == whole
        eventually(lambda: not _mapped(worker, adapter), "its memory has not come back")


def _mapped(worker: Worker, file: Path) -> bool:
    """Whether the library has a file of an adapter open: it maps them."""
    return str(file) in Path(f"/proc/{worker.process.pid}/maps").read_text()
