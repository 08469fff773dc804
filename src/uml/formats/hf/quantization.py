"""How a Hugging Face folder's weights are coded, told from its configuration: one function a method."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from uml.core.model import Quantization
from uml.formats.bounded_json import child, number, text

Config = Mapping[str, Any]


def section(config: Config, beside: Mapping[str, Config]) -> dict[str, Any]:
    """What a folder says of its quantization, its `quant_method` filled in; empty where it names none.

    config: config.json. beside: the other files that may say it, by name: quantize_config.json (AutoGPTQ),
    quant_config.json (AutoAWQ, older EXL2), hf_quant_config.json (NVIDIA ModelOpt).
    """
    said = _own_section(config)
    mlx = child(config, "quantization")
    # MLX writes `quantization: {group_size, bits}`, and lately the same once more where others look for it.
    if number(mlx, "bits") is not None and "quant_method" not in said:
        return {**mlx, "quant_method": "mlx"}
    if not said and (said := dict(beside.get("hf_quant_config.json", {}))):
        said = {"quant_method": "modelopt", **child(said, "quantization")}
    if not said and (said := dict(beside.get("quantize_config.json", {}))):
        said = {"quant_method": "gptq", **said}
    if not said and (said := dict(beside.get("quant_config.json", {}))):
        said = {"quant_method": "awq" if number(said, "w_bit") else "exl2", **said}
    if not said and (said := child(config, "aqlm")):
        said = {"quant_method": "aqlm", **said}
    return said


def quantization(said: Config) -> Quantization | None:
    """The coding that a section names, None where it is empty."""
    if not said:
        return None
    method = method_name(said)
    return LABELS.get(method, _plain)(said, method)


def packed_bits(said: Config) -> int:
    """Bits of one weight in the words that several are packed into, 0 where the section does not tell."""
    weights = {**child(_first_group(said), "weights"), **_hqq_weights(said)}
    bits = number(said, "bits", "w_bit", "nbits") or number(weights, "num_bits", "nbits")
    if bits is None and method_name(said) == "quark":
        bits = _quark_bits(text(_quark_weight(said), "dtype"))
    return int(bits) if bits and bits == int(bits) and 0 < bits <= 32 else 0


def _own_section(config: Config) -> dict[str, Any]:
    """The quantization section, also where it lies in the text part of a multimodal model."""
    for place in (config, child(config, "text_config"), child(config, "llm_config")):
        for key in ("quantization_config", "compression_config"):
            if found := child(place, key):
                return found
    return {}


def method_name(said: Config) -> str:
    """Lower case, one spelling a method."""
    name = text(said, "quant_method", "method").lower().replace("_", "-").rsplit("/", 1)[-1]
    if not name:
        if said.get("load_in_4bit") or said.get("load_in_8bit"):
            return "bitsandbytes"
        return "gptq" if number(said, "bits") else "unknown"
    return _SPELLINGS.get(name, name)


_SPELLINGS = {
    "bitsandbytes-4bit": "bitsandbytes",
    "bitsandbytes-8bit": "bitsandbytes",
    "autoround": "auto-round",
    "sparseml": "compressed-tensors",
    "fp8-finegrained": "fp8",
    "finegrained-fp8": "fp8",
    "modelopt-fp4": "modelopt",
}


def _bits(count: float | None) -> str:
    return f" {count:g}-bit" if count is not None else ""


def _group(size: float | None) -> str:
    return f" g{size:g}" if size is not None and size > 0 else ""


def _stored(bits: float | None, group: float | None) -> float | None:
    """Bits a weight with a 16-bit scale and a zero point of `bits` for each group."""
    if bits is None or not group or group <= 0:
        return bits
    return round(bits + (16 + bits) / group, 3)


def _grouped(title: str) -> Callable[[Config, str], Quantization]:
    """A method that has a number of bits and, mostly, a group size."""

    def read(said: Config, method: str) -> Quantization:
        bits, group = number(said, "bits", "w_bit", "nbits"), number(said, "group_size", "q_group_size")
        return Quantization(method, f"{title}{_bits(bits)}{_group(group)}", _stored(bits, group))

    return read


def _fixed(title: str, bits: float) -> Callable[[Config, str], Quantization]:
    """A method that is always the same."""
    return lambda _said, method: Quantization(method, title, bits)


def _exl(said: Config, method: str) -> Quantization:
    bits = number(said, "bits", "bpw")
    return Quantization(method, f"{method.upper()} {bits:.2f} bpw" if bits is not None else method.upper(), bits)


def _bitsandbytes(said: Config, method: str) -> Quantization:
    if said.get("load_in_8bit") or said.get("_load_in_8bit"):
        return Quantization(method, "bitsandbytes INT8", 8.0)
    kind = text(said, "bnb_4bit_quant_type") or "fp4"
    # A 32-bit scale for 64 weights; with double quantization an 8-bit one and a second level.
    double = said.get("bnb_4bit_use_double_quant") is True
    return Quantization(method, f"bitsandbytes {kind.upper()}", 4.127 if double else 4.5)


def _fp8(said: Config, method: str) -> Quantization:
    block = said.get("weight_block_size")
    if isinstance(block, list) and len(block) == 2:
        return Quantization(method, f"FP8 block {block[0]}x{block[1]}", 8.0)
    return Quantization(method, "FP8", 8.0)


def _auto_round(said: Config, method: str) -> Quantization:
    kind = {"mx_fp": "MX", "nv_fp": "NV"}.get(text(said, "data_type")[:5])
    if kind is None:
        return _grouped("AutoRound")(said, method)
    bits = number(said, "bits") or 4
    return Quantization(method, f"AutoRound {kind}FP{bits:g}", _stored_float(bits, number(said, "group_size")))


def _torchao(said: Config, method: str) -> Quantization:
    kind: Any = said.get("quant_type")
    if not isinstance(kind, dict):
        name, width = kind if isinstance(kind, str) else "", ""
    else:
        kind = child(kind, "default") or kind
        # One configuration for each module, by its name: what holds for the rest, or the first.
        each = child(child(kind, "_data"), "module_fqn_to_config") or child(child(kind, "_data"), "fqn_to_config")
        kind = child(each, "_default") or next((one for one in each.values() if isinstance(one, dict)), kind)
        name = text(kind, "_type").removesuffix("Config")
        width = text(child(child(kind, "_data"), "weight_dtype"), "_data")
    stored = width or name.lower().replace("intxweight", "").rpartition("activation")[2]
    bits = next((float(count) for count in (4, 8) if re.search(rf"(?:int|float|fp){count}", stored)), None)
    return Quantization(method, " ".join(filter(None, ("torchao", name, width)))[:80], bits)


def _hqq(said: Config, method: str) -> Quantization:
    weights = _hqq_weights(said) or said
    bits, group = number(weights, "nbits", "bits"), number(weights, "group_size")
    return Quantization(method, f"HQQ{_bits(bits)}{_group(group)}", _stored(bits, group))


def _hqq_weights(said: Config) -> dict[str, Any]:
    return child(child(said, "quant_config"), "weight_quant_params")


def _compressed_tensors(said: Config, method: str) -> Quantization:
    first = _first_group(said)
    weights, activations = child(first, "weights"), child(first, "input_activations")
    bits, group = number(weights, "num_bits"), number(weights, "group_size")
    if bits is None:
        return Quantization(method, f"compressed-tensors {text(said, 'format')}".strip())
    if text(weights, "type") == "float":
        family = next((name for name in ("nv", "mx") if f"{name}fp{bits:g}" in text(said, "format")), "").upper()
        return Quantization(method, f"compressed-tensors {family}FP{bits:g}", _stored_float(bits, group))
    width = number(activations, "num_bits") or 16
    return Quantization(method, f"compressed-tensors W{bits:g}A{width:g}{_group(group)}", _stored(bits, group))


def _first_group(said: Config) -> dict[str, Any]:
    """The first group of modules of compressed-tensors and ModelOpt."""
    groups = child(said, "config_groups")
    return next((group for group in groups.values() if isinstance(group, dict)), {})


def _stored_float(bits: float, group: float | None) -> float:
    return round(bits + 8 / group, 3) if group and group > 0 else bits


_MODELOPT = {
    "FP8": ("FP8", 8.0),
    "FP8_PB_WO": ("FP8 by block", 8.0),
    "FP8_PER_CHANNEL_PER_TOKEN": ("FP8 per channel", 8.0),
    "MXFP8": ("MXFP8", 8.25),
    "NVFP4": ("NVFP4", 4.5),
    "W4A16_NVFP4": ("NVFP4 W4A16", 4.5),
    "W4A16_AWQ": ("AWQ 4-bit", 4.0),
    "W4A8_AWQ": ("AWQ 4-bit", 4.0),
    "INT4_AWQ": ("AWQ 4-bit", 4.0),
    "W8A8_SQ_PER_CHANNEL": ("SmoothQuant W8A8", 8.0),
    "MIXED_PRECISION": ("mixed precision", None),
}


def _modelopt(said: Config, method: str) -> Quantization:
    algorithm = text(said, "quant_algo").upper()
    label, bits = _MODELOPT.get(algorithm, (algorithm[:80], None))
    return Quantization(method, f"ModelOpt {label}".strip(), bits)


def _aqlm(said: Config, method: str) -> Quantization:
    books, width = number(said, "num_codebooks"), number(said, "nbits_per_codebook")
    group = number(said, "in_group_size")
    if not books or not width or not group or group < 0:
        return Quantization(method, "AQLM")
    return Quantization(method, f"AQLM {books:g}x{width:g} g{group:g}", round(books * width / group, 3))


def _vptq(said: Config, method: str) -> Quantization:
    """Indices into two tables for each vector, of log2(their entries) bits (VPTQ's README)."""
    layer = next((one for one in child(said, "config_for_layers").values() if isinstance(one, dict)), {})

    def main(key: str) -> float:
        """The second of two numbers: the first is that of outliers."""
        value = layer.get(key)
        found = number({"of": value[1]}, "of") if isinstance(value, list) and len(value) == 2 else None
        return max(1.0, found or 1.0)

    bits = math.log2(main("num_centroids") * main("num_res_centroids")) / main("vector_lens")
    return Quantization(method, f"VPTQ {bits:g}-bit", round(bits, 3)) if bits else Quantization(method, "VPTQ")


def _quanto(said: Config, method: str) -> Quantization:
    kind = text(said, "weights") or "int8"
    return Quantization(method, f"quanto {kind}", {"int2": 2.0, "int4": 4.0, "int8": 8.0, "float8": 8.0}.get(kind))


def _quark(said: Config, method: str) -> Quantization:
    weight = _quark_weight(said)
    kind, group = text(weight, "dtype"), number(weight, "group_size")
    bits = _quark_bits(kind)
    if text(weight, "scale_format") == "e8m0" or (kind.startswith("fp4") and group == 32):
        return Quantization(method, f"Quark MX{kind.split('_')[0].upper()}", bits and _stored_float(bits, 32))
    return Quantization(method, f"Quark {kind}".strip(), bits)


def _quark_weight(said: Config) -> dict[str, Any]:
    """How weights are coded; of several stages the last, where nothing holds for all layers that of the first."""
    layers = [one for one in child(said, "layer_quant_config").values() if isinstance(one, dict)]
    for part in (child(said, "global_quant_config"), *layers):
        weight = part.get("weight")
        if isinstance(weight, list) and weight:
            weight = weight[-1]
        if isinstance(weight, dict) and weight:
            return weight
    return {}


def _quark_bits(kind: str) -> float | None:
    return next((float(count) for count in (4, 6, 8) if re.match(rf"u?(?:int|fp|mxfp){count}", kind)), None)


def _bitnet(said: Config, method: str) -> Quantization:
    if text(said, "quantization_mode") == "online":
        return Quantization(method, "BitNet 1.58-bit, stored as floats", 16.0)
    # Four ternary weights a byte.
    return Quantization(method, "BitNet 1.58-bit", 2.0)


def _fp_quant(said: Config, method: str) -> Quantization:
    kind = text(said, "forward_dtype").upper() or "FP4"
    return Quantization(method, f"FP-Quant {kind}", 4.25 if kind == "MXFP4" else 4.5)


def _plain(said: Config, method: str) -> Quantization:
    """A method that we know by name only."""
    bits = number(said, "bits", "nbits", "w_bit", "num_bits")
    return Quantization(method[:80], f"{method[:80]}{_bits(bits)}", bits)


def _mlx(said: Config, method: str) -> Quantization:
    bits, group = number(said, "bits"), number(said, "group_size")
    if (mode := text(said, "mode")) not in ("", "affine"):
        return Quantization(method, f"MLX {mode[:20].upper()}", bits and _stored_float(bits, group))
    # A 16-bit scale and a 16-bit bias for each group.
    stored = round(bits + 32 / group, 3) if bits and group and group > 0 else bits
    return Quantization(method, f"MLX{_bits(bits)}{_group(group)}", stored)


LABELS: dict[str, Callable[[Config, str], Quantization]] = {
    "gptq": _grouped("GPTQ"),
    "awq": _grouped("AWQ"),
    "auto-round": _auto_round,
    "higgs": _grouped("HIGGS"),
    "spqr": _grouped("SpQR"),
    "sinq": _grouped("SINQ"),
    "vptq": _vptq,
    "exl2": _exl,
    "exl3": _exl,
    "bitsandbytes": _bitsandbytes,
    "fp8": _fp8,
    "fbgemm-fp8": _fixed("FP8 (fbgemm)", 8.0),
    "ptpc-fp8": _fixed("FP8 per channel", 8.0),
    "torchao": _torchao,
    "hqq": _hqq,
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "bitnet": _bitnet,
    "mlx": _mlx,
    # 32 weights of 4 bits share an exponent of 8.
    "mxfp4": _fixed("MXFP4", 4.25),
    "nvfp4": _fixed("NVFP4", 4.5),
    "eetq": _fixed("EETQ INT8", 8.0),
    "experts-int8": _fixed("INT8 experts", 8.0),
    "aqlm": _aqlm,
    "quanto": _quanto,
    "quark": _quark,
    "fp-quant": _fp_quant,
}


def plain(dtype_bytes: Counter[str]) -> Quantization | None:
    """The coding of weights that no method quantized: their commonest dtype."""
    names = {"F8_E4M3": "FP8", "F8_E5M2": "FP8"}
    bits = {"F64": 64.0, "F32": 32.0, "F16": 16.0, "BF16": 16.0, "FP8": 8.0}
    if not dtype_bytes:
        return None
    dtype = dtype_bytes.most_common(1)[0][0]
    label = names.get(dtype, dtype)
    return Quantization("none", label, bits.get(label))
