"""Settings: default < file < environment < flag, and every value knows where it came from.

The file is `config.toml` in the user's configuration folder (`UML_CONFIG` names another one);
the environment says `UML_PORT` for `port`; a flag is what the command line was given. Load options
(`[options]` in the file, `UML_OPTIONS` as JSON) are merged one by one, all else is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from uml.config.folders import absolute, config_file, data_folder, ensure_private, ensure_writable, runtime_folder
from uml.config.values import BY_NAME, SETTINGS, Setting
from uml.core.errors import BadRequest, BadSetting, SetupError
from uml.core.quote import quoted


class Row(NamedTuple):
    """A setting as `uml doctor` shows it; `value` is a JSON value, and secrets are masked."""

    name: str
    value: Any
    source: str


class _Layer(NamedTuple):
    """What one source gives, what it calls a setting in an error, and what it is called itself."""

    given: Mapping[str, object]
    label: Callable[[str], str]
    source: Callable[[str], str]
    base: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a user can set. `load` reads and checks it; building one by hand checks nothing."""

    data: Path
    runtime: Path
    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    model_folders: tuple[Path, ...] = ()
    engine: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    memory_budget: int | float | None = None
    """An int is bytes, a float a share of the memory (0 < share <= 1), None all that is free."""
    gpu_budget: Mapping[str, int | float] = field(default_factory=dict)
    """The same by device id, of each GPU's own memory; under `*` for every one that is not named."""
    max_body_mib: int = 64
    load_timeout_s: float = 120.0
    """Seconds without progress."""
    queue_limit: int = 256
    idle_unload_s: float = 1800.0
    """Below 0: never."""
    preload: tuple[str, ...] = ()
    swap_turn_s: float = 5.0
    swap_turn_requests: int = 8
    load_retry_s: float = 5.0
    quarantine_deaths: int = 5
    session_disk: int = 8 << 30
    """Bytes for conversations of unloaded models; 0: none is saved, and those that were are removed."""
    session_stop_s: float = 10.0
    """Seconds that a stopping server gives to saving them."""
    converted_disk: int = 100 << 30
    """Bytes for GGUF files that models of older formats were made into; 0: none is made by itself."""
    hang_timeout_s: float = 30.0
    request_timeout_s: float | None = None
    worker_memory: int | float | None = None
    """As `memory_budget`."""
    worker_cpu_share: float | None = None
    worker_nice: int = 0
    sandbox: Literal["off", "auto", "required"] = "auto"
    sandbox_reads: tuple[Path, ...] = ()
    llama_server: Path | None = None
    vllm: Path | None = None
    trtllm_serve: Path | None = None
    plugins: bool = True
    log_level: str = "info"
    offline: bool = False
    """Nothing leaves the machine, whatever a command names; HF_HUB_OFFLINE says the same of hubs."""
    file: Path | None = None
    """The configuration file that was read, or would have been if it existed."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Name -> where its value came from; a load option goes by `options.NAME`."""
    warnings: tuple[str, ...] = ()
    """Variables that look like a misspelt setting."""

    @property
    def programs(self) -> Mapping[str, Path | None]:
        """Servers of the user's by engine, that run instead of those of installs."""
        return {"vllm": self.vllm, "tensorrt-llm": self.trtllm_serve}

    def explain(self) -> tuple[Row, ...]:
        """Every setting with its value and where that came from, in the order of `SETTINGS`."""
        rows = []
        for setting in SETTINGS:
            value = getattr(self, setting.name)
            if setting.name == "options":
                rows += [Row(f"options.{k}", _plain(v), self._source(f"options.{k}")) for k, v in value.items()]
            else:
                shown = "(set)" if setting.secret and value is not None else _plain(value)
                rows.append(Row(setting.name, shown, self._source(setting.name)))
        return tuple(rows)

    def _source(self, name: str) -> str:
        return self.sources.get(name, "default")

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        file: Path | None = None,
    ) -> Settings:
        """Settings of this user. A flag that is None was not given; an empty variable is not set.

        file: read instead of the user's own; it must exist then.
        Raises BadSetting, which names the source, the value and what is expected, and SetupError for a file that cannot
        be read.
        """
        environ = os.environ if environ is None else environ
        where, content = _read_file(file, environ)
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for layer in _layers(flags or {}, environ, where, content):
            for key, raw in layer.given.items():
                setting = _known(key, layer.label(key))
                value = _checked(setting, raw, layer)
                if setting.name == "options":
                    values["options"] = {**values.get("options", {}), **value}
                    sources |= {f"options.{option}": layer.source("options") for option in value}
                else:
                    values[setting.name] = value
                    sources[setting.name] = layer.source(setting.name)
        data = values.setdefault("data", data_folder())
        values.setdefault("runtime", runtime_folder(data, environ))
        for name in ("llama_server", "vllm", "trtllm_serve"):
            if values.get(name) == "auto":
                values[name] = found = _on_path(name.replace("_", "-"), environ)
                sources[name] += ": auto, found on PATH" if found else ": auto, not on PATH"
        return cls(**values, file=where, sources=sources, warnings=_strange(environ))


def _layers(
    flags: Mapping[str, object], environ: Mapping[str, str], where: Path, content: Mapping[str, object]
) -> tuple[_Layer, ...]:
    """What is given, weakest first. Relative paths in the file start from its folder."""
    variables = {s.name: environ[s.variable] for s in SETTINGS if environ.get(s.variable)}
    given = {name: value for name, value in flags.items() if value is not None}

    def flag(name: str) -> str:
        return "--" + name.replace("_", "-")

    return (
        _Layer(content, lambda name: f"{name} in {where}", lambda _: f"file {where}", where.parent),
        _Layer(
            variables,
            lambda name: BY_NAME[name].variable,
            lambda name: f"environment {BY_NAME[name].variable}",
            Path.cwd(),
        ),
        _Layer(given, flag, lambda name: f"flag {flag(name)}", Path.cwd()),
    )


def _read_file(file: Path | None, environ: Mapping[str, str]) -> tuple[Path, Mapping[str, object]]:
    """The configuration file and what it says; nothing where the user has none."""
    named = file or environ.get("UML_CONFIG") or None
    where = config_file() if named is None else absolute(str(named), Path.cwd())
    try:
        raw = where.read_bytes()
    except FileNotFoundError:
        if named is None:
            return where, {}
        raise SetupError(f"the configuration file {where} does not exist") from None
    except OSError as error:
        raise SetupError(f"the configuration file {where} cannot be read: {error.strerror}") from error
    import tomllib

    try:
        return where, tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"the configuration file {where} is not valid TOML: {error}") from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
        raise SetupError(f"the configuration file {where} cannot be read as TOML: {error}") from error


def _known(name: str, label: str) -> Setting:
    setting = BY_NAME.get(name.replace("-", "_"))
    if setting is None:
        close = _close(name, list(BY_NAME), 0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(BY_NAME)}"
        raise BadSetting(f"{label}: there is no such setting; {hint}", close=close)
    return setting


def _checked(setting: Setting, raw: object, layer: _Layer) -> Any:
    label = layer.label(setting.name)
    try:
        return setting.parse(raw, layer.base)
    except BadRequest as error:  # a load option, with its own range
        raise BadSetting(f"{label}: {error.message}") from error
    except ValueError:
        value = "not valid" if setting.secret else quoted(raw)
        raise BadSetting(f"{label} is {value}; expected {setting.expected}") from None


def _strange(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Only what is close to a setting: other programs may have UML_ names of their own."""
    known = [*(setting.variable for setting in SETTINGS), "UML_CONFIG"]
    unknown = sorted(name for name in environ if name.startswith("UML_") and name not in known)
    close = {name: _close(name, known, 0.8) for name in unknown}
    return tuple(f"{name} is not a setting; did you mean {found[0]}?" for name, found in close.items() if found)


def _close(name: str, known: list[str], cutoff: float) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, known, 2, cutoff)


def _on_path(program: str, environ: Mapping[str, str]) -> Path | None:
    import shutil

    found = shutil.which(program, path=environ.get("PATH", os.defpath))
    return Path(found) if found else None


def _plain(value: object) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value


__all__ = ["SETTINGS", "Row", "Setting", "Settings", "ensure_private", "ensure_writable"]
