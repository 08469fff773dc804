"""Why a llama.cpp worker died, from the end of its log. The texts are those of b11549."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from uml.core.errors import (
    BadOption,
    CorruptFile,
    LoadFailed,
    MissingShard,
    OutOfMemory,
    UmlError,
    UnsupportedArchitecture,
)
from uml.core.jsonable import jsonable
from uml.core.plan import LoadPlan
from uml.engines.handover import cause_of_exit, failure_in
from uml.engines.llamacpp.table import BUILD, ROWS

Finding = Callable[[LoadPlan, "re.Match[str]"], UmlError]

STAMP: Final = re.compile(r"^(?:\d+\.\d{2}\.\d{3}\.\d{3} )?(?:[EWI] )?", re.MULTILINE)
"""`0.00.005.575 E ` before a line of the engine's log."""
PATH: Final = r"'(?P<path>[^'\n]+)'"


def cause(plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
    """The typed cause, the most certain evidence first; None when neither log nor signal tells."""
    text = STAMP.sub("", log)
    for pattern, finding in FINDINGS:
        if match := pattern.search(text):
            return finding(plan, match)
    told = failure_in(log)
    if told is not None and type(told) is not LoadFailed:
        return told
    if by_signal := cause_of_exit(plan, exit_code):
        return by_signal
    if reason := _last_error(log):
        return LoadFailed(plan.model.id, reason, exit_code=exit_code)
    return told


def _abort(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return LoadFailed(plan.model.id, f"llama.cpp stopped itself: {match['reason'].strip()}", aborted=True)


def _memory(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    device = (match.groupdict().get("device") or "").lower()
    size = match.groupdict().get("size")
    place = plan.placement.device if not device or device.startswith("cpu") else re.sub(r"(\d+)$", r":\1", device)
    return OutOfMemory(plan.model.id, place, plan.footprint.total_bytes or (int(size) if size else None))


def _file(plan: LoadPlan, match: re.Match[str]) -> Path:
    """The file that the engine names near the reason, else the model's."""
    named = re.search(r"failed to load (?:draft )?model,? " + PATH, match.string[match.start() :])
    return Path(named["path"]) if named else plan.model.info.path


def _corrupt(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    return CorruptFile(_file(plan, match), match["reason"].strip())


def _option(option: str, expected: str) -> Finding:
    def finding(plan: LoadPlan, match: re.Match[str]) -> UmlError:
        value = getattr(plan.options, option)
        reason = (match.groupdict().get("reason") or "").strip()
        return BadOption(
            option, list(value) if isinstance(value, tuple) else value, f"{expected} ({reason})" if reason else expected
        )

    return finding


def _template(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    given = "chat_template_file" if plan.options.chat_template_file else "chat_template"
    return _option(given, "a Jinja template that parses")(plan, match)


def _argument(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    """`llama-server` refused a word: one of the user's, a value of an option, or one that its build does not know."""
    flag, reason = match["flag"], match.groupdict().get("reason", "")
    if flag in plan.options.extra_flags:
        expected = "arguments that this llama-server takes"
        return BadOption("extra_flags", list(plan.options.extra_flags), f"{expected} ({reason or flag})")
    option = next((row.options[0] for row in ROWS if flag in row.arguments(plan)), None)
    if reason and option:
        return BadOption(option, jsonable(getattr(plan.options, option)), f"what this llama-server takes ({reason})")
    return LoadFailed(
        plan.model.id,
        f"this llama-server does not know the argument {flag}, which that of {BUILD} has; "
        "take one of about that age, or none: the built-in library needs no program",
        argument=flag,
    )


def _missing(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    path = Path(match["path"])
    return MissingShard(plan.model.info.path, [path.name])


FINDINGS: Final[tuple[tuple[re.Pattern[str], Finding], ...]] = tuple(
    (re.compile(pattern), finding)
    for pattern, finding in (
        # The kernel or a driver refused memory. `failed to allocate CUDA0 buffer of size 123`.
        (r"failed to allocate (?P<device>\w+) buffer of size (?P<size>\d+)", _memory),
        (r"failed to allocate buffer of size (?P<size>\d+)", _memory),
        (
            r"insufficient memory \(attempted to allocate|cudaMalloc failed: out of memory|ErrorOutOfDeviceMemory",
            _memory,
        ),
        (r"CUDA error: out of memory|failed to allocate (?:compute|buffer for)|std::bad_alloc", _memory),
        # Files that options name come before the model: the model's own messages follow theirs.
        (r"failed to load lora adapter ", _option("lora", "adapters made for this model")),
        (r"Failed to load CLIP model from ", _option("mmproj", "the projector of this model")),
        (
            r"failed to load draft model, |draft (?:model|vocab)[^\n]*(?:not compatible|must match)",
            _option("draft_model", "a model that loads, with the vocabulary of this one"),
        ),
        (r"failed to load control vector", _option("control_vector", "control vectors made for this model")),
        (r"common_chat_templates_init: error: (?P<reason>[^\n]+)", _template),
        # The program may end before its log has written that reason.
        (r"error: the supplied chat template is not supported", _template),
        (r"(?P<reason>quantized V cache requires[^\n]+)", _option("cache_type_v", "a type that goes with it")),
        (
            r"(?:MTP requested but model doesn't contain|failed to create MTP context)",
            _option("spec_type", "a model with layers that predict further tokens"),
        ),
        (r"(?P<reason>unknown buffer type)", _option("override_tensor", "PATTERN=DEVICE with a device of this build")),
        (r"error: invalid argument: (?P<flag>\S+)", _argument),
        (r'error while handling argument "(?P<flag>[^"\n]+)": (?P<reason>[^\n]+)', _argument),
        (
            r"unknown model architecture: '(?P<name>[^'\n]*)'",
            lambda plan, match: UnsupportedArchitecture(
                plan.model.id,
                f"this build of llama.cpp does not know the architecture {match['name']!r}; a newer one may",
                architecture=match["name"],
            ),
        ),
        (
            r"failed to open GGUF file '(?P<path>[^'\n]*-\d{5}-of-\d{5}\.gguf)'",
            _missing,
        ),
        (r"failed to load GGUF split from (?P<path>[^\n]*\.gguf)", _missing),
        (r"gguf_init_from_\w+: (?P<reason>(?!failed to read (?:header|key))[^\n]+)", _corrupt),
        (r"gguf_init_from_\w+: (?P<reason>[^\n]+)", _corrupt),
        (
            r"error loading model: (?P<reason>[^\n]*(?:data is not within the file bounds|invalid split|has wrong shape"
            r"|wrong number of tensors|tensor '[^']*' not found|duplicated tensor)[^\n]*)",
            _corrupt,
        ),
        (r"(?P<reason>[^\n]*GGML_ASSERT\([^\n]*\) failed[^\n]*)", _abort),
        (r"(?P<reason>/[^\n ]+\.(?:c|cpp|cu|h):\d+: [^\n]+)", _abort),
    )
)
"""What to look for, in this order, and what it means."""


def _last_error(log: str) -> str:
    """The engine's own first error: later ones only say that what needed it failed too."""
    lines = [line for line in log.splitlines() if re.match(r"\d+\.\d{2}\.\d{3}\.\d{3} E ", line)]
    told = [STAMP.sub("", line) for line in lines] or [
        line for line in log.splitlines() if line.lower().startswith(("error", "llama-server: error"))
    ]
    return told[0].strip() if told else ""
