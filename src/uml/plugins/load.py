"""load(taken) -> Plugins: every plug-in that is installed, with what it adds or why it is left out."""

from __future__ import annotations

import ast
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uml.core.engine import Engine, EngineSpec
from uml.core.errors import BadFile, UmlError
from uml.core.guard import Guard, LeftOut
from uml.core.model import Format, ModelInfo
from uml.core.plan import SamplerFile
from uml.formats.reader import opened, read_at
from uml.plugins import GROUP
from uml.plugins.engine import GuardedEngine
from uml.sampling.foreign import ENTRY
from uml.sampling.order import ALSO, DEFAULT

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from uml.plugins.hooks import Detector, Processor

log: Final = logging.getLogger(__name__)

LOAD_LIMIT_S: Final = 10.0
"""For the import of one plug-in; heavy libraries belong into its worker."""
HOOK_LIMIT_S: Final = 5.0
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
MOST_CODE: Final = 1 << 20
"""Bytes of a sampler's file."""

Add = Callable[["Plugins", Guard, Any], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plug-in as it is shown. adds: hook -> names of what came by it."""

    name: str
    package: str
    version: str
    state: str
    says: str
    adds: Mapping[str, tuple[str, ...]]


@dataclass(slots=True)
class Plugins:
    """What all plug-ins add together, and what became of each."""

    taken: Collection[str] = ()
    """Names of engines that are there already."""
    engines: dict[str, Engine] = field(default_factory=dict)
    detectors: list[tuple[Guard, Detector]] = field(default_factory=list)
    processors: list[tuple[Guard, Processor]] = field(default_factory=list)
    commands: dict[str, Callable[..., None]] = field(default_factory=dict)
    samplers: dict[str, SamplerFile] = field(default_factory=dict)
    _found: list[tuple[EntryPoint, Guard, dict[str, tuple[str, ...]]]] = field(default_factory=list)

    @property
    def found(self) -> tuple[Plugin, ...]:
        """Every plug-in, with its state at this moment: one that hangs later is left out then."""
        return tuple(
            Plugin(point.name, _package(point), _version(point), guard.state, guard.says, dict(adds))
            for point, guard, adds in self._found
        )

    def inspector(self, ours: Callable[[Path], ModelInfo]) -> Callable[[Path], ModelInfo]:
        """Our readers, and behind them those of plug-ins, for what ours do not know."""

        def inspect(path: Path) -> ModelInfo:
            found = ours(path)
            return self._detected(path) or found if found.format is Format.UNKNOWN else found

        return inspect if self.detectors else ours

    def _detected(self, path: Path) -> ModelInfo | None:
        for guard, detector in self.detectors:
            try:
                found = guard.call("a detector", detector, path)
            except LeftOut as error:
                log.warning("the plug-in %s cannot tell what %s is: %s", guard.name, path, error)
                continue
            if isinstance(found, ModelInfo):
                return found
        return None


def declared(folders: Iterable[str] | None = None) -> bool:
    """Whether any package declares a plug-in: a look into small files, so that who has none does not wait."""
    for folder in sys.path if folders is None else folders:
        try:
            told = [one for one in Path(folder or ".").iterdir() if one.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for about in told:
            try:
                text = (about / "entry_points.txt").read_bytes()
            except OSError:
                continue
            if f"[{GROUP}]".encode() in text:
                return True
    return False


def load(taken: Collection[str] = (), points: Sequence[EntryPoint] | None = None) -> Plugins:
    """Import every plug-in and ask it what it adds. Never raises for a plug-in's fault.

    taken: names of engines that a plug-in must not have. points: instead of the installed ones.
    """
    plugins = Plugins(taken)
    if points is None:
        if not declared():
            return plugins
        from importlib.metadata import entry_points

        points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    for point in points:
        guard = Guard(point.name)
        adds: dict[str, tuple[str, ...]] = {}
        plugins._found.append((point, guard, adds))
        try:
            _take(plugins, point, guard, adds)
        except (LeftOut, UmlError) as error:
            _leave_out(plugins, guard, adds, str(error))
        except Exception as error:
            # The boundary to code of others: what it gives is looked at, and may be of any kind.
            _leave_out(plugins, guard, adds, f"what it gives cannot be taken: {type(error).__name__}: {error}"[:500])
    return plugins


def _take(plugins: Plugins, point: EntryPoint, guard: Guard, adds: dict[str, tuple[str, ...]]) -> None:
    """Ask one plug-in for all that it adds. Raises LeftOut."""
    import pluggy

    from uml.plugins import hooks

    found = guard.call("its import", point.load, limit_s=LOAD_LIMIT_S)
    manager = pluggy.PluginManager("uml")
    manager.add_hookspecs(hooks)
    try:
        manager.register(found, point.name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise LeftOut(f"a hook is not as it should be: {str(error).splitlines()[-1]}") from error
    for name, add in _ADD.items():
        for given in guard.call(f"{name}()", getattr(manager.hook, name), limit_s=HOOK_LIMIT_S):
            adds[name] = (*adds.get(name, ()), *add(plugins, guard, given))
    if not adds:
        raise LeftOut("it has none of the hooks: " + ", ".join(_ADD))


def _leave_out(plugins: Plugins, guard: Guard, adds: dict[str, tuple[str, ...]], reason: str) -> None:
    """Call a plug-in no more, and take back what it had added before it failed."""
    guard.fail(reason)
    log.warning("the plug-in %s is left out: %s", guard.name, reason)
    for name in adds.pop("register_engines", ()):
        del plugins.engines[name]
    for name in adds.pop("register_commands", ()):
        del plugins.commands[name]
    for name in adds.pop("register_samplers", ()):
        del plugins.samplers[name]
    plugins.detectors[:] = [pair for pair in plugins.detectors if pair[0] is not guard]
    plugins.processors[:] = [pair for pair in plugins.processors if pair[0] is not guard]
    adds.clear()


def _engines(plugins: Plugins, guard: Guard, given: Any) -> tuple[str, ...]:
    made: dict[str, Engine] = {}
    for engine in _listed("register_engines", given):
        spec = getattr(engine, "spec", None)
        if not isinstance(spec, EngineSpec) or not _NAME.fullmatch(spec.name):
            raise LeftOut("register_engines gives something without a spec, or with a name that is not lower case")
        if spec.name in plugins.taken or spec.name in plugins.engines or spec.name in made:
            raise LeftOut(f"an engine is called {spec.name} already")
        made[spec.name] = GuardedEngine(engine, guard)
    plugins.engines |= made
    return tuple(made)


def _detectors(plugins: Plugins, guard: Guard, given: Any) -> tuple[str, ...]:
    found = _listed("register_detectors", given)
    if not all(map(callable, found)):
        raise LeftOut("register_detectors gives something that cannot be called")
    plugins.detectors += [(guard, detector) for detector in found]
    return tuple(getattr(detector, "__name__", type(detector).__name__) for detector in found)


def _samplers(plugins: Plugins, guard: Guard, given: Any) -> tuple[str, ...]:
    """Their files are read, and run by workers only: what they import may be there alone."""
    made: dict[str, SamplerFile] = {}
    for one in _listed("register_samplers", given):
        if not isinstance(one, SamplerFile) or not _NAME.fullmatch(one.name):
            raise LeftOut("register_samplers gives something that is no SamplerFile, or whose name is not lower case")
        if one.name in (*DEFAULT, *ALSO) or one.name in plugins.samplers or one.name in made:
            raise LeftOut(f"a sampler is called {one.name} already")
        path = Path(one.path).resolve()
        try:
            with opened(path) as (file, size):
                if size > MOST_CODE:
                    raise BadFile(path, f"has {size} bytes; at most {MOST_CODE} are read")
                tree = ast.parse(read_at(file, 0, size), str(path))
        except (BadFile, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            # The last two: what the parser says of code that is nested too deeply.
            raise LeftOut(f"the file of the sampler {one.name} cannot be read: {str(error) or 'too deep'}") from error
        if not any(isinstance(part, ast.FunctionDef) and part.name == ENTRY for part in tree.body):
            raise LeftOut(f"{path} has no function {ENTRY}(setting, about)")
        made[one.name] = SamplerFile(one.name, path, guard.name)
    plugins.samplers |= made
    return tuple(made)


def _processors(plugins: Plugins, guard: Guard, given: Any) -> tuple[str, ...]:
    found = _listed("register_processors", given)
    if not all(callable(getattr(one, "before", None)) and callable(getattr(one, "after", None)) for one in found):
        raise LeftOut("register_processors gives something without before() and after()")
    plugins.processors += [(guard, one) for one in found]
    return tuple(str(getattr(one, "name", type(one).__name__)) for one in found)


def _commands(plugins: Plugins, guard: Guard, given: Any) -> tuple[str, ...]:
    found = _named("register_commands", given)
    for name, function in found.items():
        if name in plugins.commands or not callable(function):
            raise LeftOut(f"the command {name} is there already, or cannot be called")
    plugins.commands |= found
    return tuple(found)


def _listed(hook: str, given: Any) -> list[Any]:
    if not isinstance(given, list | tuple):
        raise LeftOut(f"{hook} gives {type(given).__name__}, expected a list")
    return list(given)


def _named(hook: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in given):
        raise LeftOut(f"{hook} gives no table of names in lower case")
    return dict(given)


_ADD: Final[Mapping[str, Add]] = {
    "register_engines": _engines,
    "register_detectors": _detectors,
    "register_samplers": _samplers,
    "register_processors": _processors,
    "register_commands": _commands,
}
"""Hook -> what becomes of what it gives: the names by which it is shown. Raises LeftOut."""


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _version(point: EntryPoint) -> str:
    return point.dist.version if point.dist else ""
