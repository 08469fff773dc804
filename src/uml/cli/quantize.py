"""`uml quantize`: the same model in smaller files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uml.cli import complete, render, words
from uml.cli.command import command
from uml.cli.names import as_path, expanded
from uml.cli.progress import install_bar
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.core.errors import Cancelled

if TYPE_CHECKING:
    from uml.core.model import Model
    from uml.runtime.conversions.workshop import Making

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
    perplexity: Annotated[
        Path | None,
        typer.Option("--perplexity", metavar="TEXTFILE", help="Let the old and the new models read this text"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=1024, help="Cores to use; without, all")
    ] = None,
) -> Result | None:
    """Make smaller files of a GGUF model, one for each kind.

    Kinds: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, q5_k_s, q5_k_m,
    q6_k. Which tensor is kept how is what llama.cpp's own quantizer does without an importance matrix, and so is the
    code that packs. Parts of a split model become one file.

    --perplexity says how surprised the old and each new model is by a text, of which it needs some pages in the form
    that the model is used with: lower is better, and only numbers of the same text compare. It is read in windows of
    512 tokens, whose second halves count, on the processor.

    The new models are in `uml ls` afterwards. The old one stays as it is. Nothing is left of a file that fails or is
    stopped; those that were made before it stay. With --json every step is one line.
    """
    from uml.engines.llamacpp.mixture import KINDS
    from uml.runtime.conversions import perplexity as reading
    from uml.runtime.conversions import quantize as work

    kinds = _kinds(to, KINDS)
    text = expanded(perplexity).absolute() if perplexity else None
    cores = threads or _cores()
    with session.library() as library:
        path = as_path(name)
        model = library.registry.add(path) if path else library.registry.fresh(library.registry.resolve(name))
        work.check(model.id, model.info)
        if text:
            reading.check(text)
        if warned := work.warning(model.info):
            _warn(session, warned)
        folder = expanded(out).absolute() if out else library.settings.data / "models"
        source = {"model": model.id, "size": model.info.size_bytes, **_read(session, model, text, cores)}
        made: list[dict[str, Any]] = []
        for kind in kinds:
            place = folder / f"{_stem(model.info.path)}-{kind}.gguf"
            order = work.Order(model.id, model.info, kind, place, cores)
            try:
                with _telling(session, f"{model.id} to {kind}") as tell:
                    work.quantize(order, tell)
            except KeyboardInterrupt:
                raise Cancelled(f"{kind} of {model.id} was stopped, and nothing of it is left") from None
            new = library.registry.add(place)
            done = {"kind": kind, "model": new.id, "path": str(place), "size": new.info.size_bytes}
            made.append(done | _read(session, new, text, cores))
            if session.flags.json:
                render.emit({"event": "made", **made[-1]})
    result = {"event": "ready", "from": source, "made": made}
    if session.flags.json:
        render.emit(result)
        return None
    return said(result, *(_told(done, source) for done in made), f"try it: uml run {made[0]['model']}")


def _read(session: Session, model: Model, text: Path | None, cores: int) -> dict[str, Any]:
    """The perplexity of one model, for its line; nothing where none was asked for or it could not be had."""
    from uml.runtime.conversions import perplexity as reading

    if text is None:
        return {}
    try:
        with _telling(session, model.id) as tell:
            found = reading.measure(model.info, text, cores, tell)
    except reading.NotMeasured as error:
        _warn(session, f"the perplexity of {model.id} could not be measured: {error}")
        return {"perplexity": None}
    except KeyboardInterrupt:
        raise Cancelled(f"measuring {model.id} was stopped; files that were made are still there") from None
    return {"perplexity": found.value, "tokens": found.tokens}


@contextmanager
def _telling(session: Session, what: str) -> Iterator[Callable[[Making], None]]:
    """A function that shows how far it is: a bar, or a line of JSON."""
    with install_bar(what, quiet=session.flags.json) as update:

        def tell(making: Making) -> None:
            event = {"event": "progress", "of": what, "text": making.text, "percent": making.percent}
            render.emit(event) if session.flags.json else update(event)

        yield tell


def _warn(session: Session, text: str) -> None:
    render.emit({"event": "warning", "text": text}) if session.flags.json else render.note(text)


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


def _told(done: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    size, before = done["size"], source["size"]
    facts = f"{words.size(size)}, {100 * size / before:.0f} % of {words.size(before)}"
    if done.get("perplexity") and source.get("perplexity"):
        facts += f"; perplexity {done['perplexity']:.4g}, before {source['perplexity']:.4g}"
    return f"{done['model']} is in {done['path']} ({facts})"
