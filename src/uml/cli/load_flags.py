"""Load options on a command line, made from the one schema that every floor shares."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from uml.cli.names import expanded
from uml.cli.result import Result, Table
from uml.core.errors import BadOption, BadRequest
from uml.core.option import Option
from uml.core.options import OPTIONS, options_by_name, own_options, unknown_option

COMMON: Final = (
    "ctx", "parallel", "gpu_layers", "threads", "cache_type_k", "cache_type_v", "flash_attention", "device",
    "engine", "mmproj", "lora", "draft_model", "keep_alive",
)  # fmt: skip
"""Options with a flag of their own; `--option NAME=VALUE` reaches every one."""

_PANEL: Final = "Load options"
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_PATHS: Final = ("mmproj", "draft_model", "chat_template_file", "lora", "control_vector")
"""Options that name files: the server has another working folder, so they travel as absolute paths."""
_ON_THE_NET: Final = ("hf:", "http://", "https://")
"""How names begin that are never paths."""
_METAVAR: Final = {
    "integer": "N", "number": "X", "boolean": "BOOL", "text": "TEXT", "texts": "TEXT", "numbers": "X,X",
    "duration": "TIME",
}  # fmt: skip


def parameters() -> list[inspect.Parameter]:
    """The flags as parameters of a command."""
    made = []
    for name in COMMON:
        option = options_by_name()[name]
        flag = typer.Option(
            "--" + name.replace("_", "-"),
            help=option.help + ("; may be given several times" if option.kind == "texts" else ""),
            metavar="PATH" if name in _PATHS else _METAVAR[option.kind],
            rich_help_panel=_PANEL,
            autocompletion=_completer(option),
            show_default=False,
        )
        kind: Any = list[str] | None if option.kind == "texts" else str | None
        made.append(_parameter(name, kind, flag))
    other = typer.Option(
        "--option",
        "-o",
        metavar="NAME=VALUE",
        help="Any load option; may be given several times. `--option help` lists them",
        rich_help_panel=_PANEL,
        autocompletion=_option_names,
        show_default=False,
    )
    return [*made, _parameter("option", list[str] | None, other)]


def wants_list(given: Mapping[str, Any]) -> bool:
    """Whether the user asked which options there are."""
    return "help" in (given.get("option") or ())


def collect(given: Mapping[str, Any]) -> dict[str, Any]:
    """Checked load options as JSON values, those that were given only. Raises BadOption and UnknownField."""
    texts: dict[str, list[str]] = {}
    for name in COMMON:
        value = given.get(name)
        if value not in (None, []):
            texts[name] = value if isinstance(value, list) else [value]
    for assignment in given.get("option") or ():
        name, sign, value = assignment.partition("=")
        known = options_by_name().get(name.strip().replace("-", "_"))
        if known is None:
            raise unknown_option(name.strip())
        if not sign:
            raise BadRequest(f"--option {name} has no value; expected {known.name}=VALUE with {known.expected}")
        texts.setdefault(known.name, []).append(value.strip())
    values = {name: _value(options_by_name()[name], words) for name, words in texts.items()}
    return own_options(values)


def listing() -> Result:
    """Every load option with its range and default."""
    rows = tuple((o.name, o.help, o.expected, shown_default(o)) for o in OPTIONS)
    data = [
        {"name": o.name, "help": o.help, "expected": o.expected, "default": _plain(o.default), "aliases": [*o.aliases]}
        for o in OPTIONS
    ]
    return Result(data, (Table(("OPTION", "WHAT", "VALUES", "DEFAULT"), rows),))


def shown_default(option: Option) -> str:
    """A default as one would type it."""
    if isinstance(option.default, bool):
        return str(option.default).lower()
    return "" if option.default in ("", ()) else str(option.default)


def _value(option: Option, words: Sequence[str]) -> Any:
    """The value of an option from the words given for it; what cannot be read stays text, for `check` to refuse."""
    if option.kind in ("texts", "numbers"):
        items = [item for word in words for item in _items(option, word)]
        return [_absolute(item) for item in items] if option.name in _PATHS else items
    if len(words) > 1:
        raise BadOption(option.name, words[1], "one value; it is given twice")
    word = words[0]
    try:
        match option.kind:
            case "integer":
                return int(word)
            case "number":
                return float(word)
    except ValueError:
        return word
    if option.kind == "boolean":
        low = word.lower()
        return True if low in _TRUE else False if low in _FALSE else word
    return _absolute(word) if option.name in _PATHS else word


def _items(option: Option, word: str) -> list[Any]:
    if word.startswith("["):
        try:
            found = json.loads(word)
        except ValueError:
            raise BadOption(option.name, word, option.expected) from None
        return found if isinstance(found, list) else [found]
    if option.kind == "texts":
        return [word]
    try:
        return [float(item) for item in word.split(",")]
    except ValueError:
        raise BadOption(option.name, word, option.expected) from None


def _absolute(text: Any) -> Any:
    """A path, with its `=SCALE` where it has one, from the root; the name of a model stays one."""
    if not isinstance(text, str) or not text:
        return text
    path, sign, scale = text.rpartition("=")
    if sign and _is_number(scale):
        return f"{_absolute(path)}={scale}"
    if text.startswith(_ON_THE_NET):
        return text
    if "/" not in text and not text.startswith("~") and not text.endswith(".gguf") and not Path(text).exists():
        return text
    return str(expanded(text).absolute())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _parameter(name: str, kind: Any, flag: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, flag])


def _completer(option: Option) -> Callable[[], list[str]] | None:
    def choices() -> list[str]:
        return list(option.choices)

    return choices if option.choices else None


def _option_names() -> list[str]:
    return [f"{option.name}=" for option in OPTIONS]
