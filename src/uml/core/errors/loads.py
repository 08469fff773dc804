"""A model does not fit, or its engine did not get ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uml.core.errors.root import UmlError, gib


class LoadFailed(UmlError):
    """An engine was started for a model and did not get ready."""

    code, status = "load_failed", 500

    def __init__(self, model: str, reason: str, *, wanted: str = "did not load", **details: Any) -> None:
        """wanted: what did not come about, behind the model's name."""
        super().__init__(f"{model} {wanted}: {reason}", model=model, **details)


class UnsupportedArchitecture(LoadFailed):
    """The engine does not know this architecture."""

    code, status = "unsupported_architecture", 422


class IllegalInstruction(LoadFailed):
    """The engine was built for another processor (SIGILL)."""

    code = "illegal_instruction"


class OutOfMemory(LoadFailed):
    """The engine, or the kernel, ran out of memory."""

    code, status = "out_of_memory", 507

    def __init__(
        self, model: str, device: str, needed: int | None = None, free: int | None = None, limit: int | None = None
    ) -> None:
        """limit: what the setting worker_memory allows it, where that is what it ran into."""
        sizes = f" (needs {gib(needed)}" + (f", {gib(free)} are free)" if free is not None else ")") if needed else ""
        ran_out = f"{device} ran out of memory"
        if limit is not None:
            ran_out = f"it ran out of the {gib(limit)} that worker_memory allows it"
        super().__init__(
            model,
            f"{ran_out}{sizes}; try a smaller ctx, a q8_0 cache or a smaller quantization",
            device=device,
            needed=needed,
            free=free,
            limit=limit,
        )


class LoadTimeout(LoadFailed):
    """No sign of progress for longer than the limit."""

    code, status = "load_timeout", 504


class LoadSuspended(LoadFailed):
    """A load failed a moment ago and is not tried again for every request.

    cause: why it failed. retry_in_s: when a request tries it again.
    """

    code, status = "load_suspended", 503

    def __init__(self, model: str, cause: UmlError, failures: int, retry_in_s: float) -> None:
        tries = "once" if failures == 1 else f"{failures} times"
        reason = cause.message.removeprefix(f"{model} did not load: ")
        super().__init__(
            model,
            f"{reason} (failed {tries}; tried again in {retry_in_s:.0f} s, or at once by: uml load {model}, "
            "with other options, or when its file has changed)",
            cause=cause.code,
            failures=failures,
            retry_in_s=round(retry_in_s, 1),
        )


class Quarantined(LoadFailed):
    """A model whose worker has died so often that it is not started by itself any more."""

    code, status = "quarantined", 503

    def __init__(self, model: str, cause: UmlError, deaths: int) -> None:
        reason = cause.message.removesuffix("; the next request starts it anew")
        super().__init__(
            model,
            f"its worker has died {'once' if deaths == 1 else f'{deaths} times'}, and is not started again before "
            f"somebody loads it (uml load {model}), with other options or not, or its file has changed; "
            f"the last time {reason}",
            cause=cause.code,
            deaths=deaths,
        )


class DoesNotFit(UmlError):
    """No device can hold this model with these options.

    would_fit: changes of options with which it would; smaller: other files of the same model that would, with
    what they need; unpin: ids of models that are kept in memory, and without which it would fit as it is.
    limit: the setting for which no more is free; empty where the machine has no more. quantize: the kind of file that
    could be made of it and would fit, what that needs, and the command.
    """

    code, status = "does_not_fit", 507

    def __init__(
        self,
        model: str,
        needed: int,
        free: int,
        advice: str = "try a smaller ctx",
        would_fit: Sequence[Mapping[str, object]] = (),
        smaller: Sequence[Mapping[str, object]] = (),
        unpin: Sequence[str] = (),
        limit: str = "",
        quantize: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(
            f"{model} needs {gib(needed)}, {gib(free)} are free{f' within {limit}' if limit else ''}; {advice}",
            model=model,
            # JSON readers know 64 bits, and a stranger's header may claim any number of heads.
            needed=min(needed, (1 << 63) - 1),
            free=free,
            advice=advice,
            would_fit=[dict(change) for change in would_fit],
            smaller=[dict(model) for model in smaller],
            unpin=list(unpin),
            limit=limit or None,
            quantize=dict(quantize) if quantize else None,
        )
