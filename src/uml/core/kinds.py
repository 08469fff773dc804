"""What values of JSON are called in errors and documentation, of load options and of requests' parameters alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.duration import EXPECTED as DURATION

WORDS: Final[Mapping[str, str]] = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "text": "a text",
    "duration": DURATION,
}
"""Kind -> what is expected; kinds that mean different things to both are told where they are declared."""
