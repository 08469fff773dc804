"""What a command gives back: data for scripts, and how a person would like to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uml.cli.exits import Exit


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts. numeric: titles of columns that are aligned to the right; empty: said instead of no rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()
    title: str = ""
    empty: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values, one a line."""

    pairs: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Lines:
    """Texts as they are."""

    lines: tuple[str, ...]


View = Table | Facts | Lines


@dataclass(frozen=True, slots=True)
class Result:
    """data: the one JSON document of `--json`; views: the same for people, in order."""

    data: Any
    views: tuple[View, ...] = ()
    exit: Exit = Exit.OK


def said(data: Any, *lines: str) -> Result:
    """A result that is a sentence or two."""
    return Result(data, (Lines(lines),))


def facts(pairs: Sequence[tuple[str, object]], title: str = "") -> Facts:
    """Facts without the ones that are not known."""
    return Facts(tuple((name, str(value)) for name, value in pairs if value not in (None, "", (), [])), title)
