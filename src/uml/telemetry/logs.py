"""Log lines on standard error: plain for people, JSON for collectors. No prompt and no answer is ever in them."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, TextIO

LOGGER: Final = "uml"

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def setup(level: str = "info", json_lines: bool | None = None, stream: TextIO | None = None) -> None:
    """Send everything that `uml` and the HTTP server log to standard error.

    json_lines: None for JSON when the stream is no terminal.
    """
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    as_json = not out.isatty() if json_lines is None else json_lines
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    for name in (LOGGER, "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    logging.getLogger(LOGGER).setLevel(level.upper())
    # The server's own words on starting and stopping say nothing that ours do not.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger(LOGGER).level))


def parts(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class PlainLines(logging.Formatter):
    """`12:30:01 warning  worker died  model=demo request=1f`."""

    def __init__(self) -> None:
        super().__init__(datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        head = f"{self.formatTime(record, self.datefmt)} {record.levelname.lower():<8} {record.getMessage()}"
        tail = "".join(f"  {name}={value}" for name, value in parts(record).items())
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return head + tail + trace


class JsonLines(logging.Formatter):
    """One JSON object a line: `time` (seconds since 1970), `level`, `message`, and the parts."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, as one line."""
        import orjson

        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **parts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()
