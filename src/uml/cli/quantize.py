"""`uml quantize`: the same model in smaller files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from uml.cli import complete, render, words
from uml.cli.command import command
from uml.cli.names import as_path, expanded
from uml.cli.progress import install_bar
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.core.errors import Cancelled

Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Id, alias or path of a GGUF model", autocompletion=complete.models, show_default=False
    ),
]


@command(server=False)
def quantize(
    session: Session,
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="KINDS", help="Kinds of file, with commas: q4_k_m,q8_0")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where the files go; without, models in the data folder"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=1024, help="Cores to use; without, all")
    ] = None,
) -> Result | None:
    """Make smaller files of a GGUF model, one for each kind.

    Kinds: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, q5_k_s, q5_k_m,
    q6_k. Which tensor is kept how is what llama.cpp's own quantizer does without an importance matrix, and so is the
    code that packs. Parts of a split model become one file.

    The new models are in `uml ls` afterwards. The old one stays as it is. Nothing is left of a file that fails or is
    stopped; those that were made before it stay. With --json every step is one line.
    """
    from uml.engines.llamacpp.mixture import KINDS
    from uml.runtime.conversions import quantize as work

    kinds = _kinds(to, KINDS)
    with session.library() as library:
        path = as_path(name)
        model = library.registry.add(path) if path else library.registry.fresh(library.registry.resolve(name))
        work.check(model.id, model.info)
        if warned := work.warning(model.info):
            render.emit({"event": "warning", "text": warned}) if session.flags.json else render.note(warned)
        folder = expanded(out).absolute() if out else library.settings.data / "models"
        cores = threads or _cores()
        made: list[dict[str, Any]] = []
        for kind in kinds:
            place = folder / f"{_stem(model.info.path)}-{kind}.gguf"
            order = work.Order(model.id, model.info, kind, place, cores)
            with install_bar(f"{model.id} to {kind}", quiet=session.flags.json) as update:

                def tell(making: Any, kind: str = kind, update: Any = update) -> None:
                    event = {"event": "progress", "kind": kind, "text": making.text, "percent": making.percent}
                    render.emit(event) if session.flags.json else update(event)

                try:
                    work.quantize(order, tell)
                except KeyboardInterrupt:
                    raise Cancelled(f"{kind} of {model.id} was stopped, and nothing of it is left") from None
            new = library.registry.add(place)
            done = {"kind": kind, "model": new.id, "path": str(place), "size": new.info.size_bytes}
            made.append(done)
            if session.flags.json:
                render.emit({"event": "made", **done})
    result = {"event": "ready", "from": {"model": model.id, "size": model.info.size_bytes}, "made": made}
    if session.flags.json:
        render.emit(result)
        return None
    return said(result, *(_told(done, model.info.size_bytes) for done in made), f"try it: uml run {made[0]['model']}")


def _kinds(text: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """The kinds that were asked for, each once, in capitals. Raises BadParameter."""
    kinds = tuple(dict.fromkeys(word.strip().upper() for word in text.split(",") if word.strip()))
    unknown = [kind for kind in kinds if kind not in known]
    if unknown or not kinds:
        raise typer.BadParameter(
            f"--to is {text!r}; expected one or several of {', '.join(kind.lower() for kind in known)}"
        )
    return kinds


def _stem(path: Path) -> str:
    """What the new files' names begin with: that of the source, without its part and kind."""
    from uml.formats.gguf import PartName
    from uml.registry.names import unquantized

    part = PartName.of(path)
    return unquantized(part.stem if part else path.stem)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _told(done: Mapping[str, Any], before: int) -> str:
    size = done["size"]
    share = f"{100 * size / before:.0f} % of {words.size(before)}"
    return f"{done['model']} is in {done['path']} ({words.size(size)}, {share})"
