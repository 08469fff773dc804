"""One command makes every file that is to ship; here with a few steps of each stage."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

from tools.demo_model import make, scores
from tools.demo_model.card import card
from tools.demo_model.run import Settings
from uml.core.model import Role
from uml.formats import inspect


@pytest.mark.timeout(300)
def test_everything_that_ships_is_made_from_nothing_and_a_second_call_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package"
    make.main([str(tmp_path / "work"), "--quick", "--ship", str(package)])
    assert "1 of 8: model" in capsys.readouterr().out
    assert {path.name for path in package.iterdir()} == {
        *("demo.gguf", "demo-draft.gguf", "demo-pirate.gguf", "demo-embedding.gguf"),
        *("demo-safetensors", "demo-draft-safetensors", "demo-pirate-peft", "scores.json", "README.md"),
    }
    assert inspect(package / "demo.gguf").role is Role.TEXT
    assert inspect(package / "demo-embedding.gguf").role is Role.EMBEDDING
    assert inspect(package / "demo-pirate.gguf").role is Role.ADAPTER
    found = scores.read((package / "scores.json").read_text("utf-8"))
    assert set(found.kinds) == {"f16", "q8_0"}
    assert card(found) == (package / "README.md").read_text("utf-8")

    make.main([str(tmp_path / "work"), "--quick"])
    told = capsys.readouterr().out
    assert told.count("finished before") == 8


def test_the_rate_falls_to_nothing_over_all_parts_of_the_training() -> None:
    size = make.Size()
    parts = [dict(given.removeprefix("--").split("=") for given in make.pace(size, phase)) for phase in range(3)]
    rates = [float(part["rate"]) for part in parts]
    ends = [rate * float(part["until"]) for rate, part in zip(rates, parts, strict=True)]
    assert [int(part["steps"]) for part in parts] == [size.model, *size.practice]
    assert rates[0] == Settings().rate
    assert ends == pytest.approx([*rates[1:], 0])


def test_engines_that_are_not_there_are_told_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no engine onnx: UML_DATA=.* uml engine install onnx"):
        make.main([str(tmp_path / "work"), "--quick", "--engines", str(tmp_path)])
    assert not (tmp_path / "work").exists()
