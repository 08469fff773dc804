"""What somebody sent, given back in an error: whole where it is short, and never more than a line."""

from __future__ import annotations


def quoted(value: object) -> str:
    """A value that somebody gave, as a sentence quotes it: JSON's words, and at most 100 characters of it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value[:100] if isinstance(value, str | list | tuple) else value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number too long to show"
    return text if len(text) <= 100 else f"{text[:97]}..."


def is_short(value: object) -> bool:
    """Whether a text or a number can be given back as it came: JSON readers know 64 bits."""
    return len(value) <= 100 if isinstance(value, str) else isinstance(value, int) and abs(value) < 1 << 63
