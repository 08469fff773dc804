"""How a model is loaded where nobody says: as the settings have it, and over them its profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uml.core.errors import BadRequest, ModelNotFound
from uml.core.model import Model
from uml.core.options import LoadOptions, options_by_name, own_options
from uml.registry import Registry
from uml.registry.companions import located


def over(registry: Registry, base: LoadOptions, given: Mapping[str, object]) -> LoadOptions:
    """Options over others; companions may be named as models are. Raises BadOption, UnknownField."""
    under = base.changed()
    if "engine" in given:
        under.pop("engine_version", None)  # it was of the other engine
    return located(registry, LoadOptions.parse({**under, **given}))


def profile(registry: Registry, model: Model) -> Mapping[str, Any]:
    """The options that are saved for a model; none for a file that only happens to be called as one is."""
    try:
        known = registry.resolve(model.id)
    except ModelNotFound:
        return {}
    return registry.profiles.of(known.id) if known.info.path == model.info.path else {}


def usual(registry: Registry, defaults: LoadOptions, model: Model) -> LoadOptions:
    """The profile over the defaults. Raises BadRequest where the profile has what is no option any more."""
    saved = profile(registry, model)
    try:
        return over(registry, defaults, saved) if saved else defaults
    except BadRequest as error:
        sentence = f"the profile of {model.id} cannot be used: {error.message}; `uml profile {model.id}` shows it"
        raise BadRequest(sentence, param=error.param) from error


def revised(before: Mapping[str, Any], given: Mapping[str, object]) -> dict[str, Any]:
    """A profile with these options over those of before; None takes one out, also one that is no option any more.

    Raises BadOption, UnknownField.
    """
    known = options_by_name()
    out = {name: known[name].name if name in known else name for name, value in given.items() if value is None}
    out = {name: own for name, own in out.items() if name in known or name in before}
    new = own_options({name: value for name, value in given.items() if name not in out})
    dropped = {*out.values(), *new}
    if "engine" in dropped:
        dropped.add("engine_version")  # it was of the other engine
    return {name: value for name, value in before.items() if name not in dropped} | new
