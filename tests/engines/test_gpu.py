"""Engines on a GPU, through the front door: `UML_TEST_ENGINES=FOLDER pytest -m gpu tests/engines/test_gpu.py`.

It was not run yet. The folder is a data folder in which `uml engine install` has made the engines; an engine that is
not there is skipped, and so is everything on a machine without a GPU. UML_TEST_LLAMA_SERVER names a `llama-server` that
was built for the GPU (the wheel of llama.cpp is for processors). ExLlamaV2, ExLlamaV3, vLLM and TensorRT-LLM get models
that the user names, for they have kernels for real shapes only: UML_TEST_EXL2, UML_TEST_EXL3, UML_TEST_VLLM,
UML_TEST_TENSORRT, a folder each.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engines import contract
from tests.gateway.server import Server, events, running, spoken
from tests.waiting import eventually
from tests.worker.process import SERVER
from uml.core.machine import Device
from uml.engines import builtin
from uml.hardware import gpu_use, snapshot
from uml.registry import packaged_model

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]
LOAD_S = 600.0
"""ExLlama compiles its kernels at the first load."""
ASKED = "What is the capital of Japan?"


@dataclass(frozen=True)
class OnGpu:
    """An engine and what it is given. named: the variable that names its model; empty: the demo model."""

    engine: str
    named: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        """Its model; the test is skipped where none was named."""
        if not self.named:
            return contract.SOURCE if self.engine != "llamacpp" else packaged_model()
        place = os.environ.get(self.named, "")
        if not place:
            pytest.skip(f"{self.named} names no model for {self.engine}")
        return Path(place)


SUBJECTS = (
    OnGpu("llamacpp", options={"gpu_layers": -1}, flags={"llama_server": SERVER} if SERVER else {}),
    OnGpu("transformers"),
    OnGpu("exllamav3", named="UML_TEST_EXL3"),
    OnGpu("exllamav2", named="UML_TEST_EXL2"),
    OnGpu("vllm", named="UML_TEST_VLLM"),
    OnGpu("tensorrt-llm", named="UML_TEST_TENSORRT"),
)


@pytest.fixture(scope="module")
def gpu() -> Device:
    """The first GPU of this machine; without one nothing here is run."""
    found = snapshot().gpus
    if not found:
        pytest.skip("this machine has no GPU that its driver tells of")
    return found[0]


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.engine)
def subject(request: pytest.FixtureRequest, gpu: Device) -> OnGpu:
    """An engine that can use this machine's GPU, with its model."""
    found: OnGpu = request.param
    program = Path(found.flags["llama_server"]) if "llama_server" in found.flags else None
    engine = builtin(program, contract.INSTALLS.find)[found.engine]
    state = engine.available()
    if not state.available:
        pytest.skip(f"{found.engine} is not installed in UML_TEST_ENGINES: {state.reason}")
    if gpu.kind not in (state.devices or engine.spec.devices):
        pytest.skip(f"this build of {found.engine} has no code for {gpu.kind}")
    assert found.model.exists()
    return found


@pytest.fixture
def server(subject: OnGpu, tmp_path: Path) -> Iterator[Server]:
    data = tmp_path / "data"
    data.mkdir()
    if contract.DATA:
        (data / "engines").symlink_to(contract.INSTALLS.folder.absolute())
    with running(data, **subject.flags) as started:
        started.http.timeout = LOAD_S
        yield started


def loaded(server: Server, subject: OnGpu, tmp_path: Path, **more: Any) -> str:
    source, place = subject.model, subject.model
    if not subject.named:  # a name of its own: the packaged one is in every list
        place = tmp_path / "model" / source.name
        shutil.copytree(source, place) if source.is_dir() else _copied(source, place)
    model = str(server.post("/v1/models/add", {"path": str(place)}).json()["id"])
    options = {"ctx": 1024, "parallel": 2, "engine": subject.engine, **subject.options, **more}
    reply = server.post("/v1/models/load", {"model": model, "options": options})
    assert reply.status_code == 200, reply.text
    return model


def _copied(source: Path, place: Path) -> None:
    place.parent.mkdir()
    shutil.copy(source, place)


def held(pids: list[int]) -> int:
    """Bytes that these processes hold on GPUs, by the driver's count."""
    return sum(count for pid in pids for count in gpu_use(pid, os.environ).values())


def greedy(server: Server, model: str, text: str = ASKED) -> str:
    reply = server.chat(model, text=text, temperature=0, max_tokens=16)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def test_its_weights_lie_on_the_gpu_and_its_memory_comes_back(
    subject: OnGpu, server: Server, gpu: Device, tmp_path: Path
) -> None:
    model = loaded(server, subject, tmp_path)
    worker = server.worker(model)
    assert worker["device"] == gpu.id
    root = psutil.Process(worker["pid"])
    # vLLM's core, which has the memory, is a child of its server.
    pids = [process.pid for process in (root, *root.children(recursive=True))]
    assert held(pids) > 0, "the driver knows of no memory of the worker"
    assert greedy(server, model)
    assert server.post("/v1/models/unload", {"model": model}).status_code == 200
    eventually(lambda: not server.worker(model))
    eventually(lambda: not held(pids))


def test_it_says_on_the_gpu_what_it_says_on_the_processor(subject: OnGpu, server: Server, tmp_path: Path) -> None:
    if "cpu" not in builtin()[subject.engine].spec.devices or subject.engine == "vllm":
        pytest.skip(f"{subject.engine} runs on GPUs only")
    model = loaded(server, subject, tmp_path)
    here = greedy(server, model)
    assert server.post("/v1/models/unload", {"model": model}).status_code == 200
    elsewhere = {**subject.options, "device": "cpu"}
    elsewhere.pop("gpu_layers", None)
    options = {"ctx": 1024, "parallel": 2, "engine": subject.engine, **elsewhere}
    assert server.post("/v1/models/load", {"model": model, "options": options}).status_code == 200
    assert greedy(server, model) == here


def test_half_of_the_layers_may_stay_in_memory(subject: OnGpu, server: Server, tmp_path: Path) -> None:
    if subject.engine != "llamacpp":
        pytest.skip("only llama.cpp splits a model by layers")
    whole = loaded(server, subject, tmp_path)
    expected = greedy(server, whole)
    assert server.post("/v1/models/unload", {"model": whole}).status_code == 200
    reply = server.post(
        "/v1/models/load", {"model": whole, "options": {"engine": "llamacpp", "gpu_layers": 2, "ctx": 1024}}
    )
    assert reply.status_code == 200, reply.text
    assert greedy(server, whole) == expected


def test_streams_come_and_who_leaves_frees_the_slot(subject: OnGpu, server: Server, tmp_path: Path) -> None:
    model = loaded(server, subject, tmp_path)
    values = events(server.chat(model, text=ASKED, temperature=0, max_tokens=16, stream=True).text)
    assert spoken(values) == greedy(server, model)
    body = {"model": model, "prompt": "Once upon a time", "max_tokens": 900, "ignore_eos": True, "stream": True}
    with server.http.stream("POST", "/v1/completions", json=body) as reply:
        next(reply.iter_lines())
        eventually(lambda: server.worker(model)["in_flight"] == 1)
    eventually(lambda: server.worker(model)["in_flight"] == 0)
