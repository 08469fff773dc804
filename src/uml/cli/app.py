"""The table of commands, and how one is found without importing the others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup

from uml.cli import render
from uml.cli.exits import MEANING, Exit


class Entry(NamedTuple):
    """Where a command is: a module of this room, and the panel of the help page that shows it."""

    module: str
    panel: str


COMMANDS: Final[Mapping[str, Entry]] = {
    "run": Entry("run", "Talk to a model"),
    "serve": Entry("serve", "Server"),
    "stop": Entry("serve", "Server"),
    "ps": Entry("workers", "Server"),
    "load": Entry("workers", "Server"),
    "unload": Entry("workers", "Server"),
    "pin": Entry("keep", "Server"),
    "unpin": Entry("keep", "Server"),
    "lora": Entry("lora", "Server"),
    "logs": Entry("logs", "Server"),
    "ls": Entry("models", "Models"),
    "scan": Entry("models", "Models"),
    "profile": Entry("profile", "Models"),
    "alias": Entry("forget", "Models"),
    "forget": Entry("forget", "Models"),
    "inspect": Entry("models", "Models"),
    "estimate": Entry("models", "Models"),
    "convert": Entry("convert", "Models"),
    "quantize": Entry("quantize", "Models"),
    "engine": Entry("engine", "Engines"),
    "plugin": Entry("plugin", "This program"),
    "doctor": Entry("doctor", "This program"),
    "version": Entry("version", "This program"),
}
"""Command -> its module, whose function or group of the same name it is; in the order of the help page."""

EPILOG: Final = (
    "Exit codes:\n"
    + "".join(f"  {code.value:>3}  {meaning}\n" for code, meaning in MEANING.items())
    + "\nWith --json a command prints one JSON document on stdout, a stream (run, load, logs -f) one JSON "
    'object a line, and an error as {"error": {"message", "code", ...}} on stderr.'
)


class LazyGroup(TyperGroup):
    """Imports a command when it is asked for: typer alone takes most of the time that a quick one may take.

    Plug-ins are looked for where no command of ours has the name, and for the help page.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the help page."""
        return [*COMMANDS, *(name for name in _of_plugins() if name not in COMMANDS)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; None where there is none."""
        if cmd_name not in COMMANDS and (function := _of_plugins().get(cmd_name)):
            return _alone(cmd_name, function, "Plug-ins")
        if cmd_name not in COMMANDS:
            # Close names are looked for among the commands that are there.
            self.commands = {name: _build(name) for name in COMMANDS}
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _build(cmd_name)
        return self.commands[cmd_name]


def _build(name: str) -> Any:
    module = import_module(f"uml.cli.{COMMANDS[name].module}")
    if isinstance(group := getattr(module, name), typer.Typer):
        return typer.main.get_command(group)
    return _alone(name, getattr(module, name), COMMANDS[name].panel)


def _alone(name: str, function: Callable[..., Any], panel: str) -> Any:
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    alone.command(name, rich_help_panel=panel)(function)
    return typer.main.get_command(alone)


@cache
def _of_plugins() -> Mapping[str, Callable[..., Any]]:
    from uml.cli.plugin import commands_of_plugins

    return commands_of_plugins()


app = typer.Typer(
    cls=LazyGroup,
    name="uml",
    help="Universal Model Loader: one local server for any model on disk.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _top() -> None:
    """Flags before the command: none but the ones of the shell's completion."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line and give its exit code."""
    as_json = "--json" in arguments
    try:
        # Not in typer's standalone mode: it has its own way to show errors, and knows no JSON.
        outcome = typer.main.get_command(app).main(list(arguments), prog_name="uml", standalone_mode=False)
    except typer.TyperException as error:
        return _misused(error, arguments, as_json)
    except typer.Abort:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`uml ls | head -1`); nothing is left to say, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return int(outcome or 0)


def _misused(error: typer.TyperException, arguments: Sequence[str], as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if not message and context is not None:  # `uml` alone: typer has printed the help page, and says nothing more
        return Exit.USAGE
    hint = f"try: {context.command_path} --help" if context is not None else ""
    render.usage(_as_known_elsewhere(error, arguments, context) or message, hint, as_json)
    return Exit.USAGE


def _as_known_elsewhere(error: typer.TyperException, arguments: Sequence[str], context: Any) -> str:
    """The sentence for a command or a flag that another program has; empty for any other mistake."""
    from uml.cli import elsewhere

    if context is not None and hasattr(error, "possibilities"):  # an option that is not there
        flag, here = elsewhere.flag_hint(str(getattr(error, "option_name", "")), arguments, context)
        return f"No such option: {flag}; {here}" if here else ""
    if context is not None and context.parent is None and error.format_message().startswith("No such command"):
        name = next((word for word in arguments if not word.startswith("-")), "")
        here = elsewhere.command_hint(name)
        return f"No such command '{name}'; {here}" if here else ""
    return ""
