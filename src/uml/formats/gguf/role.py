"""What a GGUF model is for, told from its architecture, its pooling and its tensors."""

from __future__ import annotations

from uml.core.model import Role
from uml.formats.gguf.header import GgufHeader

ENCODERS = frozenset(
    {
        "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3",
        "eurobert", "t5encoder", "gemma-embedding", "gemma-embedding2", "llama-embed",
    }
)  # fmt: skip
"""Architectures that llama.cpp runs for embeddings only."""

DRAFTS = frozenset({"eagle3", "dflash", "dspark", "gemma4-assistant"})
"""Architectures that only guess ahead for another model."""

SPEECH = frozenset({"wavtokenizer-dec", "qwen3tts", "pockettts"})

POOLING_NONE, POOLING_RANK = 0, 4
_LABELS = ("cls.output.weight", "cls.out_proj.weight")
"""The last matrix of a classifier head: a row a label. `cls.weight` before it is square."""
_YES_AND_NO = "qwen3"
"""Rerankers whose head has the words yes and no."""


def role(header: GgufHeader) -> tuple[Role, str]:
    """The role, and what in the file says so."""
    kind = header.text("general.type")
    architecture = header.text("general.architecture")
    names = [tensor.name for tensor in header.tensors]
    if kind == "adapter" or header.text("adapter.type") or any(name.endswith(".lora_a") for name in names):
        return Role.ADAPTER, f"general.type is {kind!r}" if kind == "adapter" else "it has LoRA tensors"
    if kind == "mmproj" or architecture == "clip":
        return Role.PROJECTOR, f"general.type is {kind!r}" if kind == "mmproj" else "the architecture is clip"
    if kind == "imatrix" or architecture == "imatrix":
        return Role.UNKNOWN, "it holds an importance matrix, no model"
    if kind == "controlvector" or architecture == "controlvector":
        return Role.UNKNOWN, "it holds control vectors, no model"
    if not names:
        return Role.VOCABULARY, "it has no tensors"
    if architecture in SPEECH:
        return Role.UNKNOWN, f"the architecture {architecture} makes sound"
    return _language_role(header, architecture, names)


def _language_role(header: GgufHeader, architecture: str, names: list[str]) -> tuple[Role, str]:
    if draft := _draft(header, architecture, names):
        return Role.DRAFT, draft
    # Some converters write the head of a single label as a row without a second size.
    labels = next((tensor.shape[1] for tensor in header.tensors if tensor.name in _LABELS and tensor.shape[1:]), 1)
    if labels > 1 and not architecture.startswith(_YES_AND_NO):
        return Role.CLASSIFIER, f"it has a classifier head with {labels} labels"
    pooling = header.integer(f"{architecture}.pooling_type", POOLING_NONE)
    if pooling == POOLING_RANK:
        return Role.RERANKER, "its pooling is rank"
    if any(name in ("cls.weight", "cls.output.weight", "cls.out_proj.weight") for name in names):
        return Role.RERANKER, "it has a classifier head"
    if pooling != POOLING_NONE:
        return Role.EMBEDDING, f"its pooling type is {pooling}"
    if architecture in ENCODERS:
        return Role.EMBEDDING, f"the architecture {architecture} is an encoder"
    if not header.integer(f"{architecture}.block_count") and "tokenizer.ggml.model" not in header.metadata:
        return Role.UNKNOWN, f"the architecture {architecture or '(none)'} has no layers of a language model"
    return Role.TEXT, f"the architecture is {architecture}"


def _draft(header: GgufHeader, architecture: str, names: list[str]) -> str:
    """Why it is a draft model; empty where it is none."""
    if architecture in DRAFTS or architecture.endswith(("-mtp", "_mtp", "-eagle3")):
        return f"the architecture {architecture} is for drafting"
    # A multi-token-prediction head on its own: only the layers after the model's last one are here.
    if header.integer(f"{architecture}.nextn_predict_layers") and any(".nextn." in name for name in names):
        trunk = header.integer(f"{architecture}.block_count") - header.integer(f"{architecture}.nextn_predict_layers")
        if trunk > 0 and not any(name.startswith("blk.0.") for name in names):
            return "it has prediction layers and none of the model's own"
    return ""
