"""`uml inspect` and `uml estimate` of what is not here yet: from the header on the net, fetched by this process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from uml.cli import words
from uml.cli.progress import scan_bar
from uml.cli.result import Lines, Result, Table, View
from uml.cli.session import Session
from uml.core.errors import BadOption, BadRequest, DoesNotFit, ModelNotFound, UmlError
from uml.core.jsonable import jsonable
from uml.core.model import READERS, Model, ModelInfo, Role
from uml.core.quote import quoted
from uml.planning.estimate import companion_path
from uml.remote.names import HUGGING_FACE, HubName, UrlName, parse

if TYPE_CHECKING:
    from uml.house import Library
    from uml.remote.find import Remote, RemoteModel

_COMPANIONS = ("mmproj", "draft_model", "lora")
_MODELS = frozenset({Role.TEXT, *READERS, Role.UNKNOWN, Role.DRAFT})


def remote_name(session: Session, name: str) -> HubName | UrlName | None:
    """What a name means on the net; None for one of this machine. Raises BadRequest."""
    found = parse(name, os.environ.get("HF_ENDPOINT") or HUGGING_FACE)
    if isinstance(found, HubName) and not found.certain:
        # Ollama calls so what it downloaded.
        with session.library() as library:
            return None if library.is_known(name) else found
    return found


@contextmanager
def hinting(name: str) -> Iterator[None]:
    """Of OWNER/NAME that no model here is called, say how the repository is: nothing is asked of a hub by mistake."""
    try:
        yield
    except ModelNotFound as error:
        with suppress(BadRequest):
            if name.count("/") == 1 and parse(f"hf:{name}"):
                error.message += f"; the repository of that name is hf:{name}"
                error.args = (error.message,)
        raise


def inspect_remote(session: Session, name: HubName | UrlName) -> dict[str, Any]:
    """The ModelInfo of one model as JSON, or the list of several (`is_list`): then no header is read."""
    with _opened(session, name) as remote:
        if len(remote.models) > 1:
            return _listing(remote, [_row(model) for model in remote.models])
        found: dict[str, Any] = remote.told(jsonable(remote.inspect(remote.models[0])))
        return found


def estimate_remote(
    session: Session, name: HubName | UrlName | None, options: Mapping[str, object], model: str = ""
) -> dict[str, Any]:
    """The estimate of one model, or the list of several, each with its estimate for this machine.

    name: None where the `model` itself is here, and only what goes with it is on the net.
    """
    with session.library() as library, ExitStack() as stack:
        located, beside = _companions(session, options, stack)
        remote = stack.enter_context(_opened(session, name)) if name else None
        try:
            if remote is None:
                found = library.estimate(model, located)
            else:
                found = _estimates_of(session, library, remote, located)
        except BadOption as error:
            raise _as_typed(error, located, options) from None
        return _told(found, beside)


def names_the_net(options: Mapping[str, object]) -> bool:
    """Whether something that goes with a model is on the net. Raises BadRequest."""
    return any(_net_name(word) for option in _COMPANIONS for word in _words(options.get(option)))


def _net_name(word: str) -> HubName | UrlName | None:
    return parse(companion_path(word), os.environ.get("HF_ENDPOINT") or HUGGING_FACE)


def _words(value: object) -> list[str]:
    return [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str) and word]


def _companions(
    session: Session, options: Mapping[str, object], stack: ExitStack
) -> tuple[dict[str, object], list[Remote]]:
    """The options with copies of headers in place of names on the net, and what is open for it."""
    found = dict(options)
    opened: list[Remote] = []

    def located(option: str, word: str) -> str:
        path = companion_path(word)
        if (name := _net_name(word)) is None:
            return word
        remote = stack.enter_context(_opened(session, name))
        if len(remote.models) != 1:
            there = ", ".join(model.id for model in remote.models[:8])
            raise BadOption(option, word, f"the name of one file; it means several: {there}")
        opened.append(remote)
        # Its header is fetched by this; whoever opens the copy then finds it there.
        return f"{remote.inspect(remote.models[0]).path}{word[len(path) :]}"

    for option in _COMPANIONS:
        if words := _words(options.get(option)):
            told = [located(option, word) for word in words]
            found[option] = told if isinstance(options[option], list) else told[0]
    return found, opened


def _as_typed(error: BadOption, located: Mapping[str, object], typed: Mapping[str, object]) -> BadOption:
    """The error with what the user typed in place of the copy's path, which may be too long to be shown whole."""
    option = str(error.param).removeprefix("options.")
    for path, word in zip(_words(located.get(option)), _words(typed.get(option)), strict=True):
        if error.details["value"] in (path, quoted(path)):
            return BadOption(option, word, error.details["expected"])
    return error


def _told(found: dict[str, Any], remotes: Sequence[Remote]) -> dict[str, Any]:
    for remote in remotes:
        found = remote.told(found)
    return found


def _estimates_of(session: Session, library: Library, remote: Remote, options: Mapping[str, object]) -> dict[str, Any]:
    name = remote.name
    if len(remote.models) == 1:
        (model,) = remote.models
        found = library.estimate_model(_named(model, remote.inspect(model)), options)
        return {
            **remote.told(found),
            "size": model.size_bytes,
            "warnings": [*found["warnings"], *_elsewhere(session)],
        }
    rows = []
    with scan_bar(name.shown, quiet=session.flags.json) as looked:
        for done, (model, info) in enumerate(remote.inspect_all(), 1):
            looked(done, len(remote.models), model.path)
            rows.append(_estimated(library, remote, model, info, options))
    return _listing(remote, rows)


@contextmanager
def _opened(session: Session, name: HubName | UrlName) -> Iterator[Remote]:
    # Imported here: an HTTP library comes with it, which no other way through these commands needs.
    from uml.remote.find import opened
    from uml.remote.hub import Hub

    with opened(name, Hub.of(offline=session.settings.offline)) as remote:
        yield remote


def _named(model: RemoteModel, info: ModelInfo) -> Model:
    return Model(model.id, info, source="net")


def _row(model: RemoteModel) -> dict[str, Any]:
    return {"model": model.id, "quantization": model.label, "size": model.size_bytes}


def _estimated(
    library: Library, remote: Remote, model: RemoteModel, info: ModelInfo | UmlError, options: Mapping[str, object]
) -> dict[str, Any]:
    """A row of the list: the estimate, or why there is none."""
    row = _row(model)
    if isinstance(info, UmlError):
        return {**row, "fits": False, "error": info.as_dict()["error"]}
    if info.role not in _MODELS:
        return {**row, "fits": False, "role": info.role.value}
    try:
        # By arithmetic: asking the engine about each of twenty would take a minute.
        found = library.estimate_model(_named(model, info), options, ask=False)
    except DoesNotFit as error:
        return {**row, "fits": False, "needed": error.details["needed"], "free": error.details["free"]}
    except UmlError as error:
        remote.tell(error)
        return {**row, "fits": False, "error": error.as_dict()["error"]}
    return {**row, **remote.told(found)}


def _listing(remote: Remote, rows: list[dict[str, Any]]) -> dict[str, Any]:
    fitting = [row for row in rows if row.get("fits")]
    best = max(fitting, key=lambda row: int(row["size"]), default=None)
    return {
        "object": "list",
        "repository": remote.name.shown,
        "data": rows,
        "beside": list(remote.beside),
        "best": best["model"] if best else None,
    }


def _elsewhere(session: Session) -> list[str]:
    return [f"this is for this machine, not for that of {session.flags.server}"] if session.flags.server else []


def is_list(found: Mapping[str, Any]) -> bool:
    """Whether several models were meant."""
    return found.get("object") == "list"


def listed(found: Mapping[str, Any], command: str) -> Result:
    """A list of models for people."""
    rows = found["data"]
    estimated = any("fits" in row for row in rows)
    views: list[View] = [_estimates(rows) if estimated else _sizes(rows)]
    lines = []
    if found["beside"]:
        lines.append(f"beside them: {', '.join(found['beside'])}")
    needs = dict.fromkeys(str(row["needs"]) for row in rows if row.get("needs"))
    lines += [f"no engine that is installed runs them; {sentence}" for sentence in needs]
    if estimated and found["best"]:
        lines.append(f"the largest that fits here: {found['best']}")
    lines.append(f"one of them: uml {command} {found['best'] or rows[0]['model']}")
    return Result(found, (*views, Lines(tuple(lines))))


def _sizes(rows: list[Mapping[str, Any]]) -> Table:
    cells = tuple((str(row["quantization"]), words.size(row["size"])) for row in rows)
    return Table(("MODEL", "SIZE"), cells, frozenset({"SIZE"}))


def _estimates(rows: list[Mapping[str, Any]]) -> Table:
    cells = []
    for row in rows:
        total, options = row.get("total") or {}, row.get("options") or {}
        memory = total.get("likely") or row.get("needed")
        cells.append(
            (
                str(row["quantization"]),
                words.size(row["size"]),
                words.size(memory) if memory else "",
                words.plain(options.get("ctx")),
                "yes" if row["fits"] else "no",
                _why(row),
            )
        )
    return Table(
        ("MODEL", "SIZE", "MEMORY", "CONTEXT", "FITS", "WHERE OR WHY NOT"),
        tuple(cells),
        frozenset({"SIZE", "MEMORY", "CONTEXT"}),
    )


def _why(row: Mapping[str, Any]) -> str:
    if error := row.get("error"):
        return str(error["message"])
    if "free" in row:
        return f"{words.size(row['free'])} are free"
    if role := row.get("role"):
        return f"is no model: {role}"
    places = (row.get("placement") or {}).get("device_bytes") or {}
    if not places:
        return str(row.get("reason") or "")
    return ", ".join(f"{device} {words.size(held)}" for device, held in places.items())
