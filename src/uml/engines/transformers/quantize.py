"""Quantizing plain weights while they are loaded: what the library is told for each of our names."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from typing import Any

import torch
import transformers

from uml.core.errors import BadOption, LoadFailed
from uml.core.plan import LoadPlan
from uml.engines.transformers.spec import NEEDS


def quantization_config(plan: LoadPlan, stored: torch.dtype | None) -> Any:
    """The library's configuration for the option `quantize`; None where weights stay as they are.

    stored: the type that the model's configuration names.
    Raises BadOption for weights that are quantized already, LoadFailed where a package is missing.
    """
    options = plan.options
    wanted = options.quantize
    if wanted == "none":
        return None
    method = method_of(plan)
    if method != "none":
        raise BadOption("quantize", wanted, f"none: these weights are quantized already, by {method}")
    package = "bitsandbytes" if wanted.startswith("bnb") else "torchao"
    if find_spec(package) is None:
        raise LoadFailed(
            plan.model.id, f"quantize={wanted} needs the package {package}, which its environment does not have"
        )
    return _bitsandbytes(plan, wanted, stored) if package == "bitsandbytes" else _torchao(wanted)


def method_of(plan: LoadPlan) -> str:
    """By what the weights are quantized; `none` for plain ones."""
    return plan.model.info.quantization.method if plan.model.info.quantization else "none"


def check_packages(model: str, method: str) -> None:
    """See that the packages are here by which weights are quantized. Raises LoadFailed."""
    need = NEEDS.get(method)
    here = {str(one.metadata["Name"]).lower().replace("_", "-") for one in distributions()}
    lacking = [package for package in need.packages if package not in here] if need else []
    if lacking:
        raise LoadFailed(
            model,
            f"its weights are quantized by {method}, which Transformers runs with a package that its environment does "
            f"not have: pip --python {sys.executable} install {' '.join(lacking)}",
        )


def _bitsandbytes(plan: LoadPlan, wanted: str, stored: torch.dtype | None) -> Any:
    options = plan.options
    if wanted == "bnb-int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    compute = options.quantize_compute if options.quantize_compute != "auto" else options.dtype
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=wanted.removeprefix("bnb-"),
        bnb_4bit_use_double_quant=options.quantize_double,
        bnb_4bit_compute_dtype=getattr(torch, compute) if compute != "auto" else stored or torch.bfloat16,
    )


def _torchao(wanted: str) -> Any:
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    kind = Int8WeightOnlyConfig if wanted == "torchao-int8" else Float8WeightOnlyConfig
    return transformers.TorchAoConfig(kind())
