"""Conversions to ONNX: whole or not at all, with progress, and proved before they count.

The builder is a stand-in here, run as a real process; tests/engines/onnx has the real one.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.builders import hf_tensors, llama_config, write_genai_folder, write_hf_folder, write_tiny_gguf
from uml.core.errors import (
    BadRequest,
    Cancelled,
    ConversionFailed,
    NoRoom,
    OutOfMemory,
    UmlError,
    UnsupportedArchitecture,
    UnsupportedFormat,
)
from uml.core.install import Install
from uml.core.model import Format
from uml.formats import inspect
from uml.runtime.conversions import onnx, workshop
from uml.runtime.conversions.workshop import MAKING, Making

BUILDER = """#!{python}
import os, pathlib, shutil, sys, time
mode, whole = {mode!r}, {whole!r}
words = sys.argv[1:]
if "-o" not in words:
    if mode == "unproved":
        sys.exit("RuntimeError: Load model from model.onnx failed")
    sys.exit(0)
print("Reading embedding layer", flush=True)
print("Reading layer 0", flush=True)
out = pathlib.Path(words[words.index("-o") + 1])
out.mkdir()
(out / "model.onnx").write_bytes(b"half")
pathlib.Path(os.environ["TMPDIR"], "left").write_text("x")
if mode == "fails":
    sys.exit("Traceback (most recent call last):\\n  File x\\nValueError: no such layer")
if mode == "memory":
    sys.exit("MemoryError")
if mode == "killed":
    os.kill(os.getpid(), 9)
if mode == "hangs":
    time.sleep(60)
if mode == "empty":
    sys.exit(0)
shutil.rmtree(out)
shutil.copytree(whole, out)
print("Saving x:  50%|#####     | 1/2", flush=True)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "llama"
    write_hf_folder(folder, llama_config(), hf_tensors())
    return folder


def order(tmp_path: Path, model: Path, mode: str = "", precision: str = "int4") -> onnx.Order:
    whole = tmp_path / "whole"
    if not whole.exists():
        whole.mkdir()
        write_genai_folder(whole)
    python = tmp_path / f"python-{mode or 'good'}"
    python.write_text(BUILDER.format(python=sys.executable, mode=mode, whole=str(whole)))
    python.chmod(0o755)
    builder = Install(onnx.BUILDER, "0.18.0", folder=tmp_path, python=python)
    return onnx.Order("llama", inspect(model), precision, tmp_path / "made" / "llama-onnx", builder)


def left(tmp_path: Path) -> list[str]:
    made = tmp_path / "made"
    return sorted(path.name for path in made.iterdir()) if made.exists() else []


def test_a_model_is_made_and_lies_in_its_place(tmp_path: Path, model: Path) -> None:
    steps: list[Making] = []
    place = onnx.convert(order(tmp_path, model), steps.append)
    assert inspect(place).format is Format.ONNX_GENAI
    assert left(tmp_path) == ["llama-onnx"]
    assert [step.text for step in steps][:3] == ["starting the builder", "reading embeddings", "reading layer 0"]
    assert [step.text for step in steps][-3:] == ["writing", "loading what was made", "done"]
    percents = [step.percent for step in steps]
    assert percents == sorted(percents)
    assert percents[-1] == 100


@pytest.mark.parametrize(
    ("mode", "kind", "says"),
    [
        ("fails", ConversionFailed, "ValueError: no such layer"),
        ("memory", OutOfMemory, "ran out of memory"),
        ("killed", OutOfMemory, "ran out of memory"),
        ("empty", ConversionFailed, "nothing of it is left"),
        ("unproved", ConversionFailed, "Load model from model.onnx failed"),
    ],
)
def test_nothing_is_left_of_one_that_fails(
    mode: str, kind: type[UmlError], says: str, tmp_path: Path, model: Path
) -> None:
    with pytest.raises(kind, match=says):
        onnx.convert(order(tmp_path, model, mode), lambda step: None)
    assert left(tmp_path) == []


def test_nothing_is_left_of_one_that_is_stopped(tmp_path: Path, model: Path) -> None:
    heard: list[Making] = []
    with pytest.raises(Cancelled):
        onnx.convert(order(tmp_path, model, "hangs"), heard.append, cancelled=lambda: len(heard) > 2)
    assert left(tmp_path) == []


def test_what_was_killed_is_tidied_up_by_the_next(tmp_path: Path, model: Path) -> None:
    made = tmp_path / "made"
    dead = made / f"{MAKING}999999999-x"
    dead.mkdir(parents=True)
    alive = made / f"{MAKING}{os.getpid()}-y"
    alive.mkdir()
    onnx.convert(order(tmp_path, model), lambda step: None)
    assert left(tmp_path) == [alive.name, "llama-onnx"]


def test_what_is_there_is_not_written_over(tmp_path: Path, model: Path) -> None:
    wanted = order(tmp_path, model)
    wanted.place.mkdir(parents=True)
    (wanted.place / "mine").write_text("x")
    with pytest.raises(BadRequest, match="is there already"):
        onnx.convert(wanted, lambda step: None)
    assert (wanted.place / "mine").read_text() == "x"


def test_a_full_disk_is_told_before_anything_begins(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop, "SPARE_BYTES", shutil.disk_usage(tmp_path).free)
    with pytest.raises(NoRoom, match="llama in ONNX needs"):
        onnx.convert(order(tmp_path, model), lambda step: None)
    assert left(tmp_path) == []


def test_what_the_builder_does_not_take_is_told_before_it_starts(tmp_path: Path) -> None:
    gguf = write_tiny_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(UnsupportedFormat, match="it is gguf"):
        onnx.check("tiny", inspect(gguf))
    other = tmp_path / "other"
    write_hf_folder(other, llama_config(architectures=["BloomForCausalLM"], model_type="bloom"), hf_tensors())
    with pytest.raises(UnsupportedArchitecture, match="BloomForCausalLM"):
        onnx.check("other", inspect(other))
