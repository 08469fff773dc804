"""Every option of llama.cpp arrives where it belongs, in both ways to run it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import xllamacpp

from tests.worker.process import SERVER, plan_for
from uml.core.engine import Endpoint
from uml.core.model import Role
from uml.core.options import OPTIONS, LoadOptions
from uml.core.plan import LoadPlan, Placement
from uml.engines.llamacpp.embedded import build
from uml.engines.llamacpp.order import arguments as program_arguments
from uml.engines.llamacpp.order import for_library
from uml.engines.llamacpp.spec import EXTERNAL_ONLY
from uml.engines.llamacpp.table import HONOURED, ROWS, arguments

TWO_GPUS = Placement({"cuda:0": 1, "cuda:1": 1}, gpu_layers=6, layers=6)
X = xllamacpp


def params_of(plan: LoadPlan, tmp_path: Path) -> Any:
    return params_at(plan, Endpoint("key", tmp_path / "w.sock"))


def params_at(plan: LoadPlan, endpoint: Endpoint) -> Any:
    """What the library is given, after its way through the pipe."""
    return build(xllamacpp, json.loads(for_library(plan, endpoint))["attributes"])


def read(params: Any, attribute: str) -> Any:
    for name in attribute.split("."):
        params = getattr(params, name)
    return params


# option -> value, other options it needs, attribute, what arrives there, and the words of the program.
Case = tuple[Any, dict[str, Any], str, Any, list[str]]
CASES: dict[str, Case] = {
    "ctx": (512, {"parallel": 3}, "n_ctx", 1536, ["--ctx-size", "1536"]),
    "parallel": (3, {}, "n_parallel", 3, ["--parallel", "3"]),
    "batch": (64, {"embeddings": False, "mmproj": "FILE"}, "n_batch", 64, ["--batch-size", "64"]),
    "ubatch": (32, {}, "n_ubatch", 32, ["--ubatch-size", "32"]),
    "threads": (3, {}, "cpuparams.n_threads", 3, ["--threads", "3"]),
    "threads_batch": (4, {}, "cpuparams_batch.n_threads", 4, ["--threads-batch", "4"]),
    "numa": ("isolate", {}, "numa", X.ggml_numa_strategy.GGML_NUMA_STRATEGY_ISOLATE, ["--numa", "isolate"]),
    "device": ("cuda:1", {}, "n_gpu_layers", 10_000, ["--device", "CUDA1"]),
    "gpu_layers": (4, {}, "n_gpu_layers", 4, ["--gpu-layers", "4"]),
    "split_mode": ("row", {}, "split_mode", X.llama_split_mode.LLAMA_SPLIT_MODE_ROW, ["--split-mode", "row"]),
    "tensor_split": ([3, 1.5], {}, "tensor_split", [3.0, 1.5] + [0.0] * 126, ["--tensor-split", "3,1.5"]),
    "main_gpu": (1, {}, "main_gpu", 1, ["--main-gpu", "1"]),
    "cpu_moe_layers": (
        1,
        {},
        "tensor_buft_overrides",
        r"blk\.0\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU",
        ["--override-tensor", r"blk\.0\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"],
    ),
    "override_tensor": ([r"up\.=CPU"], {}, "tensor_buft_overrides", r"up\.=CPU", ["--override-tensor", r"up\.=CPU"]),
    "cache_type_k": ("q8_0", {}, "cache_type_k", X.ggml_type.GGML_TYPE_Q8_0, ["--cache-type-k", "q8_0"]),
    "cache_type_v": ("q5_1", {}, "cache_type_v", X.ggml_type.GGML_TYPE_Q5_1, ["--cache-type-v", "q5_1"]),
    "flash_attention": (
        "on",
        {},
        "flash_attn_type",
        X.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        ["--flash-attn", "on"],
    ),
    "kv_offload": (False, {}, "no_kv_offload", True, ["--no-kv-offload"]),
    "kv_unified": (True, {"ctx": 512, "parallel": 4}, "n_ctx", 512, ["--kv-unified"]),
    "swa_full": (True, {}, "swa_full", True, ["--swa-full"]),
    "context_shift": (True, {}, "ctx_shift", True, ["--context-shift"]),
    "cache_prompt": (False, {}, "cache_prompt", False, ["--no-cache-prompt"]),
    "cache_reuse": (256, {}, "n_cache_reuse", 256, ["--cache-reuse", "256"]),
    "cache_ram_mib": (64, {}, "cache_ram_mib", 64, ["--cache-ram", "64"]),
    "context_checkpoints": (3, {}, "n_ctx_checkpoints", 3, ["--ctx-checkpoints", "3"]),
    "mmap": (False, {}, "load_mode", X.llama_load_mode.LLAMA_LOAD_MODE_NONE, ["--load-mode", "none"]),
    "mlock": (True, {}, "load_mode", X.llama_load_mode.LLAMA_LOAD_MODE_MMAP_MLOCK, ["--load-mode", "mmap+mlock"]),
    "direct_io": (True, {}, "load_mode", X.llama_load_mode.LLAMA_LOAD_MODE_DIRECT_IO, ["--load-mode", "dio"]),
    "repack": (False, {}, "no_extra_bufts", True, ["--no-repack"]),
    "check_tensors": (True, {}, "check_tensors", True, ["--check-tensors"]),
    "warmup": (False, {}, "warmup", False, ["--no-warmup"]),
    "rope_scaling": (
        "yarn",
        {},
        "rope_scaling_type",
        X.llama_rope_scaling_type.LLAMA_ROPE_SCALING_TYPE_YARN,
        ["--rope-scaling", "yarn"],
    ),
    "rope_freq_base": (1e6, {}, "rope_freq_base", 1e6, ["--rope-freq-base", "1000000"]),
    "rope_freq_scale": (0.25, {}, "rope_freq_scale", 0.25, ["--rope-freq-scale", "0.25"]),
    "yarn_orig_ctx": (4096, {}, "yarn_orig_ctx", 4096, ["--yarn-orig-ctx", "4096"]),
    "yarn_ext_factor": (1.0, {}, "yarn_ext_factor", 1.0, ["--yarn-ext-factor", "1"]),
    "yarn_attn_factor": (0.5, {}, "yarn_attn_factor", 0.5, ["--yarn-attn-factor", "0.5"]),
    "yarn_beta_fast": (32.0, {}, "yarn_beta_fast", 32.0, ["--yarn-beta-fast", "32"]),
    "yarn_beta_slow": (2.0, {}, "yarn_beta_slow", 2.0, ["--yarn-beta-slow", "2"]),
    "embeddings": (True, {}, "embedding", True, ["--embeddings"]),
    "pooling": (
        "last",
        {"embeddings": True},
        "pooling_type",
        X.llama_pooling_type.LLAMA_POOLING_TYPE_LAST,
        ["--pooling", "last"],
    ),
    "mmproj": ("FILE", {}, "mmproj.path", "FILE", ["--mmproj", "FILE"]),
    "mmproj_offload": (False, {}, "mmproj_use_gpu", False, ["--no-mmproj-offload"]),
    "image_min_tokens": (16, {}, "image_min_tokens", 16, ["--image-min-tokens", "16"]),
    "image_max_tokens": (64, {}, "image_max_tokens", 64, ["--image-max-tokens", "64"]),
    "lora": (["FILE"], {}, "lora_adapters", [("FILE", 1.0)], ["--lora", "FILE"]),
    "control_vector": (["FILE=0.5"], {}, "", None, ["--control-vector-scaled", "FILE:0.5"]),
    "override_kv": (["a.b=int:3"], {}, "", None, ["--override-kv", "a.b=int:3"]),
    "draft_model": ("FILE", {}, "speculative.draft.mparams.path", "FILE", ["--spec-draft-model", "FILE"]),
    "draft_max": (7, {}, "speculative.draft.n_max", 7, ["--spec-draft-n-max", "7"]),
    "draft_min": (1, {}, "speculative.draft.n_min", 1, ["--spec-draft-n-min", "1"]),
    "draft_device": ("none", {"draft_model": "FILE"}, "speculative.draft.devices", "", ["--spec-draft-device", "none"]),
    "draft_p_min": (0.5, {}, "speculative.draft.p_min", 0.5, ["--spec-draft-p-min", "0.5"]),
    "draft_gpu_layers": (
        2,
        {"draft_model": "FILE"},
        "speculative.draft.n_gpu_layers",
        2,
        ["--spec-draft-ngl", "2"],
    ),
    "spec_type": (
        "ngram-map-k",
        {},
        "speculative.types",
        [X.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_MAP_K],
        ["--spec-type", "ngram-map-k"],
    ),
    "spec_ngram_size_n": (
        5,
        {"spec_type": "ngram-simple"},
        "speculative.ngram_simple.size_n",
        5,
        ["--spec-ngram-simple-size-n", "5"],
    ),
    "spec_ngram_size_m": (
        20,
        {"spec_type": "ngram-mod"},
        "speculative.ngram_mod.n_max",
        20,
        ["--spec-ngram-mod-n-max", "20", "--spec-ngram-mod-n-min", "20"],
    ),
    "spec_ngram_min_hits": (
        2,
        {"spec_type": "ngram-map-k4v"},
        "speculative.ngram_map_k4v.min_hits",
        2,
        ["--spec-ngram-map-k4v-min-hits", "2"],
    ),
    "chat_template": ("{{ 1 }}", {}, "chat_template", "{{ 1 }}", ["--chat-template", "{{ 1 }}"]),
    "chat_template_file": ("FILE", {}, "chat_template", "text of FILE", ["--chat-template-file", "FILE"]),
    "reasoning_format": (
        "deepseek-legacy",
        {},
        "reasoning_format",
        X.common_reasoning_format.COMMON_REASONING_FORMAT_DEEPSEEK_LEGACY,
        ["--reasoning-format", "deepseek-legacy"],
    ),
    "reasoning_budget": (0, {}, "sampling.reasoning_budget_tokens", 0, ["--reasoning-budget", "0"]),
    "slot_similarity": (0.5, {}, "slot_prompt_similarity", 0.5, ["--slot-prompt-similarity", "0.5"]),
    "extra_flags": (["--prio", "2"], {}, "", None, ["--prio", "2"]),
}


def settled(option: str, tmp_path: Path) -> tuple[LoadPlan, Case]:
    """The case with a real file for FILE."""
    file = tmp_path / "file"
    file.write_text("text of FILE")

    def real(value: Any) -> Any:
        if isinstance(value, str):
            return value if value == "text of FILE" else value.replace("FILE", str(file))
        if isinstance(value, list):
            return [real(item) for item in value]
        return (real(value[0]), value[1]) if isinstance(value, tuple) else value

    value, others, attribute, arrived, words = CASES[option]
    options = {name: real(other) for name, other in others.items()} | {option: real(value)}
    plan = plan_for(placement=TWO_GPUS, **options)
    return plan, (value, others, attribute, real(arrived), real(words))


def test_every_option_of_the_engine_has_one_row() -> None:
    rows = [option for row in ROWS for option in row.options]
    assert sorted(rows) == sorted(set(rows))
    assert set(CASES) == HONOURED <= {option.name for option in OPTIONS if not option.ours}


@pytest.mark.parametrize("option", sorted(CASES))
def test_an_option_reaches_its_attribute_and_its_argument(option: str, tmp_path: Path) -> None:
    plan, (_, _, attribute, arrived, words) = settled(option, tmp_path)
    line = arguments(plan)
    at = line.index(words[0])
    assert line[at : at + len(words)] == words
    params = params_of(plan, tmp_path)
    if option in EXTERNAL_ONLY:
        assert not attribute
    elif option == "lora":
        assert [(adapter.path, adapter.scale) for adapter in params.lora_adapters] == arrived
    else:
        assert read(params, attribute) == arrived


@pytest.mark.skipif(not SERVER, reason="UML_TEST_LLAMA_SERVER names no llama-server")
@pytest.mark.parametrize("option", sorted(CASES.keys() - {"device"}))  # a device must be there to be named
def test_a_real_program_takes_the_arguments(option: str, tmp_path: Path) -> None:
    plan = replace(settled(option, tmp_path)[0], placement=Placement({"cpu": 1}))
    words = program_arguments(plan, Endpoint("key", tmp_path / "w.sock"))
    words[words.index("--model") + 1] = str(tmp_path / "nothing.gguf")
    done = subprocess.run([SERVER, *words], capture_output=True, text=True, check=False, timeout=20)
    assert "error loading model" in done.stderr, done.stderr
    assert "argument" not in done.stderr


def test_defaults_leave_the_engine_its_own(tmp_path: Path) -> None:
    plan = plan_for(ctx=0, parallel=0, threads=0)
    params, fresh = params_of(plan, tmp_path), xllamacpp.CommonParams()
    assert params.n_parallel == 1  # a server without slots hangs on its first request
    assert params.n_ctx == 0  # the model's
    for attribute in ("cpuparams.n_threads", "rope_freq_base", "yarn_ext_factor", "image_min_tokens", "numa"):
        assert read(params, attribute) == read(fresh, attribute)
    assert params.n_gpu_layers == 0
    assert "--threads" not in arguments(plan)


def test_the_listener_is_closed_to_everybody_else(tmp_path: Path) -> None:
    params = params_of(plan_for(), tmp_path)
    assert params.hostnames == [str(tmp_path / "w.sock")]
    assert params.api_keys == ["key"]
    assert params.cors_origins == "" and not params.cors_credentials
    assert not params.ui and not params.fit_params
    tcp = params_at(plan_for(), Endpoint("key", None, "127.0.0.1", 4711))
    assert (tcp.hostnames, tcp.port) == (["127.0.0.1"], 4711)


def test_layers_go_where_the_placement_says(tmp_path: Path) -> None:
    some = Placement({"cuda:0": 1, "cpu": 1}, gpu_layers=4, layers=6)
    assert params_of(plan_for(placement=some), tmp_path).n_gpu_layers == 4
    assert params_of(plan_for(placement=TWO_GPUS), tmp_path).n_gpu_layers > 6
    assert params_of(plan_for(placement=TWO_GPUS, device="cpu"), tmp_path).n_gpu_layers == 0
    assert "none" in arguments(plan_for(device="cpu"))
    metal = plan_for(placement=Placement({"metal:0": 1}))
    assert "--device" not in arguments(metal)


def test_text_models_embed_on_request(tmp_path: Path) -> None:
    plain = params_of(plan_for(), tmp_path)
    assert (plain.embedding, plain.n_batch) == (False, 512)
    embedder = params_of(plan_for(embeddings=True, batch=2048), tmp_path)
    mean = X.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    assert (embedder.embedding, embedder.pooling_type, embedder.n_batch) == (True, mean, 512)


def test_models_for_embeddings_and_reranking_say_so_themselves(tmp_path: Path) -> None:
    reranker = params_of(plan_for(role=Role.RERANKER), tmp_path)
    assert reranker.embedding and reranker.pooling_type == X.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    # A text to embed must fit into one computation: as planning has decided it.
    embedder = params_of(plan_for(role=Role.EMBEDDING, ctx=1024, batch=1024, ubatch=1024), tmp_path)
    assert (embedder.n_batch, embedder.n_ubatch) == (1024, 1024)


def test_a_scaled_adapter_takes_its_scale_along(tmp_path: Path) -> None:
    file = tmp_path / "a,b=1.gguf"
    file.touch()
    plan = plan_for(lora=[str(file), f"{file}=0.25"])
    scales = [(a.path, a.scale) for a in params_of(plan, tmp_path).lora_adapters]
    assert scales == [(str(file), 1.0), (str(file), 0.25)]
    line = arguments(plan)
    assert line[line.index("--lora-scaled") + 1] == f'"{file}:1","{file}:0.25"'


def test_options_of_other_kinds_of_guessing_are_left_alone(tmp_path: Path) -> None:
    assert not [word for word in arguments(plan_for(spec_type="ngram-mod")) if "n-match" in word]
    assert LoadOptions().spec_ngram_size_n == 12
    params = params_of(plan_for(spec_type="ngram-cache", spec_ngram_size_n=5), tmp_path)
    assert params.speculative.ngram_simple.size_n == xllamacpp.CommonParams().speculative.ngram_simple.size_n
