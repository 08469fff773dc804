"""Makes everything of the demo model that ships, from nothing.

    python -m tools.demo_model.make OUT [--ship src/uml/models] [--engines DATA]

One stage after another: the model, practice of what is hard for it in parts, its draft, its adapter, its embedding
model, the files, the scores, the card. What is finished is not done again, and a training that was stopped goes on:
give the same command.
A seed gives the same weights again on the same machine.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from tools.demo_model import draft, embedding, in_onnx, lora, scores, train
from tools.demo_model.card import card
from tools.demo_model.convert import TYPES, convert
from tools.demo_model.documents import documents
from tools.demo_model.evaluate import MAX_TOKENS
from tools.demo_model.export import export, trained, write_folder
from tools.demo_model.perplexity import DIALOGUES
from tools.demo_model.run import Settings
from tools.demo_model.ship import ship


@dataclass(frozen=True, slots=True)
class Size:
    """Steps of each training; documents that the tokenizer learns from; questions a family, tokens of an answer at
    most, dialogues whose perplexity is measured, kinds of file; a data folder with engines, for kinds that are no GGUF.
    """

    model: int = 3000
    practice: tuple[int, ...] = (4200, 6600)
    """Of each part."""
    draft: int = 1800
    adapter: int = 1400
    embedding: int = 250
    documents: int = 20_000
    questions: int = 100
    answer: int = MAX_TOKENS
    dialogues: int = DIALOGUES
    kinds: tuple[str, ...] = tuple(TYPES)
    engines: Path | None = None


QUICK: Final = Size(
    model=2,
    practice=(1, 1),
    draft=1,
    adapter=1,
    embedding=1,
    documents=300,
    questions=1,
    answer=8,
    dialogues=20,
    kinds=("f16", "q8_0"),
)
"""A few steps of every stage, to see that they fit together; the model says nothing."""


FALL: Final = (1.0, 78 / 108, 38 / 108, 0.0)
"""Share of the highest rate with which the model and each part of the practice begin; in the end there is none."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the work. share: of the whole time, about; the sum is 1."""

    name: str
    share: float
    work: Callable[[Path, Size], None]


def _model(out: Path, size: Size) -> None:
    given = ["--documents-for-tokenizer", str(size.documents)]
    train.main([str(out / "model"), *pace(size, 0), *given])


def _practice(out: Path, size: Size) -> None:
    base = out / "model"
    for phase in range(1, 1 + len(size.practice)):
        part = out / f"practised-{phase}"
        given = ["--base", str(base), "--seed", str(1 + phase)]
        train.main([str(part), *pace(size, phase), *given], partial(documents, phase=phase))
        base = part


def pace(size: Size, phase: int) -> list[str]:
    """Steps and rates of a part of the training: the rate falls all the way, from part to part, to nothing."""
    steps, share, after, usual = (size.model, *size.practice)[phase], *FALL[phase : phase + 2], Settings()
    rates = {"matrix-rate": share * usual.matrix_rate, "rate": share * usual.rate, "until": after / share}
    return [f"--steps={steps}", *(f"--{name}={rate}" for name, rate in rates.items())]


def _practised(out: Path, size: Size) -> Path:
    """Folder of the run whose weights ship."""
    return out / f"practised-{len(size.practice)}"


def _draft(out: Path, size: Size) -> None:
    given = ["--teacher", str(_practised(out, size)), "--steps", str(size.draft)]
    draft.main([str(out / "draft"), *given])


def _adapter(out: Path, size: Size) -> None:
    given = ["--base", str(_practised(out, size)), "--steps", str(size.adapter)]
    lora.main([str(out / "pirate"), *given])


def _embedding(out: Path, size: Size) -> None:
    embedding.main([str(out / "embedding"), "--base", str(_practised(out, size)), "--steps", str(size.embedding)])


def _files(out: Path, size: Size) -> None:
    """Everything under the name that it ships with, and the kinds of file that are only scored."""
    files = out / "files"
    shutil.rmtree(files, ignore_errors=True)
    (files / "kinds").mkdir(parents=True)
    run = _practised(out, size)
    folder = write_folder(files / "demo-safetensors", *trained(run), run / "tokenizer.json")
    for kind in size.kinds:
        convert(folder, files / "kinds" / f"demo-{kind}.gguf", kind)
    shutil.copyfile(files / "kinds" / "demo-q8_0.gguf", files / "demo.gguf")
    export(out / "draft", "draft", "UML Demo Draft")
    shutil.copyfile(out / "draft" / "draft-q8_0.gguf", files / "demo-draft.gguf")
    shutil.copytree(out / "draft" / "model", files / "demo-draft-safetensors")
    shutil.copyfile(out / "pirate" / "adapter-f16.gguf", files / "demo-pirate.gguf")
    shutil.copytree(out / "pirate" / "adapter", files / "demo-pirate-peft")
    shutil.copyfile(out / "embedding" / "embedding-q8_0.gguf", files / "demo-embedding.gguf")


def _scores(out: Path, size: Size) -> None:
    found = scores.measure(
        out / "files",
        size.kinds,
        size.questions,
        dialogues=size.dialogues,
        max_tokens=size.answer,
        engines=size.engines,
    )
    (out / "files" / "scores.json").write_text(scores.written(found), "utf-8")


def _card(out: Path, size: Size) -> None:
    text = card(scores.read((out / "files" / "scores.json").read_text("utf-8")))
    (out / "files" / "README.md").write_text(text, "utf-8")


STAGES: Final = (
    Stage("model", 0.17, _model),
    Stage("practice", 0.54, _practice),
    Stage("draft", 0.11, _draft),
    Stage("adapter", 0.05, _adapter),
    Stage("embedding", 0.03, _embedding),
    Stage("files", 0.0, _files),
    Stage("scores", 0.10, _scores),
    Stage("card", 0.0, _card),
)


def make(out: Path, size: Size) -> Path:
    """Every stage that is not finished yet. Returns the folder of what ships."""
    out.mkdir(parents=True, exist_ok=True)
    began, worked = time.monotonic(), 0.0
    for number, stage in enumerate(STAGES, 1):
        finished = out / f"{stage.name}.finished"
        if finished.exists():
            print(f"{number} of {len(STAGES)}: {stage.name}, finished before", flush=True)
            continue
        rest = sum(later.share for later in STAGES[number - 1 :])
        left = f", about {(time.monotonic() - began) / worked * rest / 60:.0f} minutes left in all" if worked else ""
        print(f"{number} of {len(STAGES)}: {stage.name}{left}", flush=True)
        stage.work(out, size)
        worked += stage.share
        finished.touch()
    return out / "files"


def main(arguments: list[str] | None = None) -> None:
    """Command line door."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="folder to work in")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    parser.add_argument("--ship", type=Path, help="copy what ships into this folder, usually src/uml/models")
    parser.add_argument("--engines", type=Path, help="data folder with onnx and onnx-builder, to score ONNX too")
    given = parser.parse_args(arguments)
    if given.engines:
        # Now, not when an hour of training is over.
        in_onnx.check(given.engines)
    files = make(given.out, replace(QUICK if given.quick else Size(), engines=given.engines))
    for path in ship(files, given.ship) if given.ship else (files,):
        print(path)


if __name__ == "__main__":
    main()
