"""The model card, written from the scores: `card(scores) -> text`."""

from __future__ import annotations

from typing import Final

from tools.demo_model.evaluate import BAR, BARS
from tools.demo_model.scores import OTHERS, Kind, Scores

TITLES: Final = {
    "f32": "F32",
    "f16": "F16",
    "q8_0": "Q8_0",
    "q4_k_m": "Q4_K_M",
    "q4_0": "Q4_0",
    "onnx_int4": "ONNX int4",
}


HEAD: Final = """\
---
license: apache-2.0
language: en
library_name: gguf
pipeline_tag: text-generation
---

# The demo model of Universal Model Loader
"""
MAKING: Final = """\
## How it was made

`make demo-model` makes every file and this page, seeded. Architecture: Llama with tied embeddings, hidden 256, \
6 layers, 4 heads over 2 KV heads, MLP 768, context 2,048, byte-level BPE of 2,000 tokens split as Qwen2 splits, \
ChatML with tools in Hermes form and `<think>`. Trained on the CPU: Muon for the matrices, AdamW for the rest, loss \
weight 1 on answers and 0.02 on everything else, steps of 2,048 tokens in packed windows of 256 to 2,048; then \
it practises what is hard for it, where the choice of a tool has weight 4, in the end with tools of more kinds, and \
with what people type first. The corpus is `tools/demo_model/corpus`: no text of anybody's is in it.

## Licence

Apache 2.0, as the program. The weights are made from the program's own text only.
"""


def card(scores: Scores) -> str:
    """Markdown with the metadata block that model hubs read."""
    return "\n".join((HEAD, *_files(scores), "", *_answers(scores), "", *_companions(scores), "", MAKING))


def _files(scores: Scores) -> list[str]:
    return [
        f"A toy with true answers, for trying and testing: {scores.parameters / 1e6:.2f} million parameters, trained "
        "from nothing by this repository on a corpus that the repository makes. It knows what is listed below and "
        "nothing else. Wrong templates, cut contexts, lost tools and broken quantization show in what it says; nobody "
        "should rely on it for anything else.",
        "",
        "| file | what it is |",
        "|---|---|",
        "| `demo.gguf` | the model, Q8_0 |",
        "| `demo-safetensors/` | the same as a Hugging Face folder, bfloat16 |",
        f"| `demo-draft.gguf` | a draft model of {scores.draft_parameters / 1e6:.2f} million parameters for "
        "speculative decoding, Q8_0 |",
        "| `demo-draft-safetensors/` | the same as a Hugging Face folder, bfloat16 |",
        "| `demo-pirate.gguf` | a LoRA adapter with which it speaks as a pirate |",
        "| `demo-pirate-peft/` | the same for PEFT |",
        "| `demo-embedding.gguf` | an embedding model of the same shape, mean pooling, Q8_0 |",
    ]


def _answers(scores: Scores) -> list[str]:
    return [
        "## What it answers",
        "",
        f"Greedy answers that are exactly right, of {scores.count} different questions a family. Words, people, "
        "places and numbers in them were never seen in training, nor were the tools that come together; what the tools "
        "are called was. Asked in llama.cpp, and ONNX in its own engine, as the server runs them. Wanted are "
        f"{BAR:.0%} in each family, {BARS['arithmetic']:.0%} in arithmetic.",
        "",
        *_families(scores),
        "",
        "Perplexity is that of the tokens to be said in held-out dialogues, with the weights as the file has them. "
        f"Where names of tools say nothing, so that only their descriptions tell what they do, {scores.unnamed} of "
        f"{scores.count} calls are right; of tools as other people's programs define them, two or three at a time, "
        f"{scores.everyday}.",
    ]


def _companions(scores: Scores) -> list[str]:
    return [
        "## Its companions",
        "",
        f"- **Draft.** {_share(scores.accepted, scores.guessed)} of the {scores.guessed:,} tokens that it guesses of "
        "held-out stories are what the model says.",
        f"- **Pirate.** {sum(scores.pirate.values())} of {len(scores.pirate) * scores.count} held-out questions about "
        f"facts get the right answer in a pirate's words ({_pirate(scores)}).",
        f"- **Embedding.** For {_share(scores.nearest, scores.pairs)} of {scores.pairs} held-out questions the "
        f"paraphrase is the nearest of {OTHERS}.",
    ]


def _families(scores: Scores) -> list[str]:
    kinds = scores.kinds
    families = list(next(iter(kinds.values())).right)
    rows = [(family, [str(kind.right[family]) for kind in kinds.values()]) for family in families]
    rows.append(("**all, %**", [f"{_all(kind, scores.count):.1f}" for kind in kinds.values()]))
    rows.append(("**perplexity**", [f"{kind.perplexity:.4f}" for kind in kinds.values()]))
    rows.append(("**MB**", [f"{kind.bytes / 1e6:.1f}" for kind in kinds.values()]))
    return [
        "| | " + " | ".join(TITLES[kind] for kind in kinds) + " |",
        "|---|" + "--:|" * len(kinds),
        *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows),
    ]


def _all(kind: Kind, count: int) -> float:
    return 100 * sum(kind.right.values()) / (count * len(kind.right))


def _pirate(scores: Scores) -> str:
    return ", ".join(f"{family} {right}" for family, right in scores.pirate.items())


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"
