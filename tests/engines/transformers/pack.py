"""Quantized folders of the demo model, packed here by rounding: for libraries that load such weights and make none.

Run by an interpreter that has gptqmodel, it makes both of its kinds and tells what they answer, as `make.py` does:

    python pack.py FOLDER SOURCE
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

GROUP, BLOCK = 64, 128
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which column's weight lies in each place of a word of AWQ."""
Weights = Callable[[Any], Mapping[str, Any]]


def write(source: Path, folder: Path, quantization: Mapping[str, Any], pack: Weights) -> None:
    """The demo model with every projection packed: `pack` gives the tensors of one, by the ends of their names."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    state: dict[str, Any] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if name.endswith("proj.weight"):
            stem = name.removesuffix("weight")
            state |= {stem + end: part.contiguous() for end, part in pack(tensor.float()).items()}
        else:
            state[name] = tensor.to(torch.float16) if quantization["quant_method"] != "bitnet" else tensor.float()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    dtype = "float32" if quantization["quant_method"] == "bitnet" else "float16"
    config |= {"dtype": dtype, "quantization_config": dict(quantization)}
    (folder / "config.json").write_text(json.dumps(config))
    for path in source.iterdir():
        if "tokenizer" in path.name or path.suffix == ".jinja" or path.name == "generation_config.json":
            shutil.copy(path, folder)


def bitnet(source: Path, folder: Path) -> None:
    """Ternary weights, four a byte, by the mean of their sizes."""
    import torch
    from transformers.integrations.bitnet import pack_weights

    def pack(weight: Any) -> Mapping[str, Any]:
        scale = 1 / weight.abs().mean()
        return {
            "weight": pack_weights((weight * scale).round().clamp(-1, 1)),
            "weight_scale": torch.tensor([float(scale)]),
        }

    quantization = {"quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "offline"}
    write(source, folder, {**quantization, "modules_to_not_convert": ["lm_head"]}, pack)


def fp8(source: Path, folder: Path) -> None:
    """FP8 with a scale a block, as DeepSeek and Qwen publish it."""
    import torch

    def pack(weight: Any) -> Mapping[str, Any]:
        rows, columns = (-(-size // BLOCK) for size in weight.shape)
        padded = torch.zeros(rows * BLOCK, columns * BLOCK)
        padded[: weight.shape[0], : weight.shape[1]] = weight
        blocks = padded.view(rows, BLOCK, columns, BLOCK)
        scale = (blocks.abs().amax((1, 3)) / 448).clamp(min=1e-8)
        codes = (blocks / scale[:, None, :, None]).reshape(padded.shape)[: weight.shape[0], : weight.shape[1]]
        return {"weight": codes.to(torch.float8_e4m3fn), "weight_scale_inv": scale}

    quantization = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3"}
    write(source, folder, {**quantization, "weight_block_size": [BLOCK, BLOCK]}, pack)


def rounded(weight: Any) -> tuple[Any, Any, Any]:
    """`[out, in]` as codes of 4 bits `[in, out]`, scales and zeros `[groups, out]`."""
    groups = weight.view(weight.shape[0], -1, GROUP)
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    scale = ((high - low) / 15).clamp(min=1e-5)
    zero = (-low / scale).round().clamp(1, 15)
    codes = (groups / scale[..., None] + zero[..., None]).round().clamp(0, 15)
    return codes.view_as(weight).t().int(), scale.t(), zero.t().int()


def words(codes: Any, order: tuple[int, ...] = tuple(range(8))) -> Any:
    """Codes of 4 bits `[rows, columns]` in words of 32, `[rows, columns / 8]`."""
    import torch

    places = codes.view(codes.shape[0], -1, 8).to(torch.int64)
    packed = sum(places[..., column] << (4 * place) for place, column in enumerate(order))
    assert isinstance(packed, torch.Tensor)
    return torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)


def gptq(source: Path, folder: Path) -> None:
    """GPTQ's form: words along the inputs, and zeros less one."""
    import torch

    def pack(weight: Any) -> Mapping[str, Any]:
        codes, scale, zero = rounded(weight)
        return {
            "qweight": words(codes.t().contiguous()).t(),
            "qzeros": words(zero - 1),
            "scales": scale.half(),
            "g_idx": (torch.arange(weight.shape[1]) // GROUP).int(),
        }

    quantization = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False}
    write(source, folder, {**quantization, "checkpoint_format": "gptq"}, pack)


def awq(source: Path, folder: Path) -> None:
    """AWQ's form for matrix products: words along the outputs, in an order of their own."""

    def pack(weight: Any) -> Mapping[str, Any]:
        codes, scale, zero = rounded(weight)
        return {"qweight": words(codes, ORDER), "qzeros": words(zero, ORDER), "scales": scale.half()}

    quantization = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
    write(source, folder, quantization, pack)


def main(folder: Path, source: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from tests.engines.transformers.make import as_it_is

    told = {}
    for name, made in (("gptq", gptq), ("awq", awq)):
        made(source, folder / name)
        told[name] = as_it_is(folder / name)
    (folder / "told.json").write_text(json.dumps(told))  # the library itself writes to standard output


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
