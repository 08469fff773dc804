"""`uml load`, `unload` and `ps`: what a server has in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from uml.cli import render, words
from uml.cli.arguments import Model, model_argument
from uml.cli.command import command
from uml.cli.names import name_for
from uml.cli.progress import load_bar
from uml.cli.result import Result, Table, said
from uml.cli.session import Session
from uml.core.errors import Cancelled


@command(load_options=True)
def load(
    session: Session,
    model: Model,
    options: dict[str, Any],
) -> Result | None:
    """Load a model into the running server, and wait until it is ready.

    Ctrl-C cancels the load. With --json every step of the load is one line.
    """
    with session.client() as client:
        name = name_for(client, model)
        last: dict[str, Any] = {}
        with load_bar(name, quiet=session.flags.json) as update:
            events = client.load(name, options)
            try:
                for event in events:
                    last = event
                    if session.flags.json:
                        render.emit(event)
                    else:
                        update(event)
            except KeyboardInterrupt:
                events.close()  # type: ignore[attr-defined]  # it is a generator; the closed stream cancels the load
                raise Cancelled(f"the load of {name} was cancelled") from None
    if session.flags.json:
        return None
    warn(last)
    return said(last, _ready(name, last))


def warn(ready: Mapping[str, Any]) -> None:
    """What the plan of a load warned of."""
    for warning in ready.get("warnings") or ():
        render.note(f"warning: {warning}")


def _ready(name: str, event: Mapping[str, Any]) -> str:
    facts = [
        str(event.get("engine") or ""),
        f"context {event['context_length']}" if event.get("context_length") else "",
        words.size(event.get("memory_bytes") or event.get("estimated_bytes")),
        words.seconds(event["load_s"]) if event.get("load_s") else "",
        f"{event['restored_tokens']} tokens of earlier conversations" if event.get("restored_tokens") else "",
    ]
    told = ", ".join(fact for fact in facts if fact)
    return f"{name} is ready" + (f" ({told})" if told else "")


@command()
def unload(
    session: Session,
    model: Annotated[str | None, model_argument("Id or alias of a model")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Unload every model")] = False,
) -> Result:
    """Unload a model, or all of them; their memory comes back."""
    if (model is None) != everything:
        raise typer.BadParameter("give a MODEL or --all, one of them")
    with session.client() as client:
        done = client.unload(name_for(client, model) if model else None)
    gone = done.get("unloaded")
    names = ", ".join(str(name) for name in gone) if isinstance(gone, list) else (model or "all models")
    return said(done, f"unloaded: {names}" if names else "nothing was loaded")


COLUMNS: Final = (
    *("MODEL", "ENGINE", "STATE", "PID", "DEVICE", "PREDICTED", "MEASURED", "RESIDENT"),
    *("CONTEXT", "BUSY", "WAITING", "IDLE", "RESTORED"),
)
NUMERIC: Final = frozenset(COLUMNS[COLUMNS.index("PREDICTED") :]) | {"PID"}


@command()
def ps(session: Session) -> Result:
    """Show loaded models, what they take and what they are doing.

    PREDICTED is what the plan said; MEASURED, to be compared with it, what the load really needs once in use;
    RESIDENT what the process holds at this moment.
    """
    with session.client() as client:
        status = client.status()
    workers = [item for item in status.get("workers", ()) if isinstance(item, Mapping)]
    queue = [item for item in status.get("queue", ()) if isinstance(item, Mapping)]
    views = [Table(COLUMNS, tuple(map(_worker, workers)), NUMERIC, empty="no model is loaded")]
    if chosen := [_choice(worker) for worker in workers if worker.get("choice")]:
        views.append(Table(("MODEL", "ENGINE", "CHOSEN"), tuple(chosen), title="Why they run on what they do"))
    if reasons := [(str(worker.get("model", "")), _why(worker)) for worker in workers if worker.get("reason")]:
        views.append(Table(("MODEL", "PLACED"), tuple(reasons), title="Why they are where they are"))
    if failures := [_failure(worker) for worker in workers if worker.get("state") == "failed"]:
        views.append(Table(("MODEL", "WHAT WENT WRONG", "COMES BACK"), tuple(failures), title="Failed"))
    if noted := [
        (str(worker.get("model", "")), str(said)) for worker in workers for said in worker.get("warnings", ())
    ]:
        views.append(Table(("MODEL", "WARNING"), tuple(noted), title="Warnings"))
    if queue:
        views.append(
            Table(("PLACE", "MODEL", "WAITS FOR", "SINCE"), tuple(map(_place, queue)), _PLACES, title="Waiting")
        )
    if absent := [_absent(item) for item in status.get("absent", ()) if isinstance(item, Mapping)]:
        views.append(Table(("MODEL", "KEPT", "WHY IT IS NOT THERE"), tuple(absent), title="To be loaded"))
    return Result(status, tuple(views))


_PLACES: Final = frozenset({"PLACE", "SINCE"})


def _place(waiting: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(waiting.get("position", "")),
        str(waiting.get("model", "")),
        str(waiting.get("reason") or waiting.get("waits_for", "")),
        words.seconds(waiting.get("waited_s")),
    )


def _absent(wish: Mapping[str, Any]) -> tuple[str, str, str]:
    error = wish.get("error")
    reason = str(error.get("message", "")) if isinstance(error, Mapping) else "others come before it"
    return str(wish.get("model", "")), str(wish.get("kept", "")), reason


def _choice(worker: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(worker.get("model", "")), str(worker.get("engine", "")), str(worker["choice"])


def _why(worker: Mapping[str, Any]) -> str:
    """Why it was placed so, and how well its memory was foretold."""
    predicted, measured, peak = (worker.get(f"{name}_bytes") or 0 for name in ("estimated", "measured", "peak"))
    facts = [str(worker.get("reason"))]
    if predicted and measured:
        off = predicted / measured - 1
        facts.append(f"its estimate ({worker.get('method')}) was {abs(off):.1%} {'over' if off > 0 else 'under'}")
    if peak:
        facts.append(f"at most {words.size(peak)} while loading")
    if why := worker.get("not_saved"):
        facts.append(f"its conversations are not saved: {why}")
    return "; ".join(facts)


def _failure(worker: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a model's last end was, and what brings it back."""
    model, error, pause_s = str(worker.get("model", "")), worker.get("error"), worker.get("retry_in_s")
    reason = str(error.get("message", "")) if isinstance(error, Mapping) else ""
    if pause_s is None:
        return model, reason, f"by: uml load {model}"
    return model, reason, f"with a request, in {words.seconds(pause_s)}" if pause_s else "with the next request"


def _worker(worker: Mapping[str, Any]) -> tuple[str, ...]:
    state = str(worker.get("state", ""))
    progress = worker.get("progress")
    if state in ("converting", "starting", "loading") and isinstance(progress, int | float) and progress:
        state += f" {progress:.0f} %"
    elif worker.get("kept"):
        state += f", {worker['kept']}"
    busy = worker.get("in_flight", 0)
    return (
        str(worker.get("model", "")),
        str(worker.get("engine", "")),
        state,
        words.plain(worker.get("pid")),
        str(worker.get("device", "")),
        words.size(worker.get("estimated_bytes")),
        words.size(worker.get("measured_bytes")),
        words.size(worker.get("memory_bytes")),
        words.plain(worker.get("context_length")),
        f"{busy}/{worker.get('slots', 1)}",
        str(worker.get("queued", 0)),
        "" if busy or state == "failed" else words.seconds(worker.get("idle_s")),
        f"{restored} tokens" if (restored := worker.get("restored_tokens")) else "",
    )
