"""Checkpoints of PyTorch as safetensors: nothing but tensors is unpickled, and each is compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import hf_tensors, llama_config, write_hf_folder, write_json, write_pytorch
from tests.installed import python_of
from uml.core.errors import BadRequest, Cancelled, ConversionFailed, OutOfMemory, UmlError, UnsupportedFormat
from uml.core.model import Format
from uml.formats import inspect
from uml.formats.safetensors import read_safetensors
from uml.runtime.conversions import safetensors as work
from uml.runtime.conversions.workshop import Making

PYTHON = python_of("transformers")
MAKE = """
import collections, json, os, sys, torch
from pathlib import Path
out = Path(sys.argv[1])
torch.manual_seed(0)
embedding = torch.randn(32, 16).to(torch.bfloat16)
first = {
    "model.embed_tokens.weight": embedding,
    "model.layers.0.mlp.up_proj.weight": torch.randn(24, 16).t(),
    "model.layers.0.input_layernorm.weight": torch.tensor([float("nan"), 1.0] * 8),
    "model.layers.0.half.weight": torch.randn(64)[8:40],
    "empty": torch.empty(0, 3),
}
second = {"lm_head.weight": embedding, "model.counts": torch.arange(5)}
def folder(name, tied=True, **files):
    place = out / name
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": tied,
        "architectures": ["LlamaForCausalLM"], "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}))
    (place / "tokenizer_config.json").write_text("{}")
    (place / "additional.py").write_text("raise SystemExit")
    for file, value in files.items():
        torch.save(value, place / (file.replace("__", "-") + ".bin"))
    return place
folder("tied", pytorch_model={**first, **second})
folder("apart", tied=False, pytorch_model={**first, **second})
shards = folder("shards", pytorch_model__00001__of__00002=first, pytorch_model__00002__of__00002=second)
places = dict.fromkeys(first, "pytorch_model-00001-of-00002.bin")
places |= dict.fromkeys(second, "pytorch_model-00002-of-00002.bin")
(shards / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
folder("nested", pytorch_model={"epoch": 3, "state_dict": collections.OrderedDict(first)})
folder("twice", pytorch_model__00001__of__00002=first, pytorch_model__00002__of__00002=first)
folder("nothing", pytorch_model={"epoch": 3})
old = folder("old")
torch.save(first, old / "pytorch_model.bin", _use_new_zipfile_serialization=False)
class Evil:
    def __reduce__(self):
        return (os.system, ("touch " + str(out / "ran"),))
folder("evil", pytorch_model={**first, "evil": Evil()})
torch.save(first, out / "bare.pt")
"""
READ = """
import json, sys, torch
from safetensors import safe_open
found = {}
for path in sys.argv[2:]:
    with safe_open(path, "pt") as file:
        found |= {name: file.get_tensor(name) for name in file.keys()}
expected = torch.load(sys.argv[1], weights_only=True)
same = {name: name in found and torch.equal(found[name].nan_to_num(7.0) if found[name].is_floating_point() else
        found[name], value.nan_to_num(7.0) if value.is_floating_point() else value) for name, value in expected.items()}
print(json.dumps(same))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PYTHON:
        pytest.skip("UML_TEST_TRANSFORMERS_PYTHON names no interpreter with torch")
    folder = tmp_path_factory.mktemp("checkpoints")
    subprocess.run([PYTHON, "-c", MAKE, str(folder)], check=True)
    return folder


def convert(source: Path, place: Path, python: str = PYTHON, heard: list[Making] | None = None) -> Path:
    order = work.Order("it", inspect(source), place, Path(python))
    return work.convert(order, heard.append if heard is not None else lambda making: None)


def same(source: Path, *files: Path) -> dict[str, bool]:
    said = subprocess.run([PYTHON, "-c", READ, str(source), *map(str, files)], check=True, capture_output=True)
    found: dict[str, bool] = json.loads(said.stdout)
    return found


# Importing torch takes seconds, and each conversion is a process that does.
@pytest.mark.slow
def test_each_tensor_is_there_and_the_same(made: Path, tmp_path: Path) -> None:
    heard: list[Making] = []
    folder = convert(made / "tied", tmp_path / "tied", heard=heard)
    found = same(made / "tied" / "pytorch_model.bin", folder / "model.safetensors")
    assert [name for name, equal in found.items() if not equal] == ["lm_head.weight"]
    # Loaders tie it to the embedding again, and the file says so.
    header = read_safetensors(folder / "model.safetensors")
    assert header.metadata == {"format": "pt", "lm_head.weight": "model.embed_tokens.weight"}
    assert sorted(path.name for path in folder.iterdir()) == [
        *("additional.py", "config.json", "model.safetensors", "tokenizer_config.json")
    ]
    info = inspect(folder)
    assert info.format is Format.SAFETENSORS and info.architecture == "LlamaForCausalLM"
    assert heard[-1] == Making("done", 100)
    assert [step.percent for step in heard] == sorted(step.percent for step in heard)


@pytest.mark.slow
def test_what_is_not_tied_again_is_written_twice(made: Path, tmp_path: Path) -> None:
    folder = convert(made / "apart", tmp_path / "apart")
    assert all(same(made / "apart" / "pytorch_model.bin", folder / "model.safetensors").values())


@pytest.mark.slow
def test_shards_stay_shards_with_an_index(made: Path, tmp_path: Path) -> None:
    folder = convert(made / "shards", tmp_path / "shards")
    parts = [folder / f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        assert all(same(made / "shards" / f"pytorch_model-0000{number}-of-00002.bin", part).values())
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["weight_map"]["lm_head.weight"] == parts[1].name
    assert index["metadata"]["total_size"] == sum(sum(read_safetensors(part).dtype_bytes.values()) for part in parts)
    assert not list(folder.glob("*.bin*"))
    assert inspect(folder).files[:2] == tuple(parts)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nested", "old"])
def test_older_and_wrapped_checkpoints_are_read(made: Path, tmp_path: Path, name: str) -> None:
    folder = convert(made / name, tmp_path / name)
    expected = {*read_safetensors(folder / "model.safetensors").tensors}
    assert "model.embed_tokens.weight" in expected and len(expected) == 5


@pytest.mark.slow
def test_weights_alone_become_a_folder(made: Path, tmp_path: Path) -> None:
    folder = convert(made / "bare.pt", tmp_path / "bare")
    assert all(same(made / "bare.pt", folder / "model.safetensors").values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("evil", "holds more than tensors, and what is more might run"),
        ("nothing", "holds no tensors by name"),
        ("twice", "is in pytorch_model-00001-of-00002.bin and in pytorch_model-00002-of-00002.bin"),
    ],
)
def test_what_is_more_than_tensors_is_not_run(made: Path, tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(ConversionFailed) as raised:
        convert(made / name, tmp_path / "made" / name)
    assert says in raised.value.message
    assert not (made / "ran").exists()
    assert not list((tmp_path / "made").iterdir())


def folder_of(path: Path) -> Path:
    path.mkdir()
    write_json(path / "config.json", llama_config())
    write_pytorch(path / "pytorch_model.bin")
    return path


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("raise SystemExit('Refused: it is odd')", ConversionFailed, "it is odd"),
        ("import nonesuch_library", ConversionFailed, "No module named 'nonesuch_library'"),
        ("import os; os.abort()", ConversionFailed, "ended with code -6"),
        ("import os; os.kill(os.getpid(), 9)", OutOfMemory, ""),
        ("pass", ConversionFailed, "what was made is"),
    ],
)
def test_a_child_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[UmlError], says: str
) -> None:
    stand_in = tmp_path / "child.py"
    stand_in.write_text(script)
    monkeypatch.setattr(work, "CHILD", stand_in)
    source = folder_of(tmp_path / "source")
    with pytest.raises(error) as raised:
        convert(source, tmp_path / "made" / "it", sys.executable)
    assert says in raised.value.message
    assert not list((tmp_path / "made").iterdir())


def test_it_can_be_stopped_and_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "child.py"
    stand_in.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(work, "CHILD", stand_in)
    source = folder_of(tmp_path / "source")
    order = work.Order("it", inspect(source), tmp_path / "made" / "it", Path(sys.executable))
    with pytest.raises(Cancelled):
        work.convert(order, lambda making: None, lambda: True)
    assert not list((tmp_path / "made").iterdir())
    with pytest.raises(BadRequest, match="is there already"):
        convert(source, source, sys.executable)
    with pytest.raises(ConversionFailed, match="No such file"):
        convert(source, tmp_path / "made" / "it", str(tmp_path / "nonesuch"))


def test_only_checkpoints_are_converted(tmp_path: Path) -> None:
    write_hf_folder(tmp_path / "it", llama_config(), hf_tensors())
    with pytest.raises(UnsupportedFormat, match="into safetensors go PyTorch checkpoints"):
        work.check(inspect(tmp_path / "it"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pytorch_model.bin", "model.safetensors"),
        ("pytorch_model-00002-of-00007.bin", "model-00002-of-00007.safetensors"),
        ("adapter_model.bin", "adapter_model.safetensors"),
        ("consolidated.00.pth", "model.safetensors"),
    ],
)
def test_names_are_those_that_loaders_look_for(name: str, expected: str) -> None:
    assert work.new_name(Path(name)) == expected
