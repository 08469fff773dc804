"""How surprised the weights in a GGUF file are by text that was never trained on.

    python -m tools.demo_model.perplexity MODEL.gguf... --tokenizer tokenizer.json

The weights are read out of the file, unpacked, and run by the trainer's own network: what is measured is the file,
without what an engine's kernels add.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from tools.demo_model.convert import gguf_name, unpermuted
from tools.demo_model.documents import documents
from tools.demo_model.network import EMBEDDING, FINAL_NORM, LAYER_NAMES, Shape, Weights, logits
from tools.demo_model.packing import Document, encode
from tools.demo_model.train import SPOKEN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEED, DIALOGUES = 1, 400


def read_gguf(path: Path) -> tuple[Shape, Weights]:
    """Shape and unpacked float32 weights, named and ordered as Hugging Face has them."""
    reader = gguf.GGUFReader(path)

    def number(key: str) -> int:
        return int(reader.fields[f"llama.{key}"].contents())

    shape = Shape(
        vocabulary=number("vocab_size"),
        hidden=number("embedding_length"),
        layers=number("block_count"),
        heads=number("attention.head_count"),
        kv_heads=number("attention.head_count_kv"),
        mlp=number("feed_forward_length"),
        context=number("context_length"),
        rope_theta=float(reader.fields["llama.rope.freq_base"].contents()),
        norm_epsilon=float(reader.fields["llama.attention.layer_norm_rms_epsilon"].contents()),
    )
    stored = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    heads = {"attn_q.weight": shape.heads, "attn_k.weight": shape.kv_heads}
    layers = (f"model.layers.{i}.{name}.weight" for i in range(shape.layers) for name in LAYER_NAMES)
    weights: Weights = {}
    for name in (EMBEDDING, *layers, FINAL_NORM):
        tensor = gguf_name(name)
        values = stored[tensor]
        count = heads.get(tensor.partition(".")[2].partition(".")[2])
        weights[name] = torch.from_numpy(np.array(unpermuted(values, count) if count else values, np.float32))
    return shape, weights


def held_out(tokenizer: Tokenizer, count: int = DIALOGUES) -> list[Document]:
    """The first held-out dialogues, always the same."""
    return encode(tokenizer, list(itertools.islice(documents(SEED, "heldout"), count)))


def perplexity(shape: Shape, weights: Weights, several: list[Document]) -> float:
    """e to the mean cost in nats of the tokens that the model is to say."""
    cost, count = 0.0, 0
    with torch.no_grad():
        for document in several:
            ids = torch.from_numpy(document.ids.astype(np.int64))
            said = torch.from_numpy(document.weights[1:] >= SPOKEN)
            scores = logits(weights, shape, ids[None, :-1])[0][said]
            cost += F.cross_entropy(scores, ids[1:][said], reduction="sum").item()
            count += int(said.sum())
    return math.exp(cost / count)


def main() -> None:
    """Command line door."""
    from tokenizers import Tokenizer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    arguments = parser.parse_args()
    several = held_out(Tokenizer.from_file(str(arguments.tokenizer)))
    for path in arguments.models:
        print(f"{perplexity(*read_gguf(path), several):.4f}  {path}")


if __name__ == "__main__":
    main()
