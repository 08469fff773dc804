"""Every error a user can meet.

    UmlError
    ├── BadRequest              400 invalid_request       the request is not what the endpoint takes
    │   ├── UnknownField        400 unknown_field
    │   ├── BadOption           400 bad_option            a load option out of its range
    │   ├── UnsupportedParameter 400 unsupported_parameter only with `strict`
    │   └── ContextLengthExceeded 400 context_length_exceeded
    ├── NotAllowed              403 not_allowed           a Host or Origin that is not expected
    │   └── BadKey              401 invalid_api_key
    ├── NotFound                404 not_found
    │   ├── InstallNotFound     404 install_not_found     no such environment of an engine
    │   └── ModelNotFound       404 model_not_found
    │       └── AmbiguousModel  404 ambiguous_model       a name that several models share
    ├── SlowRequest             408 request_timeout
    ├── BodyTooLarge            413 body_too_large
    ├── HeadTooLarge            431 head_too_large
    ├── BadFile                 422 bad_file              what is on disk cannot be used
    │   ├── CorruptFile         422 corrupt_file
    │   ├── MissingShard        422 missing_shard
    │   └── UnsupportedFormat   422 unsupported_format
    ├── Cancelled               499 cancelled
    ├── LoadFailed              500 load_failed           the engine started and did not get ready
    │   ├── UnsupportedArchitecture 422 unsupported_architecture
    │   ├── IllegalInstruction  500 illegal_instruction
    │   ├── OutOfMemory         507 out_of_memory
    │   ├── LoadTimeout         504 load_timeout
    │   ├── LoadSuspended       503 load_suspended        it failed a moment ago, and is not tried again yet
    │   └── Quarantined         503 quarantined           its worker has died too often
    ├── EngineNotInstalled      409 engine_not_installed
    ├── InstallRefused          409 install_refused       an engine's environment cannot be made here
    │   └── NoRoom              507 no_room               the disk has too little space for it
    ├── InstallFailed           500 install_failed        it was begun, and nothing is left of it
    ├── ConversionFailed        500 conversion_failed     a model was not made into another, and nothing is left of it
    ├── WorkerDied              502 worker_died           a loaded model's process ended in mid-request
    │   └── WorkerHung          504 worker_hung           it stood still with work to do, and was ended
    ├── RequestTimeLimit        504 request_time_limit    an answer took longer than the setting allows
    ├── EngineError             502 engine_error          a loaded model's engine answered with an error of its own
    │   └── UnreadableAnswer    502 unreadable_answer     it could not tell text from calls of tools in an answer
    ├── ConnectionLost          502 connection_lost       a server went away in mid-answer
    ├── RemoteFailed            502 remote_failed         a hub or web server did not give what was asked of it
    │   ├── RemoteNotFound      404 remote_not_found
    │   └── RemoteRefused       403 remote_refused        private or gated
    ├── Offline                 403 offline               a name on the net, and nothing may leave the machine
    ├── Overloaded              503 overloaded
    ├── DoesNotFit              507 does_not_fit
    └── SetupError              500                       the program cannot start here
        ├── PortTaken           500 port_taken
        ├── FolderNotWritable   500 folder_not_writable
        ├── AlreadyRunning      500 already_running
        ├── SandboxUnavailable  500 sandbox_unavailable   workers cannot be confined as the setting requires
        └── NoServer            503 no_server             a command needs a server and none runs

An error carries its parts and its own sentence; the gateway has one handler, the command line
one renderer, and nobody formats it a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from uml.core.quote import is_short, quoted


def gib(count: int) -> str:
    """A number of bytes as people read it: `512 MiB`, `4.66 GiB`."""
    if count < 1 << 20:
        return f"{count / (1 << 10):.0f} KiB"
    if count < 1 << 30:
        return f"{count / (1 << 20):.0f} MiB"
    if count < 1 << 60:
        return f"{count / (1 << 30):.2f} GiB"
    return "more than an exabyte"


class UmlError(Exception):
    """The root: `str()` is one sentence, `details` its parts as JSON values."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, param: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of every reply outside 2xx, in OpenAI's shape with `code`."""
        kind = "invalid_request_error" if 400 <= self.status < 500 else "server_error"
        body: dict[str, Any] = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        if self.details:
            body["details"] = self.details
        return {"error": body}


class BadRequest(UmlError):
    """The request is not what the endpoint takes; `param` is the path of the field."""

    code, status = "invalid_request", 400


class UnknownField(BadRequest):
    """A field of ours that we do not know."""

    code = "unknown_field"

    def __init__(self, field: str, close: Sequence[str] = ()) -> None:
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
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


class BadFile(UmlError):
    """Something on disk cannot be used. No engine is started for it."""

    code, status = "bad_file", 422

    def __init__(self, path: Path, message: str, **details: Any) -> None:
        super().__init__(f"{path}: {message}", path=str(path), **details)
        self.path = path


class CorruptFile(BadFile):
    """What was read is not what the format says."""

    code = "corrupt_file"

    def __init__(self, path: Path, read: str, expected: str = "", offset: int | None = None) -> None:
        where = f" at byte {offset}" if offset is not None else ""
        wish = f", expected {expected}" if expected else ""
        super().__init__(path, f"{read}{where}{wish}", read=read, expected=expected, offset=offset)


class MissingShard(BadFile):
    """A part of a split model is not there."""

    code = "missing_shard"

    def __init__(self, path: Path, missing: Sequence[str]) -> None:
        names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        super().__init__(path, f"part of the model is missing: {names}", missing=list(missing))


class UnsupportedFormat(BadFile):
    """A format that was recognised, and that no engine of ours runs."""

    code = "unsupported_format"


class Cancelled(UmlError):
    """Somebody asked for this to stop."""

    code, status = "cancelled", 499


class LoadFailed(UmlError):
    """An engine was started for a model and did not get ready."""

    code, status = "load_failed", 500

    def __init__(self, model: str, reason: str, **details: Any) -> None:
        super().__init__(f"{model} did not load: {reason}", model=model, **details)


class UnsupportedArchitecture(LoadFailed):
    """The engine does not know this architecture."""

    code, status = "unsupported_architecture", 422


class IllegalInstruction(LoadFailed):
    """The engine was built for another processor (SIGILL)."""

    code = "illegal_instruction"


class OutOfMemory(LoadFailed):
    """The engine, or the kernel, ran out of memory."""

    code, status = "out_of_memory", 507

    def __init__(self, model: str, device: str, needed: int | None = None, free: int | None = None) -> None:
        sizes = f" (needs {gib(needed)}" + (f", {gib(free)} are free)" if free is not None else ")") if needed else ""
        super().__init__(
            model,
            f"{device} ran out of memory{sizes}; try a smaller ctx, a q8_0 cache or a smaller quantization",
            device=device,
            needed=needed,
            free=free,
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


class EngineNotInstalled(UmlError):
    """The engine for this model is known and not here; the sentence holds the command."""

    code, status = "engine_not_installed", 409

    def __init__(self, engine: str, needed_for: str, command: str) -> None:
        super().__init__(
            f"{needed_for} needs the engine {engine}, which is not installed: {command}",
            engine=engine,
            command=command,
        )


class InstallRefused(UmlError):
    """An environment of an engine cannot be made, changed or removed as things are; nothing was done."""

    code, status = "install_refused", 409


class NoRoom(InstallRefused):
    """The disk has too little space."""

    code, status = "no_room", 507

    def __init__(self, what: str, needed: int, free: int, folder: Path) -> None:
        super().__init__(
            f"{what} needs {gib(needed)} of disk, and {gib(free)} are free in {folder}; "
            "make room, or take another data folder (UML_DATA)",
            needed=needed,
            free=free,
            folder=str(folder),
        )


class InstallFailed(UmlError):
    """An environment of an engine was begun and did not come to its end; nothing is left of it.

    log: the installer's last lines.
    """

    code, status = "install_failed", 500

    def __init__(self, what: str, reason: str, log: Sequence[str] = ()) -> None:
        super().__init__(
            f"{what} was not installed, and nothing of it is left: {reason}", what=what, reason=reason, log=list(log)
        )


class ConversionFailed(UmlError):
    """A model was to be made into another format, and nothing is left of that.

    log: the last lines of what made it.
    """

    code, status = "conversion_failed", 500

    def __init__(self, what: str, reason: str, log: Iterable[str] = ()) -> None:
        super().__init__(
            f"{what} was not converted, and nothing of it is left: {reason}", what=what, reason=reason, log=list(log)
        )


class InstallNotFound(NotFound):
    """No environment of an engine has this name."""

    code = "install_not_found"

    def __init__(self, name: str, there: Sequence[str] = (), command: str = "uml engine ls") -> None:
        hint = f"there are {', '.join(there)}" if there else f"try: {command}"
        super().__init__(f"there is no install {quoted(name)}; {hint}", param="engine", installs=list(there))


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


class RemoteFailed(UmlError):
    """A hub or a web server, asked for the header of a model, did not give it. `source` is what the user named."""

    code, status = "remote_failed", 502

    def __init__(self, source: str, reason: str, **details: Any) -> None:
        super().__init__(f"{source}: {reason}", source=source, **details)


class RemoteNotFound(RemoteFailed):
    """There is no such repository or file, as far as this user may see."""

    code, status = "remote_not_found", 404


class RemoteRefused(RemoteFailed):
    """The repository or file is there, and this user may not read it."""

    code, status = "remote_refused", 403


class Offline(UmlError):
    """A name on the net, while nothing may leave this machine."""

    code, status = "offline", 403

    def __init__(self, source: str, why: str) -> None:
        super().__init__(f"{source} is on the net, and {why}; nothing was asked of it", source=source)


class Overloaded(UmlError):
    """The queue is full."""

    code, status = "overloaded", 503


class DoesNotFit(UmlError):
    """No device can hold this model with these options.

    would_fit: changes of options with which it would; smaller: other files of the same model that would, with
    what they need.
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
    ) -> None:
        super().__init__(
            f"{model} needs {gib(needed)}, {gib(free)} are free; {advice}",
            model=model,
            # JSON readers know 64 bits, and a stranger's header may claim any number of heads.
            needed=min(needed, (1 << 63) - 1),
            free=free,
            advice=advice,
            would_fit=[dict(change) for change in would_fit],
            smaller=[dict(model) for model in smaller],
        )


class SetupError(UmlError):
    """The program cannot start here as it was asked to."""

    code = "setup_error"


class PortTaken(SetupError):
    """Something else listens on the port."""

    code = "port_taken"

    def __init__(self, host: str, port: int, owner: str = "another program") -> None:
        super().__init__(f"port {port} on {host} is taken by {owner}; choose another: uml serve --port {port + 1}")


class FolderNotWritable(SetupError):
    """The data folder cannot be written."""

    code = "folder_not_writable"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot write to {path}: {reason}; set UML_DATA to a folder of yours", path=str(path))


class AlreadyRunning(SetupError):
    """A server of the same data folder is up."""

    code = "already_running"

    def __init__(self, url: str, pid: int) -> None:
        super().__init__(f"a server already runs at {url} (process {pid}); stop it with: uml stop", url=url, pid=pid)


class SandboxUnavailable(SetupError):
    """Workers are to be confined, and this system does not offer what that takes."""

    code = "sandbox_unavailable"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f'the setting sandbox is "required", and this system lacks {"; and ".join(missing)}; '
            '"auto" confines workers as far as it can',
            missing=list(missing),
        )


class NoServer(SetupError):
    """A command that needs a server found none."""

    code, status = "no_server", 503

    def __init__(self, url: str | None = None) -> None:
        where = f" at {url}" if url else ""
        super().__init__(f"no server answers{where}; start one with: uml serve")
