"""Plug-ins: packages of others that add engines, formats, samplers, processors and commands.

A package names a module under the entry points `uml.plugins`; the module marks functions with `hookimpl`:

    from uml.plugins import hookimpl

    @hookimpl
    def register_engines():
        return [MyEngine()]

`hooks.py` has every hook. A plug-in that cannot be imported, raises or hangs is reported (`uml plugin ls`, the
server's log) and left out; everything else goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pluggy

    hookspec: pluggy.HookspecMarker
    hookimpl: pluggy.HookimplMarker

GROUP: Final = "uml.plugins"
"""The entry points that name plug-ins."""

__all__ = ["GROUP", "hookimpl", "hookspec"]


def __getattr__(name: str) -> Any:
    """The marks, made when a plug-in asks for them: whoever has no plug-in does not wait for pluggy."""
    if name not in ("hookimpl", "hookspec"):
        raise AttributeError(name)
    import pluggy

    return (pluggy.HookimplMarker if name == "hookimpl" else pluggy.HookspecMarker)("uml")
