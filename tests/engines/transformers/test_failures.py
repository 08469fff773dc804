"""What is wrong with files and options is told with a cause, and strangers' code does not run."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engines.transformers.conftest import PYTHON, SOURCE, broken, plan_of
from uml.core.errors import UmlError
from uml.engines.handover import failure_in

# Every worker imports PyTorch, which takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def python() -> None:
    """There must be an environment to fail in."""
    if not PYTHON:
        pytest.skip("UML_TEST_TRANSFORMERS_PYTHON names no interpreter with Transformers")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the demo model, to be broken."""
    return Path(shutil.copytree(SOURCE, tmp_path / "copy"))


def failure(folder: Path, scratch: Path, **options: Any) -> UmlError:
    """What a load ended in."""
    worker = broken(plan_of(folder, **options), scratch)
    found = failure_in(worker.log)
    assert found, worker.log
    return found


def test_a_truncated_file_is_corrupt(copy: Path, tmp_path: Path) -> None:
    plan = plan_of(copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5000])
    found = failure_in(broken(plan, tmp_path).log)
    assert found
    assert found.code == "corrupt_file"


def test_a_tensor_that_is_missing_is_named(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7}))
    found = failure(copy, tmp_path)
    assert (found.code, "layers.6" in found.message) == ("corrupt_file", True)


def test_weights_without_their_tokenizer(copy: Path, tmp_path: Path) -> None:
    for file in copy.glob("tokenizer*"):
        file.unlink()
    found = failure(copy, tmp_path)
    assert found.code == "corrupt_file"
    assert "there is no tokenizer that can be read beside the weights, expected tokenizer.json" in found.message


def test_an_architecture_that_nobody_knows(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    assert failure(copy, tmp_path).code == "unsupported_architecture"


@pytest.mark.parametrize("method", ["hqq", "quanto", "auto-round"])
def test_a_quantization_without_its_package_names_it(copy: Path, tmp_path: Path, method: str) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": method}}))
    found = failure(copy, tmp_path)
    assert (found.code, "pip --python" in found.message) == ("load_failed", True)


class Bomb:
    """Runs something when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self.path,))


def test_files_of_pytorch_are_data_only(copy: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors").unlink()
    save = "import sys, torch; torch.save({'x': torch.zeros(2, 2)}, sys.argv[1])"
    subprocess.run([PYTHON, "-c", save, str(copy / "pytorch_model.bin")], check=True)
    plan = plan_of(copy)
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Bomb(tmp_path / "went off")}))
    found = failure_in(broken(plan, tmp_path).log)
    assert found
    assert not (tmp_path / "went off").exists()


def test_code_of_a_model_runs_only_where_its_content_is_trusted(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    named = {"AutoConfig": "own.OwnConfig"}
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": named}))
    (copy / "own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
        "from transformers import LlamaConfig\n\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
    )
    found = failure(copy, tmp_path)
    assert "own.py" in found.message
    assert not (tmp_path / "ran").exists()
    wrong = failure(copy, tmp_path, trust_remote_code="0" * 64)
    assert "changed" in wrong.message
    assert not (tmp_path / "ran").exists()
    broken(plan_of(copy, trust_remote_code=found.details["sha256"]), tmp_path)
    assert (tmp_path / "ran").exists()


def test_code_of_another_repository_is_never_fetched(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    for more in ({"auto_map": {"AutoConfig": "owner/repo--own.Own"}}, {"_attn_implementation": "owner/kernel"}):
        (copy / "config.json").write_text(json.dumps({**config, **more}))
        assert "refused" in failure(copy, tmp_path).message


@pytest.mark.parametrize(
    "options",
    [
        {"lora": ["/nowhere"]},
        {"chat_template": "{% if %}"},
        {"draft_model": "/nowhere"},
        {"spec_type": "mtp"},
        {"max_memory": ["cpu=0.0001"]},
        {"rope_scaling": "yarn"},
        {"attention": "flex_attention"},
    ],
)
def test_options_that_cannot_be_are_named(tmp_path: Path, options: dict[str, Any]) -> None:
    found = failure(SOURCE, tmp_path, **options)
    assert found.code in ("bad_option", "bad_file"), found
