"""A request is not what its endpoint takes, may not be made, or means nothing that is here."""

from __future__ import annotations

from collections.abc import Sequence

from uml.core.errors.root import UmlError, gib
from uml.core.quote import is_short, quoted


class BadRequest(UmlError):
    """The request is not what the endpoint takes; `param` is the path of the field."""

    code, status = "invalid_request", 400


class UnknownField(BadRequest):
    """A field of ours that we do not know."""

    code = "unknown_field"

    def __init__(self, field: str, close: Sequence[str] = (), instead: str = "") -> None:
        """instead: what to give, as half a sentence, where that is known."""
        hint = f"; {instead}" if instead else f"; did you mean {' or '.join(close)}?" if close else ""
        if not hint and field.startswith("options."):
            hint = "; `uml load --option help` lists all options"
        super().__init__(f"unknown field {field[:100]}{hint}", param=field[:100], close=list(close))


class BadOption(BadRequest):
    """A load option with a value that the engine must never see."""

    code = "bad_option"

    def __init__(self, option: str, value: object, expected: str) -> None:
        super().__init__(
            f"option {option} is {quoted(value)}; expected {expected}",
            param=f"options.{option}",
            value=value if isinstance(value, float | bool | None) or is_short(value) else quoted(value),
            expected=expected,
        )


class UnsupportedParameter(BadRequest):
    """A parameter that the engine in use cannot honour, in a request with `strict`."""

    code = "unsupported_parameter"

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(f"{param}: {reason}", param=param)


class ContextLengthExceeded(BadRequest):
    """A prompt longer than the context; nothing was cut.

    option: the load option that makes room for more.
    """

    code = "context_length_exceeded"

    def __init__(
        self, prompt_tokens: int, context_length: int, param: str | None = "messages", option: str = "ctx"
    ) -> None:
        room = "the context holds" if option == "ctx" else "one step takes"
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and {room} {context_length}; "
            f"shorten the prompt or load the model with a larger {option}",
            param=param,
            prompt_tokens=prompt_tokens,
            context_length=context_length,
        )


class NotAllowed(UmlError):
    """A key, Host or Origin that this server does not accept."""

    code, status = "not_allowed", 403


class BadKey(NotAllowed):
    """No key, or one that this server does not know."""

    code, status = "invalid_api_key", 401


class NotFound(UmlError):
    """No such route or thing."""

    code, status = "not_found", 404


class ModelNotFound(NotFound):
    """No model has this id or alias; another one is never served in its place."""

    code = "model_not_found"

    def __init__(self, name: str, close: Sequence[str] = ()) -> None:
        hint = f"; close names: {', '.join(close)}" if close else ""
        if not close and (":" in name or "/" in name):  # as Ollama and Hugging Face call what they would download
            hint = "; models are not downloaded here"
        super().__init__(
            f"no model is called {quoted(name)}{hint}; `uml ls` lists them, `uml scan FOLDER` adds more",
            param="model",
            close=list(close),
        )


class AmbiguousModel(ModelNotFound):
    """A name that several models share, so that it is none's: the user chooses."""

    code = "ambiguous_model"

    def __init__(self, name: str, models: Sequence[str]) -> None:
        shown = ", ".join(models[:8]) + (f" and {len(models) - 8} more" if len(models) > 8 else "")
        NotFound.__init__(
            self,
            f"{quoted(name)} is the name of several models; choose one: {shown}",
            param="model",
            close=list(models),
        )


class BodyTooLarge(UmlError):
    """A request body over the limit."""

    code, status = "body_too_large", 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is over the limit of {gib(limit_bytes)}", limit_bytes=limit_bytes)


class HeadTooLarge(UmlError):
    """The head of a request over the limit."""

    code, status = "head_too_large", 431

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request's head is over the limit of {gib(limit_bytes)}", limit_bytes=limit_bytes)


class SlowRequest(UmlError):
    """A request that did not arrive in time."""

    code, status = "request_timeout", 408

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the rest of the request did not come within {limit_s:g} s", limit_s=limit_s)


class Cancelled(UmlError):
    """Somebody asked for this to stop."""

    code, status = "cancelled", 499


class Overloaded(UmlError):
    """The queue is full."""

    code, status = "overloaded", 503
