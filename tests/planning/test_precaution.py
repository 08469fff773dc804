"""Settings with which an engine works where it aborts without them."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from tests.planning.things import GIB, info, machine, spec
from tests.planning.things import model as registered
from uml.core.engine import Availability
from uml.core.errors import CorruptFile, IllegalInstruction, LoadFailed, OutOfMemory, UmlError, WorkerDied
from uml.core.options import LoadOptions
from uml.engines.llamacpp.spec import PRECAUTIONS
from uml.planning import plan
from uml.planning.precaution import next_one, safer

LLAMACPP = spec(precautions=PRECAUTIONS)
NATIVE = {LLAMACPP.name: (LLAMACPP, Availability(True, way="native"))}
WHEEL = {LLAMACPP.name: (LLAMACPP, Availability(True, way="embedded"))}
AMX = replace(machine(free=64 * GIB), instructions=frozenset({"amx_int8"}))
DEEPSEEK = registered(info("deepseek2"))


def test_what_is_known_to_abort_is_loaded_otherwise_at_once() -> None:
    found = plan(DEEPSEEK, LoadOptions(), AMX, NATIVE)
    assert not found.options.repack
    assert any(said.startswith("repack is false, for kernels for re-ordered weights") for said in found.warnings)
    for other, ground, specs in (
        (registered(info("llama")), AMX, NATIVE),
        (DEEPSEEK, machine(free=64 * GIB), NATIVE),
        (DEEPSEEK, AMX, WHEEL),
    ):
        plain = plan(other, LoadOptions(), ground, specs)
        assert plain.options.repack and not any("repack" in said for said in plain.warnings)


def crash(code: int) -> LoadFailed:
    return LoadFailed("demo", "it ended", exit_code=code)


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (crash(-signal.SIGABRT), True),
        (crash(-signal.SIGSEGV), True),
        (IllegalInstruction("demo", "it ended"), True),
        (WorkerDied("demo", "it ended", exit_code=-signal.SIGABRT, reason="crashed"), True),
        (WorkerDied("demo", "it ended", exit_code=-signal.SIGILL, reason="illegal_instruction"), True),
        (crash(-signal.SIGKILL), False),
        (crash(1), False),
        (WorkerDied("demo", "it ended", exit_code=-signal.SIGKILL, reason="killed"), False),
        (WorkerDied("demo", "it ended", exit_code=-signal.SIGABRT, reason="out_of_memory"), False),
        (OutOfMemory("demo", "cpu"), False),
        (CorruptFile(DEEPSEEK.info.path, "it is torn"), False),
    ],
)
def test_only_an_abort_asks_for_a_safer_setting(error: UmlError, helps: bool) -> None:
    asked = LoadOptions()
    made = plan(registered(info("llama")), asked, AMX, NATIVE)
    assert bool(next_one(asked, asked, made, error, LLAMACPP.precautions)) is helps


def test_they_are_taken_one_after_the_other_and_never_over_what_was_asked_for() -> None:
    llama, error = registered(info("llama")), crash(-signal.SIGABRT)

    def steps(asked: LoadOptions) -> list[tuple[bool, str]]:
        given, found = asked, []
        while one := next_one(asked, given, plan(llama, given, AMX, NATIVE), error, LLAMACPP.precautions):
            given = safer(asked, given, (one,))
            found.append((given.repack, given.flash_attention))
        return found

    assert steps(LoadOptions()) == [(False, "auto"), (False, "off")]
    assert steps(LoadOptions(flash_attention="on")) == [(False, "on")]
    # Keys and values that are quantized take flash attention.
    assert steps(LoadOptions(cache_type_k="q8_0", cache_type_v="q8_0")) == [(False, "auto")]
