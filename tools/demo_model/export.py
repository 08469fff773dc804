"""Writes a run's newest checkpoint as a Hugging Face folder and as GGUF files.

    python -m tools.demo_model.export RUN [--stem draft --name "UML Demo Draft"]

Works beside a training that still goes on: it reads the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tools.demo_model.convert import convert
from tools.demo_model.network import Shape, Weights
from tools.demo_model.tokenizer import END_OF_TEXT, END_OF_TURN, EOS_ID, PAD_ID

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
GGUF_TYPES = ("f16", "q8_0")


def export(run: Path, stem: str = "demo", name: str = "UML Demo 5M") -> list[Path]:
    """Write RUN/model/ and RUN/STEM-TYPE.gguf from RUN/checkpoint.pt; returns what was written."""
    shape, weights = trained(run)
    folder = write_folder(run / "model", shape, weights, run / "tokenizer.json")
    return [folder, *(convert(folder, run / f"{stem}-{kind}.gguf", kind, name) for kind in GGUF_TYPES)]


def trained(run: Path) -> tuple[Shape, Weights]:
    """What a run's newest checkpoint has learned, in float32."""
    # The checkpoint is this trainer's own file, and holds more than tensors.
    saved = torch.load(run / "checkpoint.pt", weights_only=False)
    return Shape(**saved["shape"]), saved["weights"]


def write_folder(folder: Path, shape: Shape, weights: Weights, tokenizer: Path) -> Path:
    """A folder that Transformers loads: weights in bfloat16, configuration, tokenizer, chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    low = {name: weight.detach().to(torch.bfloat16).contiguous() for name, weight in weights.items()}
    save_file(low, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    shutil.copyfile(TEMPLATE, folder / "chat_template.jinja")
    _write_json(folder / "config.json", shape.config(PAD_ID, EOS_ID))
    _write_json(folder / "generation_config.json", {"eos_token_id": EOS_ID, "pad_token_id": PAD_ID})
    _write_json(
        folder / "tokenizer_config.json",
        {
            "eos_token": END_OF_TURN,
            "model_max_length": shape.context,
            "pad_token": END_OF_TEXT,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    return folder


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def main() -> None:
    """Command line door."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="folder that was trained in")
    parser.add_argument("--stem", default="demo", help="what the GGUF files' names begin with (%(default)s)")
    parser.add_argument("--name", default="UML Demo 5M", help="the model's name in them (%(default)s)")
    arguments = parser.parse_args()
    for path in export(arguments.run, arguments.stem, arguments.name):
        print(path)


if __name__ == "__main__":
    main()
