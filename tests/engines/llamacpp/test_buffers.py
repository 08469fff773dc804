"""What llama.cpp says of its memory, in the words of its log."""

from __future__ import annotations

from pathlib import Path

from tests.worker.process import plan_for
from uml.core.plan import Buffer, Placement
from uml.engines.llamacpp.buffers import buffers
from uml.engines.llamacpp.engine import LlamaCpp

MIB = 1 << 20

IN_MEMORY = """\
# 2026-11-21 02:08:25 llamacpp loads /m/demo.gguf: ctx 2048 for each of 4 requests, 4 threads, on cpu
0.00.013.221 I load: special tokens cache size = 3
0.00.015.925 I load_tensors:   CPU_Mapped model buffer size =   500.25 MiB
0.00.015.930 I load_tensors:   CPU_REPACK model buffer size =   312.00 MiB
0.00.016.270 I llama_context: constructing llama_context
0.00.016.274 I llama_context:        CPU  output buffer size =     0.50 MiB
0.00.016.528 I llama_kv_cache:        CPU KV buffer size =    24.00 MiB
0.00.027.551 I llama_kv_cache: size =   24.00 MiB (  2048 cells,   6 layers,  4/4 seqs), K (f16):   12.00 MiB
0.00.016.530 I llama_kv_cache:        CPU KV buffer size =     8.00 MiB
0.00.016.540 I llama_memory_recurrent:        CPU RS buffer size =     2.00 MiB
0.00.033.408 I sched_reserve:        CPU compute buffer size =     9.00 MiB
0.00.038.408 I sched_reserve:        CPU compute buffer size =    11.00 MiB
"""


def test_parts_add_up_and_a_new_layout_of_a_context_replaces_the_old() -> None:
    found = buffers(plan_for(), IN_MEMORY)
    assert set(found) == {
        Buffer("cpu", "weights", round(500.25 * MIB), "mapped"),
        Buffer("cpu", "weights", 312 * MIB, "copy"),
        Buffer("cpu", "other", MIB // 2),
        Buffer("cpu", "kv_cache", (24 + 8 + 2) * MIB),
        Buffer("cpu", "compute", 11 * MIB),
    }


def test_a_draft_model_computes_beside_the_model() -> None:
    draft = """\
0.00.116.270 I llama_context: constructing llama_context
0.00.133.408 I sched_reserve:        CPU compute buffer size =     3.00 MiB
"""
    found = buffers(plan_for(), IN_MEMORY + draft)
    assert [one.bytes for one in found if one.part == "compute"] == [14 * MIB]


def test_gpus_go_by_our_numbers_and_what_they_reach_lies_in_memory() -> None:
    log = """\
load_tensors:        CUDA0 model buffer size =   100.00 MiB
load_tensors:        CUDA1 model buffer size =   200.00 MiB
load_tensors:    CUDA_Host model buffer size =    30.00 MiB
sched_reserve:        CUDA1 compute buffer size =    40.00 MiB
sched_reserve:    CUDA_Host compute buffer size =     5.00 MiB
load_tensors: MTL0_Mapped model buffer size =     7.00 MiB
"""
    shown = plan_for(placement=Placement({"cuda:3": 1, "cuda:1": 1, "cpu": 1}))
    assert set(buffers(shown, log)) == {
        Buffer("cuda:3", "weights", 100 * MIB),
        Buffer("cuda:1", "weights", 200 * MIB),
        Buffer("cpu", "weights", 30 * MIB),
        Buffer("cuda:1", "compute", 40 * MIB),
        Buffer("cpu", "compute", 5 * MIB),
        Buffer("metal:0", "weights", 7 * MIB, "mapped"),
    }


def test_a_log_without_them_tells_none(tmp_path: Path) -> None:
    assert LlamaCpp().buffers(plan_for(), "0.00.1 W something else\n") == ()
