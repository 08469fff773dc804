"""Quantizing plain weights while they are loaded: what the library is told for each of our names."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
import transformers

from uml.core.errors import BadOption, LoadFailed
from uml.core.plan import LoadPlan


def quantization_config(plan: LoadPlan) -> Any:
    """The library's configuration for the option `quantize`; None where weights stay as they are.

    Raises BadOption for weights that are quantized already, LoadFailed where a package is missing.
    """
    options = plan.options
    wanted = options.quantize
    if wanted == "none":
        return None
    method = plan.model.info.quantization.method if plan.model.info.quantization else "none"
    if method != "none":
        raise BadOption("quantize", wanted, f"none: these weights are quantized already, by {method}")
    package = "bitsandbytes" if wanted.startswith("bnb") else "torchao"
    if find_spec(package) is None:
        raise LoadFailed(
            plan.model.id, f"quantize={wanted} needs the package {package}, which its environment does not have"
        )
    return _bitsandbytes(plan, wanted) if package == "bitsandbytes" else _torchao(wanted)


def _bitsandbytes(plan: LoadPlan, wanted: str) -> Any:
    options = plan.options
    if wanted == "bnb-int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    compute = options.quantize_compute if options.quantize_compute != "auto" else options.dtype
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=wanted.removeprefix("bnb-"),
        bnb_4bit_use_double_quant=options.quantize_double,
        bnb_4bit_compute_dtype=getattr(torch, compute) if compute != "auto" else torch.bfloat16,
    )


def _torchao(wanted: str) -> Any:
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    kind = Int8WeightOnlyConfig if wanted == "torchao-int8" else Float8WeightOnlyConfig
    return transformers.TorchAoConfig(kind())
