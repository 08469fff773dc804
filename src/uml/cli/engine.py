"""`uml engine`: installs of engines, each in an environment of its own. No server is needed; one can be named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from uml.cli import complete, render, words
from uml.cli.command import command, group
from uml.cli.exits import Exit
from uml.cli.progress import followed, install_bar
from uml.cli.result import Lines, Result, Table, View, said
from uml.cli.session import Session
from uml.core.errors import Cancelled
from uml.core.jsonable import jsonable

if TYPE_CHECKING:
    from uml.client.client import Client
    from uml.core.install import Step
    from uml.engine_room import EngineRoom

Done = TypeVar("Done")
Show = Callable[[Mapping[str, Any]], None]

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME[==VERSION]", help="An engine, or one of its installs", autocompletion=complete.engines,
        show_default=False,
    ),
]  # fmt: skip
Install = Annotated[
    str,
    typer.Argument(
        metavar="NAME==VERSION", help="An install, as `uml engine ls` shows it", autocompletion=complete.installs,
        show_default=False,
    ),
]  # fmt: skip
Installer = Annotated[str, typer.Option("--installer", metavar="pip|uv", help="Either reads its own configuration")]

engine = group(
    "engine", "Engines", "Engines, each in environments of its own: several versions side by side, one in use."
)


@contextmanager
def _room(session: Session) -> Iterator[EngineRoom]:
    with session.library() as library:
        # Imported here: planning and the runtime come with it.
        from uml.engine_room import EngineRoom

        library.installs.sweep()
        yield EngineRoom(library)


def _done(session: Session, there: Callable[[Client], Done], here: Callable[[EngineRoom], Done]) -> Done:
    """What the server does that was named. Without one it is done here: a server of this data folder sees it."""
    if session.flags.server:
        with session.client() as client:
            return there(client)
    with _room(session) as room:
        return here(room)


def _telling(show: Show) -> Callable[[Step], None]:
    """The steps of a work that is done here, shown as the server's are."""
    return lambda step: show({"event": "progress", **jsonable(step)})


@command()
def ls(session: Session) -> Result:
    """List engines and their installs, and what can be installed here.

    USED is the one that the next load of its engine runs in. TEST is what its last test said.
    """
    found = _done(session, lambda client: client.engines(), lambda room: room.overview())
    rows = tuple(row for one in found for row in _rows(one))
    return Result({"object": "list", "data": found}, (Table(COLUMNS, rows, frozenset({"SIZE"})),))


COLUMNS: Final = ("ENGINE", "VERSION", "USED", "TEST", "FOR", "SIZE", "MADE", "WHAT")


def _rows(one: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    name, recipe = str(one["name"]), one.get("recipe")
    installs = [install for install in one.get("installs", ()) if isinstance(install, Mapping)]
    for install in installs:
        what = "uml's own environment" if install.get("shared") else str(install.get("smoke_says", ""))
        yield (
            name,
            str(install.get("label", "")) + (f" ({install['version']})" if install.get("shared") else ""),
            "*" if install.get("in_use") else "",
            str(install.get("smoke", "")),
            str(install.get("accelerator", "")),
            words.size(install.get("size_bytes")),
            str(install.get("made", ""))[:10],
            what,
        )
    if installs:
        return
    if not isinstance(recipe, Mapping):
        used = "*" if one.get("available") else ""
        yield name, str(one.get("version", "")), used, "", "", "", "", str(one.get("reason", ""))
    elif recipe.get("possible"):
        size = words.size(recipe.get("disk_bytes"))
        what = f"not installed: uml engine install {name} (version {recipe.get('version')}, about {size})"
        yield name, "", "", "", "", "", "", what
    else:
        yield name, "", "", "", "", "", "", f"not for this machine: it needs {', '.join(recipe.get('needs', ()))}"


@command()
def install(
    session: Session,
    name: Name,
    installer: Installer = "pip",
    again: Annotated[bool, typer.Option("--again", help="Also where this version is installed already")] = False,
) -> Result | None:
    """Install an engine into an environment of its own, try it, and put it in use.

    What is in use before stays there, and `uml engine use` goes back to it at once. Nothing is left of an install
    that fails or is stopped. With --json every step is one line.
    """
    if installer not in ("pip", "uv"):
        raise typer.BadParameter(f"--installer is {installer!r}; expected pip or uv")
    with install_bar(name, quiet=session.flags.json) as update:
        show: Show = render.emit if session.flags.json else update
        try:
            done = _done(
                session,
                lambda client: followed(client.install_engine(name, installer, again=again), show),
                lambda room: room.install(name, "uv" if installer == "uv" else "pip", again=again, tell=_telling(show)),
            )
        except KeyboardInterrupt:
            raise Cancelled(f"the install of {name} was stopped, and nothing of it is left") from None
    if session.flags.json:
        render.emit({"event": "ready", **done})
        return None
    return said(done, *_ready(done))


def _ready(done: Mapping[str, Any]) -> tuple[str, ...]:
    facts = (words.size(done.get("size_bytes")), str(done.get("accelerator", "")), str(done.get("smoke_says", "")))
    lines = [f"{done['name']} is installed ({', '.join(fact for fact in facts if fact)})"]
    if not done.get("in_use"):
        lines.append(f"its test failed, and it is not in use; to use it all the same: uml engine use {done['name']}")
    return tuple(lines)


@command()
def use(session: Session, name: Install) -> Result:
    """Run this install from the next load on.

    Models that are loaded stay in the one they have. `NAME==shared` is the environment of uml itself.
    """
    done = _used(session, name)
    return said(done, f"{done['name']} is in use from the next load on")


def _used(session: Session, name: str) -> dict[str, Any]:
    from uml.engine_room import split

    return _done(session, lambda client: client.use_engine(name), lambda room: room.use(*split(name)))


@command()
def rm(session: Session, name: Install) -> Result:
    """Remove an install; where it was in use, another one of its engine is then.

    NAME alone will do while the engine has one install only.
    """
    from uml.engine_room import split

    done = _done(session, lambda client: client.remove_engine(name), lambda room: room.remove(*split(name)))
    freed = words.size(done.get("freed_bytes"))
    left = f"; {name.partition('==')[0]}=={done['in_use']} is in use now" if done.get("in_use") else ""
    lines = [f"{done['removed']} is removed{f', {freed} are free again' if freed else ''}{left}"]
    lines += [
        f"the profile of {model} names it, so that its loads are refused; to let it have another: "
        f"uml profile {model} --unset engine_version"
        for model in done.get("pinned_by", ())
    ]
    return said(done, *lines)


@command()
def test(session: Session, name: Name) -> Result:
    """Load a tiny model with an install, and compare what it answers with what is right.

    Without a version it is the one in use. The exit code is 1 when the answer is wrong.
    """
    if not session.flags.json:
        render.note(f"testing {name}")
    from uml.engine_room import split

    done = _done(session, lambda client: client.test_engine(name), lambda room: room.test(*split(name)))
    view: View = Lines((f"{done['name']}: {done['smoke']}, {done['smoke_says']}",))
    return Result(done, (view,), Exit.ERROR if done["smoke"] == "failed" else Exit.OK)


@command()
def build(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="llamacpp", help="The engine to build", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Put it in use without asking, where it is faster")] = False,
) -> Result | None:
    """Build llama.cpp for this very machine, and compare it with the wheel that comes with uml.

    The wheel is made for old processors; on one with AVX-512 or AMX a build of the same source reads prompts up to
    4 times as fast. It takes some minutes, a C++ compiler and cmake, and is put in use only when you say so. With
    --server it is built on that machine, and for it.
    """
    if name != "llamacpp":
        raise typer.BadParameter(f"{name} is not built here; only llamacpp is")
    with install_bar(name, quiet=session.flags.json) as update:
        show: Show = render.emit if session.flags.json else update
        try:
            done = _done(
                session,
                lambda client: followed(client.build_engine(), show),
                lambda room: room.build(_telling(show)),
            )
        except KeyboardInterrupt:
            raise Cancelled("the build was stopped, and nothing of it is left") from None
    built, speeds = done["install"], done["speeds"]
    wheel = next(speed for label, speed in speeds.items() if label != built["label"])
    faster = bool(speeds[built["label"]]["prompt_per_s"] > wheel["prompt_per_s"])
    if session.flags.json:
        used = faster and yes
        if used:
            _used(session, built["name"])
        render.emit({"event": "ready", **done, "in_use": used})
        return None
    table = _speeds(speeds)
    if faster and not yes and sys.stdin is not None and sys.stdin.isatty():
        render.show(Result(done, (table,)), as_json=False)
        if typer.confirm(f"Use {built['name']} from the next load on?", err=True):
            return Result(done, (_put_in_use(session, built["name"]),))
        return Result(done, (_stays(built["name"]),))
    return Result(done, (table, _put_in_use(session, built["name"]) if faster and yes else _stays(built["name"])))


def _speeds(speeds: Mapping[str, Mapping[str, float]]) -> Table:
    rows = tuple(
        (label, f"{speed['prompt_per_s']:.0f}", f"{speed['answer_per_s']:.1f}") for label, speed in speeds.items()
    )
    numbers = frozenset({"PROMPT", "ANSWER"})
    return Table(("BUILD", "PROMPT", "ANSWER"), rows, numbers, title="Tokens a second, demo model")


def _put_in_use(session: Session, name: str) -> Lines:
    _used(session, name)
    return Lines((f"{name} is in use from the next load on",))


def _stays(name: str) -> Lines:
    return Lines((f"the wheel stays in use; to change that: uml engine use {name}",))


for _function in (ls, install, use, rm, test, build):
    engine.command(_function.__name__)(_function)
