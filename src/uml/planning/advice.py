"""What to do instead: sentences and changes of options for what cannot be loaded as asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from uml.core.model import Format, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.planning.resolve import largest_ctx

_COMPANIONS: Final[Mapping[Role, str]] = {
    Role.PROJECTOR: "a projector for images or sound, no model of its own: load its language model with options.mmproj",
    Role.ADAPTER: "a LoRA adapter, no model of its own: load its base model with options.lora",
    Role.VOCABULARY: "a vocabulary without weights: it cannot answer; load the model that it belongs to",
}

_ELSEWHERE: Final[Mapping[Format, str]] = {
    Format.GGUF: "llama.cpp runs it",
    Format.GGML: "convert it to GGUF (llama.cpp's convert_llama_ggml_to_gguf.py) or get the model as GGUF",
    Format.SAFETENSORS: "Transformers runs it, and llama.cpp after a conversion to GGUF",
    Format.PYTORCH: "Transformers runs it, and llama.cpp after a conversion to GGUF",
    Format.EXL2: "ExLlamaV2 runs it, on an NVIDIA GPU",
    Format.EXL3: "ExLlamaV3 runs it, on an NVIDIA GPU",
    Format.ONNX: "ONNX Runtime runs it, and needs the genai_config.json of ONNX Runtime GenAI to generate text",
    Format.ONNX_GENAI: "ONNX Runtime GenAI runs it",
    Format.TENSORRT_LLM: "TensorRT-LLM runs it, on the GPU model and version that it was built for",
    Format.UNKNOWN: "a GGUF file of the model would run",
}


def how_to_use(info: ModelInfo) -> str:
    """For what cannot be served alone: what it is and how to use it. Empty for models."""
    sentence = _COMPANIONS.get(info.role, "")
    return sentence + f"={info.path}" if "options." in sentence else sentence


def runs_elsewhere(info: ModelInfo) -> str:
    """What would run a format."""
    return _ELSEWHERE[info.format]


def would_fit(
    asked: LoadOptions, options: LoadOptions, info: ModelInfo, fits: Callable[[LoadOptions], bool]
) -> tuple[list[dict[str, object]], str]:
    """Single changes of resolved options with which the model fits, the gentlest first, and a sentence of them.

    asked: the options as they came; fits: whether resolved options have a place.
    """
    ctx = largest_ctx(options.ctx - 1, 0, lambda ctx: 0 if fits(replace(options, ctx=ctx)) else 1)
    tried: list[dict[str, object]] = []
    if options.repack and info.format is Format.GGUF:
        tried.append({"repack": False})
    if options.parallel > 1:
        tried.append({"parallel": 1})
    if options.flash_attention != "off" and (options.cache_type_k, options.cache_type_v) == ("f16", "f16"):
        tried.append({"cache_type_k": "q8_0", "cache_type_v": "q8_0"})
    changes = [change for change in tried if fits(replace(options, **change))]  # type: ignore[arg-type]
    if ctx:
        changes.append({"ctx": ctx})
    if not changes and (smallest := {key: value for change in tried for key, value in change.items()}):
        least = {**smallest, "ctx": min(options.ctx, 2048)}
        changes = [least] if fits(replace(options, **least)) else []  # type: ignore[arg-type]
    if not changes:
        return [], "no smaller context would do; use a smaller quantization, or a machine with more memory"
    words = [" ".join(f"{key}={_word(value)}" for key, value in change.items()) for change in changes]
    return changes, f"it fits with {' or '.join(words)}"


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
