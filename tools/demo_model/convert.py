"""Turns the demo model's Hugging Face folder into a GGUF file.

    python -m tools.demo_model.convert SOURCE OUT.gguf --type q8_0

What users get of `uml convert --to gguf`, under the demo model's name.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from uml.formats import inspect
from uml.formats.gguf.values import text, u32
from uml.runtime.conversions.gguf import make
from uml.runtime.conversions.gguf.families import FAMILIES
from uml.runtime.conversions.gguf.naming import place
from uml.runtime.conversions.packing import write

Array = NDArray[Any]

TYPES: Final = ("f32", "f16", "q8_0", "q4_k_m", "q4_0")
"""Kinds of file."""
THREADS: Final = 2
MEAN: Final = 1
"""llama_pooling_type."""


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
    found = place(FAMILIES["LlamaForCausalLM"], name)
    assert found is not None, name
    return found.tensor


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


def convert(
    folder: Path, out: Path, kind: str = "q8_0", name: str = "UML Demo 5M", *, mean_pooling: bool = False
) -> Path:
    """Write `out` as a file of `kind`, of `TYPES`; norms stay f32. Returns `out`.

    With `mean_pooling` engines take the file for an embedding model, one vector a text.
    """
    more = {"general.name": text(name), "general.license": text("apache-2.0")}
    if mean_pooling:
        more["llama.pooling_type"] = u32(MEAN)
    planned = make.plan(make.Order(name, inspect(folder), kind.upper(), out, THREADS, more))
    with tempfile.TemporaryDirectory(dir=out.parent) as shop:
        file = Path(shop) / out.name
        write(name, planned.recipe, file, THREADS, lambda making: None)
        file.replace(out)
    return out


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
