"""What goes with a model, projector, adapters and draft model: named by a path, or as models are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from uml.core.errors import AmbiguousModel, BadOption, ModelNotFound
from uml.core.model import Format, ModelInfo
from uml.core.options import LoadOptions
from uml.planning.estimate import companion_path
from uml.registry import Registry
from uml.registry.paths import absolute, is_there


def located(registry: Registry, options: LoadOptions) -> LoadOptions:
    """The options with the path of what is named by id or alias, its `=SCALE` kept.

    A path stays as it is, and so does what means nothing: `read` refuses it.
    """
    return replace(
        options,
        mmproj=_located(registry, options.mmproj),
        draft_model=_located(registry, options.draft_model),
        lora=tuple(_located(registry, path) + entry[len(path) :] for path, entry in _adapters(options)),
    )


def read(registry: Registry, options: LoadOptions, inspect: Callable[[Path], ModelInfo]) -> dict[str, ModelInfo]:
    """What each of them is, by the path in the options.

    Raises BadOption, with close names, where there is none, and for one of before GGUF, which only models are made into
    by themselves; what `inspect` does where it cannot be read.
    """
    found = {}
    for option, path, entry in _named(options):
        if not is_there(absolute(path)):
            raise BadOption(option, entry, _expected(registry, path))
        found[path] = inspect(absolute(path))
        if found[path].format is Format.GGML:
            how = f"; `uml convert {path} --to gguf` makes one" if found[path].shape else ""
            raise BadOption(option, entry, f"a file that engines read as it is: this one is {found[path].version}{how}")
    return found


def _named(options: LoadOptions) -> Iterator[tuple[str, str, str]]:
    """Option, path and value of each that is given."""
    if options.mmproj:
        yield "mmproj", options.mmproj, options.mmproj
    for path, entry in _adapters(options):
        yield "lora", path, entry
    if options.draft_model:
        yield "draft_model", options.draft_model, options.draft_model


def _adapters(options: LoadOptions) -> list[tuple[str, str]]:
    """PATH, and what was given: that, or PATH=SCALE."""
    return [(companion_path(entry), entry) for entry in options.lora if entry]


def _located(registry: Registry, name: str) -> str:
    if not name or is_there(absolute(name)):
        return name
    try:
        return str(registry.resolve(name).info.path)
    except ModelNotFound:
        return name


def _expected(registry: Registry, name: str) -> str:
    """What could stand in the place of a name that means nothing, close names last."""
    close: list[str] = []
    # Of a path that leads nowhere, the file's name may be what somebody calls the model.
    for said in dict.fromkeys((name, Path(name).name, Path(name).stem)):
        try:
            close.append(registry.resolve(said).id)
        except AmbiguousModel as error:
            return f"the name of one model; several are called so: {', '.join(error.details['close'][:8])}"
        except ModelNotFound as error:
            close += error.details["close"]
    known = f"; close names: {', '.join(list(dict.fromkeys(close))[:3])}" if close else ""
    return f"the path of a file that is there, or the id of a model (`uml ls` lists them){known}"
