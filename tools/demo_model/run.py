"""A training that can be stopped and taken up: its settings, its clock, and everything that a checkpoint holds."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tools.demo_model.documents import Documents
from tools.demo_model.network import Shape, Weights, new_weights
from tools.demo_model.optimizer import Optimizer
from tools.demo_model.packing import Batch, Packer, encode, encoded, pack
from tools.demo_model.tokenizer import DOCUMENTS, VOCABULARY, text_of, train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WARM_UP = 0.01
"""Share of the training in which the rate rises."""
HELD_OUT_WINDOW, HELD_OUT_ROWS = 512, 16
"""Length and number of the windows of text that is never trained on, to measure on."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides how a run goes; a checkpoint is only taken up with the same settings.

    `steps`, where given, is the training's length in place of `minutes`. A step sees `batch_tokens`: few, for
    of the same 2.8 million tokens, steps of 2,048 left a held-out loss of 0.38 and steps of 8,192 one of 0.87.
    `matrix_rate` is the highest rate of Muon (0 hands the matrices to AdamW), `rate` that of AdamW: of short runs,
    higher ones do better, and never learn to copy a word. `until` is the share of them at the end.
    """

    minutes: float = 60.0
    steps: int | None = None
    seed: int = 1
    batch_tokens: int = 2048
    matrix_rate: float = 0.006
    rate: float = 1.2e-3
    until: float = 0.0
    vocabulary: int = VOCABULARY
    documents_for_tokenizer: int = DOCUMENTS
    hidden: int = 256
    layers: int = 6
    mlp: int = 768

    def shape(self, vocabulary: int) -> Shape:
        """The network's, for a tokenizer of so many entries."""
        return Shape(vocabulary, hidden=self.hidden, layers=self.layers, mlp=self.mlp)


def rate_factor(progress: float, until: float = 0.0) -> float:
    """Share of the highest rate at `progress` (0 to 1): straight up, then straight down to `until`.

    Of the common ways down the straight one to 0 does best where the length is fixed (Bergsma and others, 2025).
    """
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.01)
    return until + (1 - until) * max(0.0, (1 - progress) / (1 - WARM_UP))


@dataclass(slots=True)
class Clock:
    """How far the training is, by steps where they are set, else by the seconds that it has run."""

    minutes: float
    steps: int | None
    step: int = 0
    tokens: int = 0
    earlier_s: float = 0.0
    """Seconds of the runs before this one."""
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far; pauses between runs do not count."""
        return self.earlier_s + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """0 to 1; 1 is the end."""
        done = self.step / self.steps if self.steps is not None else self.elapsed_s / (60 * self.minutes)
        return min(1.0, done)

    @property
    def left_s(self) -> float:
        """Seconds left, at the speed so far."""
        progress = self.progress
        return self.elapsed_s * (1 - progress) / progress if progress else 0.0


@dataclass(slots=True)
class Run:
    """One training in its folder."""

    settings: Settings
    folder: Path
    tokenizer: Tokenizer
    shape: Shape
    weights: Weights
    optimizer: Optimizer
    packer: Packer
    clock: Clock
    held_out: Batch

    @classmethod
    def open(
        cls, settings: Settings, folder: Path, source: Documents, fresh: Callable[[Shape, int], Weights] = new_weights
    ) -> Run:
        """A new run in `folder`, or the one that was stopped there. Raises SystemExit where that had other settings.

        `fresh` makes the weights that a new run begins with, for a shape and a seed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = _tokenizer(settings, folder, source)
        shape = settings.shape(tokenizer.get_vocab_size())
        saved = _checkpoint(folder, settings)
        weights = saved["weights"] if saved else fresh(shape, settings.seed)
        for weight in weights.values():
            weight.requires_grad_()
        run = cls(
            settings,
            folder,
            tokenizer,
            shape,
            weights,
            Optimizer(weights, matrix_rate=settings.matrix_rate, rate=settings.rate),
            Packer(encoded(tokenizer, source(settings.seed, "train", saved.get("read", 0))), settings.batch_tokens),
            Clock(settings.minutes, settings.steps),
            _held_out(tokenizer, settings, source),
        )
        if saved:
            run._take_up(saved)
        return run

    def _take_up(self, saved: dict[str, Any]) -> None:
        self.optimizer.load(saved["optimizer"])
        self.packer.read, self.packer.given, self.packer.waiting = saved["read"], saved["given"], saved["waiting"]
        self.clock.step, self.clock.tokens, self.clock.earlier_s = saved["step"], saved["tokens"], saved["elapsed_s"]

    def save(self) -> None:
        """Write the checkpoint; who reads meanwhile has the old one or the new one, whole."""
        state = {
            "settings": asdict(self.settings),
            "shape": asdict(self.shape),
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "optimizer": self.optimizer.state(),
            "step": self.clock.step,
            "tokens": self.clock.tokens,
            "elapsed_s": self.clock.elapsed_s,
            "read": self.packer.read,
            "given": self.packer.given,
            "waiting": self.packer.waiting,
        }
        written = self.folder / "checkpoint.part"
        torch.save(state, written)
        written.replace(self.folder / "checkpoint.pt")

    def report(self, **measured: float) -> None:
        """Say how far the run is and what was measured, to the terminal and as a line of log.jsonl."""
        clock = self.clock
        left = f"{int(clock.left_s) // 60}:{int(clock.left_s) % 60:02d}"
        said = "  ".join(f"{name} {value:,}" for name, value in measured.items())
        print(f"{clock.progress:6.1%}  {left} left  step {clock.step}  {said}", flush=True)
        line = {"step": clock.step, "tokens": clock.tokens, "elapsed_s": round(clock.elapsed_s, 1), **measured}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _checkpoint(folder: Path, settings: Settings) -> dict[str, Any]:
    """What the folder's checkpoint holds; empty where there is none."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return {}
    # Not only tensors: the documents that wait for their turn are in it. The file is this trainer's own.
    saved: dict[str, Any] = torch.load(path, weights_only=False)
    if saved["settings"] != asdict(settings):
        raise SystemExit(f"{path} was trained with {saved['settings']}: give the same settings, or another folder")
    return saved


def _tokenizer(settings: Settings, folder: Path, source: Documents) -> Tokenizer:
    """The folder's tokenizer; trained where there is none."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.exists():
        texts = itertools.islice(source(settings.seed, "train"), settings.documents_for_tokenizer)
        train_tokenizer(map(text_of, texts), settings.vocabulary).save(str(path))
    return Tokenizer.from_file(str(path))


def _held_out(tokenizer: Tokenizer, settings: Settings, source: Documents) -> Batch:
    """One batch of text that is never trained on, always the same for a seed."""
    several = encode(tokenizer, list(itertools.islice(source(settings.seed, "heldout"), 20 * HELD_OUT_ROWS)))
    fitting = [document for document in several if len(document.ids) <= HELD_OUT_WINDOW]
    # Packing takes the longest first: of so many, a sample of every length fits only if some stay away.
    room, chosen = HELD_OUT_WINDOW * HELD_OUT_ROWS, []
    for document in fitting:
        room -= len(document.ids)
        if room < 0:
            break
        chosen.append(document)
    batch, _ = pack(chosen, HELD_OUT_WINDOW, HELD_OUT_ROWS)
    return batch
