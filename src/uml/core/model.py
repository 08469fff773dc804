"""What a model on disk is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

Scalar = str | int | float | bool


class Format(StrEnum):
    """How the weights lie on disk. GPTQ, AWQ and the like are quantizations of safetensors."""

    GGUF = "gguf"
    GGML = "ggml"
    """The unversioned, GGMF and GGJT ancestors of GGUF; the generation is in `ModelInfo.version`."""
    SAFETENSORS = "safetensors"
    PYTORCH = "pytorch"
    EXL2 = "exl2"
    EXL3 = "exl3"
    ONNX = "onnx"
    ONNX_GENAI = "onnx-genai"
    TENSORRT_LLM = "tensorrt-llm"
    UNKNOWN = "unknown"


class Role(StrEnum):
    """What the model is for."""

    TEXT = "text"
    EMBEDDING = "embedding"
    RERANKER = "reranker"
    CLASSIFIER = "classifier"
    PROJECTOR = "mmproj"
    DRAFT = "draft"
    ADAPTER = "lora"
    VOCABULARY = "vocabulary"
    UNKNOWN = "unknown"


READERS = (Role.EMBEDDING, Role.RERANKER, Role.CLASSIFIER)
"""What reads a text at once, says one thing of it, and keeps nothing."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the weights are coded.

    method: `gguf`, `gptq`, `awq`, `exl2`, `exl3`, `bitsandbytes`, ...; `none` for plain floats.
    label: what people call it: `Q4_K_M`, `GPTQ 4-bit g128`, `BF16`.
    bits: per weight, mean over the file, where it can be told.
    """

    method: str
    label: str
    bits: float | None = None


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """Tensors that are alike but for their layer.

    name: without `blk.N.`; of a tensor outside the layers the whole name.
    kind: storage type (`Q4_K`); dims: sizes, fastest first.
    layers: which layers have one, rising; empty for a tensor outside the layers.
    each_bytes: of one of them; begin, end: what they span in the file, from the start of the weights.
    """

    name: str
    kind: str
    dims: tuple[int, ...]
    layers: tuple[int, ...]
    each_bytes: int
    begin: int
    end: int

    @property
    def count(self) -> int:
        """How many tensors these are."""
        return max(1, len(self.layers))


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers on which memory depends. Sequences have one entry a layer."""

    layers: int
    embedding: int
    feed_forward: int
    heads: int
    kv_heads: tuple[int, ...]
    """Key-value heads of each layer; 0 for a layer without a cache."""
    key_length: int
    """Elements of one key of one head."""
    value_length: int
    vocabulary: int
    sliding_window: int | None = None
    experts: int = 0
    experts_used: int = 0
    sliding: tuple[bool, ...] = ()
    """Whether each layer sees a window only, where the file says it layer by layer."""
    tensors: tuple[TensorGroup, ...] = ()
    """Every tensor of a GGUF file; empty where nobody has listed them."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the bytes of a model say: read from headers, never from weights.

    path: the file, the first part of a split file, or the folder.
    confidence: 0 to 1, how sure we are of the format, and `reason`, why.
    files: everything that belongs to it and takes room on disk; `size_bytes` is their sum.
    weight_bytes: bytes of weights by storage type (`{"Q8_0": 5242880}`).
    metadata: the header's scalar values under their own keys; arrays are left out.
    """

    path: Path
    format: Format
    role: Role
    confidence: float
    reason: str
    size_bytes: int
    files: tuple[Path, ...] = ()
    version: str = ""
    name: str = ""
    architecture: str = ""
    quantization: Quantization | None = None
    parameters: int | None = None
    context_length: int | None = None
    shape: Shape | None = None
    chat_template: str | None = None
    weight_bytes: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What a user should know: a hint, an oddity, what is needed to run it."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model under the names it is called by.

    id: stable across moves and restarts, safe in a URL: `[a-z0-9][a-z0-9._-]*`.
    aliases: other names that resolve to it (`llama3.2:1b`, `Qwen/Qwen2.5-0.5B`).
    source: who keeps the file: `folder`, `package`, `huggingface`, `lmstudio`, `ollama`.
    present: False when the file has vanished since it was found.
    created: when its newest file was written, in seconds since 1970; 0 where that is not known.
    """

    id: str
    info: ModelInfo
    aliases: tuple[str, ...] = ()
    source: str = "folder"
    present: bool = True
    created: int = 0
