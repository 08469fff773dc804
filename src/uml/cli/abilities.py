"""Which engine runs a model, and what it can do there, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uml.cli.result import Facts, Table, View, facts


def choice_views(found: Mapping[str, Any]) -> tuple[View, ...]:
    """The engine that runs it or would, why, and the others that could."""
    engine = str(found.get("engine") or "none")
    installed = "" if found.get("installed") or engine == "none" else " (not installed)"
    chosen = facts([("engine", engine + installed), ("because", found.get("reason"))], title="Runs on")
    ranked = found.get("engines") or ()
    if len(ranked) < 2 and not any(one.get("lacks") for one in ranked):
        return (chosen,)
    rows = tuple((str(one["engine"]), str(one["reason"])) for one in ranked)
    return chosen, Table(("ENGINE", "BECAUSE"), rows, title="Engines that can run it, best first")


def ability_views(found: Mapping[str, Any]) -> tuple[View, ...]:
    """What it can do there: abilities, samplers, the other parameters, load options."""
    abilities = tuple(
        (name.replace("_", " "), "yes" if one["can"] else "no", str(one["why"]))
        for name, one in (found.get("abilities") or {}).items()
    )
    parameters = found.get("parameters") or {}
    samplers = {name: one for name, one in parameters.items() if one["sampler"]}
    others = {name: one for name, one in parameters.items() if not one["sampler"]}
    options = found.get("options") or {}
    return (
        Table(("ABILITY", "CAN", "WHY"), abilities, title="Abilities"),
        _lists("Samplers", *_parted({name: bool(one["can"]) for name, one in samplers.items()})),
        _lists("Other parameters of requests", *_parted({name: bool(one["can"]) for name, one in others.items()})),
        _lists("Load options", *_parted({name: bool(can) for name, can in options.items()})),
    )


def _parted(can: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    return [name for name, yes in can.items() if yes], [name for name, yes in can.items() if not yes]


def _lists(title: str, able: list[str], unable: list[str]) -> Facts:
    return facts([("honoured", ", ".join(able)), ("not honoured", ", ".join(unable))], title=title)
