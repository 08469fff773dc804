"""A loaded model, or a server, did not answer as it should."""

from __future__ import annotations

from typing import Any

from uml.core.errors.root import UmlError, gib


class WorkerDied(UmlError):
    """The process of a loaded model ended while a request was with it."""

    code, status = "worker_died", 502

    def __init__(self, model: str, cause: str, **details: Any) -> None:
        super().__init__(
            f"the engine of {model} ended: {cause}; the next request starts it anew", model=model, **details
        )


class WorkerHung(WorkerDied):
    """The process of a loaded model stood still while it had work to do, and was ended for it."""

    code, status = "worker_hung", 504


class RequestTimeLimit(UmlError):
    """An answer took longer than `request_timeout_s` allows; its slot is free again."""

    code, status = "request_time_limit", 504

    def __init__(self, model: str, limit_s: float) -> None:
        super().__init__(
            f"{model} had not finished the answer after {limit_s:g} s; ask for fewer tokens, "
            "or raise the setting request_timeout_s",
            model=model,
            limit_s=limit_s,
        )


class AnswerDoesNotFit(UmlError):
    """An answer needs more memory, beside what its model was loaded with, than is free; it was not begun.

    what: what it is for, and less: what would need less, as parts of the sentence.
    """

    code, status = "answer_does_not_fit", 507

    def __init__(self, model: str, what: str, needed: int, free: int, less: str) -> None:
        super().__init__(
            f"{model} needs {gib(needed)} more for {what}, and {gib(free)} are free; {less} need less, and unloading "
            "another model makes room",
            model=model,
            what=what,
            # JSON readers know 64 bits, and a request may ask for any number of beams.
            needed=min(needed, (1 << 63) - 1),
            free=free,
            less=less,
        )


class EngineError(UmlError):
    """A loaded model's engine answered with an error of its own, which is not the request's fault."""

    code, status = "engine_error", 502

    def __init__(self, model: str, message: str) -> None:
        super().__init__(f"the engine of {model} failed: {message}", model=model)


class UnreadableAnswer(EngineError):
    """An engine could not part a model's answer into text, thoughts and calls of tools, and gives nothing of it."""

    code = "unreadable_answer"

    def __init__(self, model: str, reason: str) -> None:
        UmlError.__init__(
            self,
            f"{model} did not answer in the form that its chat template leads the engine to expect ({reason}), and "
            "the engine gives nothing of such an answer; ask again with a lower temperature or another seed, ask "
            "/v1/completions, which takes an answer as it is, or load the model with another chat_template",
            model=model,
            reason=reason,
        )


class ConnectionLost(UmlError):
    """A server did not finish its answer, or did not answer as this one does."""

    code, status = "connection_lost", 502

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"the server at {url} did not answer as it should: {reason}", url=url)
