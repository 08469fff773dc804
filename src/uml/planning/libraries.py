"""Bytes that a model takes with the libraries that run what is no GGUF: PyTorch, ONNX Runtime, TensorRT-LLM.

Weights are as stored, tensor by tensor: packed words, scales, zeros and orders of a quantization are tensors like
others. What else there is follows from the shape, by the rules that these libraries have in common:

- keys and values of all tokens, in the type that is computed in; a layer with a window keeps as many as that; a model
  that PyTorch runs and that reads images has them once more, for an answer to such;
- a prompt is read at once or in batches: five vectors and three feed-forward rows a token;
- the library itself, once for every model.

Held against processes whose slots were all full, on a processor (`python -m benchmarks.libraries`; the figures are in
docs/performance.md). ExLlama, vLLM and TensorRT-LLM were not compared: their range is wider.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from uml.core.model import READERS, Format, ModelInfo, Shape
from uml.core.options import LoadOptions
from uml.core.plan import Footprint
from uml.planning.cache import CACHE_BLOCKS
from uml.planning.genai_weights import genai_weights
from uml.planning.llamacpp.weights import stored_bytes
from uml.planning.torch_packed import packed_besides
from uml.planning.torch_vision import sees, vision_compute
from uml.planning.torch_weights import torch_weights

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Library:
    """What a library takes besides, and how sure that is.

    base_bytes: a process that has imported it. low, high: shares of the likely figure.
    mapped: plain weights are pages of the file, where they are in memory.
    element_bytes: of an element that is computed with in memory, on GPUs it has 2; 0: as the weights have it.
    typed_cache: keys and values may be kept in another type than is computed with.
    batches: a prompt is read `batch` tokens at a time, by each request in memory of its own; else all of it at once.
    packs: in memory it keeps some weights a second time, in the order of its kernels (`genai_weights`).
    """

    base_bytes: int
    mapped: bool = False
    element_bytes: int = 0
    typed_cache: bool = False
    batches: bool = False
    packs: bool = False
    low: float = 0.85
    high: float = 1.3


TORCH: Final = Library(425 * _MIB, mapped=True, low=0.9)
"""Python, PyTorch and Transformers with the classes of one model: 386 to 424 MiB when measured."""
_BITSANDBYTES: Final = 45 * _MIB
"""That library, and what its steps take besides: 30 to 45 MiB when measured."""
_TORCH_ROWS: Final = 3.5
"""What a step of 16 bits takes in memory for each byte of its numbers in F32: 68 MiB for 21, 22 for 7. In F32, 14."""
EXLLAMA: Final = Library(440 * _MIB, element_bytes=2, typed_cache=True)
ONNX: Final = Library(95 * _MIB, element_bytes=4, low=0.7, high=1.6)
"""95 MiB when measured: a worker with ONNX Runtime and a tiny model. It computes in F32 on a processor."""
GENAI: Final = replace(ONNX, base_bytes=82 * _MIB, batches=True, packs=True, low=0.9, high=1.2)
"""The same of ONNX Runtime GenAI. Room for keys and values of the whole context is made, and written, when a slot is
first used."""
_ARENA: Final = 1.6
"""What its allocator keeps for each byte that is computed in: 31 MiB for 21 in F32, 34 with packed weights."""
_SLOT_BYTES: Final = 7 * _MIB
"""What a slot of it takes besides: a thread, its heap, and what the allocator cannot join. 3 to 9 when measured."""
TENSORRT: Final = Library(440 * _MIB, element_bytes=2, low=0.8, high=1.5)

_LIBRARIES: Final = {
    Format.SAFETENSORS: TORCH,
    Format.PYTORCH: TORCH,
    Format.EXL2: EXLLAMA,
    Format.EXL3: EXLLAMA,
    Format.ONNX: ONNX,
    Format.ONNX_GENAI: GENAI,
    Format.TENSORRT_LLM: TENSORRT,
}
_OTHER: Final = Library(40 * _MIB, element_bytes=2, typed_cache=True, low=0.7, high=1.6)


def weigh(info: ModelInfo, options: LoadOptions, *, in_memory: bool) -> Footprint:
    """Bytes of a model that is no GGUF, with resolved options, in the library that runs its format.

    in_memory: no layer is meant for a GPU. Of a model without a shape, cache and activations are a quarter of the
    weights each, and the range is wide.
    """
    library = _LIBRARIES.get(info.format, _OTHER)
    weights, plain = stored_bytes(info), _is_plain(info)
    changed = torch_weights(info, options, weights, in_memory=in_memory) if library is TORCH else None
    if changed:
        weights, plain = changed.bytes, False
    shape, copied, mapped = info.shape, 0, 0
    if library.packs and shape is not None:
        packed = genai_weights(shape, weights)
        shape = packed.shape
        copied, mapped = (packed.copied, packed.mapped) if in_memory else (0, 0)
    if shape is None:
        use = Use(weights // 4, 0, weights // 4)
    else:
        size = (changed.element_bytes if changed else 0) or _computed_in(info, library, in_memory)
        use = _use(info, shape, options, library, size, in_memory=in_memory)
        if library is TORCH and size == 2 and in_memory:
            copied = packed_besides(info, options, plain=plain)
    if library is TORCH and sees(info):
        # An answer to images runs beside the rows, one at a time.
        use = replace(use, kept=use.kept + use.kept // max(1, options.parallel))
    if library.mapped and options.mmap and plain and in_memory and info.format is Format.SAFETENSORS:
        mapped = weights
    own = library.base_bytes + (_BITSANDBYTES if library is TORCH and _by_bitsandbytes(info, options) else 0)
    here = weights - mapped if in_memory else 0
    found = Footprint(
        weight_bytes=weights,
        kv_bytes=use.kept,
        compute_bytes=use.computed,
        other_bytes=own + copied,
        mapped_bytes=mapped,
        # PyTorch's are packed while it answers.
        loaded_bytes=here + own + (copied if library.packs else 0),
        used_bytes=here + own + copied + (use.kept + use.computed if in_memory else 0),
        mapped_with_use=True,
    )
    total = found.total_bytes
    if info.shape is None:
        return replace(found, low_bytes=weights + library.base_bytes, high_bytes=total + weights)
    low = int((total - use.kept + use.least) * library.low)
    return replace(found, low_bytes=max(weights, low), high_bytes=int(total * library.high))


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes that come with use: keys and values as they are likely kept, and at least; what is computed in."""

    kept: int
    least: int
    computed: int


def torch_use(info: ModelInfo, options: LoadOptions, *, in_memory: bool) -> Use:
    """What answers take in the rows of a model that PyTorch runs, with resolved options; as `weigh` counts it."""
    weights, shape = stored_bytes(info), info.shape
    if shape is None:
        return Use(weights // 4, 0, weights // 4)
    changed = torch_weights(info, options, weights, in_memory=in_memory)
    size = (changed.element_bytes if changed else 0) or _computed_in(info, TORCH, in_memory)
    return _use(info, shape, options, TORCH, size, in_memory=in_memory)


def _use(info: ModelInfo, shape: Shape, options: LoadOptions, library: Library, size: int, *, in_memory: bool) -> Use:
    """What requests take of a model of this shape. size: bytes of an element that is computed with."""
    kinds = (options.cache_type_k, options.cache_type_v)
    keys, values = (_element_bytes(kind) if library.typed_cache else float(size) for kind in kinds)
    kept = _cached(info, shape, options, keys, values)
    least = min(_cached(info, shape, options, min(keys, 2), min(values, 2)), _latent(info, shape, options) or kept)
    computed = _activations(shape, options, size, library, in_memory=in_memory)
    if library.batches and info.metadata.get("graph.scores") == "all":
        # Of a whole batch, where the last token's are all that anybody wants.
        computed += min(options.ctx, options.batch) * shape.vocabulary * 4 * options.parallel
    if library is TORCH:
        # An image is read before the prompt that it is in.
        computed = max(computed, vision_compute(info, options, size))
    return Use(kept, least, computed)


def _by_bitsandbytes(info: ModelInfo, options: LoadOptions) -> bool:
    stored = info.quantization is not None and info.quantization.method == "bitsandbytes"
    return stored or options.quantize.startswith("bnb-")


def _is_plain(info: ModelInfo) -> bool:
    return info.quantization is None or info.quantization.method == "none"


def cache_type(info: ModelInfo, *, in_memory: bool) -> str:
    """The type of keys and values where no option decides it, `f16` for both types of 2 bytes; else empty."""
    library = _LIBRARIES.get(info.format, _OTHER)
    return "" if library.typed_cache else "f32" if _computed_in(info, library, in_memory) == 4 else "f16"


def _computed_in(info: ModelInfo, library: Library, in_memory: bool) -> int:
    """Bytes of an element that is computed with: PyTorch takes that of plain weights, and 2 bytes for packed ones."""
    if library.element_bytes:
        return library.element_bytes if in_memory else 2
    most = max(info.weight_bytes, key=info.weight_bytes.__getitem__, default="")
    return 4 if _is_plain(info) and most in ("F32", "F64") else 2


def _cached(info: ModelInfo, shape: Shape, options: LoadOptions, keys: float, values: float) -> int:
    """Keys and values of every layer, expanded where the model compresses them; so many bytes an element."""
    if info.role in READERS:
        return 0
    slides = shape.sliding if len(shape.sliding) == len(shape.kv_heads) else (False,) * len(shape.kv_heads)
    seen = min(options.ctx, shape.sliding_window or options.ctx)
    rows = sum(heads * (seen if slid else options.ctx) for heads, slid in zip(shape.kv_heads, slides, strict=True))
    return int(rows * (shape.key_length * keys + shape.value_length * values)) * options.parallel


def _element_bytes(kind: str) -> float:
    block, count = CACHE_BLOCKS[kind]
    return count / block


def _latent(info: ModelInfo, shape: Shape, options: LoadOptions) -> int:
    """The same for an engine that keeps one compressed row for all heads (MLA), as vLLM does; 0 for other models."""
    rank = _number(info, "kv_lora_rank")
    rope = _number(info, "qk_rope_head_dim") if rank else 0
    return shape.layers * (rank + rope) * 2 * options.ctx * options.parallel


def _activations(shape: Shape, options: LoadOptions, size: int, library: Library, *, in_memory: bool) -> int:
    """Of one prompt; and the logits of one token of each request, at 4 bytes."""
    forward = shape.feed_forward * max(1, shape.experts_used)
    numbers = 5 * shape.embedding + 3 * forward
    read = min(options.ctx, options.batch)
    if library.batches:
        rows = int(read * size * numbers * _ARENA + _SLOT_BYTES) * options.parallel
    elif library is TORCH and in_memory:
        rows = int(read * 4 * numbers * (_TORCH_ROWS if size == 2 else 1))
    else:
        rows = options.ctx * size * numbers
    return rows + shape.vocabulary * 4 * options.parallel


def _number(info: ModelInfo, key: str) -> int:
    """A whole number of the configuration, or of the part for text; 0 where there is none."""
    for name in (key, f"text_config.{key}"):
        value = info.metadata.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0
