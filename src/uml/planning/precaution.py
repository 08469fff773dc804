"""Settings with which an engine works where it aborts without them: known beforehand, or taken after an abort."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from uml.core.engine import Precaution
from uml.core.errors import BadOption, IllegalInstruction, LoadFailed, UmlError, WorkerDied
from uml.core.model import ModelInfo
from uml.core.options import OPTIONS, LoadOptions
from uml.core.plan import LoadPlan
from uml.planning.checks import check
from uml.planning.runner import Runner

_USUAL: Final = {option.name: option.default for option in OPTIONS}
_ABORTS: Final = frozenset({-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGILL, -signal.SIGFPE})


def known(info: ModelInfo, asked: LoadOptions, runner: Runner) -> Iterator[Precaution]:
    """What this model needs on this machine, by what is known of the engine; nothing that was asked for is changed."""
    for one in runner.spec.precautions:
        if info.architecture in one.architectures and runner.amx and _is_open(asked, one):
            yield one


def safer(asked: LoadOptions, options: LoadOptions, precautions: Sequence[Precaution]) -> LoadOptions:
    """The options with these precautions, which must fit them."""
    changes: dict[str, Any] = {one.option: one.value for one in precautions if _is_open(asked, one)}
    return replace(options, **changes) if changes else options


def next_one(
    asked: LoadOptions, given: LoadOptions, plan: LoadPlan, error: UmlError, precautions: Sequence[Precaution]
) -> Precaution | None:
    """The next precaution after a worker of this plan has ended in this error; None where none is left, or it was no
    abort.

    given: `asked` after the steps that were taken before.
    """
    if not is_abort(error):
        return None
    for one in precautions:
        if not _is_open(asked, one) or getattr(plan.options, one.option) == one.value:
            continue
        try:
            check(plan.model.info, safer(asked, given, (one,)), {})
        except BadOption:
            continue
        return one
    return None


def is_abort(error: UmlError) -> bool:
    """Whether a program came to its end by a fault of its own, of which nobody knows the cause."""
    if isinstance(error, IllegalInstruction):
        return True
    if type(error) is WorkerDied and error.details.get("reason") == IllegalInstruction.code:
        return True
    unknown = type(error) is LoadFailed or (type(error) is WorkerDied and error.details.get("reason") == "crashed")
    return unknown and error.details.get("exit_code") in _ABORTS


def sentence(one: Precaution) -> str:
    """What is said of one that was taken beforehand."""
    return f"{one.option} is {_shown(one.value)}, for {one.says}"


def after_abort(one: Precaution) -> str:
    """What is said of one that was taken after an abort."""
    return f"its worker aborted: {one.option} is {_shown(one.value)} from then on, for {one.says}"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_open(asked: LoadOptions, one: Precaution) -> bool:
    return bool(getattr(asked, one.option) == _USUAL[one.option])
