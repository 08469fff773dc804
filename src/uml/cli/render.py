"""The one place that speaks: results to stdout, errors and notes to stderr.

A terminal gets colours and tables drawn by rich; anything else gets plain columns that `grep` and
`awk` can read, whole, without colours; so does a terminal where NO_COLOR is set, less the columns.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from uml.cli.result import Facts, Lines, Result, Table, View
from uml.core.errors import UmlError

if TYPE_CHECKING:
    from rich.console import Console

REPORT_AT: Final = "run it again with --debug and report what it prints, with the output of: uml doctor --json"

_SHORT: Final = 16

# Text of models, and out of their files, must not move the cursor, recolour or rename the terminal.
_CONTROL: Final = {code: None for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """The text without what a terminal would take for a command."""
    return text.translate(_CONTROL)


def show(result: Result, as_json: bool) -> None:
    """A result on stdout."""
    if as_json:
        emit(result.data)
        return
    for number, view in enumerate(result.views):
        if sys.stdout.isatty():
            _draw(view)  # a drawn table has air around it
            continue
        if number and not isinstance(view, Lines):
            sys.stdout.write("\n")
        _write(view)


def emit(value: object) -> None:
    """A JSON value as one line of stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark on stderr, which scripts do not read."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def fail(error: UmlError, as_json: bool, hint: str = "") -> None:
    """An error on stderr: the server's JSON object with `--json`, else the sentence and what helps."""
    if as_json:
        sys.stderr.write(json.dumps(error.as_dict(), ensure_ascii=False) + "\n")
        return
    _complain(error.message, [*([hint] if hint else []), *_help(error.details)])


def crash(error: BaseException, as_json: bool, debug: bool) -> None:
    """What nobody expected: one sentence and how to report it; the traceback only with `--debug`."""
    if debug:
        traceback.print_exception(error)
    message = f"this should not have happened: {type(error).__name__}: {error}"
    if as_json:
        fail(UmlError(message), as_json=True)
    else:
        _complain(message, [] if debug else [REPORT_AT])


def usage(message: str, hint: str, as_json: bool) -> None:
    """A command line that cannot be read."""
    if as_json:
        body = {"message": message, "type": "invalid_request_error", "param": None, "code": "usage"}
        sys.stderr.write(json.dumps({"error": body}, ensure_ascii=False) + "\n")
    else:
        _complain(message, [hint] if hint else [])


def console(stream: TextIO) -> Console:
    """A rich console on a stream; rich itself honours NO_COLOR."""
    # Imported here: half of the time that a whole command may take.
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=False)


def _complain(message: str, more: list[str]) -> None:
    message = printable(message)
    if sys.stderr.isatty():
        from rich.text import Text

        out = console(sys.stderr)
        out.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
        for line in more:
            out.print(Text("  " + printable(line), style="dim"), soft_wrap=True)
    else:
        sys.stderr.write("".join([f"error: {message}\n", *(f"  {printable(line)}\n" for line in more)]))


def _help(details: Mapping[str, Any]) -> list[str]:
    """Details that are not in the sentence already: the last words of an engine."""
    log = details.get("log") or details.get("log_tail")
    if isinstance(log, str):
        log = log.splitlines()
    if isinstance(log, list) and log:
        return ["the engine's last words:", *(f"| {line}" for line in log[-8:])]
    return []


def _draw(view: View) -> None:
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    out = console(sys.stdout)
    match view:
        case Lines(lines):
            for line in lines:
                out.print(Text(printable(line)), soft_wrap=True)
        case Facts(pairs, title):
            drawn = Drawn(box=None, show_header=False, title=title or None, title_justify="left", title_style="bold")
            drawn.add_column(style="cyan", no_wrap=True)
            drawn.add_column(overflow="fold")
            for name, value in pairs:
                drawn.add_row(Text(printable(name)), Text(printable(value)))
            out.print(drawn)
        case Table(_, rows, _, _, empty) if not rows:
            out.print(Text(empty), soft_wrap=True)
        case Table(columns, rows, numeric, title, _):
            drawn = Drawn(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold")
            for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
                # Numbers and words stay whole; names, paths and sentences take more lines rather than be cut.
                drawn.add_column(
                    column,
                    justify="right" if column in numeric else "left",
                    overflow="fold",
                    no_wrap=max(map(len, cells)) <= _SHORT,
                )
            for row in rows:
                drawn.add_row(*(Text(printable(cell)) for cell in row))
            out.print(drawn)


def _write(view: View) -> None:
    match view:
        case Lines(lines):
            sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
        case Facts(pairs, title):
            _columns(title, pairs)
        case Table(_, (), _, _, empty):
            sys.stdout.write(f"{empty}\n" if empty else "")
        case Table(columns, rows, _, title, _):
            _columns(title, (columns, *rows))


def _columns(title: str, rows: Sequence[tuple[str, ...]]) -> None:
    if title:
        sys.stdout.write(f"{title}\n")
    widths = [max((len(cell) for cell in column), default=0) for column in zip(*rows, strict=False)]
    for row in rows:
        cells = [printable(cell).replace("\n", " ") for cell in row]
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        sys.stdout.write(line.rstrip() + "\n")
