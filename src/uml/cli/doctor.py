"""`uml doctor`: whether everything that a model needs is there, and what would make it faster."""

from __future__ import annotations

import platform
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from uml import __version__
from uml.cli import words
from uml.cli.command import command
from uml.cli.exits import Exit
from uml.cli.result import Facts, Result, Table, facts
from uml.cli.session import Session
from uml.core.errors import UmlError
from uml.core.jsonable import jsonable

if TYPE_CHECKING:
    from uml.config import Settings
    from uml.core.machine import Machine
    from uml.house import Library

State = Literal["ok", "warning", "problem"]
_MARK: Final[Mapping[State, str]] = {"ok": "ok", "warning": "!", "problem": "X"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. warning: it works, and could be better; problem: it does not work."""

    name: str
    state: State
    text: str


@command()
def doctor(session: Session) -> Result:
    """Check this machine, the settings, the engines and the models; say what to mend.

    The exit code is 1 when there is a problem; warnings do not count.
    """
    # Imported here: only this command looks at the whole machine.
    from uml.hardware import snapshot

    settings = session.settings
    machine = snapshot()
    checks = [*_settings(settings), *_folder(settings), *_port(session, settings), *_workers(settings)]
    engines: list[dict[str, Any]] = []
    try:
        with session.library() as library:
            engines = _engines(library)
            checks += [*_engine_checks(engines), *_installs(library)]
            checks += [*_instructions(machine, library), *_models(library)]
    except UmlError as error:
        checks.append(Check("models", "problem", error.message))
    broken = any(check.state == "problem" for check in checks)
    data = {
        "ok": not broken,
        "checks": jsonable(checks),
        "uml": __version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "platform": platform.platform(),
        "machine": jsonable(machine),
        "settings": [row._asdict() for row in settings.explain()],
        "engines": engines,
    }
    views = (
        _about(machine),
        Table(
            ("SETTING", "VALUE", "FROM"),
            tuple((row.name, _shown(row.value), row.source) for row in settings.explain()),
        ),
        Table(
            ("ENGINE", "AVAILABLE", "VERSION", "WAY", "WHY"),
            tuple((e["name"], "yes" if e["available"] else "no", e["version"], e["way"], e["reason"]) for e in engines),
        ),
        Table(("", "CHECK", "WHAT"), tuple((_MARK[c.state], c.name, c.text) for c in checks)),
    )
    return Result(data, views, Exit.ERROR if broken else Exit.OK)


def _about(machine: Machine) -> Facts:
    gpus = ", ".join(f"{g.name} ({words.size(g.total_bytes)})" for g in machine.gpus)
    return facts(
        [
            ("uml", __version__),
            ("python", f"{platform.python_version()} ({sys.executable})"),
            ("platform", platform.platform()),
            ("processor", f"{machine.processor}, {machine.cores} cores, {machine.threads} threads"),
            ("instructions", ", ".join(sorted(machine.instructions))),
            ("memory", f"{words.size(machine.memory.total_bytes)}, {words.size(machine.memory.free_bytes)} free"),
            ("limits", ", ".join(machine.limits)),
            ("GPUs", gpus or "none"),
        ]
    )


def _shown(value: object) -> str:
    if value is None or value == []:
        return "-"
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _settings(settings: Settings) -> Iterator[Check]:
    for warning in settings.warnings:
        yield Check("settings", "warning", warning)
    there = settings.file is not None and settings.file.is_file()
    yield Check("settings", "ok", f"{settings.file} is read" if there else f"there is no file {settings.file}")
    for folder in settings.model_folders:
        if not folder.is_dir():
            yield Check("model folder", "warning", f"{folder} is not a folder")


def _folder(settings: Settings) -> Iterator[Check]:
    from uml.config import ensure_private, ensure_writable

    places: tuple[tuple[str, Callable[[Any], Any], Any], ...] = (
        ("data folder", ensure_writable, settings.data),
        ("socket folder", ensure_private, settings.runtime),
    )
    for name, ensure, folder in places:
        there = folder.exists()
        try:
            ensure(folder)
            yield Check(name, "ok", f"{folder} can be written")
        except UmlError as error:
            yield Check(name, "problem", error.message)
        if not there and folder == settings.runtime:
            # The server makes it and takes it away again; a question must leave nothing in a place that all share.
            with suppress(OSError):
                folder.rmdir()


def _workers(settings: Settings) -> Iterator[Check]:
    """How workers are kept in and limited here."""
    from uml.runtime.sandbox.means import means
    from uml.runtime.workers.limits import parent_group

    if settings.sandbox == "off":
        yield Check("sandbox", "warning", "off: workers may do what their user may; set sandbox to auto")
    else:
        found = means()
        required = settings.sandbox == "required"
        if found.used:
            yield Check("sandbox", "ok", f"workers run with {'; '.join(found.used)}")
        for missing in found.missing:
            text = f"workers run without {missing}" if not required else f"no worker can be started without {missing}"
            yield Check("sandbox", "problem" if required else "warning", text)
        for layer in found.weaker:
            yield Check("sandbox", "ok", layer)
    limits = {
        "memory": settings.worker_memory is not None,
        "processors": settings.worker_cpu_share is not None,
    }
    wanted = [name for name, is_set in limits.items() if is_set]
    if wanted and (group := parent_group()):
        yield Check("limits", "ok", f"{' and '.join(wanted)} of a worker are limited by control groups below {group}")
    elif wanted:
        text = "no control group (v2) can be made by this user, as `systemd-run --user -p Delegate=yes` would allow"
        ways = {"memory": "memory is limited as it is asked for (RLIMIT_DATA)", "processors": "processors by affinity"}
        yield Check("limits", "warning", f"{text}; {' and '.join(ways[name] for name in wanted)}")


def _port(session: Session, settings: Settings) -> Iterator[Check]:
    try:
        client = session.find_client()
    except UmlError as error:
        yield Check("server", "warning", error.message)
        client = None
    if client is not None:
        with client:
            yield Check("server", "ok", f"one runs at {client.url}")
        return
    yield Check("server", "ok", "none runs; commands that need one say so")
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(family[4])
        yield Check("port", "ok", f"{settings.port} on {settings.host} is free")
    except OSError as error:
        text = f"cannot listen on port {settings.port} of {settings.host}: {error.strerror}; choose another: UML_PORT"
        yield Check("port", "warning", text)


def _engines(library: Library) -> list[dict[str, Any]]:
    return [
        {"name": name, "title": spec.title, **jsonable(found), "install": spec.install_command}
        for name, (spec, found) in library.specs.items()
    ]


def _engine_checks(engines: list[dict[str, Any]]) -> Iterator[Check]:
    if any(engine["available"] and engine["name"] != "fake" for engine in engines):
        names = ", ".join(e["name"] for e in engines if e["available"] and e["name"] != "fake")
        yield Check("engines", "ok", f"{names} can be started")
    else:
        ways = "; ".join(e["install"] for e in engines if e["install"])
        yield Check("engines", "problem", f"no engine can be started{f'; install one: {ways}' if ways else ''}")


def _installs(library: Library) -> Iterator[Check]:
    """The environments of engines, and whether each works as far as is known."""
    shelf = library.installs
    shelf.sweep()
    for engine in shelf.engines():
        used = shelf.find(engine)
        for one in shelf.all(engine):
            facts = ["in use"] if used and used.name == one.name else []
            facts += [words.size(one.size_bytes), one.accelerator, one.smoke_says]
            text = f"{one.name} ({', '.join(fact for fact in facts if fact)})"
            if one.smoke == "failed":
                yield Check("install", "warning", f"{text}; install it anew, or remove it: uml engine rm {one.name}")
            else:
                yield Check("install", "ok", text)


_FEATURES: Final[Mapping[str, str]] = {
    "avx2": "AVX2",
    "avx_vnni": "AVX_VNNI",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
    "asimddp": "DOTPROD",
    "asimdhp": "FP16_VA",
    "i8mm": "MATMUL_INT8",
    "sve": "SVE",
    "sme": "SME",
}
"""Instruction set as the kernel names it -> as llama.cpp says that it was built for it (ggml-cpu.cpp)."""


def unused(instructions: Collection[str], built: Mapping[str, bool]) -> list[str]:
    """Instruction sets that the processor has and the engine's build does not use."""
    return [has for has, feature in _FEATURES.items() if has in instructions and not built.get(feature, False)]


def _instructions(machine: Machine, library: Library) -> Iterator[Check]:
    if "llamacpp" not in library.engines:
        return
    from uml.engines.llamacpp.build import system_info

    used = library.installs.find("llamacpp")
    built = system_info(library.settings.llama_server, used.python if used else None)
    if not built:
        text = "the llama.cpp in use does not tell which instruction sets it was built for"
        yield Check("instructions", "ok", text)
    elif left := unused(machine.instructions, built):
        text = (
            f"this processor has {', '.join(left)}, and the llama.cpp in use was built without; one that is built on "
            "this machine reads prompts faster: uml engine build llamacpp, or a llama-server of yours with "
            "UML_LLAMA_SERVER"
        )
        yield Check("instructions", "warning", text)
    else:
        yield Check("instructions", "ok", "llama.cpp uses what the processor has")


def _models(library: Library) -> Iterator[Check]:
    for notice in library.registry.notices:
        yield Check("registry", "warning", notice)
    known = library.registry.models()
    unreadable = 0
    for model in known:
        try:
            library.registry.fresh(model)
        except UmlError as error:
            unreadable += 1
            yield Check("model", "warning", f"{model.id}: {error.message}")
    yield Check("models", "ok", f"{len(known) - unreadable} of {len(known)} can be read")
