"""What a plan means to llama.cpp, where one option alone does not say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.model import Role
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.overrides import engine_name, overrides

ALL_LAYERS: Final = 10_000
"""More layers than any model has."""
NGRAM_MOD_MAX: Final = 64
"""`speculative.ngram_mod.n_max` when nobody says otherwise."""
EXPERTS: Final = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""Tensors of experts: LLM_FFN_EXPS_REGEX in common/common.h."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """A file with a factor: an adapter or a control vector."""

    path: str
    scale: float


def slots(plan: LoadPlan) -> int:
    """Requests at the same time; a server without slots hangs on its first request."""
    return max(1, plan.options.parallel)


def total_context(plan: LoadPlan) -> int:
    """Cells of the cache: the engine divides them among its slots unless the cache is unified. 0: the model's."""
    options = plan.options
    return options.ctx if options.kv_unified else options.ctx * slots(plan)


def gpus(plan: LoadPlan) -> tuple[str, ...]:
    """Device ids beside the processor that the plan uses, in order."""
    device = plan.options.device
    chosen = plan.placement.device_bytes if device == "auto" else device.split(",")
    return tuple(name for part in chosen if (name := part.strip()) not in ("", "cpu"))


def gpu_layers(plan: LoadPlan) -> int:
    """Layers on GPUs. The engine counts the output as one more, so `all` is more than the model has."""
    if not gpus(plan):
        return 0
    asked, place = plan.options.gpu_layers, plan.placement
    if asked >= 0:
        return asked
    return ALL_LAYERS if place.layers == 0 or place.gpu_layers >= place.layers else place.gpu_layers


def serves_embeddings(plan: LoadPlan) -> bool:
    """Whether /v1/embeddings answers.

    A text model can answer it beside chats, when it was loaded so: measured on b11549, the switch costs no
    speed (0 to 1 % on three models), but reserves `ubatch x vocabulary x 4` bytes more.
    """
    return plan.model.info.role in (Role.EMBEDDING, Role.RERANKER) or plan.options.embeddings


def batches(plan: LoadPlan) -> tuple[int, int]:
    """Tokens handed over and computed at once: as many where it embeds, as `planning.batches` has decided."""
    options = plan.options
    ubatch = min(options.batch, options.ubatch)
    return ubatch if serves_embeddings(plan) else options.batch, ubatch


def guessing(options: LoadOptions) -> str:
    """The kind of speculative decoding; a draft model alone asks for `draft`."""
    if options.spec_type == "auto":
        return "draft" if options.draft_model else "none"
    return options.spec_type


def most_guesses(options: LoadOptions) -> int:
    """Most tokens guessed at once by one request."""
    kind = guessing(options)
    if kind == "none":
        return 0
    if kind in ("ngram-simple", "ngram-map-k", "ngram-map-k4v"):
        return options.spec_ngram_size_m
    if kind == "ngram-mod":
        return max(NGRAM_MOD_MAX, options.spec_ngram_size_m)
    return options.draft_max


def scaled(text: str) -> Scaled:
    """`PATH` or `PATH=SCALE`."""
    path, equals, scale = text.rpartition("=")
    if equals and path:
        try:
            return Scaled(path, float(scale))
        except ValueError:
            pass
    return Scaled(text, 1.0)


def template(options: LoadOptions) -> str:
    """The chat template to use in place of the model's; empty for the model's."""
    if options.chat_template_file:
        return Path(options.chat_template_file).read_text(encoding="utf-8")
    return options.chat_template


def tensor_overrides(plan: LoadPlan, *, hidden: bool = False) -> list[str]:
    """PATTERN=DEVICE for single tensors, the experts that stay in memory last: the first that is found decides.

    hidden: the engine sees the plan's GPUs only, and counts those.
    """
    seen = gpus(plan)
    found = []
    for one in overrides(plan.options):
        device = one.device
        if hidden and device in seen:
            kind = device.partition(":")[0]
            device = f"{kind}:{[other for other in seen if other.startswith(f'{kind}:')].index(device)}"
        found.append(f"{one.pattern.pattern}={engine_name(device)}")
    return found + [rf"blk\.{layer}{EXPERTS}=CPU" for layer in range(plan.options.cpu_moe_layers)]
