"""What other programs call it: a word to who types a command or a flag of theirs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from uml.cli.load_flags import COMMON
from uml.core.options import options_by_name
from uml.core.options_elsewhere import ELSEWHERE

_NO_DOWNLOAD: Final = (
    "models are not downloaded here: put the file anywhere, then `uml run PATH`, or `uml scan FOLDER` for many; "
    "`uml estimate hf:OWNER/NAME` tells before a download whether it fits"
)

_COMMANDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("list", "models", "tags"), "it is `uml ls` here"),
    **dict.fromkeys(("show", "info"), "it is `uml inspect MODEL` here"),
    **dict.fromkeys(("rm", "remove", "delete"), "it is `uml forget MODEL` here, which deletes no file"),
    **dict.fromkeys(("pull", "get", "download", "fetch"), _NO_DOWNLOAD),
    **dict.fromkeys(("chat", "ask", "generate", "prompt", "cli"), "it is `uml run MODEL` here"),
    **dict.fromkeys(("start", "server", "up"), "it is `uml serve` here"),
    **dict.fromkeys(("quit", "down", "kill"), "it is `uml stop` for the server, `uml unload MODEL` for a model"),
    **dict.fromkeys(("status", "top"), "it is `uml ps` here"),
    **dict.fromkeys(("cp", "tag", "rename"), "it is `uml alias NAME MODEL` here"),
    **dict.fromkeys(("import", "add"), "it is `uml scan FOLDER` here, or `uml run PATH` for one model"),
    **dict.fromkeys(("config", "settings"), "`uml doctor` shows every setting, and where it is from"),
    **dict.fromkeys(("create", "customize"), "it is `uml profile MODEL` here, for load options that a model keeps"),
    **dict.fromkeys(("push", "upload", "publish"), "nothing leaves this machine"),
    **dict.fromkeys(("login", "signin", "logout"), "there are no accounts here; nothing leaves this machine"),
    **dict.fromkeys(("update", "upgrade"), "uml is updated as it was installed, engines by `uml engine install`"),
    "swap": "it is `uml load MODEL` here, or any request: what does not fit beside it leaves",
    "bench": "`uml run MODEL PROMPT --verbose` tells the speed",
    "log": "it is `uml logs` here",
    "install": "it is `uml engine install ENGINE` here",
    "help": "it is `uml --help`, or `uml COMMAND --help`",
}
"""Command of another program -> what does that here."""

_FLAGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("c", "contextsize"), "ctx"),
    **dict.fromkeys(("gpulayers", "gpu"), "gpu_layers"),
    **dict.fromkeys(("t", "num_thread"), "threads"),
    **dict.fromkeys(("keepalive", "ttl"), "keep_alive"),
    **dict.fromkeys(("multiuser",), "parallel"),
    **dict.fromkeys(("b", "blasbatchsize"), "batch"),
    **dict.fromkeys(("dev",), "device"),
    **dict.fromkeys(("md", "draftmodel"), "draft_model"),
    **dict.fromkeys(("n", "n_predict", "num_predict"), "max_tokens"),
    **dict.fromkeys(("temp",), "temperature"),
    **dict.fromkeys(("sys", "system_prompt"), "system"),
    **dict.fromkeys(("model_dir", "models_dir", "modelsdir"), "model_folder"),
    "ub": "ubatch", "quantkv": "cache_type_k", "ts": "tensor_split", "sm": "split_mode", "mg": "main_gpu",
    "ot": "override_tensor", "ncmoe": "cpu_moe_layers", "useswa": "swa_full",
}  # fmt: skip
"""Flag of another program, bare -> the option here; load options know further names of their own."""

_ARGUMENTS: Final[Mapping[str, str]] = {"m": "MODEL", "model": "MODEL", "p": "PROMPT", "prompt": "PROMPT"}
_EVERYWHERE: Final = ("server", "api-key", "data", "json", "debug")


def command_hint(name: str) -> str:
    """What this command of another program is here; empty where that is not known."""
    return _COMMANDS.get(name.lower(), "")


def flag_hint(flag: str, arguments: Sequence[str], context: Any) -> tuple[str, str]:
    """The flag as it was typed, and what it is here; empty where that is not known.

    flag: as the reader of command lines calls it, which of `-ngl` reads `-n`. context: of the command that was asked.
    """
    typed = next((word for word in arguments if not flag.startswith("--") and word.startswith(flag)), flag)
    bare = typed.partition("=")[0].lstrip("-").replace("-", "_")
    parameters = context.command.params
    flags = {name for parameter in parameters for name in parameter.opts if name.startswith("--")}
    if hasattr(context.command, "list_commands"):
        here = "it stands after the command: uml COMMAND " + typed if typed.lstrip("-") in _EVERYWHERE else ""
        if bare in ("m", "model"):
            here = "it is uml run MODEL here"
        return typed, here
    if bare in _ARGUMENTS and any(_ARGUMENTS[bare] == parameter.metavar for parameter in parameters):
        return typed, f"{_ARGUMENTS[bare]} stands without a flag: {context.command_path} {_usage(parameters)}"
    if bare in ("m", "model") and context.info_name == "serve":
        return typed, "a request names its model, which is then loaded; uml load MODEL loads one before"
    return typed, _option_hint(_FLAGS.get(bare, bare), flags)


def _option_hint(name: str, flags: set[str]) -> str:
    options = options_by_name()
    negated = name.removeprefix("no_")
    value = "VALUE"
    if name not in options and negated in options and options[negated].kind == "boolean":
        name, value = negated, "false"
    name = options[name].name if name in options else name
    flag = "--" + name.replace("_", "-")
    if flag in flags:
        return f"it is {flag} here"
    if name in options and name not in COMMON and "--option" in flags:
        return f"it is --option {name}={'true' if options[name].default is False else value} here"
    return ELSEWHERE.get(name, "") if "--option" in flags else ""


def _usage(parameters: Sequence[Any]) -> str:
    return " ".join(parameter.metavar for parameter in parameters if not parameter.opts[0].startswith("-"))
