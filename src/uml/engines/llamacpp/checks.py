"""What must be true of a plan before llama.cpp sees it.

Each rule stands for a value that b11549 aborts on, hangs on, or refuses without saying why; the
comments tell what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from uml.core.errors import BadOption
from uml.core.plan import LoadPlan
from uml.engines.llamacpp.meaning import (
    batches,
    gpus,
    guessing,
    most_guesses,
    scaled,
    slots,
    total_context,
)
from uml.engines.llamacpp.table import MAX_DEVICES
from uml.planning.overrides import overrides

LEAST_CONTEXT = 32
INT32_MAX = (1 << 31) - 1
QUANTIZED = frozenset({"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"})
NEEDS_DRAFT_MODEL = frozenset({"draft", "eagle3"})
OVERRIDE_KV = re.compile(r"[^=]{1,127}=(int|float|bool|str):.{1,127}", re.DOTALL)
"""string_parse_kv_override in common/common.cpp."""


def check(plan: LoadPlan, *, external: bool) -> None:
    """Raise BadOption for the first rule that the plan breaks."""
    _check_sizes(plan)
    _check_devices(plan)
    _check_cache(plan)
    _check_tensors(plan)
    _check_files(plan)
    _check_guessing(plan)
    if external:
        _check_words(plan)


def _check_sizes(plan: LoadPlan) -> None:
    options = plan.options
    if 0 < options.ctx < LEAST_CONTEXT:
        # The engine shrinks its batch to the context: one of 1 token aborts in the warm-up.
        raise BadOption("ctx", options.ctx, f"0 or at least {LEAST_CONTEXT}")
    if total_context(plan) > INT32_MAX:
        raise BadOption("ctx", options.ctx, f"ctx x parallel of at most {INT32_MAX} (parallel is {slots(plan)})")
    need = max(2, slots(plan) * (1 + most_guesses(options)))
    for option, size in zip(("batch", "ubatch"), batches(plan), strict=True):
        if option == "batch" and size < need:
            # GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max); with guesses, "batch must be large enough to
            # hold the sampled and draft tokens", in the middle of an answer.
            raise BadOption(
                "batch" if options.batch < need else "ubatch",
                min(options.batch, options.ubatch),
                f"at least {need}, one token and its guesses for each of {slots(plan)} slots",
            )
    if 0 < options.image_max_tokens < options.image_min_tokens:
        raise BadOption("image_max_tokens", options.image_max_tokens, f"at least {options.image_min_tokens}")


def _check_devices(plan: LoadPlan) -> None:
    options = plan.options
    count = len(gpus(plan))
    if len(options.tensor_split) > (count or MAX_DEVICES):
        raise BadOption("tensor_split", list(options.tensor_split), f"one share for each of {count} GPUs")
    if options.tensor_split and (min(options.tensor_split) < 0 or sum(options.tensor_split) <= 0):
        raise BadOption("tensor_split", list(options.tensor_split), "shares of 0 and more, not all of them 0")
    if count and options.main_gpu >= count:
        raise BadOption("main_gpu", options.main_gpu, f"0 to {count - 1}, the place of a GPU that is used")
    if options.split_mode == "tensor" and not count:
        raise BadOption("split_mode", options.split_mode, "a device other than the processor to split over")


def _check_cache(plan: LoadPlan) -> None:
    options = plan.options
    if options.cache_type_v in QUANTIZED and options.flash_attention == "off":
        raise BadOption("cache_type_v", options.cache_type_v, "f32, f16 or bf16 while flash_attention is off")
    if options.direct_io and options.mlock:
        raise BadOption("direct_io", True, "false while mlock is on: the engine takes one of them")


def _check_tensors(plan: LoadPlan) -> None:
    overrides(plan.options)
    for text in plan.options.override_kv:
        if not OVERRIDE_KV.fullmatch(text):
            raise BadOption("override_kv", text, "KEY=TYPE:VALUE with TYPE int, float, bool or str")


def _check_files(plan: LoadPlan) -> None:
    options = plan.options
    if options.chat_template and options.chat_template_file:
        raise BadOption("chat_template_file", options.chat_template_file, "nothing beside chat_template")
    for option, path in _files(plan):
        if not Path(path).is_file():
            raise BadOption(option, path, "the path of a file that exists")
    if options.chat_template_file:
        try:
            Path(options.chat_template_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadOption("chat_template_file", options.chat_template_file, f"a readable text ({error})") from error


def _files(plan: LoadPlan) -> Iterator[tuple[str, str]]:
    options = plan.options
    for option in ("mmproj", "draft_model", "chat_template_file"):
        if path := getattr(options, option):
            yield option, path
    for option in ("lora", "control_vector"):
        for text in getattr(options, option):
            yield option, scaled(text).path


def _check_guessing(plan: LoadPlan) -> None:
    options = plan.options
    kind = guessing(options)
    if kind in NEEDS_DRAFT_MODEL and not options.draft_model:
        # The engine logs the failure and serves without guessing.
        raise BadOption("spec_type", options.spec_type, "draft_model beside it")
    if options.draft_min > options.draft_max:
        raise BadOption("draft_min", options.draft_min, f"at most draft_max, {options.draft_max}")


def _check_words(plan: LoadPlan) -> None:
    """What the embedded library takes and the program has no argument for."""
    if plan.options.numa == "mirror":
        raise BadOption("numa", "mirror", "disabled, distribute, isolate or numactl with llama-server")
    if plan.options.rope_scaling == "longrope":
        raise BadOption("rope_scaling", "longrope", "auto, none, linear or yarn with llama-server")
    for option in ("lora", "control_vector"):
        files = [scaled(text) for text in getattr(plan.options, option)]
        if any(file.scale != 1.0 for file in files) and any(":" in file.path for file in files):
            raise BadOption(option, [file.path for file in files], "paths without colons, which part path and scale")
