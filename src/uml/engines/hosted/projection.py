"""What a folder of sentence-transformers does with a vector once tokens are one: matrices, and lengths made 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uml.core.errors import BadFile, CorruptFile, UnsupportedArchitecture
from uml.formats.bounded_json import count, read_object, text
from uml.formats.safetensors import SafetensorsHeader, StoredTensor, read_safetensors
from uml.formats.sentence import MODULES, modules

Floats = NDArray[np.float32]
Layer = Callable[[Floats], Floats]
"""`[texts, size]` -> `[texts, size]`, of which the second size may be another one."""
Unpickle = Callable[[Path], Mapping[str, NDArray[Any]]]

OURS: Final = "sentence_transformers."
ACTIVATIONS: Final[Mapping[str, Layer]] = {"Identity": lambda vectors: vectors, "Tanh": np.tanh}
"""By the last word of the class that a Dense layer names; one that names none has Tanh."""
TYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True, slots=True)
class Dense:
    """A matrix `[out, in]` with biases `[out]`, and what is done with each sum. path: where they were read from."""

    path: Path
    weight: Floats
    bias: Floats
    activation: Layer

    def __call__(self, vectors: Floats) -> Floats:
        """`[texts, in]` -> `[texts, out]`. Raises CorruptFile where the model makes vectors of another size."""
        if vectors.shape[1] != self.weight.shape[1]:
            raise CorruptFile(
                self.path, f"a matrix for vectors of {self.weight.shape[1]} numbers", f"{vectors.shape[1]}, the model's"
            )
        return self.activation(vectors @ self.weight.T + self.bias)


@dataclass(frozen=True, slots=True)
class Projection:
    """All that follows the pooling, in its order."""

    layers: tuple[Layer, ...] = ()

    def __call__(self, vectors: Floats) -> Floats:
        """`[texts, size]` -> `[texts, size]`, each of length 1."""
        for layer in self.layers:
            vectors = layer(vectors)
        return unit(vectors)


def unit(vectors: Floats) -> Floats:
    """Each made of length 1, but for one of zeros."""
    made: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return made


def projection_of(model: str, folder: Path, unpickle: Unpickle | None = None) -> Projection:
    """What `modules.json` names behind the pooling; nothing where there is no such file.

    unpickle: reads a file of PyTorch as data, where the engine can. Raises UnsupportedArchitecture for what has no
    equal here, CorruptFile and BadFile.
    """
    layers: list[Layer] = []
    pooled = False
    for name, kind in modules(folder, (MODULES,))[1:]:
        # The path to a class differs from version to version, and its last word does not.
        word = kind.rpartition(".")[2] if kind.startswith(OURS) else kind
        if word == "Pooling" and not pooled:
            pooled = True
        elif word == "Dense" and pooled:
            layers.append(_dense(model, folder / name, unpickle))
        elif word == "Normalize" and pooled:
            layers.append(unit)
        elif word != "Dropout":  # which does nothing but in training
            told = f"its modules.json names {word} in this place, without which its vectors would be others"
            raise UnsupportedArchitecture(model, f"{told}; known are Dense with Tanh or Identity, and Normalize")
    return Projection(tuple(layers))


def _dense(model: str, folder: Path, unpickle: Unpickle | None) -> Dense:
    config = read_object(folder / "config.json")
    name = text(config, "activation_function").rpartition(".")[2] or "Tanh"
    if name not in ACTIVATIONS:
        told = f"the layer {folder.name} has the activation {name}; known are {', '.join(ACTIVATIONS)}"
        raise UnsupportedArchitecture(model, told)
    # Newer versions may have one work on every token, or on another output.
    if (place := text(config, "module_input_name")) not in ("", "sentence_embedding"):
        raise UnsupportedArchitecture(model, f"the layer {folder.name} works on {place}, which is not had here")
    path, tensors = _tensors(model, folder, unpickle)
    rows, columns = count(config, "out_features"), count(config, "in_features")
    biased = config.get("bias", True) is not False
    weight, bias = (tensors.get(f"linear.{part}", np.zeros(0)).astype(np.float32) for part in ("weight", "bias"))
    if not rows or weight.size != rows * columns:
        raise CorruptFile(path, f"linear.weight of {weight.size} numbers", f"{rows} x {columns}, as config.json says")
    if bias.size != rows * biased:
        raise CorruptFile(path, f"linear.bias of {bias.size} numbers", f"{rows * biased}, as config.json says")
    return Dense(path, weight.reshape(rows, columns), bias if biased else np.zeros(rows, np.float32), ACTIVATIONS[name])


def _tensors(model: str, folder: Path, unpickle: Unpickle | None) -> tuple[Path, Mapping[str, NDArray[Any]]]:
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    if safe.is_file():
        return safe, _read(read_safetensors(safe))
    if not pickled.is_file():
        raise BadFile(safe, "is not there, and holds a layer of the model")
    if unpickle is None:
        told = f"the layer {folder.name} is a file of PyTorch, which this engine does not read; expected {safe.name}"
        raise UnsupportedArchitecture(model, told)
    return pickled, unpickle(pickled)


def _read(header: SafetensorsHeader) -> Mapping[str, NDArray[Any]]:
    """The numbers of each tensor, one after the other."""
    raw = header.path.read_bytes()
    # The tensors fill the file to its end.
    start = len(raw) - max((tensor.end for tensor in header.tensors.values()), default=0)
    return {name: _numbers(header.path, raw, start, tensor) for name, tensor in header.tensors.items()}


def _numbers(path: Path, raw: bytes, start: int, tensor: StoredTensor) -> NDArray[Any]:
    if tensor.dtype not in TYPES:
        raise CorruptFile(path, f"a layer of {tensor.dtype}", f"one of {', '.join(TYPES)}")
    found: NDArray[Any] = np.frombuffer(raw, TYPES[tensor.dtype], tensor.elements, start + tensor.begin)
    return (found.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else found
