"""The page of conversions, with the lists that the code has."""

from __future__ import annotations

from typing import Final

from uml.runtime.conversions.gguf.families import FAMILIES, Family
from uml.runtime.conversions.gguf.recipe import PRECISIONS
from uml.runtime.conversions.gguf.splitting import NAMES
from uml.runtime.conversions.onnx import ARCHITECTURES

_ABOVE: Final = """\
# Conversions

`uml convert MODEL --to FORMAT` makes a model of another format out of one; `uml quantize` makes smaller files of GGUF.
The old model stays as it is, the new one is in `uml ls`. It is made in a folder beside its place and moved there when
it is whole: nothing is left of a conversion that fails or is stopped. The disk is looked at first.

## Safetensors to GGUF

```sh
uml convert demo-safetensors --to gguf --precision f16
uml run demo-safetensors-f16 "What is the capital of Japan?"
```

A folder of safetensors, in shards or not, becomes one file. Weights go piece by piece through llama.cpp's own code, a
few MiB of memory a core, and numpy, torch or `gguf` are not needed. `--precision` is one of KINDS; without it, weights
stay as they are (bf16, f16 or f32; [FP8](#weights-of-fp8) becomes bf16). Kinds that need an importance matrix come from
`uml quantize --imatrix` afterwards. llama.cpp then reads what was made as a load would, before it is given away.

| config.json names | architecture in GGUF |
|---|---|
ROWS

Each of them was made with random weights, and gives Transformers' scores in float32 (5.23) to 0.00002 of their spread;
those with GELU (Gemma, BERT) to 0.002, for llama.cpp looks GELU up in a table; the single scores of those rerankers to
0.01, and to 0.05 where documents are sent to `/v1/rerank`, for the engine computes in halves too. Among them are tied
outputs, biases, heads of other sizes, sliding windows, experts one by one and all in one tensor, and positions of the
kinds default, linear, llama3, yarn and longrope. An architecture outside the list, or a model of it that llama.cpp
would compute in another way (an activation, a scale of attention, experts in some layers only), is refused with the
reason. Of models that see, the language model is converted, and a note says so. Folders of sentence-transformers keep
their pooling.

Rerankers have a head with one label; with more, a model is left to the engine transformers, which tells labels. Those
of BERT's own class are converted where query and document get the same type of tokens, for llama.cpp has one: most are
made with two (`type_id` in tokenizer.json), and refused. llama.cpp's own converter (b11549) takes them, but leaves out
the layer that BERT pools with; of DistilBERT it takes a head that llama.cpp computes otherwise. The engine transformers
runs both as they are.

The tokenizer goes along, with special tokens, chat templates and defaults of sampling: merged bytes as NAMES cuts them
(llama.cpp has a name for each way to cut; it is told by the expressions in tokenizer.json), SentencePiece's BPE from
tokenizer.json or tokenizer.model, Unigram, and word pieces. 300 random texts of 20 scripts are cut as Transformers
cuts them. Where llama.cpp does not, a note at the conversion says so:

- accents that stand without their letter, by `tekken` and `gpt-4o`;
- texts that begin with a space, in vocabularies whose spaces are put before texts by a step named Metaspace;
- spaces at the end of texts, in Unigram vocabularies that keep them;
- Korean, in word pieces of small letters;
- texts that are normalized first (NFC and the like), which llama.cpp never does.

### Weights of FP8

A code of 8 bits (E4M3 or E5M2) is multiplied by its scale in float32, piece by piece as all weights are. Read are:

| config.json names | scales | stand for |
|---|---|---|
| `fp8` (DeepSeek, Qwen) | `weight_scale_inv`, `weight_scale` | a block (`weight_block_size`), a row, or a tensor |
| `compressed-tensors`, `float-quantized` | `weight_scale` | a tensor, a row, a block, or a group |
| `modelopt` with `FP8` (there or in hf_quant_config.json) | `weight_scale` | a tensor |
| nothing | none | codes are numbers |

Tiny models of the first two, experts among them, have the scores in float32 that Transformers 5.23 gives for what it
makes of them on a processor (with compressed-tensors 0.20), to 0.00002; ModelOpt's was compared with the rule alone.
In bf16 they are no farther from those before FP8 than Transformers', to 0.002 of the spread. A note tells that engines
of FP8 round what goes into a layer to 8 bits too, which llama.cpp does not; scales for that, and for caches, are left
out. MXFP8, NVFP4, FP8 of fbgemm, scales that stand for something else, weights that are turned or thinned besides
(`transform_config`, `sparsity_config`) and layers coded in different ways are refused with the reason.

### By the converter of a llama.cpp checkout

```sh
uml convert MODEL --to gguf --converter ~/llama.cpp/convert_hf_to_gguf.py --precision q8_0
```

For other architectures. It runs in the environment of the engine transformers, or in the interpreter of `--python`,
without network; its progress is shown and its errors are the causes of ours. It wants `sentencepiece` too, which that
environment may lack: `--python` names one that has it. Run here with the checkout of b11549: of a Mixtral, its file and
ours have the same tensors, bit for bit.

## PyTorch checkpoints to safetensors

```sh
uml convert MODEL --to safetensors
```

`.bin`, `.pt` and `.pth` are pickles, which can run as programs when they are loaded. The interpreter of the engine
transformers (`uml engine install transformers`, or `--python`) reads tensors and nothing else (`weights_only`), a shard
at a time, and compares each tensor of the new files, bit for bit, with what it was made of. Shards stay shards, with
their index. Where the output is tied to the embedding it is written once, and the file names the twin; all other
tensors that share memory are written each. Configuration, tokenizer and whatever else belongs to the model are copied.

## Safetensors to ONNX

Folders of safetensors become folders of ONNX Runtime GenAI by that library's builder, once
`uml engine install onnx-builder` is done. It has ONNX.

## Files from before GGUF

LLaMA models of GGML, GGMF and GGJT become GGUF by themselves when they are first loaded, and where you say with
`uml convert old.bin --to gguf`; [how, and what is lost](adr/0023-older-files-become-gguf.md).
"""


def page(generated: str) -> str:
    """The page. generated: the line that says that it is."""
    rows = "\n".join(f"| `{name}` | {_told(family)} |" for name, family in sorted(FAMILIES.items()))
    kinds = ", ".join(kind.lower() for kind in PRECISIONS)
    names = ", ".join(f"`{name}`" for name in sorted(set(NAMES.values())))
    builder = ", ".join(f"`{name}`" for name in sorted(ARCHITECTURES))
    text = _ABOVE.replace("KINDS", kinds).replace("ROWS", rows).replace("as NAMES cuts", f"as {names} cut")
    return generated + text.replace("It has ONNX.", f"It has {builder}.")


def _told(family: Family) -> str:
    what = ", for reranking" if family.ranks else ", for embeddings" if family.encoder else ""
    return f"`{family.name}`{what}{', of experts' if family.experts else ''}"
