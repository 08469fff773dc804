"""`uml convert`, `inspect` and `forget` of files from before GGUF."""

from __future__ import annotations

from pathlib import Path

from tests.builders import write_tiny_gguf
from tests.cli.conftest import Uml
from tests.legacy_files import small_llama
from uml.config import Settings
from uml.core.options import LoadOptions
from uml.hardware import snapshot
from uml.house import Library


def old(folder: Path, generation: str = "ggml", kind: str = "Q4_0") -> Path:
    path = folder / "old.bin"
    small_llama(generation, kind).write(path)
    return path


def test_an_old_file_becomes_gguf_where_it_is_told_to(uml: Uml, tmp_path: Path) -> None:
    place = tmp_path / "mine.gguf"
    done = uml("convert", old(tmp_path), "--to", "gguf", "--out", place)
    assert done.code == 0 and place.is_file()
    assert f"mine is in {place}" in done.out and "made of" in done.out
    assert "from 32 bits to 16" in done.err and "no scores" in done.err
    assert {"mine", "old"} <= {found["id"] for found in uml("ls", "--json").json["data"]}
    again = uml("convert", "old", "--to", "gguf", "--out", place)
    assert again.code == 2 and "is there already" in again.err


def test_without_a_place_it_goes_into_the_data_folder(uml: Uml, tmp_path: Path) -> None:
    done = uml("convert", old(tmp_path, "ggjt3", "F16"), "--to", "gguf", "--json", "--threads", "3")
    assert done.lines[-1]["path"] == str(uml.data / "models" / "old.gguf")
    warned = [line["text"] for line in done.lines if line["event"] == "warning"]
    assert "not heeded" in warned[0] and "does not say its context" in warned[1]


def test_what_means_nothing_for_it_is_refused(uml: Uml, tmp_path: Path) -> None:
    said = uml("convert", old(tmp_path), "--to", "gguf", "--precision", "q8_0")
    assert said.code == 2 and "`uml quantize` packs them anew" in said.err
    whisper = tmp_path / "speech.bin"
    whisper.write_bytes(b"lmgg" + (51865).to_bytes(4, "little") + (1500).to_bytes(4, "little") + bytes(64))
    said = uml("convert", whisper, "--to", "gguf")
    assert said.code == 6 and "LLaMA models are made into it" in said.err


def test_forgetting_takes_what_was_made_by_itself(uml: Uml, tmp_path: Path) -> None:
    path = old(tmp_path)
    write_tiny_gguf(tmp_path / "new.gguf")
    settings = Settings.load({"data": str(uml.data)}, {"HOME": str(tmp_path)})
    library = Library.open(settings)
    try:
        model = library.find(str(path))
        plan = library.plan(model, LoadOptions(), snapshot())
        assert plan.conversion is not None and plan.conversion.needed and plan.engine == "llamacpp"
        assert any("at its first load" in warning for warning in plan.warnings)
        library.converted.make(plan, lambda making: None, lambda: False)
        kept = plan.conversion.place
        again = library.plan(model, LoadOptions(), snapshot())
        assert again.conversion is not None and not again.conversion.needed and again.model.info.path == kept
        # What it took is remembered of the file that is really loaded.
        assert again.model.info.metadata["tokenizer.ggml.model"] == "llama"
    finally:
        library.registry.close()
    said = uml("inspect", path)
    assert "note: it was made into GGUF: " in said.out and f" KiB in {kept}" in said.out
    assert "GGML (unversioned)" in said.out and "llama.cpp runs" in said.out
    assert uml("forget", "old").code == 0
    assert not kept.exists() and path.exists()
