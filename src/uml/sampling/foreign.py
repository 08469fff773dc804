"""Samplers of plug-ins: a file of each is loaded where the logits are, and its code is called through a guard.

What such a file has, and what it is told, `docs/sampling.md` says for who writes one. It may import numpy, what Python
brings, and nothing of its own package: it runs in the environment of an engine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from uml.core.errors import BadRequest
from uml.core.guard import Guard, LeftOut
from uml.core.plan import SamplerFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log: Final = logging.getLogger(__name__)

IMPORT_LIMIT_S: Final = 10.0
PARAMETER: Final = "plugin_samplers"
"""Of a request: `{name: setting}`, of which a setting is any JSON value."""
ENTRY: Final = "sampler"
"""The function that a file has: `sampler(setting, about) -> step`."""

ForeignStep: TypeAlias = "Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]"
"""Logits of every token (minus infinity for one that cannot come), and the ids of prompt and answer so far -> logits.

It may write to the logits, and give them back. It must follow from what it is given alone: tokens may be taken back.
"""


@dataclass(frozen=True, slots=True)
class About:
    """What a sampler is told at the beginning of an answer.

    pieces: the bytes of every token by its id, which may be a part of a character. ends: tokens that end an answer.
    prompt: tokens of the prompt. uniform: the next random number from [0, 1), by the request's seed.
    """

    pieces: Sequence[bytes]
    ends: frozenset[int]
    prompt: int
    uniform: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Foreign:
    """A sampler of a plug-in, loaded. One that could not be is there too: it refuses the requests that ask for it."""

    name: str
    guard: Guard
    begin: Callable[[Any, About], ForeignStep] | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A sampler that a request asks for, with what it says to it."""

    sampler: Foreign
    setting: Any


def opened(files: Iterable[SamplerFile]) -> Mapping[str, Foreign]:
    """Load the files; what cannot be loaded is told to the log, and to whoever asks for it."""
    return {file.name: _opened(file) for file in files}


def _opened(file: SamplerFile) -> Foreign:
    guard = Guard(f"{file.name} of the plug-in {file.plugin}")
    try:
        begin = guard.call("its import", _load, file, limit_s=IMPORT_LIMIT_S)
    except LeftOut as error:
        guard.fail(str(error))
        log.warning("the sampler %s is left out: %s", guard.name, error)
        return Foreign(file.name, guard, None)
    return Foreign(file.name, guard, begin)


def _load(file: SamplerFile) -> Callable[[Any, About], ForeignStep]:
    # Under a name that no package has: it must not stand in for one.
    spec = spec_from_file_location(f"uml_sampler_{file.name.replace('-', '_')}", file.path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.path} is no Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[Any, About], ForeignStep] = getattr(module, ENTRY)
    return found


def wanted(value: object, samplers: Mapping[str, Foreign]) -> tuple[Wanted, ...]:
    """What a request's `plugin_samplers` asks for, in its order; null turns one off. Raises BadRequest."""
    if not isinstance(value, Mapping):
        raise BadRequest(f"{PARAMETER} is no object; expected names of samplers with their settings", param=PARAMETER)
    found = []
    for name, setting in value.items():
        sampler = samplers.get(name)
        param = f"{PARAMETER}.{name}"[:200]
        if sampler is None:
            known = f"known are {', '.join(samplers)}" if samplers else "no plug-in of this server brings any"
            raise BadRequest(f"{param}: there is no such sampler; {known}", param=param)
        if sampler.guard.state != "ready":
            raise BadRequest(
                f"{param}: the sampler {sampler.guard.name} is left out: {sampler.guard.says}", param=param
            )
        if setting is not None:
            found.append(Wanted(sampler, setting))
    return tuple(found)
