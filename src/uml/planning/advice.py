"""What to do instead: sentences for what no engine here can load at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.model import Format, ModelInfo, Role

_COMPANIONS: Final[Mapping[Role, str]] = {
    Role.PROJECTOR: "a projector for images or sound, no model of its own: load its language model with options.mmproj",
    Role.ADAPTER: "a LoRA adapter, no model of its own: load its base model with options.lora",
    Role.VOCABULARY: "a vocabulary without weights: it cannot answer; load the model that it belongs to",
}

_ELSEWHERE: Final[Mapping[Format, str]] = {
    Format.GGUF: "llama.cpp runs it",
    Format.GGML: "of the formats before GGUF, only LLaMA models are made into it; get the model as GGUF",
    Format.SAFETENSORS: "Transformers or vLLM runs it, llama.cpp after `uml convert MODEL --to gguf`",
    Format.PYTORCH: "Transformers runs it, others after `uml convert MODEL --to safetensors`",
    Format.EXL2: "ExLlamaV2 runs it, on an NVIDIA GPU",
    Format.EXL3: "ExLlamaV3 runs it, on an NVIDIA GPU",
    Format.ONNX: "ONNX Runtime runs it, and needs the genai_config.json of ONNX Runtime GenAI to generate text",
    Format.ONNX_GENAI: "ONNX Runtime GenAI runs it",
    Format.TENSORRT_LLM: "TensorRT-LLM runs it, on the GPU model and version that it was built for",
    Format.UNKNOWN: "a GGUF file of the model would run",
}

_QUANTIZED: Final[Mapping[str, str]] = {
    "gptq": "vLLM runs it on a GPU, Transformers with GPTQModel also without one",
    "awq": "vLLM runs it on a GPU, Transformers with GPTQModel also without one",
    "auto-round": "vLLM runs it on a GPU, Transformers with AutoRound also without one",
    "bitsandbytes": "Transformers with bitsandbytes runs it",
    "torchao": "Transformers with torchao runs it",
    "hqq": "Transformers with hqq runs it",
    "quanto": "Transformers with optimum-quanto runs it",
    "compressed-tensors": "vLLM runs it on a GPU, Transformers with compressed-tensors also without one",
    "fp8": "vLLM or Transformers runs it, on a GPU",
    "fbgemm-fp8": "vLLM or Transformers with fbgemm-gpu runs it, on a GPU",
    "ptpc-fp8": "vLLM runs it, on an AMD GPU",
    "modelopt": "TensorRT-LLM or vLLM runs it, on an NVIDIA GPU",
    "mxfp4": "vLLM or Transformers runs it, on a GPU; as GGUF llama.cpp runs it anywhere",
    "nvfp4": "vLLM runs it, on an NVIDIA GPU",
    "quark": "vLLM runs it, on an AMD GPU",
    "bitnet": "Transformers runs it, and bitnet.cpp its GGUF",
    "aqlm": "vLLM or Transformers with aqlm runs it",
    "vptq": "Transformers with vptq runs it, on a GPU",
    "spqr": "Transformers with spqr_quant runs it, on an NVIDIA GPU",
    "higgs": "Transformers with flute-kernel runs it, on an NVIDIA GPU",
    "eetq": "Transformers with eetq runs it, on an NVIDIA GPU",
    "fp-quant": "Transformers with fp_quant runs it, on an NVIDIA GPU",
    "sinq": "Transformers with sinq runs it",
    "experts-int8": "vLLM runs it, on a GPU",
    "mlx": "MLX runs it, on an Apple chip",
}
"""Who runs safetensors by their quantization; of the others only the engine that knows the method can."""


def how_to_use(info: ModelInfo) -> str:
    """For what cannot be served alone: what it is and how to use it. Empty for models."""
    if info.role is Role.ADAPTER and info.format is not Format.GGUF:
        return (
            "an adapter, no model of its own: vLLM or Transformers with PEFT lays it over its base model, and "
            "llama.cpp after a conversion to GGUF (convert_lora_to_gguf.py), with options.lora"
        )
    if info.role is Role.UNKNOWN and info.format is Format.GGUF:
        return f"no language model, and cannot be served: {info.reason}"
    sentence = _COMPANIONS.get(info.role, "")
    return sentence + f"={info.path}" if "options." in sentence else sentence


def runs_elsewhere(info: ModelInfo) -> str:
    """What would run a format and its quantization."""
    method = info.quantization.method if info.quantization else "none"
    if info.format is not Format.SAFETENSORS or method == "none":
        return _ELSEWHERE[info.format]
    return _QUANTIZED.get(method, f"an engine that knows {method} does, as vLLM or Transformers may")


def what_it_needs(info: ModelInfo) -> str:
    """For what nothing here runs: what it is, and what would run it."""
    if info.format is Format.UNKNOWN and not info.version:  # with one, a plug-in knows it
        return f"not a model that can be told: {info.reason}"
    label = f" ({info.quantization.label})" if info.quantization else ""
    return how_to_use(info) or f"no engine here runs {info.format}{label}; {runs_elsewhere(info)}"
