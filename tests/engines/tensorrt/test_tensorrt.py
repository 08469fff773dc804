"""TensorRT-LLM's server as a worker: a program that takes its arguments stands in for it, behind the bridge."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines.served import write_program
from tests.waiting import eventually
from tests.worker.process import Worker, plan_for, question, text_of
from uml.core.engine import Endpoint
from uml.core.errors import BadOption, CorruptFile, EngineNotInstalled, LoadFailed, OutOfMemory, UnsupportedArchitecture
from uml.core.install import Install
from uml.core.model import Format
from uml.core.plan import LoadPlan, Placement
from uml.engines.external import cause
from uml.engines.tensorrt.arguments import arguments
from uml.engines.tensorrt.causes import FINDINGS
from uml.engines.tensorrt.engine import TensorRt
from uml.engines.tensorrt.spec import DIALECT
from uml.generation import PARAMETERS, check, prepare

ONE, TWO = Placement({"cuda:1": 1 << 30}), Placement({"cuda:0": 1 << 30, "cuda:1": 1 << 30})


def plan_of(format: Format = Format.SAFETENSORS, placement: Placement = ONE, **options: Any) -> LoadPlan:
    plan = plan_for(Path("/models/m"), engine="tensorrt-llm", placement=placement, **options)
    return replace(plan, model=replace(plan.model, info=replace(plan.model.info, format=format)))


def words(plan: LoadPlan) -> dict[str, str]:
    """The arguments with a value."""
    found = arguments(plan, "127.0.0.1", "{port}")[2:]
    return dict(zip(found[::2], found[1::2], strict=True))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> TensorRt:
    return TensorRt(program=write_program(tmp_path_factory.mktemp("trt"), "trtllm-serve"))


@pytest.fixture
def worker(engine: TensorRt, tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "model").mkdir()
    plan = plan_for(tmp_path / "model", engine="tensorrt-llm", placement=ONE)
    with Worker(engine, plan, tmp_path) as started:
        yield started.ready()


def test_it_answers_at_the_workers_own_socket(worker: Worker) -> None:
    answer = worker.post("/v1/chat/completions", question("hello there", model="m"))
    assert answer["choices"][0]["message"]["content"].startswith("hello there")
    streamed = worker.stream("/v1/chat/completions", question("once more", model="m"))
    assert text_of(streamed).startswith("once more") and streamed[-1] == "[DONE]"
    assert " on 1\n" in worker.log, "it sees the one GPU of its plan"


def test_it_ends_when_it_is_told_to_and_takes_the_program_along(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == -signal.SIGTERM
    assert worker.health() == 0


def test_it_ends_with_its_parent(worker: Worker) -> None:
    assert worker.process.stdin
    worker.process.stdin.close()
    assert worker.end() == 0
    eventually(lambda: not worker.health())


def test_the_end_of_the_program_is_the_end_of_the_worker(engine: TensorRt, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "too-large").touch()
    plan = plan_for(tmp_path / "model", engine="tensorrt-llm", placement=ONE)
    with Worker(engine, plan, tmp_path) as worker:
        assert worker.end() == 1
        found = engine.cause(plan, worker.log, 1)
        assert isinstance(found, OutOfMemory) and found.details["device"] == "cuda:1"


def test_what_it_does_not_know_is_never_sent() -> None:
    assert {one.name for one in PARAMETERS if not one.rare} <= set(DIALECT)
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "user": "me", "metadata": {}, "mirostat": 1}
    prepared = prepare(check("chat", body), TensorRt().spec)
    assert prepared.body is not None and set(prepared.body) == {"model", "messages"}
    assert [warning["param"] for warning in prepared.warnings] == ["mirostat"], "the others nobody misses"


def test_a_plan_becomes_its_arguments() -> None:
    found = words(plan_of(ctx=4096, parallel=8, batch=2048, chat_template="t.jinja"))
    assert (found["--backend"], found["--max_seq_len"], found["--max_batch_size"]) == ("pytorch", "4096", "8")
    assert (found["--max_num_tokens"], found["--chat_template"]) == ("2048", "t.jinja")
    assert "--max_num_tokens" not in words(plan_of()), "it knows best, where nobody says otherwise"
    assert words(plan_of(Format.TENSORRT_LLM))["--backend"] == "tensorrt"
    assert words(plan_of(placement=TWO))["--pipeline_parallel_size"] == "2"
    assert words(plan_of(placement=TWO, split_mode="tensor"))["--tensor_parallel_size"] == "2"
    assert "--pipeline_parallel_size" not in words(plan_of(Format.TENSORRT_LLM, TWO)), "it is built in"
    assert arguments(plan_of(extra_flags=["--tokenizer", "t"]), "h", "1")[-2:] == ["--tokenizer", "t"]
    with pytest.raises(BadOption, match="split_mode"):
        arguments(plan_of(placement=TWO, split_mode="none"), "h", "1")


def test_where_there_is_no_program(tmp_path: Path) -> None:
    assert TensorRt().available().reason == "uml engine install tensorrt-llm"
    assert "not a program" in TensorRt(program=tmp_path / "none").available().reason
    with pytest.raises(EngineNotInstalled, match="uml engine install tensorrt-llm"):
        TensorRt().launch(plan_of(), Endpoint("key"))
    install = Install("tensorrt-llm", "1.2.1", tmp_path, tmp_path / "bin" / "python", accelerator="cuda")
    there = TensorRt(lambda engine, label: install if label in ("", "1.2.1") else None)
    assert (there.available().version, there.available().available) == ("1.2.1", True)
    launch = there.launch(plan_of(), Endpoint("key", None, "127.0.0.1", 9))
    assert launch.argv[-1] == "--exec" and b"--port" in launch.stdin and launch.loopback, "no Unix sockets there"
    with pytest.raises(EngineNotInstalled, match=r"tensorrt-llm==2\.0"):
        there.launch(plan_of(engine_version="2.0"), Endpoint("key"))


@pytest.mark.parametrize(
    ("log", "kind", "says"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", OutOfMemory, "cuda:1 ran out of memory"),
        (
            "ValueError: Unknown architecture for AutoModelForCausalLM: FooForCausalLM",
            UnsupportedArchitecture,
            "FooFor",
        ),
        ("[TRT] The engine plan file is not compatible with this version of TensorRT", CorruptFile, "engine plan file"),
        ("Error: No such option: --nothing", LoadFailed, "--nothing"),
        ("ValueError: No GPU devices found on the node", LoadFailed, "No GPU devices"),
        ("RuntimeError: Failed to bind socket to 127.0.0.1:1: taken", LoadFailed, "Failed to bind"),
    ],
)
def test_causes(log: str, kind: type[Exception], says: str) -> None:
    found = cause(FINDINGS, plan_of(), f"some lines\n{log}\nmore\n", 1)
    assert type(found) is kind and says in str(found)


def test_no_cause_where_nothing_tells() -> None:
    assert cause(FINDINGS, plan_of(), "all is well\n", 0) is None
    wrong = cause(FINDINGS, plan_of(extra_flags=["--nothing"]), "Error: No such option: --nothing", 2)
    assert isinstance(wrong, BadOption)
