"""Where the weights of a folder of safetensors lie, and what codes of FP8 are multiplied by.

A weight of FP8 is its code times a scale; the scales are a tensor of their own, and stand for blocks of 128 x 128
(DeepSeek and Qwen), for a row (compressed-tensors by channel), or for all of it. Whatever a method calls them
(`weight_scale_inv` too, in spite of its name), the code is multiplied by them: so do Transformers 5.23
(integrations/finegrained_fp8.py), compressed-tensors 0.20 and llama.cpp's converter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.errors import UnsupportedFormat
from uml.core.model import Quantization
from uml.formats.bounded_json import child, text
from uml.formats.gguf.tables import TENSOR_TYPE_IDS, TENSOR_TYPES
from uml.formats.hf.quantization import method_name
from uml.formats.safetensors import StoredTensor, read_safetensors

Json = Mapping[str, Any]

TYPES: Final = {name: TENSOR_TYPE_IDS[name] for name in ("F32", "F16", "BF16")}
"""Types of tensors in safetensors that llama.cpp reads."""
CODES: Final = frozenset({"F8_E4M3", "F8_E5M2"})
"""Types of weights that are made numbers before llama.cpp packs them."""
SCALES: Final = frozenset({*TYPES, "F8_E8M0"})
ENDS: Final[Mapping[str, tuple[str, ...]]] = {
    "fp8": ("_scale_inv", "_scale"),
    "compressed-tensors": ("_scale",),
    "modelopt": ("_scale",),
}
"""Method of quantization -> what its scales are called behind the name of the weight."""
READ: Final = re.compile(r"FP8(?: block \d+x\d+)?|compressed-tensors FP8|ModelOpt FP8")
"""Labels of what these methods write that is converted."""
FORMATS: Final = ("float-quantized", "naive-quantized")
"""Of compressed-tensors."""
_UNUSED: Final = re.compile(r"(?:[._](?:input|activation|output)|\.[qkv]+)_scale$")
"""What engines of FP8 round activations and caches by."""
_COUNTS: Final = (".position_ids", ".inv_freq", ".masked_bias")


@dataclass(frozen=True, slots=True)
class Scales:
    """What codes are multiplied by. dtype: of `SCALES`. block: rows and columns of a weight that have one in common.

    count: how many there are; across: how many of them lie side by side.
    """

    path: Path
    offset: int
    dtype: str
    block: tuple[int, int]
    count: int
    across: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file. kind: its type in GGUF. columns: sizes of its last dimension; rows: all others together.

    code: of `CODES`, where its numbers have to be made first; then `kind` is F32. scales: what they are multiplied by.
    """

    path: Path
    offset: int
    kind: int
    rows: int
    columns: int
    code: str = ""
    scales: Scales | None = None

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return self.rows * self.columns

    @property
    def number_bytes(self) -> int:
        """Bytes of one of them in the file."""
        return 1 if self.code else TENSOR_TYPES[self.kind].block_bytes


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    offset: int
    tensor: StoredTensor


def readable(said: Quantization | None) -> bool:
    """Whether weights of this quantization are converted: those that have none, and FP8."""
    return said is None or said.method == "none" or (said.method in ENDS and bool(READ.fullmatch(said.label)))


def weights(paths: Sequence[Path], said: Json) -> dict[str, Stored]:
    """Tensors by name, in the order of the files. said: of the quantization, empty for none.

    Raises UnsupportedFormat, CorruptFile, BadFile.
    """
    found = {name: one for path in paths for name, one in _read(path)}
    method = method_name(said) if said else "none"
    ends = ENDS.get(method, ())
    _codes_and_scales(method, said, paths[0])
    named = {name + end for name, one in found.items() if one.tensor.dtype in CODES for end in ends}
    blocks = _blocks(method, said)
    tensors = {}
    for name, one in found.items():
        if name in named or (ends and _UNUSED.search(name)):
            continue
        if one.tensor.dtype in CODES:
            scales = next((found[name + end] for end in ends if name + end in found), None)
            tensors[name] = _coded(name, one, scales, blocks, bare=not ends)
        elif stored := _stored(name, one):
            tensors[name] = stored
    return tensors


def _read(path: Path) -> list[tuple[str, _Found]]:
    header = read_safetensors(path)
    # Tensors fill the rest of the file: `read_safetensors` has checked it.
    start = header.size_bytes - max((tensor.end for tensor in header.tensors.values()), default=0)
    return [
        (name, _Found(path, start + tensor.begin, tensor)) for name, tensor in header.tensors.items() if tensor.elements
    ]


def _stored(name: str, found: _Found) -> Stored | None:
    """A tensor that llama.cpp reads; None for counts and masks, which no engine reads from a file."""
    tensor = found.tensor
    if tensor.dtype not in TYPES:
        if name.endswith(_COUNTS) or "." not in name:
            return None
        raise UnsupportedFormat(found.path, f"{name} is {tensor.dtype}; F32, F16, BF16 and FP8 are converted")
    return Stored(found.path, found.offset, TYPES[tensor.dtype], tensor.elements // tensor.last, tensor.last)


def _coded(name: str, found: _Found, scales: _Found | None, blocks: tuple[int, int] | None, *, bare: bool) -> Stored:
    """A tensor of FP8. bare: codes are numbers without scales."""
    tensor = found.tensor
    rows, columns = tensor.elements // tensor.last, tensor.last
    kept = None
    if scales is not None:
        kept = _scaled(name, scales, (rows, columns), blocks)
    elif not bare:
        raise UnsupportedFormat(found.path, f"{name} is {tensor.dtype}, and what it is multiplied by is not there")
    return Stored(found.path, found.offset, TYPES["F32"], rows, columns, tensor.dtype, kept)


def _scaled(name: str, found: _Found, shape: tuple[int, int], blocks: tuple[int, int] | None) -> Scales:
    tensor, (rows, columns) = found.tensor, shape
    down, across = tensor.elements // tensor.last, tensor.last
    if tensor.dtype not in SCALES:
        raise UnsupportedFormat(
            found.path, f"the scales of {name} are {tensor.dtype}; {', '.join(sorted(SCALES))} are converted"
        )
    if down * across == 1:
        block = shape
    elif blocks and (down, across) == (-(-rows // blocks[0]), -(-columns // blocks[1])):
        block = blocks
    elif not blocks and down * across == rows and 1 in (down, across):
        block, across = (1, columns), 1
    else:
        told = f"blocks of {blocks[0]} x {blocks[1]}" if blocks else "one, or one a row"
        raise UnsupportedFormat(
            found.path, f"{name} has {rows} x {columns} weights and {down} x {across} scales; expected {told}"
        )
    return Scales(found.path, found.offset, tensor.dtype, block, tensor.elements, across)


def _blocks(method: str, said: Json) -> tuple[int, int] | None:
    """Rows and columns that have a scale in common; None for rows, or all of a tensor."""
    block: Any = None
    if method == "fp8":
        block = said.get("weight_block_size", [128, 128])  # as Transformers takes it where nothing is said
    elif method == "compressed-tensors":
        told = _weights(said)
        block = [1, told.get("group_size")] if text(told, "strategy") == "group" else told.get("block_structure")
    if isinstance(block, list) and len(block) == 2 and all(isinstance(one, int) and one > 0 for one in block):
        return block[0], block[1]
    return None


def _weights(said: Json) -> Json:
    groups = child(said, "config_groups")
    return next((child(group, "weights") for group in groups.values() if isinstance(group, dict)), {})


def _codes_and_scales(method: str, said: Json, path: Path) -> None:
    """Raises UnsupportedFormat for weights that are more than codes and scales."""
    if method != "compressed-tensors":
        return
    how = text(said, "format")
    told = [child(group, "weights") for group in child(said, "config_groups").values() if isinstance(group, dict)]
    if how not in FORMATS:
        raise UnsupportedFormat(path, f"its weights are written as {how!r}; {' and '.join(FORMATS)} are converted")
    if any(one != told[0] for one in told):
        raise UnsupportedFormat(path, "its layers are quantized in more than one way (config_groups)")
    if child(said, "transform_config") or text(child(said, "sparsity_config"), "format") not in ("", "dense"):
        raise UnsupportedFormat(path, "its weights are turned or thinned besides (transform_config, sparsity_config)")
