"""The demo model as a folder of ONNX Runtime GenAI in F32, written here: its builder needs PyTorch, and minutes to
install. tests/engines/onnx tells what the builder makes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tools.demo_model.convert import Source
from uml.runtime.installs import onnx_llama
from uml.runtime.installs.onnx_llama import Llama, Tensor

_EMBEDDINGS = "model.embed_tokens.weight"


def write(folder: Path, out: Path) -> Path:
    """Write the model of a Hugging Face folder, a Llama with tied embeddings, into another, which is made."""
    source = Source.read(folder)
    out.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if "tokenizer" in path.name or path.suffix == ".jinja":
            shutil.copy(path, out)
    return onnx_llama.write(out, _sizes(source.config), _tensors(source))


def _sizes(config: dict[str, Any]) -> Llama:
    assert config["model_type"] == "llama" and config["rope_parameters"]["rope_type"] == "default"
    return Llama(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head=config["head_dim"],
        words=config["vocab_size"],
        context=config["max_position_embeddings"],
        epsilon=config["rms_norm_eps"],
        theta=config["rope_parameters"]["rope_theta"],
        end=config["eos_token_id"],
    )


def _tensors(source: Source) -> Iterator[Tensor]:
    for name, weights in source.tensors():
        if weights.ndim == 1 or name == _EMBEDDINGS:
            yield _tensor(name, weights)
        if weights.ndim == 2 and name != _EMBEDDINGS:
            yield _tensor(name, weights.T)
        if name == _EMBEDDINGS and source.config["tie_word_embeddings"]:
            yield _tensor("lm_head.weight", weights.T)


def _tensor(name: str, weights: Any) -> Tensor:
    return Tensor(name, weights.shape, np.ascontiguousarray(weights, dtype="<f4").tobytes())
