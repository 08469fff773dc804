"""The converter of a llama.cpp checkout, at its boundary: a stand-in that is called, speaks and fails as that does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.builders import hf_tensors, llama_config, llama_metadata, llama_tensors, write_gguf, write_hf_folder
from uml.core.errors import BadRequest, Cancelled, ConversionFailed, OutOfMemory, UmlError
from uml.formats import inspect
from uml.runtime.conversions import script as work
from uml.runtime.conversions.workshop import Making

DEMO = Path("src/uml/models/demo.gguf").absolute()
CONVERTER = """
import argparse, os, shutil, sys
import beside  # a package of the checkout
parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--outfile")
parser.add_argument("--outtype", choices=["f32", "f16", "bf16", "q8_0", "auto"])
arguments = parser.parse_args()
assert os.environ["HF_HUB_OFFLINE"] == "1"
assert os.path.isfile(os.path.join(arguments.model, "config.json"))
print("INFO:hf-to-gguf:blk.0.attn_q.weight, torch.bfloat16 --> F16, shape = {64, 64}", file=sys.stderr)
print("INFO:hf-to-gguf:blk.1.attn_q.weight, torch.bfloat16 --> F16, shape = {64, 64}", file=sys.stderr)
print("Writing:  50%|#####     | 1.00M/2.00M [00:01<00:01, 1.00Mbyte/s]", file=sys.stderr)
WORK
"""
GOOD = f"shutil.copyfile({str(DEMO)!r}, arguments.outfile)"


def order(tmp_path: Path, does: str = GOOD) -> work.Order:
    checkout = tmp_path / "llama.cpp"
    checkout.mkdir()
    (checkout / "beside.py").write_text("")
    converter = checkout / "convert_hf_to_gguf.py"
    converter.write_text(CONVERTER.replace("WORK", does))
    write_hf_folder(tmp_path / "odd", llama_config(architectures=["OddForCausalLM"]), hf_tensors())
    place = tmp_path / "made" / "odd.gguf"
    return work.Order("odd", inspect(tmp_path / "odd"), "f16", place, converter, Path(sys.executable))


def test_it_is_run_heard_and_what_it_made_is_looked_at(tmp_path: Path) -> None:
    heard: list[Making] = []
    made = work.convert(order(tmp_path), heard.append)
    assert made.read_bytes() == DEMO.read_bytes()
    assert [path.name for path in made.parent.iterdir()] == ["odd.gguf"]
    assert [step.text for step in heard] == [
        *("starting the converter", "reading layer 0", "reading layer 1", "writing", "reading what was made", "done")
    ]
    assert [step.percent for step in heard] == sorted(step.percent for step in heard)


@pytest.mark.parametrize(
    ("does", "error", "says"),
    [
        ("raise ValueError('Architecture OddForCausalLM not supported!')", ConversionFailed, "OddForCausalLM"),
        ("import nonesuch_library", ConversionFailed, "--python names another interpreter"),
        ("sys.exit(7)", ConversionFailed, "Writing:  50%"),
        ("os.kill(os.getpid(), 9)", OutOfMemory, ""),
        ("open(arguments.outfile, 'w').write('x')", ConversionFailed, "made unknown"),
        ("raise OSError('No space left on device')", ConversionFailed, "the disk is full"),
        ("pass", ConversionFailed, "no such file"),
    ],
)
def test_its_errors_are_causes_and_nothing_is_left(tmp_path: Path, does: str, error: type[UmlError], says: str) -> None:
    asked = order(tmp_path, does)
    with pytest.raises(error) as raised:
        work.convert(asked, lambda making: None)
    assert says in raised.value.message
    assert not list(asked.place.parent.iterdir())


def test_what_llamacpp_does_not_take_is_not_given_away(tmp_path: Path) -> None:
    lame = {name: tensor for name, tensor in llama_tensors().items() if "attn_k" not in name}
    broken = write_gguf(tmp_path / "broken.gguf", llama_metadata(), lame)
    asked = order(tmp_path, f"shutil.copyfile({str(broken)!r}, arguments.outfile)")
    with pytest.raises(ConversionFailed, match=r"llama\.cpp does not take what was made"):
        work.convert(asked, lambda making: None)
    assert not list(asked.place.parent.iterdir())


def test_it_can_be_stopped(tmp_path: Path) -> None:
    asked = order(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(Cancelled):
        work.convert(asked, lambda making: None, lambda: True)
    assert not list(asked.place.parent.iterdir())


def test_what_is_no_script_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="is a folder; name convert_hf_to_gguf"):
        work.check(tmp_path)
    with pytest.raises(BadRequest, match="is not there"):
        work.check(tmp_path / "nonesuch.py")
