"""The weight files of a Hugging Face folder: which belong together, which is missing, how much they hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uml.core.errors import BadFile, CorruptFile, MissingShard
from uml.core.model import Format, Quantization
from uml.formats.pytorch import check_pytorch, is_pytorch
from uml.formats.reader import opened, read_at, read_start
from uml.formats.safetensors import StoredTensor, is_safetensors, read_safetensors

SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.(?:safetensors|bin))")
MAX_SHARDS = 4096
MAX_INDEX = 64 << 20
"""Bytes of an index; one of 300,000 tensors has 30 MiB."""
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json", "consolidated.safetensors.index.json")
_SHARD_IN_INDEX = re.compile(rb'"([^"\\]{1,250}\.(?:safetensors|bin))"')

SAFETENSORS, PYTORCH = (".safetensors",), (".bin", ".pt", ".pth")
NOT_WEIGHTS = frozenset(
    {
        "training_args.bin",
        "optimizer.pt",
        "optimizer.bin",
        "scheduler.pt",
        "scaler.pt",
        "rng_state.pth",
        "tokenizer.bin",
    }
)
"""Files with a weight's suffix that hold something else."""

SCALES = frozenset(
    {
        "qzeros", "scales", "g_idx", "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_zero_point",
        "weight_shape", "weight_g_idx", "input_scale", "input_global_scale", "weight_global_scale", "k_scale",
        "v_scale", "SCB", "weight_format", "absmax", "quant_map", "nested_absmax", "nested_quant_map", "svh", "suh",
        "su", "sv", "mcg", "mul1", "q_scale", "q_scale_max", "q_perm", "q_invperm", "q_groups", "q_group_map",
        "zeros", "zero", "scale", "biases", "bitsandbytes__nf4", "bitsandbytes__fp4", "nbits", "axis", "group_size",
        "shape", "tables", "tables2", "q_group_size", "row_offsets", "col_vals", "in_perm", "perm",
    }
)  # fmt: skip
"""Last parts of the names of tensors that describe quantized weights and are none."""
SCALE_ENDS = ("_scale", "_scales", "_scale_inv", "_scales_inv", "_scale_ub", "_zero_point")
"""How others of them end, whatever comes before."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight files of one model, in order.

    tensors: their tensors by name, where headers tell (safetensors); dtype_bytes: bytes by dtype.
    """

    format: Format
    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor] = field(default_factory=dict)
    dtype_bytes: Counter[str] = field(default_factory=Counter)


def read_weights(folder: Path, names: Sequence[str]) -> Weights | None:
    """Find and check the weight files among a folder's names; None where there are none.

    Safetensors come before PyTorch files, as loaders have it. Raises MissingShard, CorruptFile, BadFile.
    """
    files = weight_files(folder, names)
    if not files:
        return None
    if files[0].endswith(PYTORCH):
        for name in files:
            check_pytorch(folder / name)
        return Weights(Format.PYTORCH, tuple(folder / name for name in files))
    tensors: dict[str, StoredTensor] = {}
    sizes: Counter[str] = Counter()
    for name in files:
        header = read_safetensors(folder / name)
        tensors |= header.tensors
        sizes += header.dtype_bytes
    return Weights(Format.SAFETENSORS, tuple(folder / name for name in files), tensors, sizes)


def weight_files(folder: Path, names: Sequence[str]) -> list[str]:
    """Names of the weight files of the model in a folder. Raises MissingShard, CorruptFile, BadFile."""
    present = set(names)
    single = next((name for name in ("model.safetensors", "adapter_model.safetensors") if name in present), None)
    if single is None:
        for index in INDEXES:
            if index in present and (shards := _indexed(folder / index)):
                _require(folder, shards, present)
                return shards
    if single is not None:
        _require(folder, [single], present)
        return [single]
    for suffixes in (SAFETENSORS, PYTORCH):
        found = sorted(name for name in names if name.endswith(suffixes) and name not in NOT_WEIGHTS)
        found = [name for name in found if looks_like_weights(folder / name)]
        if found:
            return _numbered(folder, found, present)
    return []


def looks_like_weights(path: Path) -> bool:
    """Whether the first bytes are those of safetensors or PyTorch. Raises BadFile for a Git LFS pointer."""
    try:
        start = read_start(path, 64)
    except BadFile:
        if path.is_symlink():
            raise MissingShard(path.parent, [path.name]) from None
        raise
    reject_pointer(path, start)
    # A name of weights and nothing readable behind it is for the reader to complain about.
    return path.suffix == ".safetensors" or is_pytorch(start) or is_safetensors(start, 64)


def reject_pointer(path: Path, start: bytes) -> None:
    """Raises BadFile where a file only stands for one that was not downloaded."""
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise BadFile(path, "is a Git LFS pointer, the weights were not downloaded; run: git lfs pull")


def _indexed(index: Path) -> list[str]:
    """The shards that an index names. Its tensors are not looked at: they may be hundreds of thousands."""
    with opened(index) as (file, size):
        if size > MAX_INDEX:
            raise BadFile(index, f"has {size} bytes; an index of at most {MAX_INDEX} is read")
        raw = read_at(file, 0, size)
    if not raw.rstrip().endswith(b"}"):
        raise CorruptFile(index, "the index breaks off", "a JSON object", size)
    shards = sorted({found[1].decode("utf-8", "replace") for found in _SHARD_IN_INDEX.finditer(raw)})
    if len(shards) > MAX_SHARDS:
        raise CorruptFile(index, f"it names {len(shards)} files", f"at most {MAX_SHARDS}")
    for shard in shards:
        if "/" in shard or shard.startswith("."):
            raise CorruptFile(index, f"it names {shard!r}", "files in its own folder")
    return shards


def _numbered(folder: Path, found: list[str], present: set[str]) -> list[str]:
    """Without an index: all files, and their numbers say whether one is missing."""
    for name in found:
        if parts := SHARD_NAME.fullmatch(name):
            count = min(int(parts["count"]), MAX_SHARDS)
            wanted = [
                f"{parts['stem']}-{number:05d}-of-{parts['count']}{parts['suffix']}" for number in range(1, count + 1)
            ]
            _require(folder, wanted, present)
            return wanted
    # The same weights once more, in the naming of the model's own authors.
    ours = [name for name in found if not name.startswith("consolidated")]
    return ours or found


def _require(folder: Path, wanted: Iterable[str], present: set[str]) -> None:
    # A link into the cache may lead nowhere: the name is there, the file is not.
    missing = [name for name in wanted if name not in present or not (folder / name).exists()]
    if missing:
        raise MissingShard(folder, missing)


def count_parameters(tensors: Mapping[str, StoredTensor], coding: Quantization | None, packed: int = 0) -> int | None:
    """Weights of a model, packed ones unpacked; None where a method hides how many there are.

    packed: bits of a weight in words that hold several, 0 where that is not known.
    """
    if coding is not None and coding.method in _TABLES:
        return None
    total = 0
    for name, tensor in tensors.items():
        if coding is None or coding.method == "none":
            total += tensor.elements
            continue
        weights = _unpacked(name, tensor, coding, packed, tensors)
        if weights is None:
            return None
        total += weights
    return total or None


def _unpacked(
    name: str, tensor: StoredTensor, coding: Quantization, packed: int, tensors: Mapping[str, StoredTensor]
) -> int | None:
    base, _, tail = name.rpartition(".")
    if tail in SCALES or tail.endswith(SCALE_ENDS):
        return 0
    if tail == "trellis":
        # EXL3: a tile of 16 x 16 weights lies in one row of 16-bit words.
        return tensor.elements // tensor.last * 256 if tensor.last > 0 else None
    if tail == "q_weight":
        # EXL2: rows of several widths; the permutation has one entry for each input.
        inputs = tensors.get(f"{base}.q_invperm") or tensors.get(f"{base}.q_perm")
        return tensor.last * inputs.elements if inputs else None
    if tensor.dtype in _WORDS:
        return tensor.elements * _WORDS[tensor.dtype] // packed if packed else None
    if tensor.dtype == "U8":
        if coding.method == "hqq" and packed:
            return tensor.elements * (8 // packed)
        return tensor.elements * _PER_BYTE[coding.method] if coding.method in _PER_BYTE else None
    return tensor.elements


_WORDS = {"I32": 32, "U32": 32, "I16": 16, "U16": 16}
_TABLES = frozenset({"aqlm", "vptq", "spqr"})
"""Methods whose words are indices into tables, or sparse: they do not tell how many weights there are."""

_PER_BYTE = {
    "bitsandbytes": 2, "modelopt": 2, "mxfp4": 2, "nvfp4": 2, "compressed-tensors": 2, "quark": 2, "fp-quant": 2,
    "auto-round": 2, "torchao": 2, "bitnet": 4,
}  # fmt: skip
