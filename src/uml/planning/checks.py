"""check(info, options, companions): combinations that no memory makes possible, refused before anything is planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.errors import BadOption
from uml.core.model import Format, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.planning.cache import CACHE_BLOCKS, is_latent
from uml.planning.overrides import overrides

_VOCABULARY_SLACK: Final = 128
"""Tokens by which a draft model's vocabulary may differ: SPEC_VOCAB_MAX_SIZE_DIFFERENCE in llama.cpp."""
_UNTOLD: Final = (Role.UNKNOWN,)
_OF_TORCH: Final = (Format.SAFETENSORS, Format.PYTORCH)


def check(info: ModelInfo, options: LoadOptions, companions: Mapping[str, ModelInfo]) -> None:
    """Raise BadOption, with the range, for the first option that this model or its companions rule out."""
    _context(info, options)
    _cache_types(info, options)
    _experts(info, options)
    overrides(options)
    _companions(info, options, companions)


def _context(info: ModelInfo, options: LoadOptions) -> None:
    trained = info.context_length
    if trained and options.ctx > trained and not _stretched(options):
        raise BadOption(
            "ctx",
            options.ctx,
            f"a whole number from 0 to {trained}, the context {info.name or info.path.name} was trained for, "
            "or rope_scaling (linear, yarn) or rope_freq_base besides",
        )


def _stretched(options: LoadOptions) -> bool:
    return (
        options.rope_scaling in ("linear", "yarn", "longrope")
        or options.rope_freq_base > 0
        or options.rope_freq_scale > 0
        or options.yarn_orig_ctx > 0
        or any("context_length" in entry or "rope" in entry for entry in options.override_kv)
    )


def _cache_types(info: ModelInfo, options: LoadOptions) -> None:
    keys, values = CACHE_BLOCKS[options.cache_type_k][0], CACHE_BLOCKS[options.cache_type_v][0]
    if info.format is Format.GGUF and is_latent(info):
        _one_type(options, quantized=keys > 1)
    if values > 1 and options.flash_attention == "off":
        raise BadOption(
            "cache_type_v",
            options.cache_type_v,
            "auto, f16, bf16 or f32 with flash_attention off, or flash_attention on",
        )
    if info.shape and info.shape.key_length % keys:
        raise BadOption("cache_type_k", options.cache_type_k, _plain_types("keys", info.shape.key_length, keys))
    if info.shape and info.shape.value_length % values:
        raise BadOption("cache_type_v", options.cache_type_v, _plain_types("values", info.shape.value_length, values))


def _one_type(options: LoadOptions, *, quantized: bool) -> None:
    """A model whose keys and values are one row (MLA) keeps them in one type."""
    types = options.cache_type_k, options.cache_type_v
    if "auto" not in types and types[0] != types[1]:
        expected = f"auto or {types[0]}, as cache_type_k: this model keeps keys and values in one row (MLA)"
        raise BadOption("cache_type_v", types[1], expected)
    if quantized and options.flash_attention == "off":
        expected = "auto, f16, bf16 or f32 with flash_attention off: its values are in the same row (MLA)"
        raise BadOption("cache_type_k", types[0], expected)


def _plain_types(what: str, length: int, block: int) -> str:
    return f"f16, bf16 or f32: the {what} of this model have {length} elements, not a multiple of {block}"


def _experts(info: ModelInfo, options: LoadOptions) -> None:
    if options.cpu_moe_layers > 0 and info.shape is not None and not info.shape.experts:
        raise BadOption(
            "cpu_moe_layers",
            options.cpu_moe_layers,
            f"0 or -1: {info.name or info.path.name} is dense, without experts",
        )


def _companions(info: ModelInfo, options: LoadOptions, known: Mapping[str, ModelInfo]) -> None:
    if (projector := known.get(options.mmproj)) and projector.role not in (Role.PROJECTOR, *_UNTOLD):
        raise BadOption("mmproj", options.mmproj, f"the path of a projector; this is a model for {projector.role}")
    for entry in options.lora:
        # PATH, or PATH=SCALE.
        adapter = known.get(entry) or known.get(entry.rpartition("=")[0])
        if adapter is None:
            continue
        if adapter.role not in (Role.ADAPTER, *_UNTOLD):
            raise BadOption("lora", entry, f"the path of an adapter; this is a model for {adapter.role}")
        if instead := _other_adapter(info, adapter):
            raise BadOption("lora", entry, instead)
    if draft := known.get(options.draft_model):
        _draft(info, options, draft)


def _other_adapter(info: ModelInfo, adapter: ModelInfo) -> str:
    """What is expected in place of an adapter that is not this model's; empty where it may be.

    One of PEFT names what kind it is (LORA) and its model by a path: Transformers tells whether its tensors fit.
    """
    if adapter.format is Format.GGUF:
        if info.format in _OF_TORCH:
            return f"an adapter of PEFT, a folder with adapter_config.json, for {info.format}; this one is GGUF"
        if adapter.architecture and info.architecture and adapter.architecture != info.architecture:
            return f"an adapter for {info.architecture}; this one is for {adapter.architecture}"
    if adapter.format in _OF_TORCH and info.format is Format.GGUF:
        return "an adapter as GGUF: llama.cpp's convert_lora_to_gguf.py makes one of this folder of PEFT"
    return ""


def _draft(info: ModelInfo, options: LoadOptions, draft: ModelInfo) -> None:
    """A model that guesses ahead must speak in the same tokens (`common_speculative` in llama.cpp)."""
    if draft.role not in (Role.TEXT, Role.DRAFT, *_UNTOLD):
        raise BadOption("draft_model", options.draft_model, f"the path of a text model; this is one for {draft.role}")
    if (draft.format is Format.GGUF) is not (info.format is Format.GGUF) and draft.role not in _UNTOLD:
        expected = f"a model that the engine of this one reads, as {info.format}; this one is {draft.format}"
        raise BadOption("draft_model", options.draft_model, expected)
    kinds = [str(one.metadata.get("tokenizer.ggml.model", "")) for one in (info, draft)]
    if all(kinds) and kinds[0] != kinds[1]:
        raise BadOption("draft_model", options.draft_model, f"a model with the vocabulary {kinds[0]}, not {kinds[1]}")
    sizes = [one.shape.vocabulary if one.shape else 0 for one in (info, draft)]
    if all(sizes) and abs(sizes[0] - sizes[1]) > _VOCABULARY_SLACK:
        raise BadOption(
            "draft_model",
            options.draft_model,
            f"a model with the same vocabulary: {max(0, sizes[0] - _VOCABULARY_SLACK)} to "
            f"{sizes[0] + _VOCABULARY_SLACK} tokens; this one has {sizes[1]}",
        )
