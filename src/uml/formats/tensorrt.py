"""Engine folders of TensorRT-LLM: config.json beside one rank*.engine a GPU, written by trtllm-build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uml.core.errors import CorruptFile, MissingShard
from uml.core.model import Format, ModelInfo, Quantization, Role, Shape
from uml.formats.bounded_json import Object, child, count, read_object, scalars, text
from uml.formats.hf import folder as hf

MAX_WORLD = 4096
MAX_LAYERS = 4096


def inspect_tensorrt(folder: Path, names: Sequence[str]) -> ModelInfo | None:
    """What an engine folder says; None for any other folder. Raises CorruptFile, MissingShard, BadFile."""
    if hf.CONFIG not in names:
        return None
    config = read_object(folder / hf.CONFIG)
    model, build = child(config, "pretrained_config"), child(config, "build_config")
    if not model or not build:
        return None
    mapping = child(model, "mapping")
    world = count(mapping, "world_size") or max(1, count(mapping, "tp_size")) * max(1, count(mapping, "pp_size"))
    if world > MAX_WORLD:
        raise CorruptFile(folder / hf.CONFIG, f"world_size is {world}", f"at most {MAX_WORLD}")
    engines = [f"rank{rank}.engine" for rank in range(world)]
    if missing := [name for name in engines if name not in names or not (folder / name).is_file()]:
        raise MissingShard(folder, missing)
    kept = [name for name in names if name.endswith(hf.KEPT_SUFFIXES) and (folder / name).is_file()]
    files = tuple(folder / name for name in (*engines, *kept))
    version = text(config, "version")
    dtype = hf.DTYPES.get(text(model, "dtype"), text(model, "dtype"))
    return ModelInfo(
        path=folder,
        format=Format.TENSORRT_LLM,
        role=Role.TEXT,
        confidence=1.0,
        reason=f"config.json of trtllm-build {version} with {world} engine{'s' if world > 1 else ''}",
        size_bytes=sum(file.stat().st_size for file in files),
        files=files,
        version=version,
        name=hf.folder_name(folder),
        architecture=text(model, "architecture"),
        quantization=_quantization(model, dtype),
        context_length=count(build, "max_seq_len", "max_input_len") or count(model, "max_position_embeddings") or None,
        shape=_shape(model),
        weight_bytes={dtype or "engine": sum((folder / name).stat().st_size for name in engines)},
        metadata=scalars(config),
        notes=(f"it runs only with TensorRT-LLM {version} on {world} GPUs of the kind it was built on",),
    )


def _quantization(model: Object, dtype: str) -> Quantization | None:
    algorithm = text(child(model, "quantization"), "quant_algo")
    if algorithm:
        bits = next(
            (float(size) for size in (4, 8) if algorithm.startswith((f"W{size}", f"FP{size}", f"NVFP{size}"))), None
        )
        return Quantization("tensorrt-llm", algorithm, bits)
    return Quantization("none", dtype, {"F32": 32.0, "F16": 16.0, "BF16": 16.0}.get(dtype)) if dtype else None


def _shape(model: Object) -> Shape | None:
    layers, embedding = count(model, "num_hidden_layers"), count(model, "hidden_size")
    if not 0 < layers <= MAX_LAYERS or not embedding:
        return None
    heads = count(model, "num_attention_heads")
    size = count(model, "head_size") or (embedding // heads if heads else 0)
    experts = child(model, "moe")
    return Shape(
        layers=layers,
        embedding=embedding,
        feed_forward=count(model, "intermediate_size"),
        heads=heads,
        kv_heads=(count(model, "num_key_value_heads") or heads,) * layers,
        key_length=size,
        value_length=size,
        vocabulary=count(model, "vocab_size"),
        experts=count(experts, "num_experts"),
        experts_used=count(experts, "top_k"),
    )
