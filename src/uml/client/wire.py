"""Server-sent events, read line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name (`message` where it has none) and its data as text."""

    name: str
    data: str

    @property
    def value(self) -> Any:
        """The data as JSON; a ValueError where it is none."""
        return json.loads(self.data)


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Events from the lines of a stream, as the HTML standard has them: comments and unknown fields are skipped.

    An event that the end of the stream cuts off is not given out.
    """
    name, data = "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield Event(name or "message", "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
