"""The hooks. Imported at the start of every server: keep it light, and import the rest where it is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from uml.core.engine import Engine
from uml.core.plan import SamplerFile
from uml.plugins import hookimpl
from uml.plugins.hooks import Detector, Processor
from uml_wordchain.command import wordchain
from uml_wordchain.engine import WordChain
from uml_wordchain.format import detect
from uml_wordchain.polite import Polite


@hookimpl
def register_engines() -> list[Engine]:
    """One engine."""
    return [WordChain()]


@hookimpl
def register_detectors() -> list[Detector]:
    """One format."""
    return [detect]


@hookimpl
def register_samplers() -> list[SamplerFile]:
    """One sampler: a file, which is not imported here."""
    return [SamplerFile("lipogram", Path(__file__).with_name("lipogram.py"))]


@hookimpl
def register_processors() -> list[Processor]:
    """One processor."""
    return [Polite()]


@hookimpl
def register_commands() -> dict[str, Callable[..., None]]:
    """One command: `uml wordchain`."""
    return {"wordchain": wordchain}
