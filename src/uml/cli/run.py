"""`uml run`: one answer, or a chat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from uml.cli import render
from uml.cli.answer import Measured, Printer
from uml.cli.arguments import Model
from uml.cli.chat import Conversation, converse
from uml.cli.command import command
from uml.cli.names import expanded, name_for
from uml.cli.own_server import own_server
from uml.cli.progress import load_bar
from uml.cli.question import read_question
from uml.cli.result import Result
from uml.cli.session import Session
from uml.cli.workers import warn
from uml.client.client import Client
from uml.core.errors import UmlError

_SAMPLING = "Sampling"


def _sampling(flag: str, metavar: str, help: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=help, rich_help_panel=_SAMPLING, show_default=False)


_Prompt = Annotated[
    str | None, typer.Argument(metavar="PROMPT", help="What to ask; without, a chat", show_default=False)
]
_System = Annotated[str | None, _sampling("--system", "TEXT", "A system message")]
_Temperature = Annotated[float | None, _sampling("--temperature", "X", "0: always the likeliest token")]
_TopP = Annotated[float | None, _sampling("--top-p", "X", "Only the likeliest tokens that sum to this")]
_TopK = Annotated[int | None, _sampling("--top-k", "N", "Only so many of the likeliest tokens")]
_MinP = Annotated[float | None, _sampling("--min-p", "X", "Only tokens at least so likely beside the likeliest")]
_RepeatPenalty = Annotated[float | None, _sampling("--repeat-penalty", "X", "Over 1: repeat less")]
_Seed = Annotated[int | None, _sampling("--seed", "N", "The same seed, the same answer")]
_MaxTokens = Annotated[int | None, _sampling("--max-tokens", "N", "Stop after so many tokens")]
_Stop = Annotated[list[str] | None, _sampling("--stop", "TEXT", "Stop at this text; may be given several times")]
_Schema = Annotated[
    str | None, _sampling("--json-schema", "SCHEMA", "Answer by this JSON schema: a file, or the schema itself")
]
_Param = Annotated[
    list[str] | None,
    _sampling("--param", "NAME=VALUE", "Any other field of /v1/chat/completions; VALUE is JSON or a text"),
]
_Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell tokens and speed after an answer")]


@command(load_options=True)
def run(
    session: Session,
    model: Model,
    options: dict[str, Any],
    prompt: _Prompt = None,
    system: _System = None,
    temperature: _Temperature = None,
    top_p: _TopP = None,
    top_k: _TopK = None,
    min_p: _MinP = None,
    repeat_penalty: _RepeatPenalty = None,
    seed: _Seed = None,
    max_tokens: _MaxTokens = None,
    stop: _Stop = None,
    json_schema: _Schema = None,
    param: _Param = None,
    verbose: _Verbose = False,
) -> Result | None:
    """Ask a model, or chat with it.

    With a PROMPT, or with text on standard input, the answer is printed and that is it; with both, the
    text follows the prompt (a pipe that says nothing for 2 s is left alone). Else a chat begins: /help
    tells what it knows, Ctrl-C stops an answer, Ctrl-D leaves. A running server is used; where there is
    none, one is started for as long as this lasts.
    """
    params: dict[str, Any] = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repeat_penalty": repeat_penalty,
        "seed": seed,
        "max_tokens": max_tokens,
        "stop": stop or None,
        "response_format": _schema(json_schema) if json_schema else None,
    }
    params = {name: value for name, value in params.items() if value is not None} | _more(param or [])
    question = read_question(prompt)
    if question is None and session.flags.json:
        raise typer.BadParameter("--json needs a PROMPT, or text on standard input")
    with _server(session) as client:
        name = name_for(client, model)
        _check_chats(client, name)
        with load_bar(name, quiet=session.flags.json) as update:
            last: dict[str, Any] = {}
            for last in client.load(name, options):
                update(last)
        warn(last)
        conversation = Conversation(name, params, system)
        if question is None:
            converse(client, conversation, verbose)
        else:
            _once(session, client, conversation, question, verbose)
    return None


@contextmanager
def _server(session: Session) -> Iterator[Client]:
    client = session.find_client()
    if client is not None:
        with client:
            yield client
    else:
        with own_server(session.settings.data) as own:
            yield own


def _check_chats(client: Client, name: str) -> None:
    """Raises BadRequest for a model that is no language model, before it is loaded for nothing."""
    # Imported here: a command that asks no server for a chat need not know the parameters of one.
    from uml.generation.kinds import check_role

    about = client.model(name)
    check_role("chat", str(about["id"]), str(about["role"]))


def _once(session: Session, client: Client, conversation: Conversation, question: str, verbose: bool) -> None:
    pieces = Measured(client.chat(conversation.model, conversation.asking(question), **conversation.params))
    if session.flags.json:
        for piece in pieces:
            if line := _line(piece):
                render.emit(line)
        return
    printer = Printer(verbose)
    try:
        for piece in pieces:
            printer.put(piece)
    except (KeyboardInterrupt, UmlError):
        if printer.text:  # what is said of it begins on a line of its own
            printer.end()
        raise
    printer.end(pieces.speed)


def _line(piece: Any) -> dict[str, Any]:
    """A piece as a JSON line: the fields that it has."""
    fields = {
        "text": piece.text,
        "reasoning": piece.reasoning,
        "tool_calls": [*piece.tool_calls],
        "finish": piece.finish,
        "usage": piece.usage,
        "timings": piece.timings,
        "warnings": [*piece.warnings],
    }
    return {name: value for name, value in fields.items() if value}


def _schema(given: str) -> dict[str, Any]:
    text = given
    if not given.lstrip().startswith("{"):
        try:
            text = expanded(given).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"--json-schema: cannot read {given}: {error}") from error
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": _object(text)}}


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--json-schema is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise typer.BadParameter("--json-schema must be a JSON object")
    return found


def _more(given: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for assignment in given:
        name, sign, value = assignment.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"--param {assignment}: expected NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
