"""What pip and uv say: a step in words, and why it failed. The texts are those of pip 23.2 to 26.3 and uv 0.13.

A text that is not known does no harm: then the installer's own last error is the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from uml.core.errors import gib

_STEPS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"^Collecting (\S+?)(?:[<>=!~; ].*)?$"), "looking for {0}"),
    (re.compile(r"^\s*Downloading (\S+?\.metadata)\b"), ""),
    (re.compile(r"^\s*Downloading \S*?([^/\s]+?)-\d\S* \((.+)\)$"), "downloading {0}, {1}"),
    (re.compile(r"^Processing \S*?([^/\s]+)$"), "reading {0}"),
    (re.compile(r"^\s*Preparing metadata"), ""),
    (re.compile(r"^\s*Building wheels for "), ""),
    (re.compile(r"^\s*Building wheel for (\S+)"), "building {0}"),
    (re.compile(r"^Installing collected packages: (.+)$"), "installing {n} packages"),
    (re.compile(r"^Resolved (\d+) packages?"), "found {0} packages"),
    (re.compile(r"^Prepared (\d+) packages?"), "fetched {0} packages"),
    (re.compile(r"^\s*Building (\S+)"), "building {0}"),
)

_NO_NETWORK: Final = re.compile(
    r"connection broken by|Failed to establish a new connection|Temporary failure in name resolution|"
    r"Max retries exceeded|error sending request|dns error|failed to lookup address|Connection refused|"
    r"Cannot connect to proxy|ReadTimeoutError|operation timed out|Network is unreachable|"
    r"network was disabled|Failed to fetch: `http",
    re.IGNORECASE,
)
_NOWHERE: Final = re.compile(r"Could not find a version that satisfies the requirement (\S+).*\(from versions: none\)")
_ABSENT: Final = (
    re.compile(
        r"No matching distribution found for (.+)|Could not find a version that satisfies the requirement (\S+)"
    ),
    re.compile(r"[Bb]ecause (\S+) was not found in|there is no version of (\S+)"),
)
_NEWEST: Final = re.compile(r"\(from versions: (?:[^)]*, )?([^,)\s]+)\)")
"""Versions in order, as pip names them."""
_DISK: Final = re.compile(r"No space left on device|\[Errno 28\]|os error 28|Disk quota exceeded|\[Errno 122\]")
_BROKEN: Final = re.compile(
    r"Wheel '?([^'\s]+)'? located at \S+ is invalid|(\S+\.whl) is not a valid wheel|Invalid wheel(?: filename)?: (\S+)|"
    r"(\S+) has an invalid (?:wheel|package format)|BadZipFile: (?:\S+ )*?(\S+)|"
    r"Failed to (?:read|extract|unzip)[^`]*`?([^`\s]+\.whl)|Failed to download `([^`]+)`"
)
_HASHES: Final = re.compile(r"DO NOT MATCH THE HASHES|Hash mismatch for `?([^`\s]+)")
_CONFLICT: Final = re.compile(r"ResolutionImpossible|conflicting dependencies|No solution found")
_UNBUILT: Final = re.compile(
    r"Failed (?:building wheel for|to build) ['`]?(?!installable)([^'`\s]+)|Failed to build installable wheels"
)
_REFUSED: Final = re.compile(r"\b(401|403)\b.*(?:Unauthorized|Forbidden|Client Error|error for)", re.IGNORECASE)
_PYTHON: Final = re.compile(r"requires a different Python|Requires-Python|requires Python")
_NO_VENV: Final = re.compile(r"No module named '?(?:venv|ensurepip)\b|because ensurepip is not")
_ERROR: Final = re.compile("^\\s*(?:ERROR|error|\N{MULTIPLICATION SIGN}|╰─▶|├─▶|Error):?\\s*(.+)$")


_FOR_CUDA: Final = re.compile(r"^\s*(?:Collecting|Downloading|Processing|\+)\s+(?:\S*/)?nvidia[-_]\w", re.IGNORECASE)


def is_for_cuda(line: str) -> bool:
    """Whether an installer is about to fetch libraries of CUDA, which are most of what a GPU's PyTorch takes."""
    return bool(_FOR_CUDA.match(line))


_ADVICE: Final = "look at the network, the proxy and `pip config list`"


def step(line: str) -> str | None:
    """What an installer does, in words; None for a line that is no step."""
    for pattern, words in _STEPS:
        if found := pattern.match(line):
            count = len(found[1].split(",")) if "{n}" in words else 0
            return words.format(*found.groups(), n=count) or None
    return None


def why(lines: Sequence[str], free_bytes: int, *, offline: bool = False) -> str:
    """A sentence that says why an installer failed, by what it wrote. free_bytes: of the disk, then."""
    text = "\n".join(lines)
    newest = _NEWEST.search(text)
    for pattern, sentence in _reasons(free_bytes, offline, newest[1] if newest else ""):
        if found := pattern.search(text):
            return sentence(next((group for group in found.groups() if group), "").strip(" ,.`'\""))
    said = [found[1] for line in lines if (found := _ERROR.match(line))]
    return f"the installer says: {said[-1].strip()}" if said else "the installer ended and did not say why"


def _reasons(free_bytes: int, offline: bool, newest: str) -> tuple[tuple[re.Pattern[str], Callable[[str], str]], ...]:
    """In the order in which they outdo each other: who has no network finds no version either."""
    reach = (
        "nothing may leave this machine (the setting offline), and what it needs is not in a folder that pip's "
        "configuration names (find-links)"
        if offline
        else f"the package index cannot be reached; {_ADVICE}"
    )
    where, advice = (f"; {reach}", reach) if offline else (" on the package index", _ADVICE)
    if newest:
        where += f"; the newest there is {newest}"
    return (
        (_DISK, lambda _: f"the disk is full ({gib(free_bytes)} are free)"),
        (
            _NO_VENV,
            lambda _: (
                "this Python cannot make environments; install what it lacks (Debian, Ubuntu: apt install "
                "python3-venv), or let uv make them: --installer uv"
            ),
        ),
        (
            _BROKEN,
            lambda what: f"the file of {what} is broken; the index, or the cache of the installer, has a bad copy",
        ),
        (_HASHES, lambda _: "a file is not the one that the index promises (its hash is another)"),
        (_REFUSED, lambda _: "the package index refuses to give it (401 or 403); look at `pip config list`"),
        (_NO_NETWORK, lambda _: reach),
        # Of a network that is gone pip says nothing at all where it may not try twice.
        (_NOWHERE, lambda what: f"there is no {what} where pip looks, or it cannot look there; {advice}"),
        *((pattern, lambda what: f"there is no {what} for this Python and system{where}") for pattern in _ABSENT),
        (_CONFLICT, lambda _: "the packages of this version do not go together; take another version"),
        (_UNBUILT, lambda what: f"{what or 'a package'} has no file for this machine and could not be built here"),
        (_PYTHON, lambda _: "it needs another version of Python"),
    )
