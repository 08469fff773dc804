"""`uml version`."""

from __future__ import annotations

import platform

from uml import __version__
from uml.cli.command import command
from uml.cli.result import Result, said
from uml.cli.session import Session


@command(server=False)
def version(session: Session) -> Result:
    """Print the version."""
    data = {"name": "uml", "version": __version__, "python": platform.python_version()}
    return said(data, f"uml {__version__}")
