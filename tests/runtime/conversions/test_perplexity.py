"""Perplexity by llama.cpp's own kernels, in a process of its own."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from tests.builders import write_tiny_gguf
from uml.core.errors import BadFile, Cancelled
from uml.formats import inspect
from uml.registry import packaged_model
from uml.runtime.conversions import perplexity as reading
from uml.runtime.conversions.workshop import Making

TEXT = "What is 7 + 8? 7 + 8 is 15. Who are you? I am a small model. What is the capital of France? Paris. " * 20


@pytest.fixture
def demo() -> Path:
    found = packaged_model()
    assert found is not None
    return found


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(text)
    return path


def test_a_text_that_repeats_surprises_less_than_noise(tmp_path: Path, demo: Path) -> None:
    heard: list[Making] = []
    known = reading.measure(inspect(demo), written(tmp_path, TEXT), 1, heard.append)
    chance = random.Random(7)
    noise = "".join(chr(chance.randint(33, 122)) for _ in range(3000))
    strange = reading.measure(inspect(demo), written(tmp_path, noise), 1, heard.append)
    assert known.tokens >= 255
    assert 1 < known.value < strange.value < math.inf
    assert heard[0] == Making("measuring perplexity", 0)
    assert heard[-1].percent == 100


def test_it_says_why_there_is_no_number(tmp_path: Path, demo: Path) -> None:
    with pytest.raises(reading.NotMeasured, match="at least 16 are needed"):
        reading.measure(inspect(demo), written(tmp_path, "Hello."), 1, print)
    tiny = inspect(write_tiny_gguf(tmp_path / "tiny.gguf"))
    with pytest.raises(reading.NotMeasured, match="load"):
        reading.measure(tiny, written(tmp_path, TEXT), 1, print)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import os; os.abort()", "ended with code -6"),
        ("import os; os.kill(os.getpid(), 9)", "not enough memory"),
        ("print('what')", "it says 'what'"),
        ("print('[1]')", "it says"),
    ],
)
def test_a_child_that_fails_is_no_number(
    tmp_path: Path, demo: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    (tmp_path / "standing_in.py").write_text(script)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(reading, "MODULE", "standing_in")
    with pytest.raises(reading.NotMeasured, match=says):
        reading.measure(inspect(demo), written(tmp_path, TEXT), 1, print)


def test_without_the_library_or_when_stopped(tmp_path: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Cancelled):
        reading.measure(inspect(demo), written(tmp_path, TEXT), 1, print, cancelled=lambda: True)
    monkeypatch.setattr(reading, "library_path", lambda: None)
    with pytest.raises(reading.NotMeasured, match="xllamacpp"):
        reading.measure(inspect(demo), written(tmp_path, TEXT), 1, print)


def test_what_is_no_text_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    for content, says in (
        (b"\xff\xfe", "UTF-8"),
        (b"a\0b", "zero bytes"),
        (b"a" * (reading.LONGEST_BYTES + 1), "most"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadFile, match=says):
            reading.check(path)
    with pytest.raises(BadFile, match="no such file"):
        reading.check(tmp_path / "none.txt")
