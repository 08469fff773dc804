"""Load options of other programs that are called otherwise here, are given another value, or are not needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_TAKEN: Final = "it is not needed: the model's own files tell"
_ALWAYS: Final = "it is not needed: that is how it is done here"

ELSEWHERE: Final[Mapping[str, str]] = {
    # text-generation-webui, Transformers
    "load_in_4bit": "it is quantize=bnb-nf4 here (or bnb-fp4)",
    "load_in_8bit": "it is quantize=bnb-int8 here",
    **dict.fromkeys(("quant_type", "bnb_4bit_quant_type"), "it is quantize=bnb-nf4 or quantize=bnb-fp4 here"),
    "bf16": "it is dtype=bfloat16 here",
    "cpu": "it is device=cpu here",
    "auto_devices": _ALWAYS,
    **dict.fromkeys(("gpu_memory", "cpu_memory"), "it is max_memory=DEVICE=GIB here: 0=10 of the first GPU, cpu=30"),
    **dict.fromkeys(("disk", "disk_cache_dir"), "it is offload_folder=FOLDER here"),
    **dict.fromkeys(("use_flash_attention_2", "use_flash_attn"), "it is attention=flash_attention_2 here"),
    **dict.fromkeys(("no_flash_attn", "noflashattention"), "it is flash_attention=off here"),
    "alpha_value": "it is rope_freq_base here: the model's times alpha_value ** (d / (d - 2)), d of a head",
    "compress_pos_emb": "it is rope_scaling=linear with rope_freq_scale=1/N here",
    "rope_scale": "it is rope_scaling=linear with rope_freq_scale=1/N here",
    "ropeconfig": "it is rope_freq_scale and rope_freq_base here",
    **dict.fromkeys(("cache_8bit", "quantkv"), "it is cache_type_k=q8_0 with cache_type_v=q8_0 here"),
    "cache_4bit": "it is cache_type_k=q4_0 with cache_type_v=q4_0 here",
    **dict.fromkeys(("cache_type", "kv_cache_dtype"), "it is cache_type_k and cache_type_v here"),
    "gpu_split": "it is tensor_split here, as shares",
    "tensor_parallel": "it is split_mode=tensor here",
    **dict.fromkeys(("enable_tp", "tensor_parallel_size", "rowsplit"), "it is split_mode=tensor here, or row"),
    "pre_layer": "it is gpu_layers here",
    **dict.fromkeys(("wbits", "groupsize", "group_size", "desc_act", "model_type"), _TAKEN),
    **dict.fromkeys(("no_use_fast", "use_fast", "triton", "disable_exllama", "disable_exllamav2"), _TAKEN),
    **dict.fromkeys(("no_inject_fused_attention", "no_inject_fused_mlp", "no_use_cuda_fp16", "cfg_cache"), _ALWAYS),
    **dict.fromkeys(("no_mul_mat_q", "nommq", "mul_mat_q", "mmq", "logits_all", "low_vram", "lowvram"), _ALWAYS),
    "no_mmap": "it is mmap=false here",
    "usemmap": "it is mmap=true here, which is usual",
    "no_kv_offload": "it is kv_offload=false here",
    **dict.fromkeys(("streaming_llm", "smartcontext"), "it is context_shift=true with cache_reuse here"),
    **dict.fromkeys(("cpu_moe", "moecpu"), "it is cpu_moe_layers here, the number of layers"),
    **dict.fromkeys(("fit_target", "autofit", "gpu_memory_utilization"), "a plan does it here, within gpu_budget"),
    "seed": "a request says it here",
}
"""Name -> what to give here instead, as half a sentence."""
