"""`uml wordchain`: makes a model of a text. `@command` adds the common flags, and shows errors as all commands do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uml.cli.command import command
from uml.cli.result import Result, said
from uml.cli.session import Session
from uml.core.errors import BadFile
from uml_wordchain.format import MARK


@command(server=False)
def wordchain(
    session: Session,
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="A text in UTF-8")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The model to write")],
) -> Result:
    """Make a model of a text, for the engine wordchain."""
    try:
        content = text.read_bytes()
        out.write_bytes(MARK + content)
    except OSError as error:
        raise BadFile(text, error.strerror or str(error)) from error
    return said({"path": str(out), "bytes": len(content)}, f"wrote {out}; try: uml run {out}")
