"""The way in. Thin on purpose: typer alone takes longer to import than `uml version` may take in all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from uml import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code; the table of codes is in `uml.cli.exits`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The shell asks for completions through a variable, whatever the arguments are.
    if given in (["version"], ["--version"]) and "_UML_COMPLETE" not in os.environ:
        sys.stdout.write(f"uml {__version__}\n")
        return 0
    try:
        from uml.cli.app import run

        return run(given)
    except KeyboardInterrupt:  # while this program is still being read from the disk
        return 130
