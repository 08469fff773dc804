"""vLLM as data: a plan becomes arguments, a log becomes a cause."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders import write_adapter_folder
from tests.engines.served import vllm_arguments, write_program
from tests.worker.process import Worker, plan_for
from uml.core.engine import Endpoint, Sleeps
from uml.core.errors import (
    BadOption,
    CorruptFile,
    EngineError,
    EngineNotInstalled,
    LoadFailed,
    OutOfMemory,
    UnsupportedArchitecture,
)
from uml.core.install import Install
from uml.core.model import Role
from uml.core.plan import LoadPlan, Placement
from uml.engines.external import cause
from uml.engines.vllm.arguments import arguments, visible
from uml.engines.vllm.causes import FINDINGS
from uml.engines.vllm.engine import ENVIRONMENT, Vllm
from uml.engines.vllm.spec import DIALECT
from uml.generation import PARAMETERS

TWO = Placement({"cuda:0": 6 << 30, "cuda:2": 6 << 30})
SOCKET = Endpoint("key", Path("/run/w.sock"))


def plan_of(placement: Placement = TWO, **options: Any) -> LoadPlan:
    return plan_for(Path("/models/m"), engine="vllm", placement=placement, **options)


def told(plan: LoadPlan, endpoint: Endpoint = SOCKET, **totals: int) -> dict[str, Any]:
    """What a program that refuses unknown arguments reads."""
    by_id = {name.replace("_", ":"): size for name, size in totals.items()}
    return vars(vllm_arguments(arguments(plan, endpoint, by_id)))


def test_a_plan_becomes_its_arguments() -> None:
    found = told(plan_of(ctx=8192, parallel=16, batch=4096, draft_model="/d", draft_max=5, cache_type_k="q8_0",
                         cache_type_v="q8_0", chat_template_file="/t.jinja", cache_prompt=False))  # fmt: skip
    assert (found["model"], found["served_model_name"], found["uds"]) == ("/models/m", "demo", "/run/w.sock")
    assert (found["max_model_len"], found["max_num_seqs"], found["max_num_batched_tokens"]) == ("8192", "16", "4096")
    assert found["kv_cache_dtype"] == "fp8"
    assert json.loads(found["speculative_config"]) == {"model": "/d", "num_speculative_tokens": 5}
    assert found["chat_template"] == "/t.jinja" and found["no_enable_prefix_caching"]
    assert found["pipeline_parallel_size"] == "2" and found["tensor_parallel_size"] is None
    plain = told(plan_of(Placement({"cpu": 1}), ctx=0), Endpoint("key", None, "127.0.0.1", 81))
    assert (plain["host"], plain["port"], plain["max_model_len"]) == ("127.0.0.1", "81", None)
    assert plain["max_num_batched_tokens"] is None, "it knows best what suits its GPU, where nobody says otherwise"
    assert plain["kv_cache_dtype"] is None and plain["gpu_memory_utilization"] is None


def test_adapters_become_its_arguments(tmp_path: Path) -> None:
    small, large = write_adapter_folder(tmp_path / "a=b", 4), write_adapter_folder(tmp_path / "large", 24)
    found = told(plan_of(ctx=8192, parallel=2, lora=(f"{small}=0", str(large), f"{small}=0")))
    assert found["enable_lora"] and found["lora_modules"] == [
        {"name": "lora:0", "path": str(small)},
        {"name": "lora:1", "path": str(large)},
        {"name": "lora:2", "path": str(small)},
    ]
    assert found["max_lora_rank"] == 32, "the smallest of its ranks that suits the greatest of theirs"
    assert (found["max_loras"], found["max_cpu_loras"]) == ("2", "3"), "no more work at a time than there are answers"
    config = json.loads((small / "adapter_config.json").read_text())
    (small / "adapter_config.json").write_text(json.dumps({**config, "rank_pattern": {"model.layers.0.q_proj": 40}}))
    assert told(plan_of(lora=(str(small),)))["max_lora_rank"] == 64, "one of its layers has more"
    assert not told(plan_of())["enable_lora"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"peft_type": "LOHA", "r": 8}, "a plain LoRA: vLLM has no LOHA"),
        ({"peft_type": "LORA", "r": 8, "use_dora": True}, "a plain LoRA: vLLM has no DoRA"),
        ({"r": 513}, "an adapter of a rank from 1 to 512; the rank of this one is 513"),
        ({"peft_type": "LORA"}, "an adapter of a rank from 1 to 512; the rank of this one is None"),
        ({"r": True}, "an adapter of a rank from 1 to 512; the rank of this one is True"),
    ],
)
def test_adapters_that_it_has_no_layers_for_are_refused(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    folder = write_adapter_folder(tmp_path / "adapter")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BadOption) as refused:
        arguments(plan_of(lora=(str(folder),)), SOCKET, {})
    assert refused.value.param == "options.lora" and says in refused.value.message


def test_adapters_are_folders_of_peft_as_strong_as_they_were_made(tmp_path: Path) -> None:
    one, two = write_adapter_folder(tmp_path / "one"), write_adapter_folder(tmp_path / "two")
    bare = write_adapter_folder(tmp_path / "bare")
    (bare / "adapter_model.safetensors").unlink()
    for lora, says in (
        ((f"{one}=0.5",), "a scale of 1, or 0 for one that works where a request names it"),
        ((str(one), str(two)), "one that works by itself, and the others with =0"),
        ((str(bare),), "a folder of PEFT, with adapter_config.json and adapter_model.safetensors"),
        ((str(tmp_path / "nowhere"),), "a folder of PEFT"),
    ):
        with pytest.raises(BadOption) as refused:
            arguments(plan_of(lora=lora), SOCKET, {})
        assert refused.value.param == "options.lora" and says in refused.value.message


def test_gpus_are_shared_and_chosen() -> None:
    found = told(plan_of(split_mode="tensor"), cuda_0=24 << 30, cuda_2=16 << 30)
    assert found["tensor_parallel_size"] == "2"
    assert found["gpu_memory_utilization"] == "0.469", "7.5 of the smaller one's 16 GiB"
    assert visible(plan_of()) == {"CUDA_VISIBLE_DEVICES": "0,2"}
    assert visible(plan_of(device="cuda:1")) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert visible(plan_of(Placement({"rocm:0": 1}))) == {"HIP_VISIBLE_DEVICES": "0"}
    assert visible(plan_of(Placement({"cpu": 1}))) == {}


def test_it_sleeps_on_gpus_of_nvidia_over_a_socket_and_where_it_may() -> None:
    engine = Vllm(program=Path(sys.executable))
    one = Placement({"cuda:0": 1})
    for plan, endpoint, sleeps in (
        (plan_of(one), SOCKET, True),
        (plan_of(one, sleep=False), SOCKET, False),
        (plan_of(one), Endpoint("key", None, "127.0.0.1", 81), False),
        (plan_of(Placement({"rocm:0": 1})), SOCKET, False),
        (plan_of(Placement({"cpu": 1})), SOCKET, False),
    ):
        launch = engine.launch(plan, endpoint)
        assert told(plan, endpoint)["enable_sleep_mode"] is sleeps
        assert ("VLLM_SERVER_DEV_MODE" in launch.environment) is sleeps
        assert engine.can_sleep(plan) or not sleeps


@pytest.mark.parametrize("sleeps", [True, False])
async def test_it_is_told_to_sleep_and_to_wake(tmp_path: Path, sleeps: bool) -> None:
    engine = Vllm(program=write_program(tmp_path, "vllm"))
    assert isinstance(engine, Sleeps)
    with Worker(engine, plan_of(Placement({"cuda:0": 1}), sleep=sleeps), tmp_path) as worker:
        worker.ready()

        async def ask(method: str, path: str, body: bytes) -> tuple[int, bytes]:
            status, answer = await asyncio.to_thread(worker.request, method, path)
            return status, json.dumps(answer).encode()

        if not sleeps:
            with pytest.raises(EngineError, match=r"POST /sleep\?level=1 came to 404"):
                await engine.sleep(ask)
            return
        await engine.sleep(ask)
        assert worker.request("GET", "/is_sleeping") == (200, {"is_sleeping": True})
        await engine.wake(ask)
        assert worker.request("GET", "/is_sleeping") == (200, {"is_sleeping": False})


def test_models_for_vectors_are_pooled() -> None:
    plan = plan_of()
    vectors = replace(plan, model=replace(plan.model, info=replace(plan.model.info, role=Role.EMBEDDING)))
    assert told(vectors)["runner"] == "pooling"


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"cache_type_k": "q4_0", "cache_type_v": "q4_0"}, "cache_type_k"),
        ({"cache_type_k": "q8_0", "cache_type_v": "f16"}, "cache_type_v"),
        ({"split_mode": "none"}, "split_mode"),
    ],
)
def test_what_it_cannot_do_is_refused_before_it_starts(options: dict[str, Any], option: str) -> None:
    with pytest.raises(BadOption) as refused:
        arguments(plan_of(**options), SOCKET, {})
    assert refused.value.param == f"options.{option}"


def test_every_parameter_is_in_its_dialect() -> None:
    assert {one.name for one in PARAMETERS if not one.inert and not one.ours} <= set(DIALECT)


def test_where_its_program_comes_from(tmp_path: Path) -> None:
    lacking = Vllm().available()
    assert lacking.reason == "uml engine install vllm"
    assert lacking.devices == frozenset({"cuda"}), "its command installs nothing where there is no NVIDIA GPU"
    assert "not a program" in Vllm(program=tmp_path / "none").available().reason
    with pytest.raises(EngineNotInstalled, match="uml engine install vllm"):
        Vllm().launch(plan_of(), SOCKET)
    install = Install("vllm", "0.32.0", tmp_path, tmp_path / "bin" / "python", accelerator="cuda")
    there = Vllm(lambda engine, label: install if label in ("", "0.32.0") else None)
    state = there.available()
    assert (state.version, state.devices) == ("0.32.0", frozenset({"cuda"}))
    launch = there.launch(plan_of(), SOCKET)
    assert launch.argv[-1] == "--exec" and str(tmp_path / "bin" / "vllm").encode() in launch.stdin
    assert launch.environment["CUDA_VISIBLE_DEVICES"] == "0,2" and launch.loopback
    assert ENVIRONMENT["VLLM_NO_USAGE_STATS"] == "1" and b"VLLM_API_KEY" in launch.stdin
    assert not any("key" in word for word in launch.argv)
    with pytest.raises(EngineNotInstalled, match=r"vllm==9"):
        there.launch(plan_of(engine_version="9"), SOCKET)


@pytest.mark.parametrize(
    ("log", "kind", "says"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory.", OutOfMemory, "cuda:0 ran out of memory"),
        (
            "ValueError: Free memory on device cuda:0 (3.1/23.6 GiB) on startup is less than desired GPU memory "
            "utilization (0.9, 21.2 GiB). Decrease GPU memory utilization",
            OutOfMemory,
            "ran out of memory",
        ),
        (
            "ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: x",
            UnsupportedArchitecture,
            "does not know the architecture FooForCausalLM",
        ),
        (
            "ValueError: To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (4.0 GiB)",
            BadOption,
            "option ctx",
        ),
        ("vllm: error: unrecognized arguments: --nothing", LoadFailed, "--nothing"),
        ("RuntimeError: Failed to infer device type, please set", LoadFailed, "no device"),
        (
            "ValueError: Call to add_lora method failed: vLLM does not support init_lora_weights='pissa'. Inits",
            BadOption,
            "adapters that vLLM lays over this model (vLLM does not support init_lora_weights='pissa'",
        ),
        (
            "ValueError: Call to add_lora method failed: While loading /a, expected target modules in {'qkv_proj'} but "
            "received ['c_attn']. Please verify that the loaded LoRA module is correct",
            BadOption,
            "option lora",
        ),
        (
            "ValueError: FooForCausalLM does not support LoRA yet.",
            BadOption,
            "(FooForCausalLM does not support LoRA yet",
        ),
        ("safetensors_rust.SafetensorError: Error while deserializing header", CorruptFile, "SafetensorError"),
        ("ValueError: something else was wrong", LoadFailed, "something else was wrong"),
    ],
)
def test_causes(log: str, kind: type[Exception], says: str) -> None:
    found = cause(FINDINGS, plan_of(), f"INFO starting\n{log}\nTraceback\n", 1)
    assert type(found) is kind and says in str(found)


def test_no_cause_where_nothing_tells() -> None:
    assert cause(FINDINGS, plan_of(), "all is well\n", 0) is None
