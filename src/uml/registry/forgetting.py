"""What a user wants to be rid of: a model, or a folder with all that was found in it. No file is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uml.core.errors import BadRequest, ModelNotFound
from uml.registry import Registry
from uml.registry.paths import is_folder, real


@dataclass(frozen=True, slots=True)
class Target:
    """folder: one that was added with `scan`; None for a single model. models: ids of what is forgotten."""

    folder: Path | None
    models: tuple[str, ...]


def target(registry: Registry, name: str) -> Target:
    """What a name means: a folder that was added, by its path from the root, or the id, alias or path of a model.

    Raises ModelNotFound, AmbiguousModel; BadRequest for another folder, and the model that comes with the program.
    """
    path = Path(name)
    roots = registry.roots() if path.is_absolute() else ()
    if (folder := real(path)) in roots:
        own = (model for model in registry.models() if model.source == "folder")
        return Target(folder, tuple(model.id for model in own if model.info.path.is_relative_to(folder)))
    try:
        model = registry.resolve(name)
    except ModelNotFound:
        if path.is_absolute() and is_folder(path):
            known = f"those are: {', '.join(map(str, roots))}" if roots else "none was"
            raise BadRequest(
                f"{path} is no model, and no folder that was added by `uml scan FOLDER`; {known}. "
                "The setting model_folders names others, which are looked through at every start"
            ) from None
        raise
    if model.source == "package":
        raise BadRequest(f"{model.id} comes with the program and is always there", param="model")
    return Target(None, (model.id,))


def forget(registry: Registry, found: Target) -> Target:
    """Forget it, with its aliases and pins; only `scan` of its folder, or `add`, brings it back."""
    if found.folder is not None:
        found = Target(found.folder, registry.remove_root(found.folder))
    else:
        for model in found.models:
            registry.remove(model)
    if found.models:
        registry.pins.drop(found.models)
    return found
