"""How a model is to be loaded: one typed schema for every engine.

An engine lists which of these it honours (`EngineSpec.options`). Values are checked (`option.Option.check`) before any
engine sees them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Final

from uml.core.errors import BadOption, UnknownField
from uml.core.option import Option
from uml.core.options_elsewhere import ELSEWHERE

CACHE_TYPES: Final = ("auto", "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
MAX_CONTEXT: Final = 1 << 24


def _option(default: Any, help: str, **rest: Any) -> Any:
    return field(default=default, metadata={"help": help, **rest})


def _flag(default: bool, help: str, **rest: Any) -> Any:
    return _option(default, help, kind="boolean", **rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Every load option with its default. `parse` makes one from JSON, `changed` gives it back."""

    ctx: int = _option(
        0,
        "Tokens one conversation may hold; 0: as many as the model was trained for and memory allows",
        low=0,
        high=MAX_CONTEXT,
        memory=True,
        aliases=("n_ctx", "num_ctx", "ctx_size", "context", "context_size", "context_length", "max_seq_len"),
    )
    parallel: int = _option(
        0,
        "Requests answered at the same time; each has its own context. 0: 4, or fewer where memory is short",
        low=0,
        high=256,
        memory=True,
        aliases=("n_parallel", "np"),
    )
    batch: int = _option(
        0,
        "Tokens of prompt handed over at once; a request can be given up between two batches. 0: what suits, which "
        "is 64 for a dense GGUF model of text on processors alone, the whole text for an embedding model, else 512",
        low=0,
        high=1 << 16,
        memory=True,
        aliases=("n_batch", "num_batch", "batch_size"),
    )
    ubatch: int = _option(
        0,
        "Tokens of prompt computed at once, at most `batch`; 0: 512, or the whole text for an embedding model. Where "
        "llama.cpp embeds, the smaller of the two counts for both",
        low=0,
        high=1 << 16,
        memory=True,
        aliases=("n_ubatch", "ubatch_size"),
    )
    threads: int = _option(
        0, "Processor threads while generating; 0: one a core", low=0, high=512, aliases=("n_threads",)
    )
    threads_batch: int = _option(
        0, "Processor threads while reading a prompt; 0: as `threads`", low=0, high=512, aliases=("n_threads_batch",)
    )
    numa: str = _option(
        "disabled",
        "How memory is laid over processor sockets",
        choices=("disabled", "distribute", "isolate", "numactl", "mirror"),
    )

    engine: str = _option(
        "auto", "Which engine runs it; auto: the best one that is installed", aliases=("loader", "backend")
    )
    engine_version: str = _option(
        "",
        "Which install of the engine runs it, as `uml engine ls` calls it; empty: the one in use. "
        "`engine` takes both in one: `transformers==5.23.0`",
    )
    device: str = _option("auto", "Where to run: auto, cpu, or device ids with commas (`cuda:0,cuda:1`)", memory=True)
    gpu_layers: int = _option(
        -1,
        "Layers on GPUs; -1: as many as fit",
        low=-1,
        high=10_000,
        memory=True,
        aliases=("n_gpu_layers", "ngl", "num_gpu"),
    )
    split_mode: str = _option("layer", "How a model is spread over GPUs", choices=("none", "layer", "row", "tensor"))
    tensor_split: tuple[float, ...] = _option((), "Share of each GPU, as ratios", kind="numbers", low=0, high=128)
    main_gpu: int = _option(0, "The GPU for what is not split", low=0, high=127)
    cpu_moe_layers: int = _option(
        -1,
        "Layers whose experts stay in memory beside the GPU; -1: as few as its memory allows",
        low=-1,
        high=10_000,
        memory=True,
        aliases=("n_cpu_moe",),
    )
    override_tensor: tuple[str, ...] = _option(
        (), "PATTERN=DEVICE for single tensors (`ffn_up=CPU`); beats cpu_moe_layers", kind="texts", low=0, high=256
    )
    override_kv: tuple[str, ...] = _option((), "KEY=TYPE:VALUE over the file's metadata", kind="texts", low=0, high=256)

    cache_type_k: str = _option(
        "auto", "Type of the keys in the cache", choices=CACHE_TYPES, memory=True, aliases=("ctk",)
    )
    cache_type_v: str = _option(
        "auto",
        "Type of the values in the cache; a quantized one needs flash attention",
        choices=CACHE_TYPES,
        memory=True,
        aliases=("ctv",),
    )
    flash_attention: str = _option(
        "auto", "Fused attention", choices=("auto", "on", "off"), memory=True, aliases=("flash_attn", "fa")
    )
    kv_offload: bool = _flag(True, "Keep the cache beside the layers on the GPU", memory=True)
    kv_unified: bool = _flag(
        False, "One cache for all requests together: `ctx` is shared, and may run out", memory=True
    )
    swa_full: bool = _flag(False, "Keep the whole context for sliding-window layers too", memory=True)
    context_shift: bool = _flag(
        False, "Drop the oldest tokens when generation reaches the end of the context", aliases=("ctx_shift",)
    )
    cache_prompt: bool = _flag(True, "Reuse what the last request left in the cache")
    cache_reuse: int = _option(0, "Smallest chunk to reuse from the cache by shifting; 0: off", low=0, high=MAX_CONTEXT)
    cache_ram_mib: int = _option(
        0, "Memory for caches of conversations that lost their slot, in MiB", low=0, high=1 << 20, memory=True
    )
    context_checkpoints: int = _option(
        8, "States kept a slot to go back to, for models that cannot rewind", low=0, high=256, memory=True
    )

    mmap: bool = _flag(True, "Map the file into memory instead of reading it", aliases=("use_mmap",))
    mlock: bool = _flag(False, "Keep the model from being swapped out", aliases=("use_mlock",))
    direct_io: bool = _flag(False, "Read past the page cache")
    repack: bool = _flag(
        True, "Let the engine re-order weights for this processor, at the price of a copy", memory=True
    )
    check_tensors: bool = _flag(False, "Look for invalid values in the weights while loading")
    warmup: bool = _flag(True, "One empty run after loading, so that the first answer comes sooner")

    dtype: str = _option(
        "auto",
        "Type that plain weights are kept and computed in, with PyTorch; auto: as they are stored",
        choices=("auto", "float32", "bfloat16", "float16"),
        memory=True,
        aliases=("torch_dtype",),
    )
    attention: str = _option(
        "auto",
        "Which attention of PyTorch; auto: the fastest that the model has",
        choices=("auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"),
        aliases=("attn_implementation",),
    )
    quantize: str = _option(
        "none",
        "Quantize plain weights while they are loaded, with PyTorch",
        choices=("none", "bnb-nf4", "bnb-fp4", "bnb-int8", "torchao-int8", "torchao-float8"),
        memory=True,
        aliases=("load_in",),
    )
    quantize_compute: str = _option(
        "auto",
        "Type that weights of 4 bits by bitsandbytes are computed in; auto: that of the other weights",
        choices=("auto", "float32", "bfloat16", "float16"),
        aliases=("compute_dtype", "bnb_4bit_compute_dtype"),
    )
    quantize_double: bool = _flag(
        True,
        "Quantize the scales of weights of 4 bits by bitsandbytes too",
        aliases=("use_double_quant", "bnb_4bit_use_double_quant"),
    )
    max_memory: tuple[str, ...] = _option(
        (),
        "DEVICE=GIB: most memory of weights on a device, with PyTorch: cpu, or the number of a GPU",
        kind="texts",
        low=0,
        high=64,
        memory=True,
    )
    offload_folder: str = _option("", "A folder for weights that no memory has room for, with PyTorch")
    trust_remote_code: str = _option(
        "",
        "SHA-256 of the Python files that come with the model, which lets them run; a load without it names it",
    )

    rope_scaling: str = _option(
        "auto", "How positions are stretched", choices=("auto", "none", "linear", "yarn", "longrope")
    )
    rope_freq_base: float = _option(0.0, "Base frequency; 0: the model's", low=0, high=1e9)
    rope_freq_scale: float = _option(0.0, "Frequency scale (1/factor); 0: the model's", low=0, high=1e3)
    yarn_orig_ctx: int = _option(0, "Context before stretching; 0: the model's", low=0, high=MAX_CONTEXT)
    yarn_ext_factor: float = _option(-1.0, "YaRN extrapolation; -1: the model's", low=-1, high=1e3)
    yarn_attn_factor: float = _option(-1.0, "YaRN attention magnitude; -1: the model's", low=-1, high=1e3)
    yarn_beta_fast: float = _option(-1.0, "YaRN low correction; -1: the model's", low=-1, high=1e3)
    yarn_beta_slow: float = _option(-1.0, "YaRN high correction; -1: the model's", low=-1, high=1e3)

    embeddings: bool = _flag(False, "Answer /v1/embeddings too", memory=True)
    pooling: str = _option(
        "auto",
        "How token vectors become one; auto: the model's, else mean",
        choices=("auto", "none", "mean", "cls", "last", "rank"),
    )
    mmproj: str = _option("", "Path or id of the projector for images and sound", memory=True)
    mmproj_offload: bool = _flag(True, "Keep the projector on the GPU", memory=True)
    image_min_tokens: int = _option(0, "Fewest tokens an image becomes; 0: the model's", low=0, high=1 << 16)
    image_max_tokens: int = _option(0, "Most tokens an image becomes; 0: the model's", low=0, high=1 << 16)

    lora: tuple[str, ...] = _option(
        (), "LoRA adapters: PATH or PATH=SCALE; an id does for a path", kind="texts", low=0, high=64, memory=True
    )
    control_vector: tuple[str, ...] = _option((), "Control vectors: PATH or PATH=SCALE", kind="texts", low=0, high=64)
    draft_model: str = _option(
        "", "Path or id of a small model that guesses ahead", memory=True, aliases=("model_draft",)
    )
    draft_max: int = _option(3, "Most tokens guessed ahead", low=1, high=64)
    draft_min: int = _option(0, "Fewest tokens guessed ahead", low=0, high=64)
    draft_device: str = _option(
        "",
        "Where the draft model runs: device ids with commas, or none; empty: as the model",
        aliases=("device_draft",),
    )
    draft_p_min: float = _option(0.0, "Guess on only while this sure", low=0, high=1)
    draft_gpu_layers: int = _option(
        -1,
        "Layers of the draft model on GPUs; -1: all",
        low=-1,
        high=10_000,
        memory=True,
        aliases=("gpu_layers_draft",),
    )
    spec_type: str = _option(
        "auto",
        "Guessing without a draft model",
        choices=(
            "auto",
            "none",
            "draft",
            "mtp",
            "eagle3",
            "ngram-simple",
            "ngram-map-k",
            "ngram-map-k4v",
            "ngram-mod",
            "ngram-cache",
        ),
    )
    spec_ngram_size_n: int = _option(12, "Tokens to look up", low=1, high=1024)
    spec_ngram_size_m: int = _option(48, "Tokens to take over", low=1, high=1024)
    spec_ngram_min_hits: int = _option(1, "Times a guess must have been seen", low=1, high=1024)

    chat_template: str = _option("", "A Jinja template over the model's own")
    chat_template_file: str = _option("", "A file with a Jinja template over the model's own")
    reasoning_format: str = _option(
        "auto", "Where thoughts go", choices=("auto", "none", "deepseek", "deepseek-legacy")
    )
    reasoning_budget: int = _option(-1, "Most tokens of thought; -1: no limit", low=-1, high=MAX_CONTEXT)

    keep_alive: str = _option(
        "",
        "How long it stays without a request; empty: as the setting idle_unload_s says",
        kind="duration",
        ours=True,
    )
    keep_weight: float = _option(
        1.0, "How dear it is when another needs its memory: 2 counts as half as idle", low=0.01, high=100, ours=True
    )
    sleep: bool = _option(
        True, "Stay in main memory, where the engine can and it is free, when another model needs the GPUs"
    )
    degrade: str = _option(
        "auto",
        "What may be less when memory runs out in the load, or in use again; auto: what was left open, layers: fewer "
        "on GPUs, cache: that and q8_0, context: that and a smaller one, also where they were given",
        choices=("auto", "none", "layers", "cache", "context"),
        ours=True,
    )

    slot_similarity: float = _option(
        0.5,
        "Share of a prompt that a slot must have read to be taken for it; else the one that was idle longest is",
        low=0,
        high=1,
    )
    extra_flags: tuple[str, ...] = _option(
        (), "Further arguments, handed to the engine as they are", kind="texts", low=0, high=256
    )

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> LoadOptions:
        """Checked options from JSON values, under their own names or another system's.

        Raises UnknownField (with close names) and BadOption (with the range).
        """
        known = options_by_name()
        checked: dict[str, Any] = {}
        for name, value in values.items():
            option = known.get(name.replace("-", "_"))
            if option is None:
                raise unknown_option(name)
            if option.name in checked:
                raise BadOption(option.name, value, "one value; it is given twice, under two names")
            checked[option.name] = option.check(value)
        name, pinned, label = str(checked.get("engine", "")).partition("==")
        if pinned:
            if checked.get("engine_version", "") not in ("", label):
                raise BadOption("engine_version", checked["engine_version"], f"{label}, as engine says, or nothing")
            checked |= {"engine": name.strip(), "engine_version": label.strip()}
        return cls(**checked)

    def changed(self) -> dict[str, Any]:
        """The options that differ from their default, as JSON values."""
        return {
            option.name: list(value) if isinstance(value, tuple) else value
            for option in OPTIONS
            if (value := getattr(self, option.name)) != option.default
        }

    def beyond(self, other: LoadOptions) -> dict[str, Any]:
        """The options that differ from the other's, as JSON values; `parse` over the other's makes these of them."""
        return {
            option.name: list(value) if isinstance(value, tuple) else value
            for option in OPTIONS
            if (value := getattr(self, option.name)) != getattr(other, option.name)
        }

    def changed_for_engine(self) -> tuple[str, ...]:
        """Names of the options that differ from their default and that an engine sees."""
        return tuple(name for name in self.changed() if not options_by_name()[name].ours)

    def loads_as(self, other: LoadOptions) -> bool:
        """Whether a model loaded with these is loaded as with the others: they differ in what is `ours` at most."""
        return self == other or all(getattr(self, name) == getattr(other, name) for name in _ENGINES)


def unknown_option(name: str) -> UnknownField:
    """What is said to who gives an option that there is not: what it is here, or which are close."""
    known, wanted = options_by_name(), name[:100].lower().replace("-", "_")
    if here := ELSEWHERE.get(wanted):
        return UnknownField(f"options.{name}", instead=here)
    close = [wanted] if wanted in known else difflib.get_close_matches(wanted, known, 3)
    return UnknownField(f"options.{name}", list(dict.fromkeys(known[one].name for one in close)))


def own_options(values: Mapping[str, object]) -> dict[str, Any]:
    """Checked options as JSON values by their own names: those that are given, and what they say besides.

    (`engine` may say two things.) Raises as `LoadOptions.parse` does.
    """
    options = LoadOptions.parse(values)
    given = (options_by_name()[name.replace("-", "_")].name for name in values)
    found = {name: getattr(options, name) for name in dict.fromkeys((*given, *options.changed()))}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


_KIND_OF = {bool: "boolean", int: "integer", float: "number", str: "text"}

OPTIONS: Final[tuple[Option, ...]] = tuple(
    Option(name=f.name, default=f.default, **{"kind": _KIND_OF.get(type(f.default), "texts"), **f.metadata})
    for f in fields(LoadOptions)
)
"""Every option, in the order in which they are shown."""

_ENGINES: Final = tuple(option.name for option in OPTIONS if not option.ours)


@cache
def options_by_name() -> Mapping[str, Option]:
    """Options by their own name and by every alias."""
    return {name: option for option in OPTIONS for name in (option.name, *option.aliases)}
