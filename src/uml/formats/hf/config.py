"""What a Hugging Face config.json says about role, shape and context; it has a hundred spellings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uml.core.model import Role, Shape
from uml.formats.bounded_json import child, count, number, text

Config = Mapping[str, Any]

MAX_LAYERS = 4096

ENCODERS = frozenset(
    {
        "albert", "bert", "bge", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "esm",
        "eurobert", "gte", "jina_embeddings_v3", "layoutlm", "longformer", "mobilebert", "modernbert", "mpnet",
        "neobert", "new", "nomic_bert", "roberta", "roformer", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl",
    }
)  # fmt: skip
"""Values of model_type that read a text and write none."""

ROBERTA = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer"})
"""Two of their positions are taken by padding."""

NO_CACHE = ("linear_attention", "mamba", "mamba2", "recurrent", "conv", "ssm", "mlp", "moe", "moe_only", "-", "M", "E")
"""Kinds of layers, as layer_types and its like name them, that keep no keys and values."""

WINDOWED = ("sliding_attention", "chunked_attention")
WINDOW_PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gpt_oss": 2, "cohere2": 4, "olmo3": 4, "exaone4": 4}
"""Every how many layers one sees everything, by model_type, where the configuration does not say; others never do."""

RECURRENT = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm"})
"""Values of model_type without any attention: no layer keeps keys and values."""

UNSAID: dict[str, dict[str, int]] = {
    "llama": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "max_position_embeddings": 2048, "vocab_size": 32000,
    },
    "mistral": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "max_position_embeddings": 131072, "vocab_size": 32000,
    },
    "gemma3_text": {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072, "vocab_size": 262208,
        "sliding_window": 4096,
    },
}  # fmt: skip
"""What the text part of a multimodal model leaves out: Transformers used to write only what differs from the defaults
of its class (LlavaConfig of LLaVA 1.5, Gemma3Config of Gemma 3 4B), which are these, by model_type."""

DRAFT_WORDS = ("eagle", "medusa", "dflash", "mtp", "speculator")
GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForImageTextToText", "ForVisionText2Text")
VOCABULARY = ("vocab_size", "n_vocab", "padded_vocab_size")
NOT_TEXT = (
    "Whisper",
    "SpeechT5",
    "Wav2Vec",
    "CLIP",
    "Siglip",
    "ViT",
    "VitsModel",
    "Bark",
    "MusicGen",
    "Encodec",
    "SamModel",
)


def language_part(config: Config) -> Config:
    """The configuration of the language model inside a multimodal one; the whole where there is no such part."""
    for key in ("text_config", "llm_config", "language_config", "language_model_config"):
        if found := child(config, key):
            return {**UNSAID.get(text(found, "model_type"), {}), **config, **found}
    if found := child(child(config, "thinker_config"), "text_config"):
        return {**config, **found}
    return config


def architecture(config: Config) -> str:
    """The class that runs it; its model_type where no class is named."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    return first or text(config, "model_type")


def role(config: Config, sentence_transformer: bool) -> tuple[Role, str]:
    """The role, and what says so."""
    name, kind = architecture(config), text(config, "model_type").lower()
    if any(word in name.lower() for word in DRAFT_WORDS):
        return Role.DRAFT, f"{name} guesses ahead for another model"
    if name.endswith("ForSequenceClassification"):
        labels = len(child(config, "id2label")) or count(config, "num_labels") or 2
        if labels == 1:
            return Role.RERANKER, f"{name} with one label"
        return Role.CLASSIFIER, f"{name} with {labels} labels"
    if sentence_transformer:
        return Role.EMBEDDING, "modules.json is that of sentence-transformers"
    if text(config, "_diffusers_version"):
        return Role.UNKNOWN, "it is a part of a Diffusers pipeline, which makes images"
    if name.startswith(NOT_TEXT):
        return Role.UNKNOWN, f"{name} is no language model"
    if kind in ENCODERS:
        return Role.EMBEDDING, f"{kind} is an encoder"
    if name.endswith(GENERATES):
        return Role.TEXT, name
    if count(language_part(config), *VOCABULARY):
        return Role.TEXT, f"{name or 'a model without a class'} has a vocabulary"
    return Role.UNKNOWN, f"{name or 'config.json'} does not look like a language model"


def shape(config: Config) -> Shape | None:
    """The shape, or None where the configuration does not tell layers and width, or tells absurd ones."""
    part = language_part(config)
    layers = count(part, "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
    embedding = count(part, "hidden_size", "n_embd", "d_model", "dim", "model_dim")
    if not 0 < layers <= MAX_LAYERS or not 0 < embedding < 1 << 32:
        return None
    heads = count(part, "num_attention_heads", "n_head", "n_heads", "num_heads")
    size = count(part, "head_dim", "d_kv", "kv_channels") or (embedding // heads if heads else 0)
    latent = count(part, "kv_lora_rank") > 0
    mixture = {**child(part, "ffn_config"), **part}  # DBRX has these in a part of their own
    return Shape(
        layers=layers,
        embedding=embedding,
        feed_forward=_feed_forward(part) or 4 * embedding,
        heads=heads,
        kv_heads=_kv_heads(part, layers, heads, latent),
        # Multi-head latent attention, as engines that expand it keep it.
        key_length=count(part, "qk_nope_head_dim") + count(part, "qk_rope_head_dim") if latent else size,
        value_length=count(part, "v_head_dim") or size if latent else size,
        vocabulary=count(part, *VOCABULARY),
        sliding_window=_sliding_window(part),
        sliding=_sliding(part, layers),
        experts=count(mixture, "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
        experts_used=count(
            mixture, "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_top_k"
        ),
    )


def _feed_forward(part: Config) -> int:
    names = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "d_ff", "n_inner")
    each = part.get("intermediate_size")
    if isinstance(each, list):  # one a layer, as Gemma 3n has it
        return max((count({"of": one}, "of") for one in each[:MAX_LAYERS]), default=0)
    return count(part, *names) or count(child(part, "ffn_config"), *names)


def _sliding_window(part: Config) -> int | None:
    if part.get("use_sliding_window") is False:
        return None
    return count(part, "sliding_window", "sliding_window_size", "attention_window_size") or None


def _sliding(part: Config, layers: int) -> tuple[bool, ...]:
    """Which layers keep a window only, as Transformers keeps it; empty where none does."""
    if not _sliding_window(part):
        return ()
    kinds = part.get("layer_types")
    if isinstance(kinds, list) and kinds:
        return tuple(layer < len(kinds) and kinds[layer] in WINDOWED for layer in range(layers))
    kind = text(part, "model_type")
    if kind in ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe"):
        if part.get("use_sliding_window") is not True:
            return ()
        return tuple(layer >= count(part, "max_window_layers") for layer in range(layers))
    period = count(part, "sliding_window_pattern") or WINDOW_PERIODS.get(kind, 0)
    return tuple(not period or (layer + 1) % period != 0 for layer in range(layers))


def _kv_heads(part: Config, layers: int, heads: int, latent: bool) -> tuple[int, ...]:
    """Key-value heads of each layer; 0 where it keeps none or borrows another layer's."""
    if latent:
        each = heads
    elif part.get("multi_query") is True and not part.get("new_decoder_architecture"):
        each = 1
    else:
        each = count(part, "num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
        each = each or count(child(part, "attn_config"), "kv_n_heads") or heads
    found = [0 if silent else each for silent in _silent(part, layers)]
    borrowed = min(layers, count(part, "num_kv_shared_layers"))
    return tuple(found[: layers - borrowed] + [0] * borrowed)


def _silent(part: Config, layers: int) -> list[bool]:
    """Which layers keep no keys and values."""
    each = range(layers)
    if text(part, "model_type") in RECURRENT:
        return [True] * layers
    for key in ("layer_types", "layers_block_type", "hybrid_override_pattern"):
        kinds = part.get(key)
        if isinstance(kinds, list | str) and kinds:
            return [layer < len(kinds) and kinds[layer] in NO_CACHE for layer in each]
    if isinstance(pattern := part.get("block_types"), list) and pattern:  # repeated, as RecurrentGemma has it
        return [pattern[layer % len(pattern)] in NO_CACHE for layer in each]
    if isinstance(listed := part.get("attn_layer_indices"), list):
        attending = {layer for layer in listed[:MAX_LAYERS] if isinstance(layer, int)}
        return [layer not in attending for layer in each]
    if (period := count(part, "attn_layer_period")) > 1:
        return [layer % period != count(part, "attn_layer_offset") for layer in each]
    interval = count(part, "full_attention_interval")
    return [interval > 1 and (layer + 1) % interval != 0 for layer in each]


def context_length(config: Config, tokenizer: Config, sentence: Config) -> int | None:
    """Tokens that the model was made for.

    tokenizer: tokenizer_config.json, asked where the model's configuration has no positions.
    sentence: sentence_bert_config.json, which may lower it.
    """
    part = language_part(config)
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
    positions = count(part, *names) or count(part, "context_length")
    if positions and text(config, "model_type").lower() in ROBERTA:
        positions -= 2
    positions = max(positions, _stretched(part))
    # Tokenizers without a limit say 1e30.
    if not positions and (limit := count(tokenizer, "model_max_length")) < 1 << 31:
        positions = limit
    lowered = count(sentence, "max_seq_length")
    return (min(positions, lowered) if positions and lowered else positions or lowered) or None


def _stretched(part: Config) -> int:
    """YaRN multiplies the positions of the original model; its configuration keeps those."""
    scaling = child(part, "rope_scaling") or child(part, "rope_parameters")
    if text(scaling, "rope_type", "type") != "yarn":
        return 0
    return int(count(scaling, "original_max_position_embeddings") * min(number(scaling, "factor") or 1.0, 1024.0))
