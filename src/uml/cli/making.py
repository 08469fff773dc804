"""What commands that make models of models have in common: which model is meant, and how the work is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from uml.cli import render
from uml.cli.names import as_path
from uml.cli.progress import install_bar
from uml.cli.session import Session

if TYPE_CHECKING:
    from uml.core.model import Model
    from uml.house import Library

Tell = Callable[[Mapping[str, Any]], None]


def source(library: Library, name: str) -> Model:
    """The model that a user means; a path that is not known yet is registered."""
    path = as_path(name)
    return library.registry.add(path) if path else library.registry.fresh(library.registry.resolve(name))


def hint(model: str, role: str) -> str:
    """How a new model is tried: one that writes texts by a chat, others by what they are asked over HTTP."""
    from uml.core.model import Role
    from uml.generation.kinds import KINDS

    told = next((told for known, told in KINDS.items() if known.value == role), KINDS[Role.TEXT])
    if told is KINDS[Role.TEXT]:
        return f"try it: uml run {model}"
    return f"it is {told[0]}; ask it at {told[1]} of uml serve"


@contextmanager
def shown(session: Session, title: str) -> Iterator[Tell]:
    """A function that takes the events of a work: a bar and notes for people, a line each with --json."""
    with install_bar(title, quiet=session.flags.json) as update:

        def tell(event: Mapping[str, Any]) -> None:
            if session.flags.json:
                render.emit(event)
            elif event["event"] == "warning":
                render.note(str(event["text"]))
            elif event["event"] == "progress":
                what = f"{event['of']}: " if event.get("of") not in (None, title) else ""
                update({**event, "text": f"{what}{event['text']}"})

        yield tell
