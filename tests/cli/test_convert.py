"""`uml convert`, with stand-ins for the programs of others."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.builders import hf_tensors, llama_config, write_hf_folder, write_json, write_pytorch
from tests.cli.conftest import Uml
from tests.installed import without_transformers
from tests.runtime.conversions.hf_folders import config, write_folder
from tests.runtime.conversions.test_gguf_told import ENCODER, RERANKER, reranker_shapes, unigram
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


def test_a_folder_becomes_gguf_and_is_in_the_list(uml: Uml, tmp_path: Path) -> None:
    said = uml("convert", write_folder(tmp_path / "Tiny-Llama"), "--to", "gguf")
    assert said.code == 0, said.err
    place = uml.data / "models" / "tiny-llama-bf16.gguf"
    assert f"tiny-llama-bf16 is in {place}" in said.out
    assert "uml run tiny-llama-bf16" in said.out
    assert "packing layer 1" in said.err
    assert "tiny-llama-bf16" in [found["id"] for found in uml("ls", "--json").json["data"]]
    again = uml("convert", tmp_path / "Tiny-Llama", "--to", "gguf")
    assert again.code == 2 and "is there already" in again.err


def test_what_does_not_chat_is_asked_otherwise(uml: Uml, tmp_path: Path) -> None:
    settings = config(**ENCODER | RERANKER)
    said = uml("convert", str(write_folder(tmp_path / "judge", settings, reranker_shapes(), unigram())), "--to", "gguf")
    assert said.code == 0, said.err
    assert "it is a reranker, which scores documents for a query; ask it at /v1/rerank" in said.out
    assert "uml run" not in said.out


def test_precision_and_place_are_as_asked_and_losses_are_told(uml: Uml, tmp_path: Path) -> None:
    settings = config(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=64)
    folder = write_folder(tmp_path / "it", settings)
    (tmp_path / "mine").mkdir()
    said = uml("convert", folder, "--to", "gguf", "--precision", "q8_0", "--out", tmp_path / "mine", "--json")
    assert said.lines[-1]["path"] == str(tmp_path / "mine" / "it-q8_0.gguf")
    assert any(line["event"] == "warning" and "the last 64 tokens" in line["text"] for line in said.lines)
    said = uml("convert", folder, "--to", "gguf", "--out", tmp_path / "other.gguf", "--threads", "1")
    assert "the last 64 tokens" in said.err and (tmp_path / "other.gguf").exists()


def test_an_architecture_outside_the_list_names_the_way_out(uml: Uml, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "odd", config(architectures=["OddForCausalLM"]))
    said = uml("convert", folder, "--to", "gguf")
    assert said.code != 0
    assert all(words in said.err for words in ("OddForCausalLM is not among those", "LlamaForCausalLM", "--converter"))
    said = uml("convert", folder, "--to", "gguf", "--converter", tmp_path / "convert_hf_to_gguf.py")
    assert said.code == 2 and "is not there; name convert_hf_to_gguf.py" in said.err


@without_transformers
def test_a_converter_needs_an_interpreter_and_takes_the_one_it_is_given(uml: Uml, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "odd", config(architectures=["OddForCausalLM"]))
    script = tmp_path / "convert_hf_to_gguf.py"
    demo = Path("src/uml/models/demo.gguf").absolute()
    script.write_text(f"import shutil, sys; shutil.copyfile({str(demo)!r}, sys.argv[sys.argv.index('--outfile') + 1])")
    said = uml("convert", folder, "--to", "gguf", "--converter", script, "--json")
    assert said.error["code"] == "engine_not_installed"
    assert said.error["details"]["command"] == "uml engine install transformers"
    said = uml("convert", folder, "--to", "gguf", "--converter", script, "--python", sys.executable)
    assert said.code == 0, said.err
    assert f"odd-auto is in {uml.data / 'models' / 'odd-auto.gguf'}" in said.out
    said = uml("convert", folder, "--to", "gguf", "--converter", script, "--python", tmp_path / "none")
    assert said.code == 2 and "expected the path of an interpreter" in said.err
    said = uml("convert", folder, "--to", "gguf", "--converter", script, "--precision", "q4_k_m")
    assert said.code == 2 and "expected one of f32, f16, bf16, q8_0" in said.err


@without_transformers
def test_checkpoints_need_torch_and_say_so(uml: Uml, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    write_json(folder / "config.json", llama_config())
    write_pytorch(folder / "pytorch_model.bin")
    said = uml("convert", folder, "--to", "safetensors", "--json")
    assert said.error["code"] == "engine_not_installed" and "reading old" in said.error["message"]
    said = uml("convert", folder, "--to", "gguf")
    assert "first: uml convert old --to safetensors" in said.err
    said = uml("convert", write_folder(tmp_path / "it"), "--to", "safetensors")
    assert said.code != 0 and "into safetensors go PyTorch checkpoints" in said.err


def test_options_without_a_meaning_are_refused(uml: Uml, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "it")
    for arguments in (
        ("--to", "onnx", "--converter", "x.py"),
        ("--to", "safetensors", "--precision", "f16"),
        ("--to", "gguf", "--python", sys.executable),
        ("--to", "onnx", "--threads", "2"),
    ):
        said = uml("convert", folder, *arguments)
        assert said.code == 2 and f"{arguments[2][2:]} means nothing for {arguments[1]}" in said.err
    said = uml("convert", folder, "--to", "gguf", "--precision", "iq1_s")
    assert said.code == 2 and "expected one of f32, f16" in said.err
