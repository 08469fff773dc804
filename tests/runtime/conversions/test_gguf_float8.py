"""Weights of FP8 become GGUF: codes times scales, whatever the scales stand for; what cannot be read is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.conversions.hf_folders import VOCABULARY, Shapes, config, shapes, write_folder
from tests.runtime.conversions.test_gguf import convert, in_pairs, mixture, mixture_shapes, stored, tensors
from uml.core.errors import ConversionFailed, UnsupportedArchitecture, UnsupportedFormat
from uml.formats import inspect
from uml.runtime.conversions.gguf import make

FLOAT: dict[str, Any] = {"quant_method": "compressed-tensors", "format": "float-quantized"}
NAMES = {
    "mlp.gate_proj": "ffn_gate",
    "mlp.down_proj": "ffn_down",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_proj": "attn_q",
}
Arrays = dict[str, Any]


def compressed(strategy: str, **more: Any) -> dict[str, Any]:
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": strategy, **more}
    return {**FLOAT, "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


def half(codes: Any, dtype: str) -> Any:
    """What codes mean, by the halves of IEEE 754, of which E5M2 is the upper byte: E4M3 has its bits one place lower,
    and exponents that are 8 less.
    """
    words = codes.astype("<u2")
    if dtype == "F8_E5M2":
        return (words << 8).view("<f2").astype("<f4")
    return ((words & 0x80) << 8 | (words & 0x7F) << 7).view("<f2").astype("<f4") * np.float32(256)


def coded(shape: tuple[int, ...], seed: int, dtype: str = "F8_E4M3") -> Any:
    """Random codes of all kinds but those that are no numbers."""
    codes = np.random.default_rng(seed).integers(0, 256, shape).astype("u1")
    worst = 0x7E if dtype == "F8_E4M3" else 0x7B
    return np.where((codes & 0x7F) > worst, codes & 0x87, codes)


def write_coded(
    folder: Path,
    section: dict[str, Any] | None,
    end: str = "_scale_inv",
    block: tuple[int, int] = (0, 0),
    dtype: str = "F8_E4M3",
    scale: str = "F32",
    settings: dict[str, Any] | None = None,
    sizes: Shapes | None = None,
    beside: Mapping[str, tuple[str, Any]] | None = None,
    apart: bool = False,
) -> Arrays:
    """A folder whose projections are of FP8, and what they mean. block: rows and columns of a scale; 0: all.

    beside: more tensors, with their types. apart: scales lie in a file of their own.
    """
    whole = dict(settings or config())
    write_folder(folder, whole | ({"quantization_config": section} if section else {}), sizes)
    raw: dict[str, tuple[str, Any]] = {}
    meant: Arrays = {}
    for number, (name, values) in enumerate(stored(folder).items()):
        if "proj" not in name:
            raw[name] = ("F32", values)
            continue
        codes, (rows, columns) = coded(values.shape, number, dtype), values.shape[-2:]
        down, wide = block[0] or rows, block[1] or columns
        grid = (*values.shape[:-2], -(-rows // down), -(-columns // wide))
        scales = np.random.default_rng(number).uniform(1e-4, 1e-2, grid).astype("<f4")
        kept = scales
        if scale == "BF16":
            kept = (scales.view("<u4") >> 16).astype("<u2")
            scales = (kept.astype("<u4") << 16).view("<f4")
        elif scale == "F16":
            kept = scales.astype("<f2")
            scales = kept.astype("<f4")
        elif scale == "F8_E8M0":
            kept = np.full(grid, 119, "u1") + np.arange(scales.size, dtype="u1").reshape(grid) % 3
            scales = np.exp2(kept.astype("<f4") - 127)
        spread = scales.repeat(down, -2).repeat(wide, -1)[..., :rows, :columns]
        meant[name] = half(codes, dtype) * (spread if end else 1)
        raw[name] = (dtype, codes)
        if end:
            raw[name + end] = (scale, kept if sum(block) else kept.reshape(()))
    raw |= dict(beside or {})
    scaling = {name: one for name, one in raw.items() if apart and name.endswith(end)}
    if scaling:
        (folder / "model.safetensors").unlink()
        write_safetensors(folder / "model-00002-of-00002.safetensors", scaling)
    rest = {name: one for name, one in raw.items() if name not in scaling}
    write_safetensors(folder / f"model{'-00001-of-00002' if apart else ''}.safetensors", rest)
    return meant


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, Any]]) -> None:
    """A file of arrays with their types."""
    header, parts, at = {}, [], 0
    for name, (kind, values) in tensors.items():
        data = values.tobytes()
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(parts))


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
WRITTEN: dict[str, dict[str, Any]] = {
    "blocks": {"section": {**FP8, "weight_block_size": [32, 32]}, "block": (32, 32)},
    "blocks that do not fill it": {"section": {**FP8, "weight_block_size": [20, 48]}, "block": (20, 48)},
    "blocks of 128 unsaid": {"section": FP8, "block": (128, 128)},
    "scales of one byte": {
        "section": {**FP8, "weight_block_size": [32, 32], "scale_fmt": "ue8m0"}, "block": (32, 32), "scale": "F8_E8M0",
    },
    "one, in bfloat16": {"section": {**FP8, "weight_block_size": None}, "scale": "BF16"},
    "one, by its other name": {"section": {**FP8, "weight_block_size": None}, "end": "_scale"},
    "five bits of exponent": {"section": {**FP8, "weight_block_size": [16, 16]}, "block": (16, 16), "dtype": "F8_E5M2"},
    "compressed, one": {"section": compressed("tensor"), "end": "_scale"},
    "compressed, one a row": {"section": compressed("channel"), "end": "_scale", "block": (1, 0), "scale": "BF16"},
    "compressed, blocks": {
        "section": compressed("block", block_structure=[32, 16]), "end": "_scale", "block": (32, 16),
    },
    "compressed, groups": {"section": compressed("group", group_size=16), "end": "_scale", "block": (1, 16)},
    "ModelOpt": {"section": {"quant_method": "modelopt", "quant_algo": "FP8"}, "end": "_scale"},
    "halves": {"section": compressed("channel"), "end": "_scale", "block": (1, 0), "scale": "F16"},
    "codes alone": {"section": None, "end": ""},
}  # fmt: skip


@pytest.mark.parametrize("how", WRITTEN.values(), ids=WRITTEN)
def test_codes_are_multiplied_by_their_scales(tmp_path: Path, how: dict[str, Any]) -> None:
    meant = write_coded(tmp_path / "it", **how)
    notes: list[str] = []
    found = tensors(convert(tmp_path / "it", tmp_path / "made.gguf", notes=notes))
    for layer in range(2):
        for theirs, ours in NAMES.items():
            expected = meant[f"model.layers.{layer}.{theirs}.weight"]
            expected = in_pairs(expected, 4) if ours == "attn_q" else expected
            assert np.array_equal(found[f"blk.{layer}.{ours}.weight"], expected)
    assert np.array_equal(found["token_embd.weight"], stored_floats(tmp_path / "it", "model.embed_tokens.weight"))
    assert [note for note in notes if "FP8" in note] == notes and len(notes) == 1


def stored_floats(folder: Path, name: str) -> Any:
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    begin, end = json.loads(raw[8:start])[name]["data_offsets"]
    return np.frombuffer(raw[start + begin : start + end], "<f4").reshape(VOCABULARY, -1)


def test_every_code_of_a_weight_is_the_number_that_it_stands_for(tmp_path: Path) -> None:
    for dtype in ("F8_E4M3", "F8_E5M2"):
        codes = coded((64, 96), 0, dtype)
        assert len(set(codes.flat)) > 240
        meant = write_coded(tmp_path / dtype, None, "", dtype=dtype)
        found = tensors(convert(tmp_path / dtype, tmp_path / f"{dtype}.gguf"))
        name = "model.layers.0.mlp.down_proj.weight"
        assert np.array_equal(found["blk.0.ffn_down.weight"], meant[name])
        assert meant[name].max() == (448 if dtype == "F8_E4M3" else 57344)


@pytest.mark.parametrize("fused", [True, False])
def test_experts_keep_their_own_scales(tmp_path: Path, fused: bool) -> None:
    section = {**FP8, "weight_block_size": [16, 16]}
    meant = write_coded(tmp_path / "it", section, block=(16, 16), settings=mixture(), sizes=mixture_shapes(fused=fused))
    found = tensors(convert(tmp_path / "it", tmp_path / "made.gguf"))
    for expert in range(3):
        if fused:
            expected = meant["model.layers.1.mlp.experts.gate_up_proj"][expert][32:]
        else:
            expected = meant[f"model.layers.1.mlp.experts.{expert}.up_proj.weight"]
        assert np.array_equal(found["blk.1.ffn_up_exps.weight"][expert], expected)


def test_experts_in_one_tensor_need_whole_blocks(tmp_path: Path) -> None:
    # A scale for each expert of 64 rows, as many as there would be for blocks of 80 without a break between experts.
    section = {**FP8, "weight_block_size": [80, 64]}
    write_coded(tmp_path / "it", section, block=(80, 64), settings=mixture(), sizes=mixture_shapes(fused=True))
    with pytest.raises(UnsupportedArchitecture, match="scales of 80 rows in experts of 64"):
        convert(tmp_path / "it", tmp_path / "made.gguf")


def test_scales_may_lie_in_another_file_than_their_weights(tmp_path: Path) -> None:
    meant = write_coded(tmp_path / "it", {**FP8, "weight_block_size": [32, 32]}, block=(32, 32), apart=True)
    assert len(list((tmp_path / "it").glob("*.safetensors"))) == 2
    found = tensors(convert(tmp_path / "it", tmp_path / "made.gguf"))
    assert np.array_equal(found["blk.1.ffn_down.weight"], meant["model.layers.1.mlp.down_proj.weight"])


def test_it_becomes_bfloat16_where_nothing_is_said(tmp_path: Path) -> None:
    meant = write_coded(tmp_path / "it", {**FP8, "weight_block_size": [32, 32]}, block=(32, 32))
    assert make.usual_kind("it", inspect(tmp_path / "it")) == "BF16"
    found = tensors(convert(tmp_path / "it", tmp_path / "made.gguf", "BF16"))["blk.0.ffn_down.weight"]
    expected = meant["model.layers.0.mlp.down_proj.weight"]
    assert np.all(np.abs(found - expected) <= np.abs(expected) * 2**-8)
    assert not np.array_equal(found, expected)


def test_what_only_engines_of_fp8_round_by_is_left_out(tmp_path: Path) -> None:
    one = ("F32", np.ones((), "<f4"))
    ends = ("self_attn.q_proj.input_scale", "self_attn.k_scale", "self_attn.v_proj.output_scale", "self_attn.kv_scale")
    write_coded(tmp_path / "it", compressed("tensor"), "_scale", beside={f"model.layers.0.{end}": one for end in ends})
    assert len(tensors(convert(tmp_path / "it", tmp_path / "made.gguf"))) == len(shapes())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"section": {**FP8, "weight_block_size": [32, 32]}, "end": ""}, "what it is multiplied by is not there"),
        ({"section": {**FP8, "weight_block_size": [32, 32]}, "block": (16, 16)}, "expected blocks of 32 x 32"),
        ({"section": compressed("tensor"), "end": "_scale", "block": (16, 16)}, "expected one, or one a row"),
        ({"section": compressed("channel") | {"format": "dense"}, "end": "_scale", "block": (1, 0)}, "'dense'"),
        (
            {"section": compressed("tensor") | {"transform_config": {"config_groups": {}}}, "end": "_scale"},
            "turned or thinned",
        ),
        (
            {"section": compressed("tensor") | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "end": "_scale"},
            "turned or thinned",
        ),
        ({"section": {**FP8, "weight_block_size": None}, "dtype": "F8_E4M3FNUZ"}, "is F8_E4M3FNUZ; F32, F16, BF16"),
        ({"section": {"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, "end": "_scale"}, "ModelOpt FP8 by"),
        ({"section": {"quant_method": "fbgemm_fp8"}, "end": "_scale", "block": (1, 0)}, "FP8 (fbgemm)"),
    ],
)
def test_what_is_more_than_codes_and_scales_is_refused(tmp_path: Path, how: dict[str, Any], says: str) -> None:
    write_coded(tmp_path / "it", **how)
    with pytest.raises(UnsupportedFormat) as raised:
        convert(tmp_path / "it", tmp_path / "made.gguf")
    assert says in str(raised.value)


def test_layers_that_are_coded_in_different_ways_are_refused(tmp_path: Path) -> None:
    section = compressed("channel")
    section["config_groups"]["group_1"] = compressed("tensor")["config_groups"]["group_0"]
    write_coded(tmp_path / "it", section, "_scale", (1, 0))
    with pytest.raises(UnsupportedFormat, match="more than one way"):
        convert(tmp_path / "it", tmp_path / "made.gguf")


def test_scales_of_another_type_and_beside_whole_weights_are_refused(tmp_path: Path) -> None:
    section = {**FP8, "weight_block_size": [64, 64]}
    name = "model.layers.0.self_attn.v_proj.weight_scale_inv"
    write_coded(tmp_path / "bytes", section, block=(64, 64), beside={name: ("U8", np.ones((1, 1), "u1"))})
    with pytest.raises(UnsupportedFormat, match=r"the scales of .*v_proj\.weight are U8"):
        convert(tmp_path / "bytes", tmp_path / "made.gguf")
    norm = "model.layers.0.input_layernorm.weight_scale_inv"
    write_coded(tmp_path / "whole", section, block=(64, 64), beside={norm: ("F32", np.ones((1, 1), "<f4"))})
    with pytest.raises(UnsupportedArchitecture, match=r"input_layernorm\.weight_scale_inv"):
        convert(tmp_path / "whole", tmp_path / "made.gguf")


def test_codes_and_scales_that_are_no_numbers_end_it(tmp_path: Path) -> None:
    section = {**FP8, "weight_block_size": None}
    name = "model.layers.0.self_attn.v_proj.weight"
    nan, infinity = ("F8_E4M3", np.full((32, 64), 0x7F, "u1")), ("F32", np.full((), np.inf, "<f4"))
    for place, (end, value) in enumerate([("", nan), ("_scale_inv", infinity)]):
        write_coded(tmp_path / str(place), section, beside={name + end: value})
        with pytest.raises(ConversionFailed, match=r"attn_v\.weight: there are weights that are no numbers"):
            convert(tmp_path / str(place), tmp_path / "made.gguf")
