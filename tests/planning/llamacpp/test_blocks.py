"""Compute buffers of every building block, against figures of the engine's log (b11549, AVX2, random weights).

The files are those of `benchmarks.architectures`; only their headers are made here.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.architectures import MODELS, gemma3, siglip
from benchmarks.sketch import write
from uml.core.options import LoadOptions
from uml.formats.gguf.file import inspect_gguf
from uml.planning.llamacpp.projector import projector_compute
from uml.planning.llamacpp.rules import compute

MIB = 1 << 20
F16 = LoadOptions(ctx=2048, parallel=1, batch=512, ubatch=512, device="cpu", gpu_layers=0)
Q8 = replace(F16, ctx=4096, cache_type_k="q8_0", cache_type_v="q8_0")
WHOLE = replace(F16, batch=2048, ubatch=2048, embeddings=True)

LOGGED = [
    ("llama", F16, 21.52),
    ("llama", replace(F16, parallel=4), 21.52),
    ("llama", Q8, 23.55),
    ("qwen3", replace(F16, ctx=16_384), 35.52),
    ("gemma2", F16, 29.03),
    ("gemma2", Q8, 31.18),
    ("gemma3", Q8, 25.06),
    ("gpt-oss", F16, 28.28),
    ("gpt-oss", Q8, 30.34),
    ("qwen3moe", F16, 27.52),
    ("deepseek2", F16, 26.01),
    ("deepseek2", Q8, 28.01),
    ("mamba2", F16, 24.83),
    ("mamba2", replace(F16, parallel=4), 27.14),
    ("mamba2", Q8, 24.83),
    ("falcon-h1", F16, 26.84),
    ("command-r", F16, 23.02),
    ("command-r", Q8, 26.55),
    ("bert", WHOLE, 35.05),
    ("bert", replace(WHOLE, parallel=4), 35.08),
]


@pytest.mark.parametrize(("name", "options", "mib"), LOGGED)
def test_a_compute_buffer_is_as_the_engine_logged_it(
    name: str, options: LoadOptions, mib: float, tmp_path: Path
) -> None:
    about = inspect_gguf(write(MODELS[name](), tmp_path / "model.gguf", sparse=True))
    assert about.shape is not None
    assert compute(about, about.shape, options).likely / MIB == pytest.approx(mib, rel=0.003)


def test_a_projector_computes_one_image(tmp_path: Path) -> None:
    about = inspect_gguf(write(siglip(gemma3().dims), tmp_path / "mmproj.gguf", sparse=True))
    found = projector_compute(about)
    assert found is not None
    assert found / MIB == pytest.approx(21.0, abs=1.0)
    assert projector_compute(replace(about, metadata={})) is None
