"""Trains the embedding model: the demo model, taught that two ways to ask one thing are near each other.

    python -m tools.demo_model.embedding OUT --base RUN --minutes 5

A text's vector is the mean of the last layer over its tokens. OUT receives model/ and embedding-TYPE.gguf.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from tools.demo_model.convert import convert
from tools.demo_model.corpus import FAMILIES, Split
from tools.demo_model.corpus.draw import Draw
from tools.demo_model.export import GGUF_TYPES, trained, write_folder
from tools.demo_model.network import Shape, Weights, hidden_states
from tools.demo_model.optimizer import Optimizer
from tools.demo_model.processor import threads
from tools.demo_model.run import Clock, rate_factor
from tools.demo_model.tokenizer import PAD_ID

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Families whose answer says what was asked, so that two questions with one answer mean the same.
ASKED = ("identity", "capitals", "opposites", "colors", "sounds", "plurals", "calendar", "arithmetic", "program")
POOL = 400
"""Questions of a family among which two of one meaning are looked for."""
PAIRS = 64
"""Pairs in one batch: every other pair's second text is a wrong answer for the first."""
TEMPERATURE = 0.05
RATE, MATRIX_RATE = 5e-4, 3e-3
OTHERS = 50
"""Texts among which the right paraphrase is to be found, itself included."""

Pair = tuple[str, str]


def rows(seed: int, split: Split, size: int) -> Iterator[list[Pair]]:
    """Endless rows of `size` pairs of questions in different words with the same answer; no answer twice in a row."""
    draw = Draw(f"{seed} {split} pairs", split)
    while True:
        found: list[Pair] = []
        for name in ASKED:
            meanings: dict[str, list[str]] = {}
            for _ in range(POOL):
                sample = FAMILIES[name].draw(draw)
                if sample.messages[0]["role"] == "system":
                    continue  # the same words ask another question there
                question = sample.messages[sample.asked % len(sample.messages) - 1]["content"]
                same = meanings.setdefault(str(sample.messages[sample.asked]["content"]), [])
                if question not in same:
                    same.append(question)
            found += [(same[0], same[1]) for same in meanings.values() if len(same) > 1]
        found = draw.some(found, len(found))
        for start in range(0, len(found) - size + 1, size):
            yield found[start : start + size]


def embeddings(weights: Weights, shape: Shape, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """(texts, hidden), each of length 1."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    longest = max(map(len, ids))
    tokens = torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in ids])
    # The padding stands behind, where no token of the text looks.
    real = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in ids])[..., None]
    states = hidden_states(weights, shape, tokens)
    return F.normalize((states * real).sum(1) / real.sum(1), dim=-1)


def contrast(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Cost of taking another pair's text for one's own, both ways (InfoNCE; van den Oord and others, 2018)."""
    alike = first @ second.T / TEMPERATURE
    right = torch.arange(len(first))
    return (F.cross_entropy(alike, right) + F.cross_entropy(alike.T, right)) / 2


def found_first(weights: Weights, shape: Shape, tokenizer: Tokenizer, seed: int, rounds: int = 4) -> float:
    """Share of held-out questions whose paraphrase is the nearest of 50."""
    source = rows(seed, "heldout", OTHERS)
    right = 0
    with torch.no_grad():
        for several in itertools.islice(source, rounds):
            first = embeddings(weights, shape, tokenizer, [one for one, _ in several])
            second = embeddings(weights, shape, tokenizer, [other for _, other in several])
            right += int(((first @ second.T).argmax(1) == torch.arange(OTHERS)).sum())
    return right / (rounds * OTHERS)


def train(weights: Weights, shape: Shape, tokenizer: Tokenizer, clock: Clock, seed: int) -> None:
    """Change `weights` in place until the clock says so."""
    for weight in weights.values():
        weight.requires_grad_()
    optimizer = Optimizer(weights, matrix_rate=MATRIX_RATE, rate=RATE)
    source = rows(seed, "train", PAIRS)
    while (progress := clock.progress) < 1:
        several = next(source)
        first = embeddings(weights, shape, tokenizer, [one for one, _ in several])
        second = embeddings(weights, shape, tokenizer, [other for _, other in several])
        cost = contrast(first, second)
        cost.backward()
        optimizer.step(rate_factor(progress))
        clock.step += 1
        if clock.step % 20 == 0:
            print(f"{progress:6.1%}  {clock.left_s:.0f} s left  step {clock.step}  loss {cost.item():.4f}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Command line door."""
    from tokenizers import Tokenizer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--base", type=Path, required=True, help="folder that the demo model was trained in")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=5.0, help="length of the training (%(default)s)")
    length.add_argument("--steps", type=int, help="length in steps: the same weights again on the same machine")
    parser.add_argument("--seed", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=threads(), help="of the processor (%(default)s)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)

    given.out.mkdir(parents=True, exist_ok=True)
    tokens = shutil.copyfile(given.base / "tokenizer.json", given.out / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(tokens))
    shape, weights = trained(given.base)
    train(weights, shape, tokenizer, Clock(given.minutes, given.steps), given.seed)
    print(f"the right one of {OTHERS} first: {found_first(weights, shape, tokenizer, given.seed):.1%}")
    folder = write_folder(given.out / "model", shape, weights, tokens)
    for kind in GGUF_TYPES:
        print(convert(folder, given.out / f"embedding-{kind}.gguf", kind, "UML Demo Embedding", mean_pooling=True))


if __name__ == "__main__":
    main()
