"""A dead worker's log becomes a typed cause. The texts were provoked on b11549, or are read in its source."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker.process import plan_for
from uml.core.errors import (
    BadOption,
    CorruptFile,
    IllegalInstruction,
    LoadFailed,
    MissingShard,
    OutOfMemory,
    UmlError,
    UnsupportedArchitecture,
    WorkerDied,
)
from uml.engines.handover import failure_line
from uml.engines.llamacpp.causes import cause

GAVE_UP = failure_line(LoadFailed("demo", "Failed to init server, please check the input params."))


def of(log: str, exit_code: int | None = 3, **options: Any) -> UmlError:
    found = cause(plan_for(**options), log, exit_code)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("log", "kind", "says"),
    [
        (
            "0.00.005.575 E gguf_init_from_reader: invalid magic characters: '??e\"', expected 'GGUF'\n"
            "0.00.005.706 E llama_model_load: error loading model: llama_model_loader: failed to load model from /m\n",
            CorruptFile,
            "invalid magic characters",
        ),
        (
            "0.00.006.441 E gguf_init_from_reader: number of tensors is 55 but must be in [0, 53]\n"
            "0.00.006.483 E gguf_init_from_reader: failed to read header\n",
            CorruptFile,
            "number of tensors is 55",
        ),
        ("0.00.005.994 E gguf_init_from_reader: failed to read key-value pairs\n", CorruptFile, "key-value pairs"),
        (
            "0.00.007.771 E llama_model_load: error loading model: tensor 'blk.2.ffn_up.weight' data is not within the "
            "file bounds, model is corrupted or incomplete\n"
            "0.00.015.703 E srv    load_model: failed to load model, '/x/half.gguf'\n",
            CorruptFile,
            "/x/half.gguf: tensor 'blk.2.ffn_up.weight' data is not within the file bounds",
        ),
        (
            "0.00.019.509 E llama_model_load: error loading model: check_tensor_dims: tensor 'blk.3.attn_k.weight' "
            "not found\n",
            CorruptFile,
            "blk.3.attn_k.weight",
        ),
        (
            "0.00.008.523 E llama_model_load: error loading model: unknown model architecture: 'lluma'\n",
            UnsupportedArchitecture,
            "'lluma'",
        ),
        (
            "0.00.004.154 E gguf_init_from_file: failed to open GGUF file '/x/big-00002-of-00003.gguf' (No such)\n",
            MissingShard,
            "big-00002-of-00003.gguf",
        ),
        ("0.00.004.154 E gguf_init_from_file: failed to open GGUF file '/x/m.gguf' (No such)\n", CorruptFile, "m.gguf"),
        (
            "0.00.011.158 E llama_adapter_lora_init: failed to open '/tmp/nope': No such file or directory\n"
            "0.00.011.174 E cmn  common_init_: failed to load lora adapter '/tmp/nope'\n",
            BadOption,
            "option lora",
        ),
        ("0.00.006.109 E mtmd_get_memory_usage: error: Failed to load CLIP model from /m\n", BadOption, "mmproj"),
        (
            "0.00.015.682 E llama_model_load: error loading model: tensor 'x' data is not within the file bounds\n"
            "0.00.015.703 E srv    load_model: failed to load draft model, '/tmp/half.gguf'\n",
            BadOption,
            "draft_model",
        ),
        (
            "0.00.045.102 E common_chat_templates_init: error: Unexpected token: %} of type 9\n",
            BadOption,
            "Unexpected token",
        ),
        (
            "0.00.011.017 E llama_init_from_model: quantized V cache requires flash_attn to be enabled\n",
            BadOption,
            "cache_type_v",
        ),
        (
            "0.00.056.468 W llama_init_from_model: context type MTP requested but model doesn't contain MTP layers\n",
            BadOption,
            "spec_type",
        ),
        ("error: the supplied chat template is not supported: {% for x in %}\n", BadOption, "chat_template"),
        # Ours, to a program of another build:
        ("error: invalid argument: --load-mode\n", LoadFailed, "does not know the argument --load-mode"),
        ('error while handling argument "--ctx-size": stoi\n\nusage:\n', BadOption, "option ctx"),
        (
            "0.00.061.604 E ggml_aligned_malloc: insufficient memory (attempted to allocate 5859.75 MB)\n"
            "0.00.061.627 E ggml_backend_buft_alloc_buffer_n_default: failed to allocate CPU buffer of size 614\n",
            OutOfMemory,
            "cpu ran out of memory",
        ),
        (
            "0.02.0 E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9 MiB on device 1: cudaMalloc failed: out "
            "of memory\nalloc_tensor_range: failed to allocate CUDA1 buffer of size 123\n",
            OutOfMemory,
            "cuda:1 ran out of memory",
        ),
        (
            "/w/llama.cpp/src/llama-context.cpp:2289: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed\n",
            LoadFailed,
            "GGML_ASSERT(n_outputs_max",
        ),
        ("/w/common/common.cpp:2245: get_sub_batch: failed to add token 0 at index 1\n", LoadFailed, "get_sub_batch"),
        (
            "0.00.021.774 E llama_init_from_model: failed to initialize the context: n_seq_max must be <= 256\n"
            "0.00.021.793 E cmn  common_init_: failed to create context with model '/m'\n",
            LoadFailed,
            "n_seq_max must be <= 256",
        ),
        ("0.00.003 W nothing\n", LoadFailed, "check the input params"),
    ],
)
def test_a_log_tells_its_cause(log: str, kind: type[UmlError], says: str) -> None:
    found = of(log + GAVE_UP)
    assert type(found) is kind
    assert says in str(found)


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("error: invalid argument: --frobnicate\n", "--frobnicate"),
        ('error while handling argument "--prio": stoi\n\nusage:\n', "stoi"),
    ],
)
def test_the_users_own_words_are_blamed_on_them(log: str, says: str) -> None:
    found = of(log, 1, extra_flags=["--prio", "very", "--frobnicate"])
    assert isinstance(found, BadOption)
    assert found.param == "options.extra_flags"
    assert says in str(found)


def test_signals_tell_where_the_log_does_not() -> None:
    assert isinstance(of("", -4), IllegalInstruction)
    assert cause(plan_for(), "", -9) is None  # the kernel, for want of memory, or a person
    assert cause(plan_for(), "", 0) is None
    assert cause(plan_for(), "all is well\n", None) is None


def test_a_failure_that_the_worker_named_itself_is_handed_on() -> None:
    named = of(failure_line(BadOption("override_tensor", "a=B", "a device of CPU")))
    assert isinstance(named, BadOption)
    assert named.param == "options.override_tensor"
    assert named.details["expected"] == "a device of CPU"


def test_a_line_cut_short_is_no_evidence() -> None:
    assert cause(plan_for(), failure_line(WorkerDied("demo", "x"))[:40], 1) is None
