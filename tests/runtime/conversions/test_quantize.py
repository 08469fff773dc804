"""Quantizing: the bytes that llama.cpp makes, whole or not at all. The child process is the real one."""

from __future__ import annotations

import ctypes
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.builders import (
    Tensor,
    hf_tensors,
    llama_config,
    llama_metadata,
    llama_tensors,
    write_gguf,
    write_hf_folder,
    write_split_gguf,
    write_tiny_gguf,
)
from tools.demo_model.convert import convert
from tools.demo_model.corpus import dialogues
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
from uml.engines.llamacpp.dryrun_library import library_path
from uml.formats import inspect
from uml.formats.gguf.imatrix import ImportanceMatrix, read_matrix
from uml.runtime.conversions import packing
from uml.runtime.conversions import quantize as work
from uml.runtime.conversions.perplexity import measure
from uml.runtime.conversions.workshop import Making

SOURCE = Path("src/uml/models/demo-safetensors")


def order(source: Path, kind: str, place: Path, threads: int = 2) -> work.Order:
    return work.Order("it", inspect(source), kind, place, threads)


def silent(making: Making) -> None:
    pass


def read(path: Path) -> dict[str, tuple[int, Any]]:
    return {tensor.name: (int(tensor.tensor_type), tensor.data) for tensor in gguf.GGUFReader(path).tensors}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(SOURCE, tmp_path_factory.mktemp("full") / "demo-f32.gguf", "f32")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M", "F16"])
def test_it_is_what_is_made_of_the_weights_directly(tmp_path: Path, full: Path, kind: str) -> None:
    heard: list[Making] = []
    made = work.quantize(order(full, kind, tmp_path / "made.gguf"), heard.append)
    expected = read(convert(SOURCE, tmp_path / "expected.gguf", kind.lower()))
    found = read(made)
    assert {name: number for name, (number, _) in found.items()} == {
        name: number for name, (number, _) in expected.items()
    }
    assert all(np.array_equal(found[name][1], data) for name, (_, data) in expected.items())
    info = inspect(made)
    assert info.quantization is not None and info.quantization.label == kind
    assert not info.notes
    assert info.chat_template == inspect(full).chat_template
    assert heard[-1] == Making("done", 100)
    assert [step.percent for step in heard] == sorted(step.percent for step in heard)
    assert "packing layer 3" in {step.text for step in heard}


def test_metadata_pass_through_as_they_are(tmp_path: Path, full: Path) -> None:
    before = gguf.GGUFReader(full).fields
    after = gguf.GGUFReader(work.quantize(order(full, "Q5_K_S", tmp_path / "made.gguf"), silent)).fields
    changed = {"general.file_type", "GGUF.kv_count"}
    assert before.keys() - changed == after.keys() - changed - {"general.quantization_version"} | (
        before.keys() & {"general.quantization_version"}
    )
    same = before.keys() - changed - {"GGUF.version"}
    assert all(before[key].contents() == after[key].contents() for key in same)


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K_M", "Q4_0", "Q5_1", "Q6_K", "BF16", "F32"])
def test_what_was_packed_already_is_packed_again_and_close(tmp_path: Path, full: Path, kind: str) -> None:
    eight = convert(SOURCE, tmp_path / "eight.gguf", "q8_0")
    made = read(work.quantize(order(eight, kind, tmp_path / "made.gguf"), silent))
    far = 0.45 if kind in ("Q2_K", "Q3_K_M") else 0.2
    for name, (number, data) in read(full).items():
        values = gguf.quants.dequantize(made[name][1], gguf.GGMLQuantizationType(made[name][0]))
        assert np.linalg.norm(values - data) < far * np.linalg.norm(data), (name, number)
    assert "Q8_0 already" in work.warning(inspect(eight))
    assert work.warning(inspect(full)) == ""


def test_parts_become_one_file(tmp_path: Path) -> None:
    parts = write_split_gguf(tmp_path)
    made = inspect(work.quantize(order(parts[0], "Q4_0", tmp_path / "made.gguf"), silent))
    assert made.files == (tmp_path / "made.gguf",)
    assert made.parameters == inspect(parts[0]).parameters
    assert not [key for key in made.metadata if key.startswith("split.")]


def test_an_alignment_of_its_own_is_kept(tmp_path: Path) -> None:
    source = write_gguf(
        tmp_path / "wide.gguf", llama_metadata(general__alignment=256), llama_tensors(kind="F16"), alignment=256
    )
    made = work.quantize(order(source, "Q8_0", tmp_path / "made.gguf"), silent)
    assert inspect(made).metadata["general.alignment"] == 256
    assert len(read(made)) == len(llama_tensors())


def test_weights_that_are_no_numbers_are_said_with_their_tensor(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "bad.gguf", llama_metadata(), llama_tensors(kind="F32"))
    header = gguf.GGUFReader(source)
    at = next(tensor.data_offset for tensor in header.tensors if tensor.name == "blk.1.attn_k.weight")
    with source.open("r+b") as file:
        file.seek(int(at))
        file.write(np.float32("nan").tobytes())
    with pytest.raises(ConversionFailed, match=r"blk\.1\.attn_k\.weight: there are weights that are no numbers"):
        work.quantize(order(source, "Q4_0", tmp_path / "made" / "made.gguf"), silent)
    assert not list((tmp_path / "made").iterdir())


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("import os; os.abort()", ConversionFailed, "ended with code -6"),
        ("print('GGML_ASSERT(x) failed'); raise SystemExit(3)", ConversionFailed, "GGML_ASSERT"),
        ("import os; os.kill(os.getpid(), 9)", OutOfMemory, ""),
        ("raise MemoryError", OutOfMemory, ""),
        ("raise OSError('No space left on device')", ConversionFailed, "No space left on device"),
        ("pass", ConversionFailed, "what was made is"),
    ],
)
def test_a_child_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[UmlError], says: str
) -> None:
    stand_in = tmp_path / "child.py"
    # The last one does what it is told, and what it makes is no model.
    spoil = "import json, sys; open(json.load(open(sys.argv[2]))['out'], 'w').write('x')"
    stand_in.write_text(script.replace("pass", spoil))
    monkeypatch.setattr(packing, "CHILD", stand_in)
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(error) as raised:
        work.quantize(order(source, "Q4_0", tmp_path / "made" / "made.gguf"), silent)
    assert says in raised.value.message
    assert not list((tmp_path / "made").iterdir())


def test_stopped_it_leaves_nothing_and_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "child.py"
    stand_in.write_text("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    monkeypatch.setattr(packing, "CHILD", stand_in)
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(Cancelled):
        work.quantize(order(source, "Q4_0", tmp_path / "made" / "made.gguf"), silent, cancelled=lambda: True)
    assert not list((tmp_path / "made").iterdir())


def test_what_is_there_stays_and_a_full_disk_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(BadRequest, match="is there already"):
        work.quantize(order(source, "Q4_0", source), silent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Disk())
    with pytest.raises(NoRoom):
        work.quantize(order(source, "Q4_0", tmp_path / "made.gguf"), silent)


class _Disk:
    free = 1000


def test_without_the_library_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "library_path", lambda: None)
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(ConversionFailed, match="xllamacpp"):
        work.quantize(order(source, "Q4_0", tmp_path / "made.gguf"), silent)


def test_a_build_with_other_layouts_is_not_used(tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"out": "", "threads": 1, "types": {"8": ["Q8_0", 32, 36]}, "tensors": []}))
    found = subprocess.run(
        [sys.executable, "-I", str(packing.CHILD), str(library_path()), str(job)], capture_output=True, text=True
    )
    assert found.returncode not in (0, -signal.SIGSEGV)
    assert "whose layout is another" in found.stderr


def test_what_cannot_be_quantized_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    write_hf_folder(folder, llama_config(), hf_tensors())
    with pytest.raises(UnsupportedFormat, match="only GGUF is quantized"):
        work.check("it", inspect(folder))
    vocabulary = write_gguf(tmp_path / "vocabulary.gguf", llama_metadata(), {})
    with pytest.raises(UnsupportedFormat, match="only whole models"):
        work.check("it", inspect(vocabulary))
    other = write_gguf(tmp_path / "glm.gguf", llama_metadata(architecture="glm5-next"), llama_tensors())
    with pytest.raises(UnsupportedArchitecture, match="rules of its own"):
        work.check("it", inspect(other))
    packed = write_gguf(tmp_path / "q81.gguf", llama_metadata(), llama_tensors(kind="Q8_1"))
    with pytest.raises(UnsupportedFormat, match="Q8_1"):
        work.check("it", inspect(packed))
    tensors = llama_tensors() | {"blk.0.ffn_up.weight": Tensor("F64", (64, 128))}
    double = write_gguf(tmp_path / "double.gguf", llama_metadata(), tensors)
    with pytest.raises(UnsupportedFormat, match=r"blk\.0\.ffn_up\.weight is F64"):
        work.quantize(order(double, "Q4_0", tmp_path / "made.gguf"), silent)
    swapped = write_gguf(tmp_path / "big.gguf", llama_metadata(), llama_tensors(), order=">")
    with pytest.raises(UnsupportedFormat, match="big endian"):
        work.quantize(order(swapped, "Q4_0", tmp_path / "made.gguf"), silent)


def matrix_of(path: Path, source: Path, values: Callable[[str, int], Any], skip: str = "") -> ImportanceMatrix:
    """An importance matrix of a model: figures by the name of a tensor and its columns."""
    writer = gguf.GGUFWriter(path, arch="")
    writer.add_type("imatrix")
    for tensor in gguf.GGUFReader(source).tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) > 1 and tensor.name != skip:
            experts = int(tensor.shape[2]) if len(tensor.shape) > 2 else 1
            figures = [values(f"{tensor.name}.{expert}", int(tensor.shape[0])) for expert in range(experts)]
            writer.add_tensor(f"{tensor.name}.in_sum2", np.array(figures, np.float32) * 4)
            writer.add_tensor(f"{tensor.name}.counts", np.full((experts, 1), 4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_matrix(path)


def alike(name: str, columns: int) -> Any:
    return np.ones(columns)


def uneven(name: str, columns: int) -> Any:
    return np.random.default_rng([*name.encode()]).uniform(0.1, 9, columns)


def packed_directly(data: Any, number: int, figures: Any) -> bytes:
    """What `ggml_quantize_chunk` makes of a whole matrix at once."""
    library = ctypes.CDLL(str(library_path()))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_row_size.restype = ctypes.c_size_t
    library.ggml_row_size.argtypes = (ctypes.c_int, ctypes.c_int64)
    rows, columns = data.shape
    values, weights = np.ascontiguousarray(data, np.float32), np.ascontiguousarray(figures, np.float32)
    out = ctypes.create_string_buffer(rows * library.ggml_row_size(number, columns))
    library.ggml_quantize_chunk(
        number, values.ctypes.data_as(ctypes.c_void_p), out, ctypes.c_int64(0), ctypes.c_int64(rows),
        ctypes.c_int64(columns), weights.ctypes.data_as(ctypes.c_void_p),
    )  # fmt: skip
    return out.raw


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with rows of whole blocks, weights that are drawn, and experts beside its own matrices."""
    metadata = llama_metadata(layers=1, embedding=256, feed_forward=256, file_type=0)
    tensors = llama_tensors(kind="F32", layers=1, embedding=256, feed_forward=256)
    tensors["blk.0.ffn_up_exps.weight"] = Tensor("F32", (256, 3, 4))
    path = write_gguf(tmp_path_factory.mktemp("small") / "small.gguf", metadata, tensors)
    drawn, header = np.random.default_rng(5), gguf.GGUFReader(path)
    with path.open("r+b") as file:
        for tensor in header.tensors:
            file.seek(int(tensor.data_offset))
            file.write(drawn.normal(size=int(tensor.n_elements)).astype(np.float32).tobytes())
    return path


@pytest.mark.parametrize(
    # ggml makes the tables of the smallest kinds for seconds, in each process.
    "kind",
    [pytest.param("IQ2_XS", marks=pytest.mark.slow), "IQ4_XS", "Q4_K_M"],
)
def test_an_importance_matrix_weighs_the_columns(tmp_path: Path, small: Path, kind: str) -> None:
    matrix = matrix_of(tmp_path / "m.gguf", small, uneven)
    made = work.quantize(work.Order("it", inspect(small), kind, tmp_path / "made.gguf", 2, matrix), silent)
    found, source, info = read(made), read(small), inspect(made)
    assert info.quantization is not None and info.quantization.label == kind
    assert (info.metadata["quantize.imatrix.file"], info.metadata["quantize.imatrix.entries_count"]) == ("m.gguf", 8)
    plain = read(work.quantize(order(small, kind, tmp_path / "plain.gguf"), silent)) if kind != "IQ2_XS" else {}
    for name in ("blk.0.attn_q.weight", "blk.0.ffn_down.weight"):
        number, data = found[name]
        expected = packed_directly(source[name][1], number, uneven(f"{name}.0", 256))
        assert data.tobytes() == expected, name
        assert not plain or plain[name][1].tobytes() != expected, "the matrix made no difference"


def test_experts_have_figures_of_their_own(tmp_path: Path, small: Path) -> None:
    name = "blk.0.ffn_up_exps.weight"
    matrix = matrix_of(tmp_path / "m.gguf", small, uneven)
    made = read(work.quantize(work.Order("it", inspect(small), "IQ4_XS", tmp_path / "made.gguf", 2, matrix), silent))
    number, data = made[name]
    whole = read(small)[name][1].reshape(4, 3, 256)
    expected = [packed_directly(whole[expert], number, uneven(f"{name}.{expert}", 256)) for expert in range(4)]
    assert data.tobytes() == b"".join(expected)


def test_a_kind_that_is_garbage_without_a_matrix_is_refused(tmp_path: Path, full: Path) -> None:
    with pytest.raises(BadRequest, match="iq2_xs needs an importance matrix"):
        work.quantize(order(full, "IQ2_XS", tmp_path / "made.gguf"), silent)
    with pytest.raises(BadRequest, match="the kind is 'q9'; expected one of f32, f16"):
        work.check_kind("Q9", matrix=True)
    lacking = matrix_of(tmp_path / "lacking.gguf", full, alike, skip="blk.1.attn_q.weight")
    info = inspect(full)
    with pytest.raises(
        BadRequest, match=r"lacking.gguf has nothing of blk.1.attn_q.weight, which is garbage as IQ2_XS"
    ):
        work.quantize(work.Order("it", info, "IQ2_XS", tmp_path / "made.gguf", 1, lacking), silent)
    assert work.unweighed(info, "IQ4_XS", lacking) == ("blk.1.attn_q.weight",)
    assert work.unweighed(info, "F16", lacking) == ()
    other = matrix_of(tmp_path / "other.gguf", full, lambda name, columns: np.ones(columns + 1))
    with pytest.raises(BadRequest, match="it is of another model"):
        work.quantize(work.Order("it", info, "IQ4_XS", tmp_path / "made.gguf", 1, other), silent)
    assert not (tmp_path / "made.gguf").exists()


@pytest.mark.slow  # packing the smallest kinds takes seconds of every core
@pytest.mark.timeout(300)
def test_fewer_bits_are_more_surprised(tmp_path: Path, full: Path) -> None:
    text = tmp_path / "text.txt"
    # What the model knows also outside of a chat: of other texts it is surest, and most wrong, in its full width.
    stories = islice(dialogues(1, "heldout", "stories"), 60)
    text.write_text("\n".join(str(story.messages[-1]["content"]) for story in stories))
    matrix = matrix_of(tmp_path / "m.gguf", full, alike)
    found = {"F32": measure(inspect(full), text, 1, silent).value}
    for kind in ("IQ4_XS", "IQ3_XXS", "IQ2_XXS"):
        made = work.quantize(work.Order("it", inspect(full), kind, tmp_path / f"{kind}.gguf", 2, matrix), silent)
        found[kind] = measure(inspect(made), text, 1, silent).value
    assert 1 < found["F32"] < found["IQ3_XXS"] < found["IQ2_XXS"], found
    assert found["IQ4_XS"] < 1.5 * found["F32"], found
