"""What a plug-in may add: one hook each. A plug-in has those that it needs, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from uml.core.engine import Engine
from uml.core.model import ModelInfo
from uml.core.plan import SamplerFile
from uml.plugins import hookspec

Detector: TypeAlias = Callable[[Path], ModelInfo | None]
"""What a file or folder is that no reader of ours knows; None for what it does not know either. Headers only."""

Pieces: TypeAlias = Callable[[str, bool], str]
"""For one answer: a piece of its text, and whether it is the last -> the text that is sent in its place."""


class Processor(Protocol):
    """Looks at requests before they are answered, and at answers before they are sent."""

    name: str

    def before(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The request's body, changed; None to leave it. An UmlError refuses the request.

        endpoint: `chat`, `completion` or `embedding`. It may keep the body, and must not change the one that it got.
        """
        ...

    def after(self, endpoint: str, body: Mapping[str, Any]) -> Pieces | None:
        """What is done to one answer, a new one for each; None for nothing. Not called for embeddings."""
        ...


@hookspec
def register_engines() -> Iterable[Engine]:
    """Engines. `spec.name` must not be one that is there; its workers are started by its `launch`.

    A hosted engine says `handover.launch_host("package.module:Class", ...)` and brings a `Host` of that name.
    """
    raise AssertionError


@hookspec
def register_detectors() -> Iterable[Detector]:
    """Readers of further formats: `Format.UNKNOWN` with the format's name in `version`, which `EngineSpec.kinds` names.

    They are asked in order, and only for what none of our own readers knows.
    """
    raise AssertionError


@hookspec
def register_samplers() -> Iterable[SamplerFile]:
    """Samplers for requests' `plugin_samplers`: a name, and a Python file with a function `sampler`.

    The file is loaded by workers of engines that sample with our chain, each in the environment of its engine, which
    has numpy and not the plug-in's package. `sampling/foreign.py` has what the function is told, and what it gives.
    """
    raise AssertionError


@hookspec
def register_processors() -> Iterable[Processor]:
    """What stands before and after generation, in the order in which it is applied."""
    raise AssertionError


@hookspec
def register_commands() -> Mapping[str, Callable[..., None]]:
    """Commands of `uml` by name: functions as typer takes them, or made by `uml.cli.command.command`."""
    raise AssertionError
