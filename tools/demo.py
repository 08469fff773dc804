"""What `make demo` shows: a server of its own, a question, a second turn that needs the first."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from uml.cli.answer import Measured, Printer
from uml.cli.own_server import own_server
from uml.cli.progress import load_bar
from uml.client import Client
from uml.core.errors import UmlError

TURNS = (
    "What is the capital of Japan?",
    "My name is Hugo.",
    "What is my name?",
    "Tell me a story about a wolf.",
)

NEXT = """
That was a model of 5 million parameters that ships with this repository, in a process of its own.
What to type next:

  {uml} run demo                         a chat with it
  {uml} run /path/to/your/model.gguf     a chat with a model of yours
  {uml} scan /path/to/models             find the models in a folder
  {uml} serve                            serve them all to any OpenAI client, at http://127.0.0.1:8080/v1
  {uml} --help                           everything else
"""


def main() -> int:
    """Show it, and return an exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="uml-demo-") as data, own_server(Path(data)) as client:
            print(f"The server is up at {client.url}")
            _converse(client)
    except UmlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(NEXT.format(uml=Path(sys.executable).with_name("uml").relative_to(Path.cwd())))
    return 0


def _converse(client: Client) -> None:
    with load_bar("demo") as update:
        for event in client.load("demo"):
            update(event)
    messages: list[dict[str, str]] = []
    for question in TURNS:
        print(f"\n>>> {question}")
        messages.append({"role": "user", "content": question})
        pieces = Measured(client.chat("demo", messages, temperature=0, max_tokens=120))
        printer = Printer()
        for piece in pieces:
            printer.put(piece)
        printer.end()
        print(f"    ({pieces.speed})")
        messages.append({"role": "assistant", "content": printer.text})


if __name__ == "__main__":
    sys.exit(main())
