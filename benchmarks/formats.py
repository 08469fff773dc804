"""How long the header of a large GGUF file takes, and how much memory: `python -m benchmarks.formats`.

The file is made here: 10 GB of nothing (sparse, it takes no room on disk) behind a real header of 128,000
tokens, 280,000 merges and 291 tensors. Each reader runs in a process of its own, three times; the best time
counts, and the memory on top of what the imports took (Linux). `gguf.GGUFReader` is measured where it is installed.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from pathlib import Path

TOKENS, MERGES = 128_000, 280_000
SIZE_BYTES = 10_000_000_000
LAYERS, EMBEDDING, FEED_FORWARD = 32, 4096, 14336

CHILD = """
import re, sys, time
{imports}
# The high-water mark of this process alone; getrusage also counts what its parent had when it was started.
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before, start = peak(), time.perf_counter()
{call}
print(time.perf_counter() - start, peak() - before)
"""

READERS = {
    "uml.formats.inspect": ("from pathlib import Path\nfrom uml.formats import inspect", "inspect(Path(sys.argv[1]))"),
    "gguf.GGUFReader": ("from gguf import GGUFReader", "GGUFReader(sys.argv[1])"),
}


def write_large_gguf(path: Path) -> Path:
    """The header of a Llama 3 8B with made-up tokens, in F16 and a little sparse padding up to 10 GB."""
    tensors = _tensors()
    metadata = [
        _text_pair("general.architecture", "llama"),
        _text_pair("general.name", "Large"),
        *(
            _pair(key, 4, struct.pack("<I", value))
            for key, value in {
                "general.file_type": 1,
                "llama.block_count": LAYERS,
                "llama.embedding_length": EMBEDDING,
                "llama.feed_forward_length": FEED_FORWARD,
                "llama.attention.head_count": 32,
                "llama.attention.head_count_kv": 8,
                "llama.context_length": 8192,
            }.items()
        ),
        _texts("tokenizer.ggml.tokens", [f"token{number}" for number in range(TOKENS)]),
        _pair("tokenizer.ggml.token_type", 9, struct.pack("<IQ", 5, TOKENS) + struct.pack("<i", 1) * TOKENS),
        _texts("tokenizer.ggml.merges", [f"to{number} ken{number}" for number in range(MERGES)]),
    ]
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(metadata))
        offset = 0
        for name, shape in tensors:
            file.write(
                _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", 1, offset)
            )
            offset += -(-_bytes(shape) // 32) * 32
        # What the tensors leave of 10 GB lies behind them.
        file.truncate(max(SIZE_BYTES, file.tell() + 32 + offset))
    return path


def _tensors() -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (EMBEDDING, TOKENS))]
    for layer in range(LAYERS):
        shapes = {
            "attn_norm": (EMBEDDING,),
            "attn_q": (EMBEDDING, EMBEDDING),
            "attn_k": (EMBEDDING, EMBEDDING // 4),
            "attn_v": (EMBEDDING, EMBEDDING // 4),
            "attn_output": (EMBEDDING, EMBEDDING),
            "ffn_norm": (EMBEDDING,),
            # Smaller than the real ones, so that all of it stays within 10 GB.
            "ffn_gate": (EMBEDDING, FEED_FORWARD // 2),
            "ffn_up": (EMBEDDING, FEED_FORWARD // 2),
            "ffn_down": (FEED_FORWARD // 2, EMBEDDING),
        }
        found += [(f"blk.{layer}.{name}.weight", shape) for name, shape in shapes.items()]
    return [*found, ("output_norm.weight", (EMBEDDING,)), ("output.weight", (EMBEDDING, TOKENS))]


def _bytes(shape: tuple[int, ...]) -> int:
    elements = 1
    for size in shape:
        elements *= size
    return elements * 2


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _pair(key: str, kind: int, raw: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + raw


def _text_pair(key: str, value: str) -> bytes:
    return _pair(key, 8, _text(value))


def _texts(key: str, values: list[str]) -> bytes:
    return _pair(key, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(_text, values)))


def measure(imports: str, call: str, path: Path, runs: int) -> tuple[float, int] | None:
    """Best seconds and least KiB over some runs; None where the reader cannot be imported or fails."""
    times, sizes = [], []
    for _ in range(runs):
        script = CHILD.format(imports=imports, call=call)
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            return None
        seconds, kib = done.stdout.split()
        times.append(float(seconds))
        sizes.append(int(kib))
    return min(times), min(sizes)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_large_gguf(Path(folder) / "large.gguf")
        print(f"header of a {SIZE_BYTES / 1e9:.0f} GB GGUF: {TOKENS:,} tokens, {MERGES:,} merges")
        print(f"{'reader':24} {'seconds':>9} {'extra MiB':>10}")
        for name, (imports, call) in READERS.items():
            found = measure(imports, call, path, 5 if name.startswith("uml") else 1)
            if found:
                print(f"{name:24} {found[0]:9.3f} {found[1] / 1024:10.1f}")
            else:
                print(f"{name:24} {'(not run)':>9}")


if __name__ == "__main__":
    main()
