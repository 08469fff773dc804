"""Quantization labels from configurations as they are found in the wild."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders import hf_tensors, llama_config, write_hf_folder, write_json
from uml.core.model import Format, ModelInfo
from uml.formats import inspect

TORCHAO = {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {}}}}
_INTX = {"_type": "Int8DynamicActivationIntxWeightConfig", "_data": {"weight_dtype": {"_data": "int4"}}}
_BY_NAME = {"_type": "ModuleFqnToConfig", "_data": {"module_fqn_to_config": {"_default": _INTX, "lm_head": None}}}
TORCHAO_BY_NAME = {"quant_method": "torchao", "quant_type": {"default": _BY_NAME}}
MX = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}
STAGES = [{"dtype": "fp8_e4m3"}, {"dtype": "int4"}]
VPTQ = {"num_centroids": [-1, 65536], "num_res_centroids": [-1, 256], "vector_lens": [-1, 8]}
HQQ = {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}
W4A16 = {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}, "input_activations": None}}
W8A8 = {"group_0": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}}}
FP8 = {"group_0": {"weights": {"num_bits": 8, "type": "float"}, "input_activations": {"num_bits": 8}}}
FP4 = {"group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}}

CASES: list[tuple[dict[str, Any], str]] = [
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "GPTQ 4-bit g128"),
    ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "GPTQ 8-bit"),
    ({"bits": 4, "group_size": 32}, "GPTQ 4-bit g32"),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}, "AWQ 4-bit g128"),
    ({"quant_method": "exl2", "bits": 4.65, "head_bits": 6}, "EXL2 4.65 bpw"),
    ({"quant_method": "exl3", "bits": 3.0}, "EXL3 3.00 bpw"),
    ({"quant_method": "exl3"}, "EXL3"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes NF4"),
    ({"load_in_4bit": True, "bnb_4bit_use_double_quant": True}, "bitsandbytes FP4"),
    ({"quant_method": "bitsandbytes_8bit", "load_in_8bit": True}, "bitsandbytes INT8"),
    (TORCHAO, "torchao Int4WeightOnly"),
    (TORCHAO_BY_NAME, "torchao Int8DynamicActivationIntxWeight int4"),
    ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "torchao int8_weight_only"),
    ({"quant_method": "torchao"}, "torchao"),
    (HQQ, "HQQ 4-bit g64"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "FP8 block 128x128"),
    ({"quant_method": "finegrained_fp8"}, "FP8"),
    ({"quant_method": "fbgemm_fp8"}, "FP8 (fbgemm)"),
    ({"quant_method": "compressed-tensors", "config_groups": W4A16}, "compressed-tensors W4A16 g128"),
    ({"quant_method": "compressed-tensors", "config_groups": W8A8}, "compressed-tensors W8A8"),
    ({"quant_method": "compressed-tensors", "config_groups": FP8}, "compressed-tensors FP8"),
    (
        {"quant_method": "compressed-tensors", "config_groups": FP4, "format": "nvfp4-pack-quantized"},
        "compressed-tensors NVFP4",
    ),
    (
        {"quant_method": "compressed-tensors", "config_groups": FP4, "format": "mxfp4-pack-quantized"},
        "compressed-tensors MXFP4",
    ),
    ({"quant_method": "compressed-tensors", "format": "dense"}, "compressed-tensors dense"),
    ({"quant_method": "bitnet"}, "BitNet 1.58-bit"),
    ({"quant_method": "bitnet", "quantization_mode": "online"}, "BitNet 1.58-bit, stored as floats"),
    ({"quant_method": "mxfp4"}, "MXFP4"),
    (
        {"quant_method": "aqlm", "num_codebooks": 1, "nbits_per_codebook": 16, "in_group_size": 8},
        "AQLM 1x16 g8",
    ),
    ({"quant_method": "aqlm"}, "AQLM"),
    ({"quant_method": "vptq"}, "VPTQ"),
    ({"quant_method": "vptq", "config_for_layers": {"model.layers.0.mlp.up_proj": VPTQ}}, "VPTQ 3-bit"),
    ({"quant_method": "vptq", "config_for_layers": {"a": {"num_centroids": [1, "x"], "vector_lens": []}}}, "VPTQ"),
    ({"quant_method": "spqr", "bits": 3}, "SpQR 3-bit"),
    ({"quant_method": "eetq", "weights": "int8"}, "EETQ INT8"),
    ({"quant_method": "quanto", "weights": "int4"}, "quanto int4"),
    ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}, "Quark fp8_e4m3"),
    ({"quant_method": "quark", "global_quant_config": {"weight": MX}}, "Quark MXFP4"),
    ({"quant_method": "quark", "global_quant_config": {"weight": STAGES}}, "Quark int4"),
    ({"quant_method": "quark", "layer_quant_config": {"*experts*": {"weight": MX}}}, "Quark MXFP4"),
    ({"quant_method": "quark"}, "Quark"),
    ({"quant_method": "higgs", "bits": 4, "group_size": 256}, "HIGGS 4-bit g256"),
    ({"quant_method": "intel/auto-round", "bits": 4, "group_size": 128}, "AutoRound 4-bit g128"),
    ({"quant_method": "auto-round", "bits": 4, "group_size": 32, "data_type": "mx_fp"}, "AutoRound MXFP4"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "ModelOpt NVFP4"),
    ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "ModelOpt mixed precision"),
    ({"quant_method": "modelopt", "quant_algo": "NEWEST"}, "ModelOpt NEWEST"),
    ({"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, "FP-Quant MXFP4"),
    ({"quant_method": "something-new", "bits": 5}, "something-new 5-bit"),
    ({"quant_method": "gptq", "bits": "four", "group_size": [1]}, "GPTQ"),
    ({"odd": 1}, "unknown"),
]


def read(folder: Path, tensors: Any = None, **config: Any) -> ModelInfo:
    return inspect(write_hf_folder(folder, llama_config(**config), tensors))


@pytest.mark.parametrize(("said", "label"), CASES, ids=[label for _, label in CASES])
def test_the_label_is_one_that_people_know(tmp_path: Path, said: dict[str, Any], label: str) -> None:
    found = read(tmp_path, quantization_config=said)
    assert found.quantization is not None
    assert found.quantization.label == label
    assert found.format is {"EXL2": Format.EXL2, "EXL3": Format.EXL3}.get(label[:4], Format.SAFETENSORS)


@pytest.mark.parametrize("place", ["text_config", "llm_config"])
def test_a_multimodal_model_may_say_it_in_its_text_part(tmp_path: Path, place: str) -> None:
    found = read(tmp_path, **{place: {"quantization_config": {"quant_method": "mxfp4"}}})
    assert found.quantization is not None and found.quantization.label == "MXFP4"


@pytest.mark.parametrize(
    ("name", "said", "label"),
    [
        ("quantize_config.json", {"bits": 4, "group_size": 64, "desc_act": True}, "GPTQ 4-bit g64"),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128, "zero_point": True}, "AWQ 4-bit g128"),
        ("quant_config.json", {"bits": 5.0}, "EXL2 5.00 bpw"),
        ("hf_quant_config.json", {"producer": {}, "quantization": {"quant_algo": "FP8"}}, "ModelOpt FP8"),
    ],
)
def test_older_tools_say_it_in_a_file_of_their_own(tmp_path: Path, name: str, said: dict[str, Any], label: str) -> None:
    folder = write_hf_folder(tmp_path)
    write_json(folder / name, said)
    found = inspect(folder).quantization
    assert found is not None and found.label == label


def test_the_first_models_of_aqlm_say_it_in_a_section_of_their_own(tmp_path: Path) -> None:
    found = read(tmp_path, aqlm={"num_codebooks": 2, "nbits_per_codebook": 16, "in_group_size": 8})
    assert found.quantization is not None and found.quantization.label == "AQLM 2x16 g8"


@pytest.mark.parametrize(
    ("said", "label", "scales"),
    [
        ({"bits": 4, "group_size": 32}, "MLX 4-bit g32", ("BF16", (64, 2))),
        ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, "MLX MXFP4", ("U8", (64, 2))),
        ({"bits": 8}, "MLX 8-bit", ("BF16", (64, 2))),
    ],
)
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_mlx_is_told_from_gptq_which_looks_alike(
    tmp_path: Path, said: dict[str, Any], label: str, scales: tuple[str, Any], twice: bool
) -> None:
    tensors = {"a.weight": ("U32", (64, 2 * said["bits"])), "a.scales": scales}
    found = read(tmp_path, tensors, quantization=said, **({"quantization_config": said} if twice else {}))
    assert found.quantization is not None and (found.quantization.method, found.quantization.label) == ("mlx", label)
    assert found.parameters == 64 * 64


def test_mlx_is_named_with_what_runs_it(tmp_path: Path) -> None:
    tensors = {"a.weight": ("I32", (64, 8)), "a.scales": ("BF16", (64, 1)), "a.biases": ("BF16", (64, 1))}
    found = read(tmp_path, tensors, quantization={"bits": 4, "group_size": 64})
    assert found.quantization is not None and found.quantization.label == "MLX 4-bit g64"
    assert found.parameters == 64 * 64
    assert any("Apple" in note for note in found.notes)


@pytest.mark.parametrize(
    ("tensor", "label", "format_"),
    [
        ("a.trellis", "EXL3", Format.EXL3),
        ("a.q_weight", "EXL2", Format.EXL2),
        ("a.qweight", "GPTQ or AWQ", Format.SAFETENSORS),
    ],
)
def test_tensors_give_away_what_the_configuration_conceals(
    tmp_path: Path, tensor: str, label: str, format_: Format
) -> None:
    found = read(tmp_path, hf_tensors() | {tensor: ("I16", (4, 4, 48))})
    assert found.quantization is not None and found.quantization.label == label
    assert found.format is format_


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}


@pytest.mark.parametrize(
    ("said", "tensors", "parameters"),
    [
        # 8 weights of 4 bits a word; scales, zeros and order are no weights.
        (
            GPTQ,
            {
                "a.qweight": ("I32", (16, 64)),
                "a.qzeros": ("I32", (1, 8)),
                "a.scales": ("F16", (1, 64)),
                "a.g_idx": ("I32", (128,)),
                "norm.weight": ("F16", (64,)),
            },
            128 * 64 + 64,
        ),
        ({"quant_method": "exl3", "bits": 3.0}, {"a.trellis": ("I16", (8, 4, 48)), "a.svh": ("F16", (64,))}, 128 * 64),
        ({"quant_method": "exl2", "bits": 4.0}, {"a.q_weight": ("I32", (8, 64))}, None),
        (
            {"quant_method": "exl2", "bits": 4.5},
            {"a.q_weight": ("I32", (9, 64)), "a.q_invperm": ("I16", (64,)), "a.q_groups": ("I16", (4,))},
            64 * 64,
        ),
        (HQQ, {"a.W_q": ("U8", (32, 64)), "a.scale": ("F16", (64, 1)), "a.nbits": ("I64", ())}, 64 * 64),
        (TORCHAO, {"a._weight_qdata": ("U8", (64, 32)), "a._weight_scale": ("BF16", (1, 64))}, 64 * 64),
        ({"quant_method": "higgs", "bits": 4}, {"a.weight": ("I16", (16, 64)), "a.tables": ("BF16", (16,))}, 64 * 64),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": STAGES}},
            {"a.weight": ("I32", (64, 8)), "a.weight_scale": ("F32", (64,))},
            64 * 64,
        ),
        ({"quant_method": "auto-round", "data_type": "mx_fp"}, {"a.weight_packed": ("U8", (64, 32))}, 64 * 64),
        ({"load_in_4bit": True}, {"a.weight": ("U8", (4096, 1)), "a.weight.absmax": ("F32", (128,))}, 8192),
        ({"quant_method": "mxfp4"}, {"a_blocks": ("U8", (4, 16)), "a_scales": ("U8", (4,))}, 128),
        ({"quant_method": "bitnet"}, {"a.weight": ("U8", (16, 64)), "a.weight_scale": ("BF16", (1,))}, 4096),
        ({"quant_method": "fp8"}, {"a.weight": ("F8_E4M3", (64, 64)), "a.weight_scale_inv": ("F32", (1, 1))}, 4096),
        ({"quant_method": "vptq"}, {"a.indices": ("I16", (64, 64))}, None),
        ({"quant_method": "hqq"}, {"a.W_q": ("U8", (64, 64))}, None),
        ({"quant_method": "gptq"}, {"a.qweight": ("I32", (16, 64))}, None),
    ],
)
def test_packed_weights_are_counted_one_by_one(
    tmp_path: Path, said: dict[str, Any], tensors: Any, parameters: int | None
) -> None:
    found = read(tmp_path, tensors, quantization_config=said)
    assert found.parameters == parameters
    if parameters:
        assert found.quantization is not None and found.quantization.bits is not None
