"""make(order, ...) -> Install: an environment in a folder beside its place, moved there when it is whole."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from uml.core.errors import InstallFailed, NoRoom, gib
from uml.core.install import Install, Recipe, Stage, Step
from uml.runtime.installs import child, heard, installer, manifest
from uml.runtime.installs.workshop import workshop

LAST_LINES: Final = 400
SHOWN_LINES: Final = 20
SHOWN_WIDTH: Final = 400
"""Characters: pip names all versions that there are, in one line."""
SPARE_BYTES: Final = 256 << 20
"""Left free on a disk beside what an install takes."""
IMPORT_LIMIT_S: Final = 900.0
"""PyTorch's first import from a cold disk takes a minute; one with CUDA libraries may take several."""
QUIET: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "CUDA_MODULE_LOADING": "LAZY",
}
_IMPORT: Final = (
    "import sys, time; t = time.monotonic(); __import__(sys.argv[1]); print(round(time.monotonic() - t, 2))"
)


@dataclass(frozen=True, slots=True)
class Order:
    """What to make, and how. version: of the engine's library, checked. accelerator: that of the machine.

    python: the interpreter that the environment is made of. program: uv's, where that is the installer.
    our_pip: there is a pip beside uml, which fills it from outside; else it gets one of its own.
    mark: put behind the version, where that alone does not say what it is. variables: for what builds it.
    """

    recipe: Recipe
    version: str
    python: Path
    installer: installer.Installer = "pip"
    program: str = ""
    accelerator: str = "cpu"
    offline: bool = False
    our_pip: bool = True
    mark: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As in sentences."""
        return f"{self.recipe.engine}=={self.version}"

    @property
    def disk_bytes(self) -> int:
        """Of the environment, by the recipe."""
        return _by(self.recipe.disk_bytes, self.accelerator)

    @property
    def most_bytes(self) -> int:
        """While it is made: what is fetched lies beside what it is unpacked to."""
        return self.disk_bytes + _by(self.recipe.download_bytes, self.accelerator) + SPARE_BYTES


def _by(sizes: Mapping[str, int], accelerator: str) -> int:
    return sizes.get(accelerator, sizes["cpu"])


Free = Callable[[Path], int]


def disk_free(folder: Path) -> int:
    """Bytes that this user may still write to the disk of a folder."""
    return shutil.disk_usage(folder).free


@dataclass(slots=True)
class Site:
    """Where an install is made. root: of the engine's installs. tell: hears every step. cancelled: whether to stop."""

    root: Path
    tell: Callable[[Step], None]
    cancelled: Callable[[], bool] = lambda: False
    free: Free = disk_free
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


def make(order: Order, site: Site) -> Install:
    """Make it whole, try that it can be imported, and put it in its place. It may take minutes.

    Whatever ends it before, nothing of it is left. Raises NoRoom before anything is fetched, InstallFailed,
    Cancelled.
    """
    try:
        site.root.mkdir(parents=True, exist_ok=True)
        if (free := site.free(site.root)) < order.most_bytes:
            raise NoRoom(order.name, order.most_bytes, free, site.root)
        with workshop(site.root, order.name) as (shop, lock):
            return _Making(order, site, shop, lock).run()
    except OSError as error:
        raise InstallFailed(order.name, _said(error, site)) from error


def _said(error: OSError, site: Site) -> str:
    with suppress(OSError):
        return heard.why([f"ERROR: {error}"], site.free(site.root)).removeprefix("the installer says: ")
    return str(error)


class _Making:
    """One install in the making."""

    def __init__(self, order: Order, site: Site, shop: Path, lock: int) -> None:
        self._order = order
        self._site = site
        self._lock = lock
        self._shop = shop
        self._folder = shop / "environment"
        self._temporary = shop / "temporary"
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._began = time.monotonic()
        self._looked = 0.0
        self._step = Step(order.recipe.engine, "environment", total_bytes=order.disk_bytes)

    def run(self) -> Install:
        """Take every step; the install that is there then. Raises InstallFailed, NoRoom."""
        order, recipe = self._order, self._order.recipe
        self._temporary.mkdir()
        self._say("environment", f"making an environment of {order.python.name}")
        self._child(installer.made_by(order.installer, order.program, order.python, self._folder, not order.our_pip))
        if order.version != recipe.version:
            self._say("installing", f"looking for {order.name}")
            self._install(installer.looked_for(recipe, order.version))
        first, *others = installer.requirements(recipe, order.version)
        self._install_first(first)
        for words in others:
            self._install(words)
        smoke_says = self._imported()
        packages = manifest.packages_in(self._folder)
        version = packages.get(recipe.distribution.lower(), order.version)
        made = Install(
            engine=recipe.engine,
            version=version,
            folder=self._folder,
            python=manifest.python_of(self._folder),
            label=_free_label(self._site.root, version + order.mark),
            packages=packages,
            platform=platform.platform(),
            accelerator=manifest.accelerator_of(packages),
            made=datetime.now(UTC).isoformat(timespec="milliseconds"),
            size_bytes=manifest.tree_bytes(self._folder),
            smoke_says=smoke_says,
        )
        manifest.write(made)
        place = self._site.root / made.label
        _relocate(self._folder, place)
        self._folder.rename(place)
        self._say("done", f"{made.name} is installed{self._idle_libraries(made)}", percent=100.0)
        found = manifest.read(place)
        assert found is not None
        return found

    def _idle_libraries(self, made: Install) -> str:
        """What to say of libraries for a GPU where there is none: the public index has PyTorch with them only."""
        if self._order.accelerator != "cpu" or made.accelerator != "cuda":
            return ""
        how = {"pip": "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu", "uv": "UV_TORCH_BACKEND=cpu"}
        return (
            f"; most of its {gib(made.size_bytes)} is for CUDA, which this machine does not have: "
            f"installed with {how[self._order.installer]} it is smaller"
        )

    def _install_first(self, words: tuple[str, ...]) -> None:
        """PyTorch, in most recipes: the build without CUDA where that is of no use, as far as it can be had."""
        order, index = self._order, self._order.recipe.cpu_index
        if index and order.accelerator == "cpu" and sys.platform == "linux" and not (order.offline or self._is_told()):
            try:
                self._install((*installer.also_from(order.installer, index), *words))
            except InstallFailed:
                self._say("installing", f"{index} is of no help; looking where packages usually are")
            else:
                return
        self._install(words)

    def _is_told(self) -> bool:
        configured: list[str] = []
        if self._order.installer == "pip":
            own = "" if self._order.our_pip else str(manifest.python_of(self._folder))
            environment = installer.environment(self._site.environ, self._temporary, offline=False)
            child.run(installer.configuration(own or sys.executable), environment, configured.append)
        return installer.is_told(self._order.installer, configured, self._site.environ)

    def _install(self, words: tuple[str, ...]) -> None:
        order = self._order
        self._child(installer.filled_by(order.installer, order.program, self._folder, words, not order.our_pip))

    def _child(self, argv: tuple[str, ...]) -> None:
        environment = installer.environment(self._site.environ, self._temporary, offline=self._order.offline)
        environment |= self._order.variables
        self._lines.append("$ " + " ".join(argv))
        code = child.run(
            argv, environment, self._heard, cancelled=self._site.cancelled, beat=self._beat, keep=(self._lock,)
        )
        if code:
            free = self._site.free(self._site.root)
            raise self._failed(heard.why(tuple(self._lines), free, offline=self._order.offline))

    def _imported(self) -> str:
        """Import the library in a child, and say how long that took. Raises InstallFailed."""
        module = self._order.recipe.module
        if not module:
            return "not imported: it compiles what it needs when it is first imported"
        self._say("testing", f"importing {module}")
        argv = (str(manifest.python_of(self._folder)), "-I", "-u", "-c", _IMPORT, module)
        environment = {**installer.environment(self._site.environ, self._temporary, offline=True), **QUIET}
        lines: deque[str] = deque(maxlen=LAST_LINES)
        try:
            code = child.run(
                argv,
                environment,
                lines.append,
                cancelled=self._site.cancelled,
                beat=self._beat,
                limit_s=IMPORT_LIMIT_S,
                keep=(self._lock,),
            )
        except TimeoutError as error:
            raise self._failed(f"importing {module} took longer than {IMPORT_LIMIT_S:g} s") from error
        if code:
            self._lines = lines
            last = lines[-1] if lines else f"exit code {code}"
            raise self._failed(f"its library cannot be imported: {last}")
        return f"imported in {lines[-1]} s" if lines else "imported"

    def _failed(self, reason: str) -> InstallFailed:
        last = [line if len(line) <= SHOWN_WIDTH else f"{line[: SHOWN_WIDTH - 3]}..." for line in self._lines]
        return InstallFailed(self._order.name, reason, last[-SHOWN_LINES:])

    def _heard(self, line: str) -> None:
        self._lines.append(line)
        if self._order.accelerator == "cpu" and heard.is_for_cuda(line):
            self._see_room_for_cuda()
        if text := heard.step(line):
            self._say("installing", text)

    def _see_room_for_cuda(self) -> None:
        """Before several GiB are fetched that were not reckoned with. Raises NoRoom."""
        order, root = self._order, self._site.root
        most = replace(order, accelerator="cuda")
        if self._step.total_bytes >= most.disk_bytes:
            return
        if (free := self._site.free(root) + self._step.bytes) < most.most_bytes:
            raise NoRoom(f"{order.name}, whose PyTorch is one for CUDA here,", most.most_bytes, free, root)
        self._step = replace(self._step, total_bytes=most.disk_bytes)

    def _beat(self) -> None:
        """Look how much there is by now; less often where that takes long."""
        now = time.monotonic()
        if now < self._looked:
            return
        size = manifest.tree_bytes(self._shop)
        self._looked = now + max(0.5, 20 * (time.monotonic() - now))
        if size > self._step.bytes:
            self._say(self._step.stage, self._step.text, size=size)

    def _say(self, stage: Stage, text: str, *, size: int = 0, percent: float = 0.0) -> None:
        before = self._step
        size = max(before.bytes, size)
        # What is left to the recipe's guess is not promised: the last part comes with the end.
        reckoned = min(95.0, 95.0 * size / before.total_bytes) if before.total_bytes else 0.0
        self._step = Step(
            engine=before.engine,
            stage=stage,
            text=text,
            bytes=size,
            total_bytes=before.total_bytes,
            percent=round(max(before.percent, reckoned, percent), 1),
            seconds=round(time.monotonic() - self._began, 2),
        )
        self._site.tell(self._step)


def _free_label(root: Path, version: str) -> str:
    """The version, or with a number where there is one of this version already."""
    label, number = version, 1
    while (root / label).exists():
        number += 1
        label = f"{version}-{number}"
    return label


def _relocate(folder: Path, place: Path) -> None:
    """Write the place that an environment will have into its scripts: they name their interpreter by its path."""
    before, after = os.fsencode(folder), os.fsencode(place)
    for path in (folder / "pyvenv.cfg", *(folder / manifest.SCRIPTS).iterdir()):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if before in content and b"\0" not in content[:1024]:
            path.write_bytes(content.replace(before, after))


def python_version(program: Path, environ: Mapping[str, str]) -> str:
    """What an interpreter says its version is: `3.12`; empty where it says nothing."""
    lines: list[str] = []
    words = (str(program), "-I", "-c", "import sys, json; print(json.dumps(sys.version_info[:2]))")
    try:
        child.run(words, environ, lines.append, limit_s=20.0)
        major, minor = json.loads(lines[-1])
    except (OSError, TimeoutError, ValueError, IndexError):
        return ""
    return f"{major}.{minor}"


def interpreter(recipe: Recipe, environ: Mapping[str, str] = os.environ) -> Path | None:
    """An interpreter that the recipe runs on: ours where it may be, else one on PATH; None: there is none."""
    here = sys.version_info[:2]
    if not recipe.pythons or here in recipe.pythons:
        return Path(sys.executable)
    for major, minor in recipe.pythons:
        found = shutil.which(f"python{major}.{minor}", path=environ.get("PATH", os.defpath))
        if found and python_version(Path(found), environ) == f"{major}.{minor}":
            return Path(found)
    return None
