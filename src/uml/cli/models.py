"""`uml ls`, `scan`, `inspect` and `estimate`: what is on disk and what it takes. A server is used where one runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from uml.cli import words
from uml.cli.abilities import ability_views, choice_views
from uml.cli.arguments import model_argument
from uml.cli.command import command
from uml.cli.names import as_path, expanded
from uml.cli.progress import scan_bar
from uml.cli.remote import estimate_remote, hinting, inspect_remote, is_list, listed, names_the_net, remote_name
from uml.cli.result import Facts, Lines, Result, Table, View, facts
from uml.cli.session import Session
from uml.core.jsonable import jsonable

RemoteName = Annotated[str, model_argument("Id, alias or path of a model; a URL, or hf:OWNER/NAME")]


@command()
def ls(session: Session) -> Result:
    """List the models there are, loaded or not.

    Without a server all known folders are looked through first, and what other programs keep: the Hugging
    Face cache, LM Studio, Ollama. A server does that when it starts; `uml scan` lets it look again.
    """
    if client := session.find_client():
        with client:
            found = client.models()
    else:
        with session.library() as library:
            with scan_bar("looking for models", quiet=session.flags.json) as looked:
                library.registry.rescan(library.settings.model_folders, looked)
            found = [library.describe(model) for model in library.registry.models()]
    table = Table(
        ("MODEL", "FORMAT", "QUANTIZATION", "PARAMETERS", "SIZE", "CONTEXT", "ROLE", "STATE"),
        tuple(_row(model) for model in found),
        frozenset({"PARAMETERS", "SIZE", "CONTEXT"}),
        empty="no model is known yet; look through a folder with: uml scan FOLDER",
    )
    return Result({"object": "list", "data": found}, (table,))


def _row(model: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(model["id"]),
        str(model.get("format") or ""),
        str(model.get("quantization") or ""),
        words.count(model.get("parameters")),
        words.size(model.get("size")),
        words.plain(model.get("context_length")),
        str(model.get("role") or ""),
        str(model.get("state") or ""),
    )


@command()
def scan(
    session: Session,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="A folder with models; without, all known ones", show_default=False),
    ] = None,
) -> Result:
    """Add a folder with models, and look through it.

    Later scans, and the server's start, look through it again. Without FOLDER all folders that were added are
    looked through, and what other programs keep: the Hugging Face cache, LM Studio, Ollama.
    """
    place = expanded(folder).absolute() if folder else None
    title = str(place or "all folders")
    if session.flags.server and (client := session.find_client()):
        with client:
            report = client.scan(place)
    else:
        # A server of this data folder reads the same registry: no need to ask it, and here a bar can be shown.
        with session.library() as library, scan_bar(title, quiet=session.flags.json) as looked:
            registry, others = library.registry, library.settings.model_folders
            report = jsonable(registry.scan(place, looked) if place else registry.rescan(others, looked))
    return Result(report, _scanned(title, report))


def _scanned(place: str, report: Mapping[str, Any]) -> tuple[View, ...]:
    def ids(kind: str) -> list[Any]:
        found = report.get(kind)
        return found if isinstance(found, list) else []

    counts = [f"{len(ids(kind))} {kind}" for kind in ("added", "changed", "moved", "vanished") if ids(kind)]
    lines = [f"{place}: {', '.join(counts) or 'nothing new'}; {len(ids('unchanged'))} known already"]
    lines += [f"  {kind}: {name}" for kind in ("added", "changed", "moved", "vanished") for name in ids(kind)]
    views: list[View] = [Lines(tuple(lines))]
    if unreadable := ids("unreadable"):
        # The sentence of an error begins with the file that it is about.
        rows = tuple((str(path), str(why).removeprefix(f"{path}: ")) for path, why in unreadable)
        views.append(Table(("FILE", "WHY"), rows, title=f"{len(rows)} could not be read"))
    return tuple(views)


@command()
def inspect(
    session: Session,
    model: RemoteName,
    metadata: Annotated[bool, typer.Option("--metadata", help="Show the header's values too")] = False,
    capabilities: Annotated[
        bool, typer.Option("--capabilities", help="Show what it can do on its engine: abilities, parameters, options")
    ] = False,
    needs: Annotated[
        str,
        typer.Option(
            "--needs", metavar="NAMES", help="Put the engines in order by what is needed: json_schema,lora,vision,..."
        ),
    ] = "",
) -> Result:
    """Tell what a model, or any file or folder, is, and which engine runs it; nothing is loaded or added.

    Of a URL, or a repository of Hugging Face, only the headers are fetched. hf:OWNER/NAME lists what is in it.
    """
    if remote := remote_name(session, model):
        found = inspect_remote(session, remote)
        return listed(found, "inspect") if is_list(found) else Result(found, _inspected(found, metadata))
    path = as_path(model)
    name = str(path) if path else model
    with hinting(model):
        if client := session.find_client():
            with client:
                found, able = client.inspect(name), client.capabilities(name, needs)
        else:
            with session.library() as library:
                found, able = jsonable(library.inspect(name)), library.capabilities(library.look(name), needs=needs)
    shown = able if capabilities else {key: able.get(key) for key in ("engine", "installed", "reason", "engines")}
    views = (*_inspected(found, metadata), *choice_views(able), *(ability_views(able) if capabilities else ()))
    return Result({**found, "runs_on": shown}, views)


def _inspected(found: Mapping[str, Any], metadata: bool) -> tuple[View, ...]:
    quantization = found.get("quantization") or {}
    shape = found.get("shape") or {}
    files = found.get("files") or []
    bits = quantization.get("bits")
    template = found.get("chat_template")
    views: list[View] = [
        facts(
            [
                ("name", found.get("name")),
                ("path", found.get("path")),
                ("format", found.get("version") or found.get("format")),
                ("why", f"{found.get('reason')} ({float(found.get('confidence') or 0):.0%} sure)"),
                ("role", found.get("role")),
                ("architecture", found.get("architecture")),
                ("quantization", _quantization(quantization.get("label"), bits)),
                ("parameters", words.count(found.get("parameters"))),
                ("size", words.size(found.get("size_bytes"))),
                ("files", len(files) if len(files) > 1 else None),
                ("context", found.get("context_length")),
                ("layers", shape.get("layers")),
                ("vocabulary", shape.get("vocabulary")),
                ("chat template", f"{len(template)} characters" if template else "none"),
            ]
        )
    ]
    if weights := found.get("weight_bytes"):
        rows = tuple((kind, words.size(count)) for kind, count in sorted(weights.items(), key=lambda item: -item[1]))
        views.append(Table(("WEIGHTS", "SIZE"), rows, frozenset({"SIZE"})))
    if notes := found.get("notes"):
        views.append(Lines(tuple(f"note: {text}" for text in notes)))
    if metadata:
        views.append(Facts(tuple((k, str(v)) for k, v in (found.get("metadata") or {}).items()), title="Header"))
    return tuple(views)


def _quantization(label: object, bits: object) -> str:
    about = f" ({bits:.2f} bits a weight)" if isinstance(bits, int | float) else ""
    return f"{label}{about}" if label else ""


@command(load_options=True)
def estimate(session: Session, model: RemoteName, options: dict[str, Any]) -> Result:
    """Tell how much memory a load takes, part by part, and whether it fits; nothing is started.

    Of a URL, or a repository of Hugging Face, only the headers are fetched. hf:OWNER/NAME tells of every GGUF
    file in it, hf:OWNER/NAME:Q4_K_M of one; HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are heeded. Of a model that
    no engine here runs (safetensors, GPTQ, AWQ, EXL2, EXL3, ONNX), it tells what the engine that does would take.
    What goes with a model (--mmproj, --lora, --draft-model) may be on the net as well.
    """
    remote = remote_name(session, model)
    name = str(as_path(model) or model)
    if remote or names_the_net(options):
        found = estimate_remote(session, remote, options, name)
        return listed(found, "estimate") if is_list(found) else Result(found, _estimated(found))
    with hinting(model):
        if client := session.find_client():
            with client:
                found = client.estimate(name, options)
        else:
            with session.library() as library:
                found = library.estimate(name, options)
    return Result(found, _estimated(found))


def _estimated(found: Mapping[str, Any]) -> tuple[View, ...]:
    total = found.get("total") or {}
    placement = found.get("placement") or {}
    options = found.get("options") or {}
    places = placement.get("device_bytes") or {}
    layers = placement.get("layers")
    parts = [(name.replace("_", " "), words.size(count) or "0") for name, count in (found.get("parts") or {}).items()]
    # The last part is the sum of small things: each on a line of its own.
    parts += [(f"  {name.replace('_', ' ')}", words.size(count)) for name, count in _rest(found)]
    on_gpus = f", {placement.get('gpu_layers')} of {layers} layers on GPUs" if placement.get("gpu_layers") else ""
    warnings = tuple(f"warning: {text}" for text in found.get("warnings") or ())
    return (
        Table(("PART", "SIZE"), (*parts, ("total", words.size(total.get("likely")))), frozenset({"SIZE"})),
        facts(
            [
                ("range", f"{words.size(total.get('low'))} to {words.size(total.get('high'))}"),
                ("found by", _found_by(found)),
                *_resident(found.get("resident") or {}),
                ("engine", found.get("engine") or f"none installed; {found.get('needs')}"),
                ("context", _context(options.get("ctx"), options.get("parallel"))),
                ("fits", "yes" if found.get("fits") else "no"),
                ("where", ", ".join(f"{name} {words.size(held)}" for name, held in places.items()) + on_gpus),
                ("because", found.get("reason")),
            ]
        ),
        *((Lines(warnings),) if warnings else ()),
    )


def _rest(found: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What the other part is made of, where there is more to tell than its sum."""
    said = found.get("other_parts") or {}
    return sorted(said.items(), key=lambda part: -part[1])


def _resident(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Resident in memory before and after the first use; mapped pages, which the system may take back, apart."""
    rows = []
    for when, title in (("loaded", "once loaded"), ("used", "once used")):
        held = found.get(when) or {}
        if held:
            mapped = f" and {words.size(held['mapped'])} of mapped file" if held["mapped"] else ""
            rows.append((title, f"{words.size(held['own'])} of its own{mapped}"))
    return rows


def _found_by(found: Mapping[str, Any]) -> str:
    method, source = str(found.get("method") or ""), found.get("source")
    return f"{method}: {source}" if source else method


def _context(ctx: object, parallel: object) -> str:
    return f"{ctx} tokens" if parallel == 1 else f"{ctx} tokens for each of {parallel} requests"
