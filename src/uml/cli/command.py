"""`@command`: a function from a session and arguments to a Result becomes a command.

The flags that every command takes are added here, and every error ends here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from uml.cli import load_flags, render
from uml.cli.exits import Exit, exit_for
from uml.cli.names import path_hint
from uml.cli.result import Result
from uml.cli.session import Flags, Session
from uml.core.errors import UmlError

_PANEL = "For every command"

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON: one document, or one object a line", rich_help_panel=_PANEL)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a bug", rich_help_panel=_PANEL)]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="FOLDER", help="The data folder (UML_DATA)", rich_help_panel=_PANEL),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="UML_SERVER",
        show_envvar=False,
        help="Use this server (UML_SERVER)",
        rich_help_panel=_PANEL,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="The server's key (UML_API_KEY)", rich_help_panel=_PANEL),
]

_LOCAL = {"json": Json, "debug": Debug, "data": Data}
_REMOTE = {"server": Server, "api_key": ApiKey}


def command(*, server: bool = True, load_options: bool = False) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Make a command of `function(session, ...) -> Result | None`; its docstring is the help.

    server: it takes `--server` and `--api-key`.
    load_options: it takes every load option, and gets those given as `options: dict[str, Any]`.
    """

    def wrap(function: Callable[..., Result | None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "options"][1:]
        loads = load_flags.parameters() if load_options else []
        common = _LOCAL | _REMOTE if server else _LOCAL

        def run(**given: Any) -> None:
            flags = Flags(**{name: given.pop(name) for name in common})
            code = _run(function, flags, given, {p.name: given.pop(p.name) for p in loads} if loads else None)
            raise typer.Exit(code)

        extra = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=False if kind in (Json, Debug) else None, annotation=kind
            )
            for name, kind in common.items()
        ]
        run.__doc__ = _reflowed(function)
        run.__name__ = function.__name__
        run.__annotations__ = {}
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # typer reads it
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + loads + extra
        )
        return run

    return wrap


def group(name: str, panel: str, help: str) -> typer.Typer:
    """Commands under one word, as `uml engine ls`. panel: of the help page that shows the word."""
    return typer.Typer(
        name=name,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        rich_help_panel=panel,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _reflowed(function: Callable[..., Any]) -> str:
    """The docstring with one line a paragraph: the help page breaks lines by the width of the terminal."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _run(
    function: Callable[..., Result | None], flags: Flags, given: dict[str, Any], loads: dict[str, Any] | None
) -> Exit:
    try:
        if loads is not None and load_flags.wants_list(loads):
            result: Result | None = load_flags.listing()
        elif loads is not None:
            result = function(Session(flags), **given, options=load_flags.collect(loads))
        else:
            result = function(Session(flags), **given)
        if result is None:
            return Exit.OK
        render.show(result, flags.json)
        return result.exit
    except UmlError as error:
        render.fail(error, flags.json, path_hint(error, given.get("model", given.get("name"))))
        return exit_for(error)
    except KeyboardInterrupt:
        render.note("stopped")
        return Exit.INTERRUPTED
    except (typer.TyperException, typer.Exit, typer.Abort, BrokenPipeError):
        raise  # a usage error found by a command, or a reader that has gone: `app.run` knows them
    except Exception as error:
        # The boundary of the program: whatever it was, the user gets a sentence and a way to report it.
        render.crash(error, flags.json, flags.debug)
        return Exit.ERROR
