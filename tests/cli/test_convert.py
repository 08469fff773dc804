"""`uml convert`, with a stand-in for the builder in a real install's place."""

from __future__ import annotations

from pathlib import Path

from tests.builders import hf_tensors, llama_config, write_hf_folder
from tests.cli.conftest import Uml
from tests.runtime.conversions.test_onnx import order
from uml.core.install import Install
from uml.runtime.conversions.onnx import BUILDER
from uml.runtime.installs import manifest


def model_in(folder: Path) -> Path:
    write_hf_folder(folder, llama_config(), hf_tensors())
    return folder


def installed(uml: Uml, tmp_path: Path, model: Path) -> None:
    folder = uml.data / "engines" / BUILDER / "0.18.0"
    python = manifest.python_of(folder)
    python.parent.mkdir(parents=True)
    order(tmp_path, model).builder.python.rename(python)
    manifest.write(Install(BUILDER, "0.18.0", folder, python, smoke="passed"))


def test_a_converted_model_is_in_the_list(uml: Uml, tmp_path: Path) -> None:
    model = model_in(tmp_path / "llama")
    installed(uml, tmp_path, model)
    said = uml("convert", model, "--to", "onnx")
    assert said.code == 0
    place = uml.data / "models" / "llama-onnx-int4"
    assert f"llama-onnx-int4 is in {place}" in said.out
    assert "uml run llama-onnx-int4" in said.out
    assert "llama to onnx: reading layer 0" in said.err
    assert "llama-onnx-int4" in [found["id"] for found in uml("ls", "--json").json["data"]]
    again = uml("convert", "llama", "--to", "onnx")
    assert again.code == 2 and "is there already" in again.err


def test_scripts_get_a_line_a_step(uml: Uml, tmp_path: Path) -> None:
    model = model_in(tmp_path / "llama")
    installed(uml, tmp_path, model)
    said = uml("convert", model, "--to", "onnx", "--precision", "fp32", "--out", tmp_path / "mine", "--json")
    assert [line["event"] for line in said.lines][-2:] == ["progress", "ready"]
    assert said.lines[-1]["path"] == str(tmp_path / "mine")
    assert said.lines[-1]["from"]["model"] == "llama"


def test_without_the_builder_it_says_what_installs_it(uml: Uml, tmp_path: Path) -> None:
    said = uml("convert", model_in(tmp_path / "llama"), "--to", "onnx", "--json")
    assert said.code == 1
    assert said.error["code"] == "engine_not_installed"
    assert said.error["details"]["command"] == "uml engine install onnx-builder"


def test_what_cannot_be_is_a_sentence(uml: Uml, tmp_path: Path) -> None:
    model = model_in(tmp_path / "llama")
    said = uml("convert", model, "--to", "nonesuch")
    assert said.code == 2 and "expected one of gguf, safetensors, onnx" in said.err
    said = uml("convert", model, "--to", "onnx", "--precision", "int3")
    assert said.code == 2 and "expected one of int4, int8, fp32" in said.err
    said = uml("convert", "demo", "--to", "onnx")
    assert said.code == 6 and "it is gguf (Q8_0)" in said.err
