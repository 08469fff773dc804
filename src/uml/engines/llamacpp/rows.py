"""Kinds of rows: how an option of ours becomes an attribute of the library and an argument of the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan

DEFAULTS: Final = LoadOptions()


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an enum of xllamacpp, and the word for it in `llama-server`'s arguments."""

    enum: str
    name: str
    word: str


Parameters = Mapping[str, Any]
Arguments = Sequence[str]


@dataclass(frozen=True, slots=True)
class Row:
    """One or more options that say one thing.

    parameters: attribute path -> value; arguments: words of a command line. Empty: the engine's own default.
    """

    options: tuple[str, ...]
    parameters: Callable[[LoadPlan], Parameters]
    arguments: Callable[[LoadPlan], Arguments]


def changed(plan: LoadPlan, option: str) -> bool:
    """Whether the option differs from our default."""
    return bool(getattr(plan.options, option) != getattr(DEFAULTS, option))


def plain(option: str, attribute: str, argument: str, *, always: bool = False) -> Row:
    """A value handed over as it is.

    always: said even at our default, which is not the engine's. Otherwise our default means the engine's own.
    """

    def said(plan: LoadPlan) -> bool:
        return always or changed(plan, option)

    return Row(
        (option,),
        lambda plan: {attribute: getattr(plan.options, option)} if said(plan) else {},
        lambda plan: [argument, word(getattr(plan.options, option))] if said(plan) else [],
    )


def switch(option: str, attribute: str, on: str = "", off: str = "", *, inverted: bool = False) -> Row:
    """A yes or no; `on` and `off` are the argument of the one that is not the engine's default."""

    def words(plan: LoadPlan) -> Arguments:
        said = on if getattr(plan.options, option) else off
        return [said] if said else []

    return Row((option,), lambda plan: {attribute: getattr(plan.options, option) is not inverted}, words)


def choice(option: str, attribute: str, argument: str, members: Mapping[str, Member]) -> Row:
    """A word that stands for a member of an enum; a word without one leaves the engine's default."""

    def chosen(plan: LoadPlan) -> Member | None:
        return members.get(getattr(plan.options, option))

    return Row(
        (option,),
        lambda plan: {attribute: member} if (member := chosen(plan)) else {},
        lambda plan: [argument, member.word] if (member := chosen(plan)) and member.word else [],
    )


def derived(options: str, attribute: str, argument: str, value: Callable[[LoadPlan], Any]) -> Row:
    """A value that follows from several options; None leaves the engine's default."""

    def given(plan: LoadPlan) -> Parameters:
        result = value(plan)
        return {} if result is None else {attribute: result}

    def words(plan: LoadPlan) -> Arguments:
        result = value(plan)
        return [] if result is None else [argument, word(result)]

    return Row(tuple(options.split()), given, words)


def word(value: Any) -> str:
    """A value as a word of a command line."""
    if isinstance(value, Member):
        return value.word
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def members(enum: str, prefix: str, words: Mapping[str, str]) -> dict[str, Member]:
    """Our word -> the member of the same name; the values of `words` are the program's words."""
    return {ours: Member(enum, f"{prefix}_{ours.upper().replace('-', '_')}", theirs) for ours, theirs in words.items()}


def same_words(text: str) -> dict[str, str]:
    """Words that the program calls as we do."""
    return {name: name for name in text.split()}


def csv_cell(text: str) -> str:
    """A cell of `parse_csv_row` in common/arg.cpp: in quotes, doubled inside, where it has a comma or a quote."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"') else text
