"""Models of real shapes with random weights: they say nothing sensible, at the right speed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

QWEN2_HALF_B = {"layers": 24, "embedding": 896, "feed_forward": 4864, "heads": 14, "kv_heads": 2, "vocabulary": 151_936}
"""Qwen2.5-0.5B, from its config.json."""
SMALL = {"layers": 6, "embedding": 512, "feed_forward": 1536, "heads": 8, "kv_heads": 2, "vocabulary": 32_000}
"""35 million parameters in the same order of things: 8,000 tokens are read in seconds."""


def write_half_b(path: Path, seed: int = 1) -> Path:
    """A Q8_0 file of 0.5 billion parameters (530 MB) with Qwen2.5-0.5B's shape."""
    return write_qwen2(path, QWEN2_HALF_B, "Random 0.5B", seed)


def write_small(path: Path, seed: int = 1) -> Path:
    """A Q8_0 file of 35 million parameters (37 MB)."""
    return write_qwen2(path, SMALL, "Random 35M", seed)


def write_qwen2(path: Path, shape: Mapping[str, int], name: str, seed: int) -> Path:
    """A Q8_0 file of this shape, with a context of 32,768 tokens."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(32_768)
    writer.add_embedding_length(shape["embedding"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["feed_forward"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    _vocabulary(writer, shape["vocabulary"])

    def matrix(name: str, rows: int, columns: int) -> None:
        # A Q8_0 block is a float16 scale and 32 signed bytes.
        blocks = np.empty((rows, columns // 32, 34), np.uint8)
        blocks[:, :, 2:] = random.integers(0, 256, (rows, columns // 32, 32), np.uint8)
        scale = np.float16(1.0 / (127.0 * np.sqrt(columns)))
        blocks[:, :, :2] = np.frombuffer(scale.tobytes(), np.uint8)
        writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    def vector(name: str, length: int, value: float) -> None:
        writer.add_tensor(name, np.full(length, value, np.float32))

    width, narrow = shape["embedding"], shape["kv_heads"] * shape["embedding"] // shape["heads"]
    matrix("token_embd.weight", shape["vocabulary"], width)
    vector("output_norm.weight", width, 1.0)
    for layer in range(shape["layers"]):
        block = f"blk.{layer}"
        vector(f"{block}.attn_norm.weight", width, 1.0)
        vector(f"{block}.ffn_norm.weight", width, 1.0)
        for name, rows in (("q", width), ("k", narrow), ("v", narrow)):
            matrix(f"{block}.attn_{name}.weight", rows, width)
            vector(f"{block}.attn_{name}.bias", rows, 0.0)
        matrix(f"{block}.attn_output.weight", width, width)
        matrix(f"{block}.ffn_gate.weight", shape["feed_forward"], width)
        matrix(f"{block}.ffn_up.weight", shape["feed_forward"], width)
        matrix(f"{block}.ffn_down.weight", width, shape["feed_forward"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """Bytes as GPT-2 writes them, words that say nothing, and ChatML's marks."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in printable}
    spare = iter(range(256, 512))
    letters |= {byte: chr(next(spare)) for byte in range(256) if byte not in letters}
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*marks, *letters.values()]
    tokens += [f"w{number}" for number in range(size - len(tokens))]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in marks else normal for token in tokens])
    writer.add_token_merges(["w 0"])
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n"
    )
