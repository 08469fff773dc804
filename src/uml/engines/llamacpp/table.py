"""Every load option of ours as llama.cpp knows it: one table, each option in exactly one row.

A row gives the attributes of xllamacpp's `CommonParams` (embedded) and the arguments of
`llama-server` (external). Both come from the same values, so the two ways cannot drift apart.
Names are those of build b11549 (`common/arg.cpp`, `common/common.h`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from uml.core.model import Role
from uml.core.plan import LoadPlan
from uml.engines.llamacpp.meaning import (
    ALL_LAYERS,
    Scaled,
    batches,
    gpu_layers,
    gpus,
    guessing,
    scaled,
    serves_embeddings,
    slots,
    template,
    tensor_overrides,
    total_context,
)
from uml.engines.llamacpp.rows import (
    Arguments,
    Member,
    Parameters,
    Row,
    changed,
    choice,
    csv_cell,
    derived,
    members,
    plain,
    same_words,
    switch,
    word,
)

BUILD: Final = "b11549"
MAX_DEVICES: Final = 128
"""Length of `tensor_split` in xllamacpp."""
NGRAM_MOD_MIN: Final = 48
"""`speculative.ngram_mod.n_min` of the engine; a smaller most must lower the least too."""


def parameters(plan: LoadPlan) -> dict[str, Any]:
    """Attribute path of `CommonParams` -> value, for everything that the plan says."""
    return {attribute: value for row in ROWS for attribute, value in row.parameters(plan).items()}


def arguments(plan: LoadPlan) -> list[str]:
    """Arguments of `llama-server` for everything that the plan says."""
    return [word for row in ROWS for word in row.arguments(plan)]


CACHE: Final = members("ggml_type", "GGML_TYPE", same_words("f32 f16 bf16 q8_0 q5_1 q5_0 q4_1 q4_0 iq4_nl"))
FLASH: Final = {
    "auto": Member("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_AUTO", "auto"),
    "on": Member("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_ENABLED", "on"),
    "off": Member("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_DISABLED", "off"),
}
NUMA: Final = members(
    # `disabled` and `mirror` have no word in the program: the first is its default, the second is refused.
    "ggml_numa_strategy",
    "GGML_NUMA_STRATEGY",
    {**same_words("distribute isolate numactl"), "disabled": "", "mirror": ""},
)
SPLIT: Final = members("llama_split_mode", "LLAMA_SPLIT_MODE", same_words("none layer row tensor"))
ROPE: Final = {
    **members("llama_rope_scaling_type", "LLAMA_ROPE_SCALING_TYPE", same_words("none linear yarn")),
    "longrope": Member("llama_rope_scaling_type", "LLAMA_ROPE_SCALING_TYPE_LONGROPE", ""),
}
POOLING: Final = members("llama_pooling_type", "LLAMA_POOLING_TYPE", same_words("none mean cls last rank"))
REASONING: Final = members(
    "common_reasoning_format", "COMMON_REASONING_FORMAT", same_words("auto none deepseek deepseek-legacy")
)
GUESSING: Final = {
    word: Member("common_speculative_type", f"COMMON_SPECULATIVE_TYPE_{name}", name.lower().replace("_", "-"))
    for word, name in {
        "draft": "DRAFT_SIMPLE",
        "mtp": "DRAFT_MTP",
        "eagle3": "DRAFT_EAGLE3",
        "ngram-simple": "NGRAM_SIMPLE",
        "ngram-map-k": "NGRAM_MAP_K",
        "ngram-map-k4v": "NGRAM_MAP_K4V",
        "ngram-mod": "NGRAM_MOD",
        "ngram-cache": "NGRAM_CACHE",
    }.items()
}


# --- the rows that need more than one line ------------------------------------------------------------------------


def _load_mode(plan: LoadPlan) -> Member:
    options = plan.options
    if options.direct_io:
        return Member("llama_load_mode", "LLAMA_LOAD_MODE_DIRECT_IO", "dio")
    if options.mlock:
        both = options.mmap
        name = "LLAMA_LOAD_MODE_MMAP_MLOCK" if both else "LLAMA_LOAD_MODE_MLOCK"
        return Member("llama_load_mode", name, "mmap+mlock" if both else "mlock")
    if options.mmap:
        return Member("llama_load_mode", "LLAMA_LOAD_MODE_AUTO", "auto")
    return Member("llama_load_mode", "LLAMA_LOAD_MODE_NONE", "none")


def _pooling(plan: LoadPlan) -> Member | None:
    """The model's own where its file names one: without any, the endpoint answers 400 to everything."""
    if not serves_embeddings(plan):
        return None
    chosen = plan.options.pooling
    if chosen == "auto":
        info = plan.model.info
        if info.role is Role.RERANKER:
            chosen = "rank"
        elif any(key.endswith(".pooling_type") and value for key, value in info.metadata.items()):
            return None
        else:
            chosen = "mean"
    return POOLING[chosen]


def _embedding_parameters(plan: LoadPlan) -> Parameters:
    pooling = _pooling(plan)
    return {"embedding": serves_embeddings(plan), **({"pooling_type": pooling} if pooling else {})}


def _embedding_arguments(plan: LoadPlan) -> Arguments:
    pooling = _pooling(plan)
    words = ["--embeddings"] if serves_embeddings(plan) else []
    return words + (["--pooling", pooling.word] if pooling else [])


def _template_arguments(plan: LoadPlan) -> Arguments:
    if plan.options.chat_template_file:
        return ["--chat-template-file", plan.options.chat_template_file]
    return ["--chat-template", plan.options.chat_template] if plan.options.chat_template else []


def _tensor_split(plan: LoadPlan) -> Parameters:
    shares = list(plan.options.tensor_split)
    return {"tensor_split": shares + [0.0] * (MAX_DEVICES - len(shares))} if shares else {}


def _adapters(option: str, attribute: str, argument: str) -> Row:
    def files(plan: LoadPlan) -> list[Scaled]:
        return [scaled(text) for text in getattr(plan.options, option)]

    def given(plan: LoadPlan) -> Parameters:
        return {attribute: files(plan)} if attribute and files(plan) else {}

    def words(plan: LoadPlan) -> Arguments:
        if not files(plan):
            return []
        # One argument for all of them: a request names an adapter by its place.
        if all(file.scale == 1.0 for file in files(plan)):
            return [argument, ",".join(csv_cell(file.path) for file in files(plan))]
        return [f"{argument}-scaled", ",".join(csv_cell(f"{f.path}:{f.scale:.9g}") for f in files(plan))]

    return Row((option,), given, words)


def _ngram(option: str, name: str, mod: tuple[str, ...]) -> Row:
    """One size for every kind that looks up; `ngram-mod` has sizes of its own that suit it better by default."""

    def targets(plan: LoadPlan) -> list[tuple[str, str]]:
        kind = guessing(plan.options)
        if kind in ("ngram-simple", "ngram-map-k", "ngram-map-k4v"):
            return [(f"speculative.{kind.replace('-', '_')}.{name}", f"--spec-{kind}-{name.replace('_', '-')}")]
        if kind == "ngram-mod" and changed(plan, option):
            return [(f"speculative.ngram_mod.{own}", f"--spec-ngram-mod-{own.replace('_', '-')}") for own in mod]
        return []  # a kind that looks nothing up

    def given(plan: LoadPlan) -> Parameters:
        size = getattr(plan.options, option)
        return {attribute: least(attribute, size) for attribute, _ in targets(plan)}

    def words(plan: LoadPlan) -> Arguments:
        size = getattr(plan.options, option)
        return [word for attribute, name in targets(plan) for word in (name, str(least(attribute, size)))]

    def least(attribute: str, size: int) -> int:
        return min(size, NGRAM_MOD_MIN) if attribute.endswith("n_min") else size

    return Row((option,), given, words)


def _guessing(plan: LoadPlan) -> Member | None:
    return GUESSING.get(guessing(plan.options))


def _engine_names(ids: Sequence[str]) -> str:
    """`cuda:0` is CUDA0 to the engine; empty for kinds that need no name: a Mac has one GPU."""
    names = {"cuda": "CUDA", "rocm": "ROCm", "vulkan": "Vulkan"}
    chosen = [id.strip().partition(":") for id in ids]
    if any(kind not in names for kind, _, _ in chosen):
        return ""
    return ",".join(f"{names[kind]}{number or 0}" for kind, _, number in chosen)


def _device_words(plan: LoadPlan) -> Arguments:
    chosen = gpus(plan)
    names = _engine_names(chosen) if chosen else "none"
    return ["--device", names] if names else []


def _draft_device(plan: LoadPlan) -> str | None:
    device = plan.options.draft_device
    # The processor is what is left when nothing is offloaded.
    return "none" if device in ("none", "cpu") else _engine_names(device.split(",")) or None


ROWS: Final[tuple[Row, ...]] = (
    derived("ctx", "n_ctx", "--ctx-size", total_context),
    Row(
        ("kv_unified",),
        lambda plan: {"kv_unified": plan.options.kv_unified},
        lambda plan: ["--kv-unified" if plan.options.kv_unified else "--no-kv-unified"],
    ),
    derived("parallel", "n_parallel", "--parallel", slots),
    derived("batch", "n_batch", "--batch-size", lambda plan: batches(plan)[0]),
    derived("ubatch", "n_ubatch", "--ubatch-size", lambda plan: batches(plan)[1]),
    derived("threads", "cpuparams.n_threads", "--threads", lambda plan: plan.options.threads or None),
    derived(
        "threads_batch", "cpuparams_batch.n_threads", "--threads-batch", lambda plan: plan.options.threads_batch or None
    ),
    choice("numa", "numa", "--numa", NUMA),
    # Embedded, devices are chosen by the environment (build.visible_devices): CommonParams has no field for them.
    Row(("device",), lambda plan: {}, _device_words),
    derived("gpu_layers", "n_gpu_layers", "--gpu-layers", gpu_layers),
    choice("split_mode", "split_mode", "--split-mode", SPLIT),
    Row(
        ("tensor_split",),
        _tensor_split,
        lambda plan: (
            ["--tensor-split", ",".join(word(share) for share in plan.options.tensor_split)]
            if plan.options.tensor_split
            else []
        ),
    ),
    plain("main_gpu", "main_gpu", "--main-gpu"),
    Row(
        ("cpu_moe_layers", "override_tensor"),
        lambda plan: (
            {"tensor_buft_overrides": ",".join(moved)} if (moved := tensor_overrides(plan, hidden=True)) else {}
        ),
        lambda plan: ["--override-tensor", ",".join(moved)] if (moved := tensor_overrides(plan)) else [],
    ),
    Row(
        ("override_kv",),
        lambda plan: {},
        lambda plan: (
            ["--override-kv", ",".join(csv_cell(text) for text in plan.options.override_kv)]
            if plan.options.override_kv
            else []
        ),
    ),
    choice("cache_type_k", "cache_type_k", "--cache-type-k", CACHE),
    choice("cache_type_v", "cache_type_v", "--cache-type-v", CACHE),
    choice("flash_attention", "flash_attn_type", "--flash-attn", FLASH),
    switch("kv_offload", "no_kv_offload", off="--no-kv-offload", inverted=True),
    switch("swa_full", "swa_full", on="--swa-full"),
    switch("context_shift", "ctx_shift", on="--context-shift", off="--no-context-shift"),
    switch("cache_prompt", "cache_prompt", off="--no-cache-prompt"),
    plain("cache_reuse", "n_cache_reuse", "--cache-reuse"),
    Row(
        ("cache_ram_mib",),
        # Idle slots are parked in this memory; without any, the engine warns and turns it off by itself.
        lambda plan: {
            "cache_ram_mib": plan.options.cache_ram_mib,
            "cache_idle_slots": plan.options.cache_ram_mib > 0,
        },
        lambda plan: [
            *("--cache-ram", str(plan.options.cache_ram_mib)),
            *(() if plan.options.cache_ram_mib else ("--no-cache-idle-slots",)),
        ],
    ),
    plain("context_checkpoints", "n_ctx_checkpoints", "--ctx-checkpoints", always=True),
    derived("mmap mlock direct_io", "load_mode", "--load-mode", _load_mode),
    switch("repack", "no_extra_bufts", off="--no-repack", inverted=True),
    switch("check_tensors", "check_tensors", on="--check-tensors"),
    switch("warmup", "warmup", off="--no-warmup"),
    choice("rope_scaling", "rope_scaling_type", "--rope-scaling", ROPE),
    plain("rope_freq_base", "rope_freq_base", "--rope-freq-base"),
    plain("rope_freq_scale", "rope_freq_scale", "--rope-freq-scale"),
    plain("yarn_orig_ctx", "yarn_orig_ctx", "--yarn-orig-ctx"),
    plain("yarn_ext_factor", "yarn_ext_factor", "--yarn-ext-factor"),
    plain("yarn_attn_factor", "yarn_attn_factor", "--yarn-attn-factor"),
    plain("yarn_beta_fast", "yarn_beta_fast", "--yarn-beta-fast"),
    plain("yarn_beta_slow", "yarn_beta_slow", "--yarn-beta-slow"),
    Row(("embeddings", "pooling"), _embedding_parameters, _embedding_arguments),
    plain("mmproj", "mmproj.path", "--mmproj"),
    switch("mmproj_offload", "mmproj_use_gpu", off="--no-mmproj-offload"),
    plain("image_min_tokens", "image_min_tokens", "--image-min-tokens"),
    plain("image_max_tokens", "image_max_tokens", "--image-max-tokens"),
    _adapters("lora", "lora_adapters", "--lora"),
    _adapters("control_vector", "", "--control-vector"),
    plain("draft_model", "speculative.draft.mparams.path", "--spec-draft-model"),
    plain("draft_max", "speculative.draft.n_max", "--spec-draft-n-max"),
    plain("draft_min", "speculative.draft.n_min", "--spec-draft-n-min"),
    derived("draft_device", "speculative.draft.devices", "--spec-draft-device", _draft_device),
    plain("draft_p_min", "speculative.draft.p_min", "--spec-draft-p-min"),
    derived(
        "draft_gpu_layers",
        "speculative.draft.n_gpu_layers",
        "--spec-draft-ngl",
        lambda plan: (
            None
            if not plan.options.draft_model
            else 0
            if not gpus(plan)
            else plan.options.draft_gpu_layers
            if plan.options.draft_gpu_layers >= 0
            else ALL_LAYERS
        ),
    ),
    Row(
        ("spec_type",),
        lambda plan: {"speculative.types": [member]} if (member := _guessing(plan)) else {},
        lambda plan: ["--spec-type", member.word] if (member := _guessing(plan)) else [],
    ),
    _ngram("spec_ngram_size_n", "size_n", ("n_match",)),
    _ngram("spec_ngram_size_m", "size_m", ("n_max", "n_min")),
    _ngram("spec_ngram_min_hits", "min_hits", ()),
    Row(
        ("chat_template", "chat_template_file"),
        lambda plan: {"chat_template": text} if (text := template(plan.options)) else {},
        _template_arguments,
    ),
    choice("reasoning_format", "reasoning_format", "--reasoning-format", REASONING),
    plain("reasoning_budget", "sampling.reasoning_budget_tokens", "--reasoning-budget"),
    plain("slot_similarity", "slot_prompt_similarity", "--slot-prompt-similarity", always=True),
    Row(("extra_flags",), lambda plan: {}, lambda plan: list(plan.options.extra_flags)),
)

HONOURED: Final = frozenset(option for row in ROWS for option in row.options)
"""Options with a row."""
