"""The settings one by one, and how a value from TOML, the environment or a flag is read.

Every reader takes the raw value and the folder that relative paths start from, and raises
ValueError for anything that is not what its setting expects.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.config.folders import SOCKET_NAME_BYTES, SOCKET_PATH_BYTES, absolute, fits_sockets
from uml.core.duration import EXPECTED as DURATION
from uml.core.duration import duration_s

SANDBOXES: Final = ("off", "auto", "required")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_BYTE_SHIFTS: Final = {"k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: what it is, what it takes in words, and how a value is read."""

    name: str
    help: str
    expected: str
    parse: Callable[[object, Path], Any]
    secret: bool = False

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"UML_{self.name.upper()}"


def _text(value: object, base: Path) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError
    return value.strip()


def _secret(value: object, base: Path) -> str:
    text = _text(value, base)
    if not text.isascii() or " " in text:  # it travels in an HTTP header
        raise ValueError
    return text


def _folder(value: object, base: Path) -> Path:
    return absolute(_text(str(value) if isinstance(value, Path) else value, base), base)


def _runtime(value: object, base: Path) -> Path:
    folder = _folder(value, base)
    if not fits_sockets(folder):
        raise ValueError
    return folder


def _texts(value: object, base: Path) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError
    return tuple(_text(item, base) for item in items)


def _folders(value: object, base: Path) -> tuple[Path, ...]:
    items = value.split(os.pathsep) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError
    return tuple(dict.fromkeys(_folder(item, base) for item in items))


def _whole(low: int, high: int) -> Callable[[object, Path], int]:
    def parse(value: object, base: Path) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return parse


def _seconds(low: float, high: float) -> Callable[[object, Path], float]:
    def parse(value: object, base: Path) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
        if not low <= number <= high:  # nan is refused here too
            raise ValueError
        return number

    return parse


def _duration(value: object, base: Path) -> float:
    """Seconds; -1 for ever."""
    seconds = duration_s(value)
    return seconds if seconds < float("inf") else -1.0


def _budget(value: object, base: Path) -> int | float | None:
    """An int is bytes (units are powers of 1024), a float a share, None no limit of ours."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    text = str(value).strip().lower()
    if text == "none":
        return None
    found = re.fullmatch(r"(\d{1,20}(?:\.\d{1,6})?)\s*(%|([kmgt])(?:i?b)?|b)?", text)
    if found is None:
        raise ValueError
    number, unit, letter = found.groups()
    if unit == "%" or (unit is None and "." in number):
        share = float(number) / (100 if unit else 1)
        if not 0 < share <= 1:
            raise ValueError
        return share
    count = int(float(number) * (1 << _BYTE_SHIFTS[letter])) if letter else int(float(number))
    if count < 1 << 20:  # less than a mebibyte is a slip of the unit
        raise ValueError
    return count


def _disk(value: object, base: Path) -> int:
    """Bytes, 0 for none at all; a share of a disk is not taken, for the disk is others' too."""
    if str(value).strip().lower() in ("0", "none"):
        return 0
    count = _budget(value, base)
    if not isinstance(count, int):
        raise ValueError
    return count


def _gpu_budget(value: object, base: Path) -> dict[str, int | float]:
    """Budgets by device id, and under `*` for every GPU that is not named; empty for no limit of ours."""
    import json

    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except RecursionError:
            raise ValueError from None
    if isinstance(value, str) and "=" in value:
        pairs = [entry.split("=", 1) for entry in value.split(",")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError
        given: Mapping[Any, Any] = dict(pairs)
        if len(given) < len(pairs):
            raise ValueError
    else:
        given = value if isinstance(value, Mapping) else {"*": value}
    if not all(isinstance(name, str) and re.fullmatch(r"\s*(\*|[a-z]+:\d{1,3})\s*", name) for name in given):
        raise ValueError
    budgets = {name.strip(): _budget(budget, base) for name, budget in given.items()}
    return {name: budget for name, budget in budgets.items() if budget is not None}


def _program(value: object, base: Path) -> Path | str | None:
    """A program, None for what the engine has itself, or `auto`, which is looked up when all is known."""
    text = _text(str(value) if isinstance(value, Path) else value, base)
    if text in ("auto", "none"):
        return text if text == "auto" else None
    path = absolute(text, base)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ValueError
    return path


def _sandbox(value: object, base: Path) -> str:
    # TOML and YAML habits: `sandbox = false` can mean one thing only.
    text = "off" if value is False else _text(value, base).lower()
    if text not in SANDBOXES:
        raise ValueError
    return text


def _cpu_share(value: object, base: Path) -> float | None:
    """A share of the processors, above 0 and at most 1; None no limit."""
    share = _budget(value, base)
    if isinstance(share, int):
        raise ValueError
    return share


def _limit_s(value: object, base: Path) -> float | None:
    """Seconds from 1 to a day; None no limit."""
    return None if isinstance(value, str) and value.strip().lower() == "none" else _seconds(1, 86400)(value, base)


def _log_level(value: object, base: Path) -> str:
    text = _text(value, base).lower()
    if text not in LOG_LEVELS:
        raise ValueError
    return text


def _switch(value: object, base: Path) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    try:
        return known[_text(value, base).lower()]
    except KeyError:
        raise ValueError from None


def _engine(value: object, base: Path) -> str:
    text = _text(value, base)
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}(==[A-Za-z0-9.+!_-]{1,100})?", text):
        raise ValueError
    return text


def _options(value: object, base: Path) -> dict[str, Any]:
    """Load options by their own names. Raises BadRequest, with the range, besides ValueError."""
    import json

    from uml.core.options import LoadOptions, options_by_name

    try:
        given = json.loads(value) if isinstance(value, str) else value
    except RecursionError:
        raise ValueError from None
    if not isinstance(given, Mapping):
        raise ValueError
    checked = LoadOptions.parse(given)
    names = [options_by_name()[name.replace("-", "_")].name for name in given]
    return {name: getattr(checked, name) for name in names}


_PROGRAM: Final = "the path of a program, `auto` (look on PATH) or `none`"

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("data", "Where everything is kept", "a folder", _folder),
    Setting(
        "runtime",
        "Where sockets are made",
        f"a folder with a path of at most {SOCKET_PATH_BYTES - SOCKET_NAME_BYTES} bytes",
        _runtime,
    ),
    Setting("host", "Address to listen on", "a host name or an address", _text),
    Setting("port", "Port to listen on; 0: any free one", "a port from 0 to 65535", _whole(0, 65535)),
    Setting("api_key", "Key that every request must bring", "printable ASCII without spaces", _secret, secret=True),
    Setting("allowed_hosts", "Host names that requests may ask for", "host names (a list, or with commas)", _texts),
    Setting("allowed_origins", "Web pages that may call", "origins (a list, or with commas)", _texts),
    Setting("model_folders", "Folders with models", f"folders (a list, or with {os.pathsep!r} between)", _folders),
    Setting("engine", "Which engine runs models", "`auto`, the name of an engine, or NAME==VERSION", _engine),
    Setting("options", "Load options for every load", "a table or JSON object of load options", _options),
    Setting(
        "memory_budget",
        "Memory that models may use together",
        "bytes (`24GiB`), a share of the memory that this process may use (`75%` or 0.75) or `none`",
        _budget,
    ),
    Setting(
        "gpu_budget",
        "Memory of GPUs that models may use together, for each of them or by device",
        "bytes (`20GiB`), a share of the GPU's memory (`80%`), `none`, or some of these by device "
        "(`cuda:0=20GiB,cuda:1=50%`, in the file a table)",
        _gpu_budget,
    ),
    Setting("max_body_mib", "Largest request body", "a whole number of MiB from 1 to 4096", _whole(1, 4096)),
    Setting("load_timeout_s", "Seconds a load may stand still", "seconds from 1 to 86400", _seconds(1, 86400)),
    Setting("queue_limit", "Requests that may wait", "a whole number from 1 to 100000", _whole(1, 100_000)),
    Setting("idle_unload_s", "How long a model stays without a request; -1: for ever", DURATION, _duration),
    Setting("preload", "Models that are loaded at the start, and kept", "names (a list, or with commas)", _texts),
    Setting(
        "swap_turn_s",
        "Seconds that a model keeps its place before one that it was loaded in place of",
        "seconds from 0 to 3600",
        _seconds(0, 3600),
    ),
    Setting(
        "swap_turn_requests",
        "Requests that may pass one that waits for their model's memory, after that time",
        "a whole number from 0 to 100000",
        _whole(0, 100_000),
    ),
    Setting(
        "load_retry_s",
        "Seconds that a failed load is not tried again, and twice as many each time, up to 300",
        "seconds from 0 to 300",
        _seconds(0, 300),
    ),
    Setting(
        "quarantine_deaths",
        "Deaths after which a worker is not started again by itself; 0: it always is",
        "a whole number from 0 to 1000",
        _whole(0, 1000),
    ),
    Setting(
        "session_disk",
        "Disk for conversations of unloaded models, so that their next turn need not read the prompt again: what "
        "users wrote then lies in the data folder, readable for you alone; 0 saves none and removes the saved ones",
        "bytes (`8GiB`), or 0",
        _disk,
    ),
    Setting(
        "session_stop_s",
        "Seconds a stopping server gives to saving conversations; 0: it saves none then",
        "seconds from 0 to 600",
        _seconds(0, 600),
    ),
    Setting(
        "converted_disk",
        "Disk for the GGUF files that models of older formats (GGML, GGMF, GGJT) are made into when they are first "
        "loaded: beyond it, those that were not loaded for longest go; 0 makes none",
        "bytes (`100GiB`), or 0",
        _disk,
    ),
    Setting(
        "hang_timeout_s",
        "Seconds a worker may stand still with work to do; with a GPU four times as many",
        "seconds from 3 to 86400",
        _seconds(3, 86400),
    ),
    Setting(
        "request_timeout_s",
        "Seconds an answer may take, without the wait for its turn",
        "seconds from 1 to 86400, or `none`",
        _limit_s,
    ),
    Setting(
        "worker_memory",
        "Memory that one worker may take: a model that needs more is refused, a worker that takes more ends",
        "bytes (`24GiB`), a share of the memory that this process may use (`75%` or 0.75) or `none`",
        _budget,
    ),
    Setting(
        "worker_cpu_share",
        "Share of the processors that one worker may use",
        "a share (`50%` or 0.5) or `none`",
        _cpu_share,
    ),
    Setting("worker_nice", "How far workers step back behind other programs", "0 to 19", _whole(0, 19)),
    Setting(
        "sandbox",
        "Workers without network, and with no files but their own and their model's: as far as the system offers "
        "it (auto), no worker without it (required), or never (off)",
        "one of " + ", ".join(SANDBOXES),
        _sandbox,
    ),
    Setting(
        "sandbox_reads",
        "Further folders that workers may read",
        f"folders (a list, or with {os.pathsep!r} between)",
        _folders,
    ),
    Setting(
        "llama_server",
        "A llama-server program to run instead of the embedded one",
        _PROGRAM,
        _program,
    ),
    Setting("vllm", "A `vllm` program to run instead of an install's", _PROGRAM, _program),
    Setting("trtllm_serve", "A `trtllm-serve` program to run instead of an install's", _PROGRAM, _program),
    Setting("plugins", "Whether plug-ins of other packages are loaded", "`true` or `false`", _switch),
    Setting("log_level", "How much is logged", "one of " + ", ".join(LOG_LEVELS), _log_level),
    Setting("offline", "Nothing on the net is asked for anything", "`true` or `false`", _switch),
)
"""Every setting, in the order in which they are shown."""

BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
