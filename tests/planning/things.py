"""Invented models, machines and engines: a few words each, the rest is usual."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from uml.core.engine import Availability, EngineSpec
from uml.core.machine import Device, Machine
from uml.core.model import Format, Model, ModelInfo, Quantization, Role, Scalar, Shape
from uml.core.options import OPTIONS
from uml.planning.rank import Specs

MIB = 1 << 20
GIB = 1 << 30

SHAPE = Shape(
    layers=32,
    embedding=4096,
    feed_forward=14336,
    heads=32,
    kv_heads=(8,) * 32,
    key_length=128,
    value_length=128,
    vocabulary=128_256,
)
"""Llama 3.1 8B."""


def info(
    architecture: str = "llama",
    weights: dict[str, int] | None = None,
    shape: Shape | None = SHAPE,
    metadata: Mapping[str, Scalar] | None = None,
    **rest: Any,
) -> ModelInfo:
    """A GGUF of 8 billion parameters, Q8_0, unless told otherwise. Metadata keys get the architecture's prefix."""
    weights = {"Q8_0": 8 * GIB, "F32": MIB} if weights is None else weights
    known: dict[str, Any] = {
        "path": Path("/models/some.gguf"),
        "format": Format.GGUF,
        "role": Role.TEXT,
        "confidence": 1.0,
        "reason": "magic",
        "size_bytes": sum(weights.values()),
        "name": "some",
        "context_length": 131_072,
        "parameters": 8_030_000_000,
        "quantization": Quantization("gguf", "Q8_0", 8.5),
    }
    prefixed: dict[str, Scalar] = {f"{architecture}.{key}": value for key, value in (metadata or {}).items()}
    return ModelInfo(**(known | rest), architecture=architecture, weight_bytes=weights, shape=shape, metadata=prefixed)


def small(**rest: Any) -> ModelInfo:
    """A model of 100 MiB."""
    shape = replace(SHAPE, layers=8, embedding=512, feed_forward=1536, heads=8, kv_heads=(2,) * 8, key_length=64)
    shape = replace(shape, value_length=64, vocabulary=8000)
    about: dict[str, Any] = {"weights": {"Q8_0": 100 * MIB}, "shape": shape, "context_length": 4096}
    return info(**(about | rest))


def model(about: ModelInfo | None = None, name: str = "some") -> Model:
    """A registered model."""
    return Model(name, about or info())


def machine(free: int = 64 * GIB, gpus: tuple[int, ...] = (), kind: str = "cuda", total: int = 0) -> Machine:
    """A machine with this much memory free, and on its GPUs."""
    cards: Any = tuple(Device(f"{kind}:{i}", kind, f"GPU {i}", count, count) for i, count in enumerate(gpus))  # type: ignore[arg-type]
    memory = Device("cpu", "cpu", "memory", total or max(free, 64 * GIB), free)
    return Machine("Linux", "x86_64", "Some Chip", 8, 16, frozenset({"avx2"}), memory, cards)


def spec(name: str = "llamacpp", **rest: Any) -> EngineSpec:
    """llama.cpp with every option, on processor and NVIDIA GPUs."""
    known: dict[str, Any] = {
        "title": name,
        "formats": frozenset({Format.GGUF}),
        "roles": frozenset({Role.TEXT, Role.EMBEDDING, Role.RERANKER, Role.DRAFT}),
        "devices": frozenset({"cpu", "cuda"}),
        "split": "layers",
        "served": True,
        "options": frozenset(option.name for option in OPTIONS),
        "install_command": f"uml engine install {name}",
    }
    return EngineSpec(name=name, **(known | rest))


def installed(*engines: EngineSpec, **way: Any) -> Specs:
    """Engines that can be started."""
    return {engine.name: (engine, Availability(True, "1", **({"way": "embedded"} | way))) for engine in engines}


def missing(*engines: EngineSpec) -> Specs:
    """Engines that cannot be started."""
    return {engine.name: (engine, Availability(False, reason="not here")) for engine in engines}


LLAMACPP = spec()
SPECS = installed(LLAMACPP)
