"""The parameters of a request: one table for checks, translation and documentation.

Names are those of text-generation-webui's OpenAI routes; what llama.cpp, KoboldCpp, vLLM and
Ollama call them is an alias. Ranges keep out what an engine cannot survive, too: llama.cpp's server
allocates `repeat_last_n` tokens for every request, whatever the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.generation.parameter import Endpoint, Parameter

MAX_TOKENS: Final = (1 << 31) - 1
MAX_WINDOW: Final = 1 << 20
"""Most tokens that penalties look back on."""

_P = Parameter
_CHAT: Final[tuple[Endpoint, ...]] = ("chat",)
_COMPLETION: Final[tuple[Endpoint, ...]] = ("completion",)
_EMBEDDING: Final[tuple[Endpoint, ...]] = ("embedding",)
_RERANK: Final[tuple[Endpoint, ...]] = ("rerank",)
_ALL: Final[tuple[Endpoint, ...]] = ("chat", "completion", "embedding", "rerank", "classify")

PARAMETERS: Final[tuple[Parameter, ...]] = (
    _P("model", "text", "Id or alias of the model; may be left out while exactly one model is loaded", endpoints=_ALL),
    _P("messages", "array", "The conversation", endpoints=_CHAT),
    _P(
        "prompt",
        "prompt",
        "The text to go on with; empty: a new one, where the model has a token to begin it with",
        endpoints=_COMPLETION,
    ),
    _P("input", "prompt", "The texts to embed, or to sort", aliases=("content",), endpoints=("embedding", "classify")),
    _P("query", "text", "What the documents are scored for", endpoints=_RERANK),
    _P("documents", "array", "Texts, or objects with a `text`", aliases=("texts",), endpoints=_RERANK),
    _P("top_n", "integer", "Tell only so many of the best documents", 1, MAX_TOKENS, endpoints=_RERANK, ours=True),
    _P(
        "return_documents",
        "boolean",
        "Tell the texts of the documents too",
        aliases=("return_text",),
        endpoints=_RERANK,
        ours=True,
    ),
    _P(
        "raw_scores",
        "boolean",
        "Tell the model's own scores, which have no bounds, instead of numbers from 0 to 1",
        endpoints=_RERANK,
        ours=True,
    ),
    _P("stream", "boolean", "Answer with server-sent events as tokens come"),
    _P("stream_options", "object", "`include_usage`: end the stream with token counts"),
    _P("strict", "boolean", "Refuse what the engine cannot honour instead of warning about it", endpoints=_ALL),
    _P("keep_alive", "duration", "How long the model stays without a request from now on", endpoints=_ALL, ours=True),
    # length
    _P(
        "max_tokens",
        "integer",
        "Most tokens to generate; -1: until the context is full",
        -1,
        MAX_TOKENS,
        aliases=("max_completion_tokens", "max_new_tokens", "n_predict", "num_predict", "max_length"),
    ),
    _P("n", "integer", "How many answers", 1, 128, aliases=("n_cmpl", "num_return_sequences")),
    _P(
        "stop", "texts", "Texts that end the answer", 0, 64, aliases=("stop_sequence", "stop_sequences", "stop_strings")
    ),
    _P(
        "seed",
        "integer",
        "Seed of the random numbers; -1: another one every time",
        -1,
        (1 << 32) - 1,
        aliases=("sampler_seed",),
    ),
    _P("ignore_eos", "boolean", "Go on after the end of the answer", aliases=("ban_eos_token",)),
    _P(
        "min_tokens",
        "integer",
        "Least tokens to generate before the answer may end",
        0,
        MAX_TOKENS,
        aliases=("min_new_tokens",),
        rare=True,
    ),
    _P("t_max_predict_ms", "integer", "Stop at the first line end after this time", -1, 1 << 31),
    # truncation samplers
    _P("temperature", "number", "Randomness; 0: always the likeliest token", 0, 100, aliases=("temp",)),
    _P("top_k", "integer", "Keep the k likeliest tokens; 0: all", -1, MAX_TOKENS),
    _P("top_p", "number", "Keep the likeliest tokens up to this sum of probabilities; 1: off", 0, 1),
    _P("min_p", "number", "Keep tokens at least this likely relative to the likeliest; 0: off", 0, 1),
    _P("top_a", "number", "Keep tokens above this times the square of the likeliest; 0: off", 0, 1, rare=True),
    _P("typical_p", "number", "Locally typical sampling; 1: off", 0, 1, aliases=("typical", "typ_p")),
    _P("tfs", "number", "Tail-free sampling; 1: off", 0, 1, aliases=("tfs_z",), rare=True),
    _P("top_h", "number", "Keep the likeliest tokens up to this share of their entropy; 0: off", 0, 1, rare=True),
    _P(
        "top_n_sigma", "number", "Keep tokens this many deviations below the best; 0: off", -1, 100, aliases=("nsigma",)
    ),
    _P(
        "epsilon_cutoff", "number", "Drop tokens below this probability, in units of 1e-4; 0: off", 0, 10_000, rare=True
    ),
    _P(
        "eta_cutoff",
        "number",
        "Drop tokens below a limit that follows entropy, in units of 1e-4; 0: off",
        0,
        10_000,
        rare=True,
    ),
    _P("xtc_probability", "number", "Chance to drop the likeliest tokens; 0: off", 0, 1),
    _P("xtc_threshold", "number", "Probability from which XTC drops a token", 0, 1),
    _P("min_keep", "integer", "Tokens that samplers must leave", 0, 1 << 20),
    # shape of the distribution
    _P("dynamic_temperature", "boolean", "Let the temperature follow entropy", rare=True),
    _P("dynatemp_low", "number", "Lowest dynamic temperature", 0, 100, rare=True),
    _P("dynatemp_high", "number", "Highest dynamic temperature", 0, 100, rare=True),
    _P("dynatemp_range", "number", "Dynamic temperature: this much below and above `temperature`; 0: off", 0, 100),
    _P("dynatemp_exponent", "number", "How entropy maps to temperature", 0, 100),
    _P("smoothing_factor", "number", "Quadratic sampling; 0: off", 0, 100, rare=True),
    _P("smoothing_curve", "number", "Curve of quadratic sampling", 0, 100, rare=True),
    _P("adaptive_target", "number", "Probability that chosen tokens should have; 0 or less: off", -1, 1),
    _P("adaptive_decay", "number", "How slowly adaptive sampling forgets", 0, 0.99),
    _P("mirostat_mode", "integer", "Mirostat; 0: off, 1 or 2: its version", 0, 2, aliases=("mirostat",)),
    _P("mirostat_tau", "number", "Surprise that Mirostat aims at", 0, 100),
    _P("mirostat_eta", "number", "Learning rate of Mirostat", 0, 1),
    # penalties
    _P(
        "repetition_penalty",
        "number",
        "Divides the score of tokens that were there; 1: off",
        0.01,
        10,
        aliases=("repeat_penalty", "rep_pen"),
    ),
    _P(
        "repetition_penalty_range",
        "integer",
        "Tokens that penalties look back on; 0: off, -1: the whole context",
        -1,
        MAX_WINDOW,
        aliases=("repeat_last_n", "rep_pen_range", "penalty_last_n"),
    ),
    _P("presence_penalty", "number", "Taken once from the score of tokens that were there", -2, 2),
    _P("frequency_penalty", "number", "Taken from the score of tokens for every time they were there", -2, 2),
    _P("encoder_repetition_penalty", "number", "Favours tokens of the prompt; 1: off", 0.01, 10, rare=True),
    _P("no_repeat_ngram_size", "integer", "Never repeat so many tokens in a row; 0: off", 0, 1 << 16, rare=True),
    _P("dry_multiplier", "number", "Strength of the penalty on repeated sequences; 0: off", 0, 100),
    _P("dry_base", "number", "How the DRY penalty grows with length", 1, 100),
    _P("dry_allowed_length", "integer", "Longest sequence that DRY lets repeat", 0, MAX_WINDOW),
    _P("dry_penalty_last_n", "integer", "Tokens that DRY looks back on; 0: off, -1: the whole context", -1, MAX_WINDOW),
    _P("dry_sequence_breakers", "texts", "Texts across which DRY does not look", 1, 64),
    _P("penalty_alpha", "number", "Contrastive search", 0, 1, rare=True),
    _P("guidance_scale", "number", "Classifier-free guidance, away from negative_prompt; 1: off", 0, 100, rare=True),
    _P("negative_prompt", "text", "What guidance leads away from; in a chat another system message", rare=True),
    _P("do_sample", "boolean", "false: always the likeliest token"),
    _P("sampler_priority", "texts", "Order of the samplers", 1, 32, aliases=("samplers",)),
    _P("temperature_last", "boolean", "Temperature after all other samplers", rare=True),
    _P("plugin_samplers", "object", "Samplers of plug-ins: name -> its setting, as the sampler takes it", rare=True),
    _P("logit_bias", "any", "Token id -> what is added to its score"),
    _P("custom_token_bans", "text", "Token ids that never come, with commas"),
    _P(
        "banned_strings",
        "texts",
        "Texts that the answer never contains",
        0,
        768,
        aliases=("banned_tokens", "bad_words"),
        rare=True,
    ),
    # search
    _P(
        "num_beams",
        "integer",
        "Answers followed side by side, of which the likeliest is given, in one piece; 1: off",
        1,
        32,
        rare=True,
    ),
    _P("length_penalty", "number", "Beams: above 0 favours long answers, below 0 short ones", -10, 10, rare=True),
    _P(
        "early_stopping",
        "any",
        "Beams: true ends as soon as enough answers are complete, `never` only when none can become better",
        rare=True,
    ),
    # structure
    _P("grammar", "text", "GBNF grammar that the answer follows", aliases=("grammar_string", "guided_grammar")),
    _P("json_schema", "object", "JSON schema that the answer follows", aliases=("guided_json",)),
    _P("regex", "text", "Regular expression that the answer matches", aliases=("guided_regex",), rare=True),
    _P("choice", "texts", "Texts of which the answer is one", 1, 10_000, aliases=("guided_choice",), rare=True),
    _P("response_format", "object", "`text`, `json_object` or `json_schema`"),
    _P("tools", "array", "Functions that the model may call", endpoints=_CHAT),
    _P("tool_choice", "any", "`none`, `auto`, `required` or one function", endpoints=_CHAT),
    _P("parallel_tool_calls", "boolean", "Allow several calls at once", endpoints=_CHAT),
    # template and thoughts
    _P("chat_template_kwargs", "object", "Values for the chat template", endpoints=_CHAT),
    _P("enable_thinking", "boolean", "Let a reasoning model think first", endpoints=_CHAT),
    _P(
        "reasoning_effort",
        "text",
        "How much a reasoning model thinks",
        choices=("none", "minimal", "low", "medium", "high", "xhigh"),
        endpoints=_CHAT,
    ),
    _P("reasoning_format", "text", "Where thoughts go", choices=("none", "auto", "deepseek", "deepseek-legacy")),
    _P(
        "reasoning_budget_tokens",
        "integer",
        "Most tokens of thought; -1: no limit",
        -1,
        MAX_TOKENS,
        aliases=("reasoning_budget", "thinking_budget_tokens"),
        endpoints=_CHAT,
    ),
    _P("add_generation_prompt", "boolean", "End the prompt with the start of an answer", endpoints=_CHAT),
    _P("continue_final_message", "boolean", "Go on with the last message", endpoints=_CHAT),
    # what the answer tells
    _P("logprobs", "boolean", "Tell the logarithm of every token's probability", endpoints=_CHAT),
    _P(
        "logprobs",
        "integer",
        "Tell the logarithm of every token's probability, and so many of the likeliest tokens at its place",
        0,
        20,
        endpoints=_COMPLETION,
    ),
    _P("top_logprobs", "integer", "Likeliest tokens told at each place", 0, 20, endpoints=_CHAT),
    _P("n_probs", "integer", "Likeliest tokens told at each place", 0, 100),
    _P("post_sampling_probs", "boolean", "Probabilities after the samplers instead of before"),
    _P("return_tokens", "boolean", "Tell token ids too"),
    _P("return_progress", "boolean", "Tell how far the prompt is read, in a stream"),
    _P("timings_per_token", "boolean", "Timings with every piece of a stream"),
    _P("echo", "boolean", "Repeat the prompt before the answer", endpoints=_COMPLETION, rare=True),
    _P("suffix", "text", "Text after the gap to fill", endpoints=_COMPLETION, rare=True),
    _P("best_of", "integer", "Answers to choose from", 1, 128, endpoints=_COMPLETION, rare=True),
    # cache
    _P("cache_prompt", "boolean", "Reuse what the last request left in the cache"),
    _P("n_keep", "integer", "Tokens of the prompt kept when the context shifts; -1: all", -1, MAX_TOKENS),
    _P("n_discard", "integer", "Tokens dropped when the context shifts; 0: half", 0, MAX_TOKENS),
    _P("n_indent", "integer", "Stop at a line with less indentation", 0, 1 << 16),
    _P("lora", "array", "Adapters with their scale, of those that are loaded"),
    # embeddings
    _P("encoding_format", "text", "How vectors are written", choices=("float", "base64"), endpoints=_EMBEDDING),
    _P(
        "dimensions",
        "integer",
        "Length of the vectors: they are cut to it and made of length 1 again, which suits models that are made for it",
        1,
        1 << 20,
        endpoints=_EMBEDDING,
        ours=True,
    ),
    # book-keeping of hosted services
    _P("user", "text", "Not used on a local server", endpoints=_ALL, inert=True),
    _P("metadata", "any", "Not used on a local server", inert=True),
    _P("store", "any", "Not used on a local server", inert=True),
    _P("service_tier", "any", "Not used on a local server", inert=True),
    _P("safety_identifier", "any", "Not used on a local server", inert=True),
    _P("prompt_cache_key", "any", "Not used on a local server", inert=True),
)


def _between(first: str, last: str) -> tuple[str, ...]:
    names = [parameter.name for parameter in PARAMETERS]
    return tuple(names[names.index(first) : names.index(last) + 1])


SAMPLERS: Final = _between("temperature", "custom_token_bans")
"""What changes which token is chosen: one part of the table, in its order."""


def only(*names: str) -> Mapping[str, str | None]:
    """The dialect of an engine that honours these parameters, by these names, and no others.

    What brings a request there, and how it is answered, is honoured by every worker.
    """
    read = ("messages", "prompt", "input", "query", "documents", "model")
    every = (*read, "stream", "stream_options", "max_tokens", "stop", "n")
    known = {name: name for name in (*every, *names)}
    return {**dict.fromkeys(parameter.name for parameter in PARAMETERS if not parameter.inert), **known}
