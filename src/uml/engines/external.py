"""Servers of others that run a whole model on GPUs, as `vllm serve` and `trtllm-serve`: what they have in common."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from uml.core.engine import Availability, EngineSpec
from uml.core.errors import BadOption, EngineNotInstalled, LoadFailed, OutOfMemory, UmlError
from uml.core.install import Installed
from uml.core.plan import LoadPlan
from uml.engines.handover import cause_of_exit, failure_in

Finding: TypeAlias = Callable[[LoadPlan, "re.Match[str]"], UmlError]


@dataclass(frozen=True, slots=True)
class Program:
    """A server's program.

    spec: of its engine. word: what it is called, beside the interpreter of an install. devices: kinds of devices that
    an install can use; a program of the user's may use others. installed: finds the environments of engines. own: a
    program of the user's, which comes before them.
    """

    spec: EngineSpec
    word: str
    devices: frozenset[str]
    installed: Installed
    own: Path | None

    def available(self) -> Availability:
        """Whether there is one; it is not started."""
        if self.own:
            if not self.own.is_file() or not os.access(self.own, os.X_OK):
                return Availability(False, way="external", reason=f"{self.own} is not a program that can be run")
            return Availability(True, "", "external", str(self.own))
        install = self.installed(self.spec.name, "")
        if install is None:
            return Availability(False, way="external", reason=self.spec.install_command, devices=self.devices)
        return Availability(True, install.version, "external", str(install.folder), frozenset({install.accelerator}))

    def find(self, plan: LoadPlan) -> tuple[Path, tuple[Path, ...]]:
        """The one that runs a plan, and what a sandbox lets it read. Raises EngineNotInstalled."""
        name, label = self.spec.name, plan.options.engine_version
        if self.own and not label:
            return self.own, (self.own.parent.parent,)
        install = self.installed(name, label)
        if install is None:
            mark = f"=={label}" if label else ""
            raise EngineNotInstalled(name + mark, plan.model.id, self.spec.install_command + mark)
        return install.python.parent / self.word, (install.folder,)


def gpus(plan: LoadPlan) -> tuple[str, ...]:
    """The GPUs of a plan, in order."""
    chosen = plan.placement.device_bytes if plan.options.device == "auto" else plan.options.device.split(",")
    return tuple(name for part in chosen if (name := part.strip()) not in ("", "cpu"))


def spread(plan: LoadPlan, by_layers: str, in_parts: str) -> list[str]:
    """Over several GPUs: layer after layer, or each layer in parts, as the program calls these. Raises BadOption."""
    count = len(gpus(plan))
    if count < 2:
        return []
    if plan.options.split_mode == "none":
        raise BadOption("split_mode", "none", "layer, row or tensor: the plan has several GPUs; name one with device")
    return [by_layers if plan.options.split_mode == "layer" else in_parts, str(count)]


def cause(
    findings: Sequence[tuple[re.Pattern[str], Finding]], plan: LoadPlan, log: str, exit_code: int | None
) -> UmlError | None:
    """Why a worker died, the most certain evidence first; None when neither log nor signal tells."""
    for pattern, finding in findings:
        if match := pattern.search(log):
            return finding(plan, match)
    return failure_in(log) or cause_of_exit(plan, exit_code)


def memory(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    """It ran out of memory."""
    return OutOfMemory(plan.model.id, plan.placement.device, plan.footprint.total_bytes or None)


def told(plan: LoadPlan, match: re.Match[str]) -> UmlError:
    """As it says itself, in the group `reason`."""
    return LoadFailed(plan.model.id, match["reason"].strip()[:500])


def flag(word: str) -> Finding:
    """An argument that the program does not take: one of the user's, or one of ours."""

    def found(plan: LoadPlan, match: re.Match[str]) -> UmlError:
        words, given = match["reason"].strip(), plan.options.extra_flags
        if any(one.partition("=")[0] in words for one in given if one.startswith("-")):
            return BadOption("extra_flags", list(given), f"arguments that this {word} takes ({words})")
        return LoadFailed(plan.model.id, f"this {word} does not take its arguments: {words}", arguments=words)

    return found
