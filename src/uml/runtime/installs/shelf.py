"""The installs of every engine: what there is, which is in use, and how one comes and goes."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from uuid import uuid4

from uml.core.errors import (
    BadOption,
    BadRequest,
    EngineNotInstalled,
    InstallNotFound,
    InstallRefused,
)
from uml.core.install import SHARED, Install, Recipe, Smoke, Step
from uml.core.options import LoadOptions
from uml.core.quote import quoted
from uml.engines.recipes import RECIPES
from uml.runtime.installs import installer, manifest
from uml.runtime.installs.make import Free, Order, Site, disk_free, interpreter, make
from uml.runtime.installs.workshop import LEAVING, is_made_now, sweep

IN_USE: Final = "in-use"
_SHOW: Final = "uml engine ls"
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,99}")
"""Also a folder's name, and part of a requirement: nothing that a path or an installer would take for more."""
_DEVICES: Final = {"cuda": "an NVIDIA GPU (CUDA)", "rocm": "an AMD GPU (ROCm)", "metal": "a Mac with an Apple chip"}


class Installs:
    """Environments of engines in a folder, and the libraries that uml's own environment happens to have.

    folder: one folder an engine below it, in each one folder an install. It is looked at anew for every question: a
    command line and a server may share it. recipes: what can be made. free: bytes on the disk of a folder.
    May be used from any thread.
    """

    def __init__(self, folder: Path, recipes: Mapping[str, Recipe] = RECIPES, free: Free = disk_free) -> None:
        self.folder = folder
        self.recipes = recipes
        self._free = free

    # --- what there is --------------------------------------------------------------------------

    def all(self, engine: str) -> tuple[Install, ...]:
        """The installs of an engine, the newest first, and last the shared one."""
        folders = self._folders(engine)
        own = [found for folder in folders if (found := manifest.read(folder))]
        own.sort(key=lambda install: (install.made, install.label), reverse=True)
        shared = self._shared(engine)
        return (*own, shared) if shared else tuple(own)

    def engines(self) -> tuple[str, ...]:
        """Every engine that there is a recipe for or an install of."""
        try:
            there = sorted(entry.name for entry in self.folder.iterdir() if entry.is_dir() and _is_name(entry.name))
        except OSError:
            there = []
        return tuple(dict.fromkeys((*self.recipes, *there)))

    def find(self, engine: str, label: str = "") -> Install | None:
        """An install by its label; the one in use where that is empty. It is `core.install.Installed`.

        In use is what was last chosen; where that is gone, the newest that has not failed its test, and
        else what is shared.
        """
        if label:
            return self._labelled(engine, label)
        chosen = self._labelled(engine, self.chosen(engine))
        if chosen and chosen.python.exists():
            return chosen
        return next((install for install in self.all(engine) if install.smoke != "failed"), None)

    def _labelled(self, engine: str, label: str) -> Install | None:
        if label == SHARED:
            return self._shared(engine)
        return manifest.read(self.folder / engine / label) if _is_name(label) and _is_name(engine) else None

    def get(self, engine: str, label: str = "", command: str = "") -> Install:
        """As `find`, and raises InstallNotFound, or BadRequest for an engine that nobody knows.

        command: what to try where there is none; empty is to install it.
        """
        if found := self.find(engine, label):
            return found
        there = self.all(engine)
        if not there and engine not in self.recipes:
            raise self._unknown(engine)
        name = f"{engine}=={label}" if label else engine
        raise InstallNotFound(name, [install.name for install in there], command or f"uml engine install {name}")

    def check(self, options: LoadOptions, model: str, install: str = "") -> None:
        """See that the install is there that a load is pinned to. Raises BadOption, EngineNotInstalled.

        install: the name of the installs that run this model, where it is not that of the engine.
        """
        engine, label = options.engine, options.engine_version
        if not label:
            return
        if engine == "auto":
            raise BadOption("engine_version", label, f"the engine beside it: engine=NAME=={label}")
        name = install or engine
        if self.find(name, label) is not None:
            return
        if name != engine and self.find(engine, label):
            there = ", ".join(one.name for one in self.all(name)) or "of which none is installed"
            raise BadOption("engine", f"{engine}=={label}", f"an install of {name}, which runs this model: {there}")
        raise EngineNotInstalled(f"{name}=={label}", model, f"uml engine install {name}=={label}")

    def _folders(self, engine: str) -> Iterable[Path]:
        try:
            return [entry for entry in (self.folder / engine).iterdir() if _is_name(entry.name) and entry.is_dir()]
        except OSError:
            return []

    @property
    def our_pip(self) -> bool:
        """Whether there is a pip beside uml, which can fill environments."""
        return bool(_version("pip"))

    def chosen(self, engine: str) -> str:
        """The label of the install that somebody has chosen; empty where nobody has."""
        try:
            return (self.folder / engine / IN_USE).read_text("utf-8").strip()
        except (OSError, ValueError):
            return ""

    def _shared(self, engine: str) -> Install | None:
        """What uml's own environment has, told by the notes of its packages: nothing is imported."""
        recipe = self.recipes.get(engine)
        found = _version(recipe.distribution) if recipe else ""
        if recipe is None or not found:
            return None
        names = dict.fromkeys(_package(word) for step in recipe.steps for word in step if not word.startswith("-"))
        packages = {name: there for name in names if (there := _version(name))}
        return Install(
            engine=engine,
            version=found,
            folder=Path(sys.prefix),
            python=Path(sys.executable),
            label=SHARED,
            packages=packages,
            accelerator=manifest.accelerator_of(packages),
            shared=True,
        )

    # --- how it changes -------------------------------------------------------------------------

    def use(self, engine: str, label: str) -> Install:
        """Run this one from the next load on. Raises InstallNotFound, BadRequest, InstallRefused for a broken one."""
        found = self.get(engine, label)
        if not found.shared and not found.python.exists():
            raise InstallRefused(f"{found.name} cannot be used: {found.smoke_says}")
        with _on_disk(f"{found.name} cannot be put in use"):
            self._choose(found)
        return found

    def _choose(self, install: Install) -> None:
        root = self.folder / install.engine
        root.mkdir(parents=True, exist_ok=True)
        fresh = root / f".{IN_USE}.{os.getpid()}"
        fresh.write_text(f"{install.label}\n", "utf-8")
        fresh.replace(root / IN_USE)

    def remove(self, engine: str, label: str = "") -> Install:
        """Remove an install; without a label the only one that the engine has in an environment of its own.

        Raises InstallNotFound, BadRequest; InstallRefused for one that is shared or running.
        """
        found = self.get(engine, label, _SHOW) if label else self._only(engine)
        if found.shared:
            raise InstallRefused(
                f"{found.name} is part of the environment that uml runs in; remove it there, with pip uninstall"
            )
        if pids := running_in(found.folder):
            raise InstallRefused(
                f"{found.name} is in use by process {', '.join(map(str, pids))}; unload its models first: uml ps",
                processes=list(pids),
            )
        # It is gone in one step, and then its bytes; what an interruption leaves is swept up at the next start.
        away = found.folder.with_name(f"{LEAVING}{uuid4().hex}")
        with _on_disk(f"{found.name} cannot be removed"):
            try:
                found.folder.rename(away)
            except FileNotFoundError:
                self.get(engine, found.label, _SHOW)  # Where somebody else was faster, this says that it is not there.
                raise
        shutil.rmtree(away, ignore_errors=True)
        return found

    def _only(self, engine: str) -> Install:
        own = [install for install in self.all(engine) if not install.shared]
        if len(own) > 1:
            names = ", ".join(install.name for install in own)
            raise BadRequest(f"{engine} is {len(own)} installs: {names}; say which of them", param="engine")
        return own[0] if own else self.get(engine, command=_SHOW)

    def tested(self, install: Install, smoke: Smoke, says: str) -> Install:
        """Write down what a test has said. Of what is shared, nothing is kept."""
        done = replace(install, smoke=smoke, smoke_says=says)
        if not install.shared:
            with _on_disk(f"what a test of {install.name} said cannot be written down"):
                manifest.write(done)
        return done

    def sweep(self) -> int:
        """Remove what interrupted installs have left; how many there were."""
        return sum(sweep(root) for root in self.folder.glob("*/")) if self.folder.is_dir() else 0

    def order(
        self,
        name: str,
        devices: frozenset[str],
        *,
        tool: installer.Installer = "pip",
        again: bool = False,
        offline: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> Order:
        """What `NAME` or `NAME==VERSION` asks for, checked; nothing is fetched.

        devices: kinds that this machine has. again: also where there is one of this version already.
        Raises BadRequest for what cannot be read, InstallRefused for what cannot be had here.
        """
        engine, wanted, asked = name.strip().partition("==")
        recipe = self.recipes.get(engine.strip())
        if recipe is None:
            raise self._unknown(engine.strip())
        asked = asked.strip() if wanted else recipe.version
        if recipe.built:
            raise InstallRefused(
                f"{recipe.title} comes with uml; for this very machine it is built: uml engine build {recipe.engine}"
            )
        if not _LABEL.fullmatch(asked):
            raise BadRequest(
                f"{quoted(name)} is no NAME==VERSION; try: {recipe.engine}=={recipe.version}", param="engine"
            )
        if recipe.needs and not recipe.needs & devices:
            kinds = " or ".join(_DEVICES.get(kind, kind) for kind in sorted(recipe.needs))
            raise InstallRefused(
                f"{recipe.title} runs only on a machine with {kinds}, and this one has none that its driver tells of; "
                "nothing was fetched",
                needs=sorted(recipe.needs),
            )
        if not again and (self.folder / recipe.engine / asked / manifest.FILE).is_file():
            raise InstallRefused(
                f"{recipe.engine}=={asked} is installed already; use it: uml engine use {recipe.engine}=={asked}, "
                "or make another one beside it: --again"
            )
        if not again and is_made_now(self.folder / recipe.engine, f"{recipe.engine}=={asked}"):
            raise InstallRefused(
                f"{recipe.engine}=={asked} is being installed by somebody else this moment; wait until that is done, "
                "or make another one beside it: --again"
            )
        python = interpreter(recipe, environ)
        if python is None:
            wished = " or ".join(f"{major}.{minor}" for major, minor in recipe.pythons)
            raise InstallRefused(f"{recipe.title} needs Python {wished}, and no such program is on PATH")
        program = installer.program_of(tool, shutil.which("uv", path=environ.get("PATH")), python.parent)
        if program is None:
            raise InstallRefused("uv is not on PATH; install it (pip install uv), or leave out --installer uv")
        accelerator = next((kind for kind in ("cuda", "rocm", "metal") if kind in devices), "cpu")
        return Order(recipe, asked, python, tool, program, accelerator, offline, self.our_pip)

    def install(
        self,
        order: Order,
        tell: Callable[[Step], None] = lambda step: None,
        cancelled: Callable[[], bool] = lambda: False,
        environ: Mapping[str, str] = os.environ,
    ) -> Install:
        """Make an install, which is not in use yet; it may take minutes. Raises InstallFailed, NoRoom, Cancelled."""
        root = self.folder / order.recipe.engine
        sweep(root)
        return make(order, Site(root, tell, cancelled, self._free, environ))

    def _unknown(self, engine: str) -> BadRequest:
        known = list(self.recipes)
        close = difflib.get_close_matches(engine, known, 2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
        return BadRequest(f"{quoted(engine)} is no engine that can be installed; {hint}", param="engine", close=close)


@contextmanager
def _on_disk(sentence: str) -> Iterator[None]:
    """What the disk refuses is an error of ours, with this sentence before the reason."""
    try:
        yield
    except OSError as error:
        raise InstallRefused(f"{sentence}: {error.strerror or error}") from error


def running_in(folder: Path) -> tuple[int, ...]:
    """Processes of this user that were started with an environment's interpreter or one of its programs."""
    import psutil

    inside = f"{folder}{os.sep}"
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if any(str(word).startswith(inside) for word in words[:2]):
            found.append(process.pid)
    return tuple(found)


def _is_name(text: str) -> bool:
    return bool(_LABEL.fullmatch(text)) and text != IN_USE


def _package(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return found[0].lower() if found else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except (PackageNotFoundError, ValueError):
        return ""
