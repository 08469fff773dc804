"""shortage(case, machine) -> DoesNotFit: what is missing where nothing fits, and what would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from uml.core.errors import BadOption, DoesNotFit, UmlError
from uml.core.machine import Machine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.planning.budget import room
from uml.planning.case import Case
from uml.planning.evict import Running, leaving
from uml.planning.layers import layers_of
from uml.planning.rank import obstacle
from uml.planning.remedy import MOST_MODELS, Made, Remedy, as_data, changes, smaller_files, smaller_kinds
from uml.planning.resolve import least_options


def shortage(case: Case, machine: Machine) -> DoesNotFit:
    """Nothing fits on this machine: what is missing, and what would do."""

    def fits(changed: LoadOptions) -> bool:
        try:
            return replace(case, options=changed).choose(machine, grow=False) is not None
        except BadOption:  # what the change leaves of the options makes no sense
            return False

    options = least_options(case.model.info, case.options, case.basis)
    smaller = _smaller(case, machine)
    made = None if smaller else _made(case, machine)
    if case.runner.on_cpu:
        options = case.fitter.batched(replace(options, device="cpu", gpu_layers=0))
    needed = case.weigh(options)
    free = max((room(device) for device in machine.devices if case.runner.on_cpu or device.kind != "cpu"), default=0)
    limit = case.limit(free)
    asked = changes(case.model.info, case.options, fits)
    remedy = Remedy(asked, smaller, _in_the_way(case), made, limit if limit and _fits_without(case) else "")
    would_fit, others = as_data(remedy)
    return DoesNotFit(
        *(case.model.id, needed.total_bytes, free, remedy.sentence, would_fit, others, remedy.unpin),
        limit=limit,
        quantize={"to": made.kind, "needed": made.bytes, "command": made.command} if made else None,
    )


def _fits_without(case: Case) -> bool:
    """Whether it would fit if no setting limited what models take."""
    unbound = replace(case, budget=None)
    idle = [one for one in case.running if not one.busy and not one.pinned]
    return unbound.choose(unbound.after(idle), grow=False) is not None


def _in_the_way(case: Case) -> tuple[str, ...]:
    """Pinned models, as few as it takes, without which the load would fit once others are idle; empty for none."""
    pinned = [replace(one, busy=False, pinned=False) for one in case.running if one.pinned]
    others = [one for one in case.running if not one.pinned]

    def enough(gone: Sequence[Running]) -> bool:
        return case.choose(case.after([*others, *gone]), grow=False) is not None

    return (leaving(pinned, enough) or ()) if pinned else ()


def _smaller(case: Case, machine: Machine) -> tuple[tuple[str, int], ...]:
    """Smaller files of the same model that fit with the very options, and what they need."""
    found: list[tuple[str, int]] = []
    for other in smaller_files(case.model, case.others):
        if obstacle(other.info, case.runner.spec) or len(found) == MOST_MODELS:
            continue
        if needed := _instead(case, other, machine):
            found.append((other.id, needed))
    return tuple(found)


def _made(case: Case, machine: Machine) -> Made | None:
    """The largest smaller file that could be made of the model and fits with the very options."""
    kinds = ((kind, _instead(case, other, machine)) for kind, other in smaller_kinds(case.model))
    return next((Made(case.model.id, kind, needed) for kind, needed in kinds if needed), None)


def _instead(case: Case, other: Model, machine: Machine) -> int:
    """What another model needs with the very options; 0 where it does not fit, or they rule it out."""
    try:
        layers = layers_of(other.info, case.options)
        fit = replace(case, model=other, layers=layers, known=None).choose(machine, grow=False)
    except UmlError:
        return 0
    return fit.footprint.total_bytes if fit else 0
