"""The argument that most commands take: which model."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from uml.cli import complete


def model_argument(help: str = "Id, alias or path of a model", metavar: str = "MODEL") -> Any:
    """A model by name, completed by the shell."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=complete.models, show_default=False)


MODEL: Final = model_argument()
Model = Annotated[str, MODEL]
