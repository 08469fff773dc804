"""`uml quantize`: the same model in smaller files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from uml.cli import making, render, words
from uml.cli.arguments import model_argument
from uml.cli.command import command
from uml.cli.names import expanded, name_for
from uml.cli.progress import followed
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.core.errors import Cancelled

Name = Annotated[str, model_argument("Id, alias or path of a GGUF model")]


@command()
def quantize(
    session: Session,
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="KINDS", help="Kinds of file, with commas: q4_k_m,q8_0")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where the files go; without, models in the data folder"),
    ] = None,
    imatrix: Annotated[
        Path | None,
        typer.Option("--imatrix", metavar="FILE", help="Which columns matter most, as llama.cpp's llama-imatrix says"),
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
    q6_k, iq4_nl, iq4_xs, iq3_m, iq3_s; with --imatrix also iq3_xs, iq3_xxs, iq2_m, iq2_s, iq2_xs, iq2_xxs, iq1_m,
    iq1_s, q2_k_s. Which tensor is kept how is what llama.cpp's own quantizer does, and so is the code that packs.
    Parts of a split model become one file.

    --perplexity says how surprised the old and each new model is by a text, of which it needs some pages in the form
    that the model is used with: lower is better, and only numbers of the same text compare. It is read in windows of
    512 tokens, whose second halves count, on the processor.

    The new models are in `uml ls` afterwards. The old one stays as it is. Nothing is left of a file that fails or is
    stopped; those that were made before it stay. With --json every step is one line. With --server it is done there:
    --imatrix is then a file of that machine, and the files go into its data folder.
    """
    wish = _Wish(
        tuple(to.split(",")),
        out,
        expanded(imatrix).absolute() if imatrix else None,
        expanded(perplexity).absolute() if perplexity else None,
        threads or 0,
    )
    with making.shown(session, "quantize") as tell:
        try:
            done = (_there if session.flags.server else _here)(session, name, wish, tell)
        except KeyboardInterrupt:
            raise Cancelled(
                f"quantizing {name} was stopped: nothing of it is left but files that were whole by then"
            ) from None
    result = {"event": "ready", **done}
    if session.flags.json:
        render.emit(result)
        return None
    made = done["made"]
    hint = making.hint(made[0]["model"], made[0].get("role", ""))
    return said(result, *(_told(one, done["from"]) for one in made), hint)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for; see `quantize`."""

    kinds: tuple[str, ...]
    out: Path | None
    matrix: Path | None
    text: Path | None
    threads: int


def _here(session: Session, name: str, wish: _Wish, tell: making.Tell) -> dict[str, Any]:
    from uml import workbench

    kinds = workbench.kinds_of(wish.kinds, matrix=wish.matrix is not None)
    folder = expanded(wish.out).absolute() if wish.out else None
    with session.library() as library:
        order = workbench.Quantizing(kinds, folder, wish.text, wish.matrix, wish.threads)
        return workbench.quantized(library, making.source(library, name), order, tell)


def _there(session: Session, name: str, wish: _Wish, tell: making.Tell) -> dict[str, Any]:
    from uml.runtime.conversions import perplexity

    if wish.out:
        raise typer.BadParameter("--out means nothing with --server: the files go into its data folder")
    if wish.text:
        perplexity.check(wish.text)
    text = wish.text.read_text("utf-8") if wish.text else None
    matrix = str(wish.matrix) if wish.matrix else None
    with session.client() as client:
        name = name_for(client, name)
        return followed(client.quantize(name, wish.kinds, matrix=matrix, text=text, threads=wish.threads), tell)


def _told(done: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    size, before = done["size"], source["size"]
    facts = f"{words.size(size)}, {100 * size / before:.0f} % of {words.size(before)}"
    if done.get("perplexity") and source.get("perplexity"):
        facts += f"; perplexity {done['perplexity']:.4g}, before {source['perplexity']:.4g}"
    return f"{done['model']} is in {done['path']} ({facts})"
