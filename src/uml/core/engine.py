"""What an engine is: data that planner, command line, documentation and tests all read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from uml.core.errors import UmlError
from uml.core.model import Format, ModelInfo, Role
from uml.core.plan import Buffer, LoadPlan

Split = Literal["whole", "layers", "devices"]


@dataclass(frozen=True, slots=True)
class Precaution:
    """A load option with which an engine works where it may abort without.

    says: why, as the end of a sentence. architectures: of models that are known to need it where weights are copied
    for AMX; all others are loaded with it after an abort.
    """

    option: str
    value: object
    says: str
    architectures: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One kind of inference library.

    formats, roles: what it runs; quantizations: of those formats, empty for any.
    devices: kinds of `core.machine.Device` it runs on.
    split: how one model may be spread.
    served: it brings its own HTTP server; else `uml.worker` serves it through a `Host`.
    options: names of `LoadOptions` that it honours.
    notices_leaving: it stops an answer that is not streamed as soon as its connection closes; from one that
        does not, the gateway takes every answer as a stream.
    dialect: our name of a request parameter -> the engine's, or None where it has no such thing.
        A parameter that is not in the dialect goes by its own name; a dot means a field in an object. `model` is None
        for a server that refuses every name but one: it gets none.
    inputs: what a prompt may hold beside text without a projector of its own: `image`, `audio`, `video`.
    note: what a user should know of it, as sentences: what of it was run, and what was not.
    kinds: of `Format.UNKNOWN`, what it runs: the names that a plug-in's detector puts into `ModelInfo.version`.
    probable: architectures of rerankers whose scores it gives as probabilities; those of others have no bounds.
    schemas: endpoint -> which way of llama.cpp follows JSON schemas there, `gbnf` or `llguidance`, either of which
        passes over some keywords. Empty where an engine refuses what it does not know.
    precautions: what may help after an abort, the mildest first.
    home: kinds of device that it is made for; on others it runs too, and is the second choice. Empty: all of them.
    adapter_ranks: of which it takes the smallest that suits all adapters of a load, and makes room for so many in every
        layer; empty where an adapter takes what it has.
    mute: it answers an empty prompt with nothing, where the model has texts begin with no token of their own.
    """

    name: str
    title: str
    formats: frozenset[Format]
    roles: frozenset[Role]
    devices: frozenset[str]
    split: Split
    served: bool
    options: frozenset[str]
    dialect: Mapping[str, str | None] = field(default_factory=dict)
    quantizations: frozenset[str] = frozenset()
    notices_leaving: bool = True
    install_command: str = ""
    inputs: frozenset[str] = frozenset()
    probable: frozenset[str] = frozenset()
    home: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    note: str = ""
    schemas: Mapping[str, Literal["gbnf", "llguidance"]] = field(default_factory=dict)
    precautions: tuple[Precaution, ...] = ()
    adapter_ranks: tuple[int, ...] = ()
    mute: bool = False

    @property
    def names_adapters(self) -> bool:
        """A request chooses one adapter, by its name in place of the model's."""
        return self.dialect.get("lora") == "model"


def adapter_name(id: int) -> str:
    """What the adapter of this place is called by an engine that chooses by name; no id of a model has a colon."""
    return f"lora:{id}"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether an engine can be started here.

    version: of the library, with its build where it tells.
    way: how it is run: `embedded`, `external`, `hosted`.
    reason: why not, or where it comes from.
    devices: kinds of device that this install can use, where they are fewer than its spec's; empty: all of those.
    architectures: what this version knows, by the names of `ModelInfo.architecture`; empty: it does not tell.
    install: the install that this is said of, where it has another name than the engine.
    others: the same of other installs that run some of its models, by the quantization of those (`gptq`).
    """

    available: bool
    version: str = ""
    way: str = ""
    reason: str = ""
    devices: frozenset[str] = frozenset()
    architectures: frozenset[str] = frozenset()
    install: str = ""
    others: Mapping[str, Availability] = field(default_factory=dict, hash=False)

    def of(self, info: ModelInfo) -> Availability:
        """Of the install that would run this model."""
        return self.others.get(info.quantization.method, self) if info.quantization else self

    def command(self, spec: EngineSpec) -> str:
        """What makes it available, or why nothing does."""
        if self.install:
            return f"uml engine install {self.install}"
        return spec.install_command or self.reason


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a worker listens: a Unix socket in a folder of ours (0700), or loopback with a port.

    key: sent as `Authorization: Bearer KEY` with every request; one a worker.
    sessions: a private folder in which it may save conversations; None: it must save none.
    """

    key: str
    socket: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    sessions: Path | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a worker: no shell, secrets on standard input and never in argv.

    stdin: written at the start; the pipe stays open, and its end tells the child that we are gone.
    health: path that answers 503 while loading and 200 when ready.
    writes: folders in which the worker may make files, beside what its parent opened for it.
    reads: programs and folders that it needs beside the system's and its model's.
    loopback: its parts talk to each other over sockets; a sandbox then gives it a network of its own.
    threads: how many it has at most, beside those that its options name; what their stacks reserve is no memory.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    health: str = "/health"
    writes: tuple[Path, ...] = ()
    reads: tuple[Path, ...] = ()
    loopback: bool = False
    threads: int = 16


class Engine(Protocol):
    """The parent's side of an engine: cheap to import, never touches the library itself."""

    @property
    def spec(self) -> EngineSpec:
        """What it is; may change where another of its installs comes into use."""
        ...

    def available(self) -> Availability:
        """Whether it can be started, told without importing the library."""
        ...

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker that serves this plan at this endpoint. Raises BadOption.

        It is asked while a load is planned too, often and on the server's event loop, so that what it refuses costs
        nobody a model that works: it must be quick, and neither make nor start anything.
        """
        ...

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """A typed cause from the end of a dead worker's log; None where it does not tell.

        exit_code: negative for a signal, None while the process lives.
        """
        ...


@runtime_checkable
class TellsBuffers(Protocol):
    """A further side of an `Engine`: its workers say in their log what memory they make."""

    def buffers(self, plan: LoadPlan, log: str) -> tuple[Buffer, ...]:
        """Every buffer of a worker, by what its log said while it loaded; empty where that tells none."""
        ...


Ask = Callable[[str, str, bytes], Awaitable[tuple[int, bytes]]]
"""One request to a worker: method, path and body -> status and body of the answer. Raises what its channel does."""


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What must be the same for a saved conversation to be read back.

    files: of which content it depends; they are compared by size and time of writing.
    traits: everything else, as JSON values.
    """

    files: tuple[Path, ...]
    traits: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """A conversation in a worker's memory.

    tokens: read and written so far. order: higher for one that was used later; None: not since it was read back.
    """

    slot: int
    tokens: int
    order: int | None
    busy: bool


@runtime_checkable
class KeepsSessions(Protocol):
    """A further side of an `Engine`: its workers write conversations to `Endpoint.sessions`, and read them back.

    What a worker is asked raises EngineError where it refuses; its conversations are then as they were, or empty.
    """

    def session_key(self, plan: LoadPlan) -> SessionKey | str:
        """What a conversation of this plan depends on; or why none is kept, as half a sentence."""
        ...

    def session_bytes(self, plan: LoadPlan, tokens: int) -> int:
        """About how large the file of so many tokens will be."""
        ...

    async def held(self, plan: LoadPlan, ask: Ask) -> tuple[Held, ...]:
        """What is in memory now, empty slots left out, and those that were read otherwise than `session_key` says."""
        ...

    async def save_session(self, ask: Ask, slot: int, name: str) -> tuple[int, int]:
        """Write a slot to a file of this name: tokens and bytes that were written."""
        ...

    def seal_session(self, plan: LoadPlan, path: Path) -> None:
        """Make a file that was written fit to be read back; it stays as long as it is.

        Raises EngineError for one that cannot be made so, and OSError.
        """
        ...

    async def restore_session(self, ask: Ask, slot: int, name: str) -> int:
        """Read a file of this name into a slot: tokens that were read."""
        ...


@runtime_checkable
class Sleeps(Protocol):
    """A further side of an `Engine`: its workers give their GPUs back and stay, with their weights in main memory.

    What a worker is asked raises EngineError where it refuses; it is ended then.
    """

    def can_sleep(self, plan: LoadPlan) -> bool:
        """Whether a worker that was started with this plan can."""
        ...

    async def sleep(self, ask: Ask) -> None:
        """Have it leave its GPUs; it has no work."""
        ...

    async def wake(self, ask: Ask) -> None:
        """Have it serve again, as it did when it was ready."""
        ...
