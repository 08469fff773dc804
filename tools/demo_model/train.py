"""Trains the demo model on the corpus, on the CPU, within a number of minutes.

    python -m tools.demo_model.train OUT --minutes 60

OUT receives tokenizer.json, log.jsonl, checkpoint.pt (a minute old at most), and in the end model/ (the Hugging Face
folder) and GGUF files. The same command goes on where an earlier one stopped. With --steps in place of --minutes the
schedule follows steps, not the clock: then a seed gives the same weights again on the same machine. With --base it
begins with the weights of another run, and practises what is hard.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from tools.demo_model.documents import Documents, documents
from tools.demo_model.export import export, trained
from tools.demo_model.network import Shape, Weights, block, document_mask, logits
from tools.demo_model.packing import Batch
from tools.demo_model.processor import has_bf16, threads
from tools.demo_model.run import Run, Settings, rate_factor

CHECKPOINT_EVERY_S = 60.0
SPEAK_EVERY_S = 10.0
SPOKEN = 0.5
"""Loss weight from which on a token is one that the model is to say."""

Scores: TypeAlias = Callable[[Weights, Batch], torch.Tensor]
Cost: TypeAlias = Callable[[Weights, Batch], torch.Tensor]
"""What the weights pay for a batch: one number, which training lowers."""


def worth_compiling(settings: Settings) -> bool:
    """Compiling takes up to a minute: a short run would be over before it pays."""
    return (settings.steps or settings.minutes * 60) >= 300


def scorer(shape: Shape, *, compiled: bool) -> Scores:
    """Scores (rows, length, vocabulary) of the tokens that follow; compiled where there is a C++ compiler.

    Only the layer is compiled: one piece of code for all layers, which is ready in seconds.
    """
    # For each size by itself: code for any, as a draft beside its teacher brings on, takes many minutes to make.
    run = torch.compile(block, dynamic=False) if compiled and shutil.which("g++") else block
    low = has_bf16()

    def scores(weights: Weights, batch: Batch) -> torch.Tensor:
        mask = document_mask(torch.from_numpy(batch.documents))
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            return logits(weights, shape, torch.from_numpy(batch.tokens), mask, run).float()

    return scores


def cross_entropy(scores: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean cost of the next token in nats, each token weighted as the batch says."""
    each = F.cross_entropy(scores.flatten(0, 1), torch.from_numpy(batch.targets).flatten(), reduction="none")
    counts = torch.from_numpy(batch.weights).flatten()
    return (each * counts).sum() / counts.sum()


def language(shape: Shape, compiled: bool) -> Cost:
    """What a language model pays: the cross entropy of the next token."""
    scores = scorer(shape, compiled=compiled)
    return lambda weights, batch: cross_entropy(scores(weights, batch), batch)


def train(run: Run, cost: Cost, scores: Scores) -> None:
    """Train until the clock says so, with a line of progress every ten seconds and a checkpoint every minute.

    scores: what is measured on the text that is held out.
    """
    # PyTorch compiles a function for eight sizes and runs it as it is for more. Sizes of an earlier training in this
    # process must not count: the weights would not be those of a training that was stopped and went on.
    torch.compiler.reset()
    saved = spoken = time.monotonic()
    tokens, costs = run.clock.tokens, list[float]()
    while (progress := run.clock.progress) < 1:
        batch = run.packer.next(progress)
        run.clock.step += 1
        paid = cost(run.weights, batch)
        paid.backward()
        run.optimizer.step(rate_factor(progress, run.settings.until))
        run.clock.tokens += int((batch.documents >= 0).sum())
        costs.append(paid.item())
        now = time.monotonic()
        if now - spoken >= SPEAK_EVERY_S:
            speed = (run.clock.tokens - tokens) / (now - spoken)
            run.report(tokens_per_s=round(speed), loss=round(float(np.mean(costs)), 4))
            spoken, tokens, costs = now, run.clock.tokens, []
        if now - saved >= CHECKPOINT_EVERY_S:
            saved = now
            run.save()
            run.report(**measured(run, scores))
    run.save()
    run.report(**measured(run, scores))


def measured(run: Run, scores: Scores) -> dict[str, float]:
    """On text that is never trained on: the cost, and the share of the tokens to say that are the likeliest."""
    with torch.no_grad():
        found = scores(run.weights, run.held_out)
        likeliest = found.argmax(-1).numpy() == run.held_out.targets
        said = run.held_out.weights >= SPOKEN
        return {
            "held_out_loss": round(cross_entropy(found, run.held_out).item(), 4),
            "held_out_right": round(float(likeliest[said].mean()), 4),
        }


def practice(settings: Settings, out: Path, source: Documents, base: Path) -> Run:
    """A run that goes on from the weights of another, with its tokenizer."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(base / "tokenizer.json", out / "tokenizer.json")
    return Run.open(settings, out, source, lambda shape, seed: trained(base)[1])


def main(arguments: list[str] | None = None, source: Documents = documents) -> None:
    """Command line door."""
    usual = Settings()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="folder of the run")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=usual.minutes, help="length of the training (%(default)s)")
    length.add_argument("--steps", type=int, help="length in steps: the same weights again on the same machine")
    rates = ("matrix_rate", "rate", "until")
    for name in ("seed", "batch_tokens", *rates, "vocabulary", "documents_for_tokenizer"):
        value = getattr(usual, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=threads(), help="of the processor (%(default)s)")
    parser.add_argument("--base", type=Path, help="folder of the run to begin with")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None)
    given = vars(parser.parse_args(arguments))
    out, used, compiled, base = (given.pop(name) for name in ("out", "threads", "compile", "base"))
    settings = Settings(**given)
    if compiled is None:
        compiled = worth_compiling(settings)
    torch.set_num_threads(used)
    run = practice(settings, out, source, base) if base else Run.open(settings, out, source)
    train(run, language(run.shape, compiled), scorer(run.shape, compiled=False))
    for path in export(out):
        print(path)


if __name__ == "__main__":
    main()
