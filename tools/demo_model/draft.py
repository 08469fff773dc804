"""Trains the draft model: a small one that guesses what the demo model is about to say.

    python -m tools.demo_model.draft OUT --teacher RUN --minutes 15

It learns the teacher's whole distribution of every next token, not only the text's token: what counts is how often
the two agree. Under a million parameters, the teacher's tokenizer. Stopped and taken up like the teacher's training.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from tools.demo_model.documents import Documents, documents
from tools.demo_model.export import export, trained
from tools.demo_model.network import Shape, Weights
from tools.demo_model.packing import Batch
from tools.demo_model.processor import threads
from tools.demo_model.run import Run, Settings
from tools.demo_model.train import SPOKEN, Cost, Scores, scorer, train, worth_compiling

HIDDEN, LAYERS, MLP = 128, 3, 384


def distilled(shape: Shape, teacher_shape: Shape, teacher: Weights, compiled: bool) -> Cost:
    """Cross entropy with the teacher's distribution in place of the one right token (Hinton and others, 2015)."""
    scores, teacher_scores = scorer(shape, compiled=compiled), scorer(teacher_shape, compiled=compiled)

    def cost(weights: Weights, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            wanted = teacher_scores(teacher, batch).softmax(-1)
        each = F.cross_entropy(scores(weights, batch).flatten(0, 1), wanted.flatten(0, 1), reduction="none")
        counts = torch.from_numpy(batch.weights).flatten()
        return (each * counts).sum() / counts.sum()

    return cost


def agreement(run: Run, scores: Scores, teacher: Weights, teacher_scores: Scores) -> float:
    """Share of held-out tokens that the teacher says for which the draft's likeliest is the teacher's."""
    with torch.no_grad():
        same = scores(run.weights, run.held_out).argmax(-1) == teacher_scores(teacher, run.held_out).argmax(-1)
    said = torch.from_numpy(run.held_out.weights) >= SPOKEN
    return float(same[said].float().mean())


def main(arguments: list[str] | None = None, source: Documents = documents) -> None:
    """Command line door."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="folder of the draft's run")
    parser.add_argument("--teacher", type=Path, required=True, help="folder that the demo model was trained in")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=15.0, help="length of the training (%(default)s)")
    length.add_argument("--steps", type=int, help="length in steps: the same weights again on the same machine")
    parser.add_argument("--seed", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--batch-tokens", type=int, default=Settings().batch_tokens, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=threads(), help="of the processor (%(default)s)")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None)
    given = vars(parser.parse_args(arguments))
    out, teacher_run = given.pop("out"), given.pop("teacher")
    torch.set_num_threads(given.pop("threads"))
    compiled = given.pop("compile")

    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(teacher_run / "tokenizer.json", out / "tokenizer.json")
    teacher_shape, teacher = trained(teacher_run)
    settings = Settings(**given, hidden=HIDDEN, layers=LAYERS, mlp=MLP)
    if compiled is None:
        compiled = worth_compiling(settings)
    run = Run.open(settings, out, source)
    scores, teacher_scores = scorer(run.shape, compiled=False), scorer(teacher_shape, compiled=False)
    train(run, distilled(run.shape, teacher_shape, teacher, compiled), scores)
    run.report(agreement=round(agreement(run, scores, teacher, teacher_scores), 4))
    for path in export(out, "draft", "UML Demo Draft"):
        print(path)


if __name__ == "__main__":
    main()
