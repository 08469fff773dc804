from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.builders import Typed, llama_metadata, llama_tensors, write_gguf
from tests.remote.net import Net, served

TOKENS = 20_000
SHAPE: dict[str, Any] = {"layers": 8, "embedding": 512, "feed_forward": 1024}


@pytest.fixture
def net() -> Iterator[Net]:
    with served() as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "UML_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))


@pytest.fixture
def leftovers(tmp_path: Path) -> Callable[[], list[Path]]:
    """What lies in the folder for what is read remotely."""
    return lambda: list((tmp_path / "scratch").iterdir())


def write_model(path: Path, kind: str = "Q4_K", tokens: Sequence[str] | None = None, **extra: Any) -> Path:
    """A Llama with a vocabulary that fills most of its header, and weights that are a hole."""
    words = list(tokens or (f"token-{number}" for number in range(TOKENS)))
    file_type = {"Q4_K": 15, "Q8_0": 7, "Q2_K": 10, "F16": 1}[kind]
    metadata = llama_metadata(file_type=file_type, heads=8, kv_heads=2, **SHAPE, **extra)
    metadata["tokenizer.ggml.tokens"] = words
    metadata["tokenizer.ggml.token_type"] = Typed("array", [Typed("i32", 1)] * len(words))
    metadata["tokenizer.ggml.merges"] = [f"to ken{number}" for number in range(len(words))]
    metadata["general.quantization_version"] = 2
    metadata["quantize.imatrix.file"] = f"{kind}.dat"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_gguf(path, metadata, llama_tensors(kind=kind, tokens=len(words), **SHAPE))
