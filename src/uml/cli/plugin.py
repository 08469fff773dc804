"""`uml plugin ls`: what plug-ins there are, and what they add; and the commands that they bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uml.cli.command import command, group
from uml.cli.result import Lines, Result, Table, View
from uml.cli.session import Session

plugin = group(
    "plugin",
    "This program",
    "Plug-ins: packages of others that add engines, formats, samplers, processors and commands.",
)


@plugin.callback()
def _group() -> None:
    # Without it typer takes the only command for the group itself.
    pass


@plugin.command("ls")
@command()
def plugin_ls(session: Session) -> Result:
    """List plug-ins, what each adds, and why one is left out.

    A plug-in is a Python package that is installed beside this one, with entry points `uml.plugins`; the setting
    `plugins` switches all of them off.
    """
    if client := session.find_client():
        with client:
            found = client.plugins()
    elif session.settings.plugins:
        # Imported here, and every plug-in with it.
        from uml.core.jsonable import jsonable
        from uml.engines import builtin
        from uml.plugins.load import load

        found = {"plugins": jsonable(load(builtin()).found)}
    else:
        found = {"plugins": []}
    return Result(found, _views(found))


def _views(found: Mapping[str, Any]) -> tuple[View, ...]:
    plugins = found.get("plugins") or []
    rows = tuple(
        (
            str(one["name"]),
            f"{one['package']} {one['version']}".strip(),
            str(one["state"]),
            "; ".join(f"{hook.removeprefix('register_')}: {', '.join(names)}" for hook, names in one["adds"].items()),
        )
        for one in plugins
    )
    table = Table(("PLUG-IN", "PACKAGE", "STATE", "ADDS"), rows, empty="no plug-in is installed")
    left_out = tuple(f"{one['name']} is left out: {one['says']}" for one in plugins if one["state"] != "ready")
    return (table, Lines(left_out)) if left_out else (table,)


def commands_of_plugins() -> Mapping[str, Any]:
    """The commands that plug-ins bring, by name; empty where the setting says so, or where it cannot be read."""
    from uml.config import Settings
    from uml.core.errors import UmlError
    from uml.plugins.load import load

    try:
        wanted = Settings.load({}).plugins
    except UmlError:
        return {}  # the command that is run will say it
    return load().commands if wanted else {}
