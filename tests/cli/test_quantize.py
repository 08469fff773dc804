"""`uml quantize`, with llama.cpp's own code in a process of its own."""

from __future__ import annotations

import re
import signal
import struct
from pathlib import Path

import pytest

from tests.builders import hf_tensors, llama_config, llama_metadata, llama_tensors, write_gguf, write_hf_folder
from tests.cli.conftest import Uml
from uml.runtime.conversions import packing


def plain(path: Path) -> Path:
    return write_gguf(path, llama_metadata(file_type=1), llama_tensors(kind="F16"))


def test_new_models_are_in_the_list_with_their_sizes(uml: Uml, tmp_path: Path) -> None:
    said = uml("quantize", plain(tmp_path / "tiny-f16.gguf"), "--to", "q4_0, Q8_0,q4_0")
    assert said.code == 0, said.err
    for kind in ("Q4_0", "Q8_0"):
        place = uml.data / "models" / f"tiny-{kind}.gguf"
        assert place.is_file() and f"is in {place}" in said.out
    assert "% of" in said.out and "uml run tiny-q4_0" in said.out
    assert "already" not in said.err
    ids = [found["id"] for found in uml("ls", "--json").json["data"]]
    assert {"tiny-q4_0", "tiny-q8_0"} <= set(ids)
    again = uml("quantize", tmp_path / "tiny-f16.gguf", "--to", "q4_0")
    assert again.code == 2 and "is there already" in again.err


def test_kinds_have_short_names_too(uml: Uml, tmp_path: Path) -> None:
    said = uml("quantize", plain(tmp_path / "tiny-f16.gguf"), "--to", "q4_k,q4_k_m")
    assert said.code == 0, said.err
    assert [path.name for path in (uml.data / "models").iterdir()] == ["tiny-Q4_K_M.gguf"]


def test_a_second_loss_is_said_before_it_happens(uml: Uml, tmp_path: Path) -> None:
    said = uml("quantize", "demo", "--to", "q4_k_m", "--out", tmp_path / "mine", "--threads", "1")
    assert said.code == 0
    assert "demo.gguf is Q8_0 already" in said.err
    assert (tmp_path / "mine" / "demo-Q4_K_M.gguf").is_file()


def test_scripts_get_a_line_a_step(uml: Uml, tmp_path: Path) -> None:
    said = uml("quantize", "demo", "--to", "q4_0,q5_0", "--json")
    assert said.code == 0
    events = [line["event"] for line in said.lines]
    assert events[0] == "warning" and events[-1] == "ready" and events.count("made") == 2
    made = said.lines[-1]["made"]
    assert [one["kind"] for one in made] == ["Q4_0", "Q5_0"]
    assert made[0]["size"] < made[1]["size"] < said.lines[-1]["from"]["size"]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda end: end.name)
def test_stopped_it_says_that_nothing_is_left(
    uml: Uml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: signal.Signals
) -> None:
    stand_in = tmp_path / "child.py"
    # Ctrl-C, or what else ends a program, once it is at work.
    stand_in.write_text(f"import os, time; os.kill(os.getppid(), {int(end)}); time.sleep(60)")
    monkeypatch.setattr(packing, "CHILD", stand_in)
    said = uml("quantize", plain(tmp_path / "tiny.gguf"), "--to", "q4_0", "--json")
    assert said.code != 0
    assert "nothing of it is left" in said.error["message"]
    assert not list((uml.data / "models").iterdir())


def test_what_cannot_be_is_a_sentence(uml: Uml, tmp_path: Path) -> None:
    for kinds, says in (
        ("q4_k_x", "the kind is 'q4_k_x'; expected one of f32, f16"),
        (",", "no kind is named; expected one or several of f32, f16"),
        ("q2_k_s", "q2_k_s needs an importance matrix"),
    ):
        said = uml("quantize", "demo", "--to", kinds)
        assert said.code == 2 and says in said.err
    said = uml("quantize", "demo", "--to", "iq4_xs", "--imatrix", uml.data / "none.gguf")
    assert said.code != 0 and "there is no such file" in said.err
    folder = tmp_path / "llama"
    write_hf_folder(folder, llama_config(), hf_tensors())
    said = uml("quantize", folder, "--to", "q4_0")
    assert said.code == 6 and "only GGUF is quantized; uml convert llama --to gguf --precision KIND" in said.err


def test_an_importance_matrix_that_lacks_matrices_is_told(uml: Uml, tmp_path: Path) -> None:
    matrix = tmp_path / "m.dat"
    name = b"blk.0.attn_q.weight"
    matrix.write_bytes(struct.pack(f"<ii{len(name)}sii256f", 1, len(name), name, 1, 256, *[1.0] * 256))
    source = write_gguf(
        tmp_path / "wide.gguf",
        llama_metadata(embedding=256, feed_forward=256, layers=1, file_type=1),
        llama_tensors(kind="F16", embedding=256, feed_forward=256, layers=1),
    )
    said = uml("quantize", source, "--to", "iq4_nl", "--imatrix", matrix, "--threads", "1")
    assert said.code == 0, said.err
    assert "m.dat has nothing of 6 matrices, which are packed without it: blk.0.attn_k.weight" in said.err
    said = uml("quantize", source, "--to", "iq2_xs", "--imatrix", matrix, "--out", tmp_path / "mine")
    assert said.code == 2 and "which is garbage as" in said.err


def test_a_text_shows_what_was_lost(uml: Uml, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("What is 7 + 8? 7 + 8 is 15. Who are you? I am a small model. " * 4)
    said = uml("quantize", "demo", "--to", "q8_0", "--out", tmp_path / "mine", "--perplexity", text, "--threads", "1")
    assert said.code == 0, said.err
    # Q8_0 of Q8_0 is the same weights.
    found = re.search(r"perplexity ([\d.e+]+), before ([\d.e+]+)\)", said.out)
    assert found and found[1] == found[2]
    said = uml("quantize", "demo", "--to", "q4_0", "--perplexity", text, "--threads", "1", "--json")
    last = said.lines[-1]
    assert last["made"][0]["perplexity"] != last["from"]["perplexity"]
    assert last["made"][0]["tokens"] == last["from"]["tokens"] > 16


def test_a_text_that_is_none_stops_it_and_one_that_is_short_does_not(uml: Uml, tmp_path: Path) -> None:
    said = uml("quantize", "demo", "--to", "q8_0", "--perplexity", tmp_path / "none.txt")
    assert said.code != 0 and "no such file" in said.err
    assert not (uml.data / "models").exists()
    text = tmp_path / "text.txt"
    text.write_text("Hello.")
    said = uml("quantize", "demo", "--to", "q8_0", "--perplexity", text)
    assert said.code == 0
    assert "the perplexity of demo could not be measured: the text has" in said.err
    assert "perplexity" not in said.out
