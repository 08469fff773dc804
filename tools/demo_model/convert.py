"""Turns the demo model's Hugging Face folder into a GGUF file.

    python -m tools.demo_model.convert SOURCE OUT.gguf --type q8_0

Only what the demo model needs: the Llama architecture, a byte-level BPE vocabulary, tied
embeddings. The `gguf` package writes the container; names, order and permutation are ours.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
from numpy.typing import NDArray

from tools.demo_model.quantize import quantized, tensor_type

Array = NDArray[Any]

TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_k_m": gguf.LlamaFileType.MOSTLY_Q4_K_M,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
"""Kinds of file, and what they call themselves."""

# Hugging Face name inside a layer -> GGUF name inside a block.
BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A Hugging Face folder, read."""

    folder: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    chat_template: str

    @classmethod
    def read(cls, folder: Path) -> Source:
        """Read configuration, tokenizer and template; the weights are read one by one later."""
        return cls(
            folder=folder,
            config=json.loads((folder / "config.json").read_text("utf-8")),
            tokenizer=json.loads((folder / "tokenizer.json").read_text("utf-8")),
            chat_template=(folder / "chat_template.jinja").read_text("utf-8"),
        )

    @property
    def parameters(self) -> int:
        """How many numbers the weights have."""
        with (self.folder / "model.safetensors").open("rb") as file:
            entries, _ = _header(file)
        return sum(math.prod(entry["shape"]) for entry in entries.values())

    def tensors(self) -> Iterator[tuple[str, Array]]:
        """Every tensor in file order as float32, shape as Hugging Face has it (rows, columns)."""
        path = self.folder / "model.safetensors"
        with path.open("rb") as file:
            entries, start = _header(file)
            for name, entry in entries.items():
                begin, end = entry["data_offsets"]
                file.seek(start + begin)
                yield name, _floats(file.read(end - begin), entry["dtype"]).reshape(entry["shape"])


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Every tensor's entry in a safetensors file, and where their data begin."""
    header_bytes = int.from_bytes(file.read(8), "little")
    entries = json.loads(file.read(header_bytes))
    entries.pop("__metadata__", None)
    return entries, 8 + header_bytes


def _floats(data: bytes, dtype: str) -> Array:
    if dtype == "BF16":
        # A bfloat16 is the upper half of a float32.
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)


def gguf_name(name: str) -> str:
    """The GGUF name of a Hugging Face Llama tensor."""
    outside = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in outside:
        return outside[name]
    _, _, layer, rest = name.split(".", 3)
    inner = rest.removesuffix(".weight")
    return f"blk.{layer}.{BLOCK_NAMES[inner]}.weight"


def permuted(weights: Array, heads: int) -> Array:
    """Rows of a q or k projection in the order in which llama.cpp rotates them.

    Hugging Face stores the two halves of each head apart, llama.cpp pairs neighbours.
    """
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def unpermuted(weights: Array, heads: int) -> Array:
    """The way back from `permuted`."""
    rows, columns = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _permutation(config: dict[str, Any], name: str) -> Callable[[Array], Array]:
    if name.endswith("attn_q.weight"):
        return lambda weights: permuted(weights, config["num_attention_heads"])
    if name.endswith("attn_k.weight"):
        return lambda weights: permuted(weights, config["num_key_value_heads"])
    return lambda weights: weights


def convert(
    folder: Path, out: Path, kind: str = "q8_0", name: str = "UML Demo 5M", *, mean_pooling: bool = False
) -> Path:
    """Write `out` as a file of `kind`, of `TYPES`; norms stay f32. Returns `out`.

    With `mean_pooling` engines take the file for an embedding model, one vector a text.
    """
    source = Source.read(folder)
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(name)
    writer.add_size_label(size_label(source.parameters))
    _write_shape(writer, source.config, TYPES[kind])
    if mean_pooling:
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    _write_vocabulary(writer, source)
    layers = source.config["num_hidden_layers"]
    for hf_name, weights in source.tensors():
        tensor = gguf_name(hf_name)
        values = _permutation(source.config, tensor)(weights)
        stored = tensor_type(kind, tensor, layers) if values.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(tensor, quantized(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def size_label(parameters: int) -> str:
    """Millions or thousands of parameters in two or three letters: 5M, 846K."""
    return f"{round(parameters / 1e6)}M" if parameters >= 1_000_000 else f"{round(parameters / 1e3)}K"


def _write_shape(writer: gguf.GGUFWriter, config: dict[str, Any], file_type: int) -> None:
    writer.add_license("apache-2.0")
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _write_vocabulary(writer: gguf.GGUFWriter, source: Source) -> None:
    model = source.tokenizer["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    types = [gguf.TokenType.NORMAL] * len(tokens)
    for token in source.tokenizer["added_tokens"]:
        # Both are one token wherever they stand in a prompt; only those of the user are printed when generated.
        types[token["id"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_eos_token_id(source.config["eos_token_id"])
    writer.add_pad_token_id(source.config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(source.chat_template)


def main() -> None:
    """Command line door."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", choices=sorted(TYPES), default="q8_0")
    arguments = parser.parse_args()
    out = convert(arguments.source, arguments.out, arguments.type)
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
