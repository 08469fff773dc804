"""A chat in the terminal: what was said so far, and the loop around it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from uml.cli import render
from uml.cli.answer import Measured, Printer
from uml.client.client import Client
from uml.core.errors import NoServer, UmlError

HELP: Final = """\
/help           this list
/reset          forget what was said
/system TEXT    set the system message and forget what was said; without TEXT: show it
/exit           leave (so does Ctrl-D)
\"\"\"             begin and end a text of several lines
Ctrl-C          stop the answer
What chooses tokens, and how the model is loaded, are options of the command: uml run --help"""

PROMPT: Final = ">>> "
MORE: Final = "... "


@dataclass(slots=True)
class Conversation:
    """What is said with a model. params: fields of every request."""

    model: str
    params: dict[str, Any] = field(default_factory=dict)
    system: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)

    def asking(self, question: str) -> list[dict[str, str]]:
        """The messages of a request with this question; nothing is kept yet."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *self.messages, {"role": "user", "content": question}]

    def keep(self, question: str, answer: str) -> None:
        """A question and its answer, whole or stopped, belong to what was said."""
        self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def reset(self) -> None:
        """Forget what was said; the system message stays."""
        self.messages.clear()


def converse(client: Client, conversation: Conversation, verbose: bool = False) -> None:
    """Read, ask and print until the user leaves."""
    _line_editing()
    render.note(f"chat with {conversation.model}; /help tells what this knows, Ctrl-D leaves")
    while True:
        try:
            line = read_turn(input)
            if line.startswith("/"):
                if not command(conversation, line):
                    return
            elif line:
                _ask(client, conversation, line, verbose)
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:  # at the prompt, or in the moment before an answer begins
            sys.stdout.write("\n")
            render.note("Ctrl-D or /exit leaves")


def read_turn(read: Callable[[str], str]) -> str:
    """One line, or the lines between two marks of three quotes. Raises EOFError and KeyboardInterrupt."""
    line = read(PROMPT).strip()
    if not line.startswith('"""'):
        return line
    lines = [line[3:]]
    while not lines[-1].rstrip().endswith('"""'):
        lines.append(read(MORE))
    return "\n".join([*lines[:-1], lines[-1].rstrip().removesuffix('"""')]).strip()


def command(conversation: Conversation, line: str) -> bool:
    """Do what a line that begins with `/` says; False to leave."""
    name, _, argument = line[1:].partition(" ")
    match name:
        case "exit" | "quit" | "bye":
            return False
        case "help" | "?":
            render.note(HELP)
        case "reset" | "clear":
            conversation.reset()
            render.note("forgotten; a new conversation begins")
        case "system" if argument.strip():
            conversation.system = argument.strip()
            conversation.reset()
            render.note("the system message is set; a new conversation begins")
        case "system":
            render.note(conversation.system or "there is no system message")
        case "set" if argument.startswith("system "):  # as other programs have it
            return command(conversation, f"/{argument}")
        case _:
            render.note(f"/{name} is not known here; /help tells what is")
    return True


def _ask(client: Client, conversation: Conversation, question: str, verbose: bool) -> None:
    printer = Printer(verbose)
    pieces = Measured(client.chat(conversation.model, conversation.asking(question), **conversation.params))
    try:
        for piece in pieces:
            printer.put(piece)
    except KeyboardInterrupt:
        printer.end()
        render.note("(stopped)")
    except NoServer:
        raise
    except UmlError as error:
        # The chat goes on: the next question may fare better, and what was said so far is not lost.
        if printer.text:
            printer.end()
        render.fail(error, as_json=False)
        return
    else:
        printer.end(pieces.speed)
    finally:
        pieces.close()
    conversation.keep(question, printer.text)


def _line_editing() -> None:
    """Arrow keys and history for `input`, where Python was built with them."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return
