"""Names of models for the shell; silent whatever happens, the shell is waiting."""

from __future__ import annotations

import sqlite3

from uml.cli.session import Flags, Session
from uml.core.errors import UmlError


def models(incomplete: str) -> list[str]:
    """Ids and aliases that begin with what has been typed; paths are the shell's own business."""
    try:
        # Imported here: it is for this moment only. The registry's file is read, nothing is scanned.
        from uml.registry import PACKAGE, Registry

        database = Session(Flags()).settings.data / "registry.sqlite"
        if not database.exists():  # pressing a key makes no files
            return [name for name in PACKAGE if name.startswith(incomplete)]
        with Registry(database) as registry:
            known = [name for model in registry.models() for name in (model.id, *model.aliases)]
    except (UmlError, OSError, sqlite3.Error):
        return []
    return [name for name in known if name.startswith(incomplete)]


def engines(incomplete: str) -> list[str]:
    """Engines that can be installed."""
    from uml.engines.recipes import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


def installs(incomplete: str) -> list[str]:
    """Installs that there are."""
    try:
        from uml.runtime.installs import Installs

        shelf = Installs(Session(Flags()).settings.data / "engines")
        known = [install.name for engine in shelf.engines() for install in shelf.all(engine)]
    except (UmlError, OSError):
        return []
    return [name for name in known if name.startswith(incomplete)]
