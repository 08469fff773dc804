"""The numbers on which a GGUF model's memory depends."""

from __future__ import annotations

import re
from typing import Final

from uml.core.errors import CorruptFile
from uml.core.model import Shape, TensorGroup
from uml.formats.gguf.header import GgufHeader, TensorInfo
from uml.formats.gguf.tables import type_name

MAX_LAYERS = 4096
"""Entries of the longest sequence that a header may make us build; the deepest models have under 200 layers."""


MAX_GROUPS = 512
"""Kinds of tensors that are listed: each is looked at dozens of times for one plan. Models have under 200."""

MAX_NUMBER = (1 << 32) - 1
"""llama.cpp reads these numbers as u32."""


def shape(header: GgufHeader) -> Shape | None:
    """The shape, or None where the file has none (adapters, projectors). Raises CorruptFile for absurd numbers."""
    prefix = header.text("general.architecture")
    layers = count(header, f"{prefix}.block_count")
    embedding = count(header, f"{prefix}.embedding_length")
    if not layers or not embedding:
        return None
    if layers > MAX_LAYERS:
        raise CorruptFile(header.path, f"{prefix}.block_count is {layers}", f"at most {MAX_LAYERS}")
    heads = _largest(header, f"{prefix}.attention.head_count")
    head_size = embedding // heads if heads else 0
    return Shape(
        layers=layers,
        embedding=embedding,
        feed_forward=_largest(header, f"{prefix}.feed_forward_length"),
        heads=heads,
        kv_heads=_kv_heads(header, prefix, layers),
        key_length=count(header, f"{prefix}.attention.key_length") or head_size,
        value_length=count(header, f"{prefix}.attention.value_length") or head_size,
        vocabulary=vocabulary(header),
        sliding_window=count(header, f"{prefix}.attention.sliding_window") or None,
        experts=count(header, f"{prefix}.expert_count"),
        experts_used=count(header, f"{prefix}.expert_used_count"),
        sliding=_sliding(header, prefix, layers),
        tensors=tensor_groups(header.tensors),
    )


_LAYER: Final = re.compile(r"blk\.(\d{1,4})\.(.+)")


def tensor_groups(tensors: tuple[TensorInfo, ...]) -> tuple[TensorGroup, ...]:
    """Tensors of one name, type and size together, in the order of the file.

    The parts of a split model follow one another, as if they were one file. Empty where there are too many kinds.
    """
    found: dict[tuple[str, int, tuple[int, ...]], list[tuple[int, int, int]]] = {}
    start = end = 0
    for tensor in tensors:
        if tensor.offset == 0:
            start = end  # the first of a part
        begin = start + tensor.offset
        end = -(-(begin + tensor.size_bytes) // 32) * 32
        inside = _LAYER.fullmatch(tensor.name)
        name, layer = (inside[2], int(inside[1])) if inside else (tensor.name, -1)
        found.setdefault((name, tensor.type, tensor.shape), []).append((layer, begin, tensor.size_bytes))
    if len(found) > MAX_GROUPS:
        return ()
    return tuple(
        TensorGroup(
            name=name,
            kind=type_name(kind),
            dims=dims,
            layers=tuple(sorted(layer for layer, _, _ in alike if layer >= 0)),
            each_bytes=alike[0][2],
            begin=min(begin for _, begin, _ in alike),
            end=max(begin + size for _, begin, size in alike),
        )
        for (name, kind, dims), alike in found.items()
    )


def _sliding(header: GgufHeader, prefix: str, layers: int) -> tuple[bool, ...]:
    """Layer by layer, where the pattern is an array of that length."""
    said = header.arrays.get(f"{prefix}.attention.sliding_window_pattern", ())
    return tuple(bool(one) for one in said) if len(said) == layers else ()


def count(header: GgufHeader, key: str) -> int:
    """A number that counts something; 0 where the header does not say. Raises CorruptFile outside of u32."""
    value = header.integer(key)
    if not 0 <= value <= MAX_NUMBER:
        raise CorruptFile(header.path, f"{key} is {value}", f"0 to {MAX_NUMBER}")
    return value


def vocabulary(header: GgufHeader) -> int:
    """Tokens: the length of the token array, else what the architecture says, else the rows of the embedding."""
    said = header.lengths.get("tokenizer.ggml.tokens") or count(
        header, f"{header.text('general.architecture')}.vocab_size"
    )
    if said:
        return said
    rows = (
        tensor.shape[1] for tensor in header.tensors if tensor.name == "token_embd.weight" and len(tensor.shape) > 1
    )
    return next(rows, 0)


def _each(header: GgufHeader, key: str) -> list[int]:
    """An array of one number a layer; empty where there is none."""
    values = [int(value) for value in header.arrays.get(key, ())] if _whole(header, key) else []
    if values and not 0 <= min(values) <= max(values) <= MAX_NUMBER:
        raise CorruptFile(header.path, f"{key} holds {min(values)} to {max(values)}", f"0 to {MAX_NUMBER}")
    return values


def _whole(header: GgufHeader, key: str) -> bool:
    return all(isinstance(value, int) for value in header.arrays.get(key, ()))


def _largest(header: GgufHeader, key: str) -> int:
    """A number, or the largest of one a layer."""
    return max(_each(header, key), default=0) or count(header, key)


def _kv_heads(header: GgufHeader, prefix: str, layers: int) -> tuple[int, ...]:
    """Key-value heads of each layer; 0 for recurrent layers and for those that borrow another layer's cache."""
    key, all_heads = f"{prefix}.attention.head_count_kv", f"{prefix}.attention.head_count"
    # Without an entry of their own there are as many as query heads.
    source = key if key in header.metadata or key in header.lengths else all_heads
    each = _each(header, source) or [count(header, source)]
    each = (each + each[-1:] * layers)[:layers]
    recurrent = header.arrays.get(f"{prefix}.attention.recurrent_layers", ())
    interval = count(header, f"{prefix}.full_attention_interval")
    borrowed = count(header, f"{prefix}.attention.shared_kv_layers")
    for layer in range(layers):
        if recurrent:
            silent = layer < len(recurrent) and bool(recurrent[layer])
        else:
            silent = interval > 1 and (layer + 1) % interval != 0
        if silent or layer >= layers - borrowed:
            each[layer] = 0
    return tuple(each)
