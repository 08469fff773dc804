"""What the demo model and its companions reach, as data: what the model card is written from."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tools.demo_model.corpus import EVERYDAY, UNNAMED
from tools.demo_model.evaluate import REPLY_LIMIT, SEED, evaluate, questions, worker

OTHERS: Final = 50
"""Texts among which the right paraphrase is to be found, itself included."""
ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file. bytes: its size; perplexity: of the tokens to say; right: answers of `count`, by family."""

    bytes: int
    perplexity: float
    right: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Scores:
    """All that was measured.

    count: questions a family. parameters, draft_parameters: numbers in the weights.
    unnamed, everyday: of `count` calls of tools whose names say nothing, and of tools as other people's programs have
    them, those that are right.
    guessed, accepted: tokens of stories that the draft guessed, and that the model said too.
    pirate: answers of `count` that were right and a pirate's, by family.
    nearest, pairs: questions whose paraphrase was the nearest of `OTHERS`, of how many.
    """

    count: int
    kinds: Mapping[str, Kind]
    parameters: int
    draft_parameters: int
    unnamed: int
    everyday: int
    guessed: int
    accepted: int
    pirate: Mapping[str, int]
    nearest: int
    pairs: int


def measure(
    files: Path, names: Sequence[str], count: int, *, dialogues: int, max_tokens: int, engines: Path | None = None
) -> Scores:
    """Ask everything in a folder of `make`: kinds of file by name, `count` questions of each family.

    dialogues: held-out ones, whose perplexity is measured. max_tokens: of an answer. engines: a data folder with the
    engines onnx and onnx-builder, by which int4 in ONNX is made and measured too.
    """
    from tokenizers import Tokenizer

    from tools.demo_model import in_onnx
    from tools.demo_model.acceptance import acceptance
    from tools.demo_model.lora import pirate_questions
    from tools.demo_model.perplexity import held_out, perplexity, read_gguf
    from uml.formats import inspect

    files = files.absolute()
    several = held_out(Tokenizer.from_file(str(files / "demo-safetensors" / "tokenizer.json")), dialogues)
    paths = {kind: files / "kinds" / f"demo-{kind}.gguf" for kind in names}
    surprises = {kind: perplexity(*read_gguf(path), several) for kind, path in paths.items()}
    if engines:
        path = paths[in_onnx.KIND] = files / "kinds" / f"demo-{in_onnx.KIND}"
        if not path.exists():
            in_onnx.write(files / "demo-safetensors", path, engines)
        surprises[in_onnx.KIND] = in_onnx.perplexity(path, several, engines)
    data = {in_onnx.KIND: engines}
    right = asyncio.run(_answers({kind: (path, data.get(kind)) for kind, path in paths.items()}, count, max_tokens))
    kinds = {
        kind: Kind(inspect(path).size_bytes, round(surprises[kind], 4), right[kind]) for kind, path in paths.items()
    }
    demo, draft = str(files / "demo.gguf"), str(files / "demo-draft.gguf")
    further = {family.name: tuple(family.prompts(SEED, count)) for family in (UNNAMED, EVERYDAY)}
    unnamed, everyday = asyncio.run(evaluate(demo, further, max_tokens=max_tokens))
    guesses = asyncio.run(acceptance(demo, draft, count=min(count, 40), max_tokens=max_tokens))
    adapter = {"lora": [str(files / "demo-pirate.gguf")]}
    pirates = asyncio.run(evaluate(demo, pirate_questions(count), adapter, max_tokens))
    nearest, pairs = asyncio.run(_nearest(str(files / "demo-embedding.gguf")))
    return Scores(
        count=count,
        kinds=kinds,
        parameters=inspect(files / "demo.gguf").parameters or 0,
        draft_parameters=inspect(files / "demo-draft.gguf").parameters or 0,
        unnamed=unnamed.right,
        everyday=everyday.right,
        guessed=guesses.guessed,
        accepted=guesses.accepted,
        pirate={score.family: score.right for score in pirates},
        nearest=nearest,
        pairs=pairs,
    )


async def _answers(
    kinds: Mapping[str, tuple[Path, Path | None]], count: int, max_tokens: int
) -> Mapping[str, Mapping[str, int]]:
    """Right answers by kind and family. All kinds are asked at once, with a thread for each: it cannot use more.

    kinds: the file of each, and the data folder with its engine, where it needs one.
    """
    asked = questions(count=count)

    async def ask(kind: str, path: Path, data: Path | None) -> Mapping[str, int]:
        found = await evaluate(str(path), asked, {"threads": 1}, max_tokens, data)
        right = {score.family: score.right for score in found}
        print(f"{kind}: {sum(right.values())} of {count * len(right)}", flush=True)
        return right

    several = await asyncio.gather(*(ask(kind, path, data) for kind, (path, data) in kinds.items()))
    return dict(zip(kinds, several, strict=True))


async def _nearest(model: str) -> tuple[int, int]:
    """How many held-out questions have their paraphrase nearest, and of how many; asked of the engine."""
    from tools.demo_model.embedding import rows

    right = 0
    async with worker(model) as channel:
        for several in itertools.islice(rows(SEED, "heldout", OTHERS), ROUNDS):
            texts = [one for one, _ in several] + [other for _, other in several]
            response = await channel.request("POST", "/v1/embeddings", json.dumps({"input": texts}).encode())
            answer = json.loads(await response.read(REPLY_LIMIT))
            vectors = np.array([entry["embedding"] for entry in answer["data"]])
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            alike = vectors[:OTHERS] @ vectors[OTHERS:].T
            right += int((alike.argmax(1) == np.arange(OTHERS)).sum())
    return right, ROUNDS * OTHERS


def written(scores: Scores) -> str:
    """As JSON."""
    return json.dumps(asdict(scores), indent=1) + "\n"


def read(text: str) -> Scores:
    """The way back from `written`."""
    found = json.loads(text)
    kinds = {kind: Kind(**values) for kind, values in found.pop("kinds").items()}
    return Scores(kinds=kinds, **found)
