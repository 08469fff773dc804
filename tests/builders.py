"""Writes tiny valid model files of every format, byte by byte, so that a test can break one.

Each `write_*` returns the path that it wrote. Weights are zeros; what matters is in the headers.
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from uml.formats.gguf.tables import TENSOR_TYPE_IDS, TENSOR_TYPES

Order = Literal["<", ">"]
"""Little or big endian, as `struct` has it."""

# --- GGUF ---------------------------------------------------------------------------------------

GGUF_TYPES = {
    "u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "str": 8, "array": 9,
    "u64": 10, "i64": 11, "f64": 12,
}  # fmt: skip
_CODES = {
    "u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "?",
    "u64": "Q", "i64": "q", "f64": "d",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Typed:
    """A metadata value with its GGUF type, where the usual one will not do: `Typed("u64", 7)`."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a GGUF file: storage type and sizes, fastest first, as ggml has them."""

    kind: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""
        kind = TENSOR_TYPES[TENSOR_TYPE_IDS[self.kind]]
        elements = 1
        for size in self.shape:
            elements *= size
        return elements // kind.block * kind.block_bytes


def write_gguf(
    path: Path,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    *,
    version: int = 3,
    order: Order = "<",
    alignment: int = 32,
) -> Path:
    """A GGUF file of any version and byte order, with zeros (a hole) for weights.

    An int becomes u32, a float f32, a sequence an array of what its first entry is; `Typed` says otherwise.
    """
    tensors = tensors or {}
    head = gguf_header(metadata or {}, tensors, version=version, order=order, alignment=alignment)
    start = -(-len(head) // alignment) * alignment
    size = start + sum(-(-tensor.size_bytes // alignment) * alignment for tensor in tensors.values())
    with path.open("wb") as file:
        file.write(head)
        if tensors:
            file.truncate(size)
    return path


def gguf_header(
    metadata: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    version: int = 3,
    order: Order = "<",
    alignment: int = 32,
) -> bytes:
    """Everything before the padding and the weights."""
    size = "I" if version == 1 else "Q"
    parts = [b"GGUF", struct.pack(f"{order}I{size}{size}", version, len(tensors), len(metadata))]
    for key, value in metadata.items():
        kind, raw = _gguf_value(value, order, size)
        parts += [_gguf_string(key, order, size), struct.pack(f"{order}I", GGUF_TYPES[kind]), raw]
    offset = 0
    for name, tensor in tensors.items():
        dims = struct.pack(f"{order}I{len(tensor.shape)}{size}", len(tensor.shape), *tensor.shape)
        tail = struct.pack(f"{order}IQ", TENSOR_TYPE_IDS[tensor.kind], offset)
        parts += [_gguf_string(name, order, size), dims, tail]
        offset += -(-tensor.size_bytes // alignment) * alignment
    return b"".join(parts)


def _gguf_string(text: str, order: str, size: str) -> bytes:
    raw = text.encode()
    return struct.pack(f"{order}{size}", len(raw)) + raw


def _gguf_value(value: Any, order: str, size: str) -> tuple[str, bytes]:
    kind = value.kind if isinstance(value, Typed) else _gguf_kind(value)
    plain = value.value if isinstance(value, Typed) else value
    if kind == "str":
        return kind, _gguf_string(plain, order, size)
    if kind != "array":
        return kind, struct.pack(f"{order}{_CODES[kind]}", plain)
    items = [_gguf_value(item, order, size) for item in plain]
    inner = items[0][0] if items else "u32"
    head = struct.pack(f"{order}I{size}", GGUF_TYPES[inner], len(items))
    return kind, head + b"".join(raw for _, raw in items)


def _gguf_kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "i32" if value < 0 else "u32"
        case float():
            return "f32"
        case str():
            return "str"
        case _:
            return "array"


def llama_metadata(
    *,
    architecture: str = "llama",
    name: str = "Tiny Llama",
    file_type: int = 7,
    layers: int = 2,
    embedding: int = 64,
    feed_forward: int = 128,
    heads: int = 4,
    kv_heads: int | Sequence[int] = 2,
    context: int = 256,
    tokens: int = 32,
    chat_template: str | None = "{{ messages[0].content }}",
    **extra: Any,
) -> dict[str, Any]:
    """Metadata of a small Llama. `extra` has `__` for dots: `general__type="adapter"`; None leaves a key out."""
    data: dict[str, Any] = {
        "general.architecture": architecture,
        "general.type": "model",
        "general.name": name,
        "general.file_type": file_type,
        f"{architecture}.context_length": context,
        f"{architecture}.block_count": layers,
        f"{architecture}.embedding_length": embedding,
        f"{architecture}.feed_forward_length": feed_forward,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": kv_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"t{number}" for number in range(tokens)],
        "tokenizer.ggml.token_type": [Typed("i32", 1)] * tokens,
        "tokenizer.chat_template": chat_template,
    }
    data |= {key.replace("__", "."): value for key, value in extra.items()}
    return {key: value for key, value in data.items() if value is not None}


def llama_tensors(
    *, kind: str = "Q8_0", layers: int = 2, embedding: int = 64, feed_forward: int = 128, tokens: int = 32
) -> dict[str, Tensor]:
    """Tensors that go with `llama_metadata`: norms in F32, everything else in `kind`."""
    found = {"token_embd.weight": Tensor(kind, (embedding, tokens))}
    for layer in range(layers):
        block = f"blk.{layer}"
        found |= {
            f"{block}.attn_norm.weight": Tensor("F32", (embedding,)),
            f"{block}.attn_q.weight": Tensor(kind, (embedding, embedding)),
            f"{block}.attn_k.weight": Tensor(kind, (embedding, embedding // 2)),
            f"{block}.attn_v.weight": Tensor(kind, (embedding, embedding // 2)),
            f"{block}.attn_output.weight": Tensor(kind, (embedding, embedding)),
            f"{block}.ffn_norm.weight": Tensor("F32", (embedding,)),
            f"{block}.ffn_gate.weight": Tensor(kind, (embedding, feed_forward)),
            f"{block}.ffn_up.weight": Tensor(kind, (embedding, feed_forward)),
            f"{block}.ffn_down.weight": Tensor(kind, (feed_forward, embedding)),
        }
    return found | {"output_norm.weight": Tensor("F32", (embedding,))}


def write_tiny_gguf(path: Path, **metadata: Any) -> Path:
    """A small Llama in Q8_0, about 60 KB; keywords as for `llama_metadata`."""
    return write_gguf(path, llama_metadata(**metadata), llama_tensors())


def write_split_gguf(folder: Path, stem: str = "tiny", parts: int = 3) -> list[Path]:
    """The small Llama in several files, named and numbered as llama.cpp's gguf-split does."""
    tensors = list(llama_tensors().items())
    step = -(-len(tensors) // parts)
    paths = []
    for number in range(parts):
        split = {
            "split.no": Typed("u16", number),
            "split.count": Typed("u16", parts),
            "split.tensors.count": Typed("i32", len(tensors)),
        }
        metadata = llama_metadata() | split if number == 0 else split
        path = folder / f"{stem}-{number + 1:05d}-of-{parts:05d}.gguf"
        paths.append(write_gguf(path, metadata, dict(tensors[number * step : (number + 1) * step])))
    return paths


# --- Legacy GGML --------------------------------------------------------------------------------


def write_legacy(path: Path, magic: bytes = b"tjgg", version: int | None = 3, file_type: int = 2) -> Path:
    """A Llama of 2023 without weights worth the name: version None for the unversioned, Q4_0 but for file type 0, 1.

    `tests.legacy_files` writes them with real weights.
    """
    size = {0: 4.0, 1: 2.0}.get(file_type, 18 / 32 if version == 3 else 20 / 32)
    kind = file_type if file_type in (0, 1) else 2
    out = bytearray(magic + (struct.pack("<I", version) if version is not None else b""))
    out += struct.pack("<7I", 32, 64, 32, 4, 2, 16, file_type)
    out += (struct.pack("<I", 2) + b"ab" + (b"" if version is None else bytes(4))) * 32
    square, inner = (64, 64), {"w1": (64, 192), "w2": (192, 64), "w3": (64, 192)}
    tensors: dict[str, tuple[int, ...]] = {"tok_embeddings": (64, 32), "norm": (64,), "output": (64, 32)}
    for layer in range(2):
        tensors |= {f"layers.{layer}.attention.{name}": square for name in ("wq", "wk", "wv", "wo")}
        tensors |= {f"layers.{layer}.{name}_norm": (64,) for name in ("attention", "ffn")}
        tensors |= {f"layers.{layer}.feed_forward.{name}": shape for name, shape in inner.items()}
    for name, shape in tensors.items():
        flat = len(shape) == 1
        out += struct.pack("<3I", len(shape), len(name) + 7, 0 if flat else kind)
        out += struct.pack(f"<{len(shape)}I", *shape) + f"{name}.weight".encode()
        out += bytes(-len(out) % 32) if magic == b"tjgg" else b""
        out += bytes(int(math.prod(shape) * (4 if flat else size)))
    path.write_bytes(out)
    return path


# --- Hugging Face -------------------------------------------------------------------------------

_WIDTHS = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "U32": 4, "I16": 2, "I8": 1, "U8": 1, "F8_E4M3": 1, "I64": 8}

HfTensors = Mapping[str, tuple[str, Sequence[int]]]
"""Name -> dtype as safetensors has it, and shape."""


def write_safetensors(path: Path, tensors: HfTensors, metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file with zeros for weights."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = _WIDTHS[dtype]
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(offset))
    return path


def llama_config(**extra: Any) -> dict[str, Any]:
    """config.json of a small Llama; None leaves a key out."""
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "vocab_size": 32,
        "torch_dtype": "bfloat16",
        "transformers_version": "5.0.0",
    }
    return {key: value for key, value in (config | extra).items() if value is not None}


def hf_tensors(dtype: str = "BF16", layers: int = 2) -> dict[str, tuple[str, Sequence[int]]]:
    """A few tensors of the small Llama."""
    found: dict[str, tuple[str, Sequence[int]]] = {"model.embed_tokens.weight": (dtype, (32, 64))}
    for layer in range(layers):
        found[f"model.layers.{layer}.mlp.up_proj.weight"] = (dtype, (128, 64))
        found[f"model.layers.{layer}.input_layernorm.weight"] = (dtype, (64,))
    return found


def write_json(path: Path, value: Any) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(value), "utf-8")
    return path


def write_hf_folder(
    folder: Path, config: Mapping[str, Any] | None = None, tensors: HfTensors | None = None, *, shards: int = 1
) -> Path:
    """A Hugging Face folder with safetensors, in shards with an index where there are several."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", llama_config() if config is None else config)
    write_json(
        folder / "tokenizer_config.json", {"chat_template": "{{ messages[0].content }}", "model_max_length": 512}
    )
    items = list((tensors or hf_tensors()).items())
    if shards == 1:
        write_safetensors(folder / "model.safetensors", dict(items), {"format": "pt"})
        return folder
    weight_map: dict[str, str] = {}
    for number in range(shards):
        name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(items[number::shards])
        write_safetensors(folder / name, part, {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": 0}, "weight_map": weight_map})
    return folder


def write_pytorch(path: Path) -> Path:
    """A checkpoint as torch.save writes it since 1.6: a zip archive, here with an empty pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
    return path


def write_legacy_pytorch(path: Path) -> Path:
    """A checkpoint as torch.save wrote it before 1.6: the number that begins it, pickled, and an empty pickle."""
    path.write_bytes(bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + b"\x80\x02M\xe9\x03.\x80\x02}q\x00.")
    return path


def write_adapter_folder(folder: Path, rank: int = 8) -> Path:
    """A PEFT LoRA adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "adapter_config.json", {"peft_type": "LORA", "r": rank, "base_model_name_or_path": "owner/base"}
    )
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{name}.lora_A.weight": ("F32", (rank, 64)), f"{name}.lora_B.weight": ("F32", (64, rank))}
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


# --- ONNX ---------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _message(number: int, raw: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def write_onnx(path: Path, graph_bytes: int = 300) -> Path:
    """A ModelProto with a graph of some bytes, as exporters write it."""
    graph = _message(2, b"g" * graph_bytes)
    path.write_bytes(
        b"\x08\x0a"
        + _message(2, b"pytorch")
        + _message(3, b"2.9.0")
        + _message(7, graph)
        + _message(8, b"\x0a\x00\x10\x15")
        + _message(14, _message(1, b"task") + _message(2, b"text-generation"))
    )
    return path


def write_genai_folder(folder: Path) -> Path:
    """A folder of ONNX Runtime GenAI."""
    folder.mkdir(parents=True, exist_ok=True)
    decoder = {
        "filename": "model.onnx",
        "head_size": 16,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
    }
    model = {"type": "llama", "context_length": 256, "vocab_size": 32, "decoder": decoder}
    write_json(folder / "genai_config.json", {"model": model, "search": {"max_length": 256}})
    write_json(folder / "tokenizer_config.json", {"chat_template": "{{ messages[0].content }}"})
    write_onnx(folder / "model.onnx")
    (folder / "model.onnx.data").write_bytes(bytes(512))
    return folder


# --- TensorRT-LLM -------------------------------------------------------------------------------


def write_tensorrt_folder(folder: Path, ranks: int = 2) -> Path:
    """An engine folder of trtllm-build for some GPUs; the engines are zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    pretrained = {
        "architecture": "LlamaForCausalLM",
        "dtype": "float16",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 32,
        "max_position_embeddings": 256,
        "quantization": {"quant_algo": "FP8"},
        "mapping": {"world_size": ranks, "tp_size": ranks, "pp_size": 1},
    }
    build = {"max_input_len": 128, "max_seq_len": 192, "max_batch_size": 4}
    write_json(folder / "config.json", {"version": "1.1.0", "pretrained_config": pretrained, "build_config": build})
    for rank in range(ranks):
        (folder / f"rank{rank}.engine").write_bytes(bytes(1024))
    return folder
