"""Tiny wheels in a folder, and an environment in which installers see that folder and nothing else."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

from uml.core.install import Recipe

MIB = 1 << 20


def wheel(
    folder: Path,
    name: str,
    version: str,
    code: str = "",
    needs: Sequence[str] = (),
    commands: Sequence[str] = (),
    called: str = "",
) -> Path:
    """A wheel of one module, which says its version. commands: scripts that call its `main`. called: its package."""
    folder.mkdir(parents=True, exist_ok=True)
    called = called or name
    path = folder / f"{called}-{version}-py3-none-any.whl"
    about = f"{called}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{name.replace('.', '/')}.py": f"__version__ = {version!r}\n{code}",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {called}\nVersion: {version}\n{requires}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if commands:
        lines = "".join(f"{command} = {name}:main\n" for command in commands)
        files[f"{about}/entry_points.txt"] = f"[console_scripts]\n{lines}"
    record = "".join(f"{file},,\n" for file in files)
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return path


def recipe(steps: Sequence[Sequence[str]] = (("tinyengine=={version}",),), **changes: object) -> Recipe:
    """How the engine `tiny` is made."""
    given: dict[str, object] = {
        "engine": "tiny",
        "title": "Tiny",
        "distribution": "tinyengine",
        "version": "1.0",
        "module": "tinyengine",
        "steps": tuple(map(tuple, steps)),
        "disk_bytes": {"cpu": MIB},
        "download_bytes": {"cpu": MIB},
        **changes,
    }
    return Recipe(**given)  # type: ignore[arg-type]


def offers(folder: Path, environ: Mapping[str, str], **more: str) -> dict[str, str]:
    """The environment of a user whose pip reads this folder, and no index."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("PIP_", "UV_"))}
    return {**kept, "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": str(folder), "PIP_NO_INDEX": "1", **more}


def stand_ins(folder: Path, made: Recipe, version: str = "") -> Path:
    """Empty wheels of everything that a recipe asks for, by its names and versions: an index of one's own."""
    for step in made.steps:
        for word in step:
            if word.startswith("-"):
                continue
            requirement = word.split(";")[0].replace("{version}", version or made.version)
            found = re.match(r"([A-Za-z0-9._-]+)(?:[=><]=([0-9.]+))?", requirement)
            assert found is not None
            name = made.module if found[1] == made.distribution else found[1].replace("-", "_")
            wheel(folder, name, found[2] or "1.0", called=found[1].replace("-", "_"))
    return folder


def packed(folder: Path, *names: str) -> None:
    """Wheels of packages as they are installed here, so that they can be installed elsewhere without a network."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        found = distribution(name)
        tag = re.search(r"^Tag: (\S+)", found.read_text("WHEEL") or "", re.MULTILINE)
        assert tag is not None
        files = [file for file in found.files or () if ".." not in file.parts and file.suffix != ".pyc"]
        about = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
        kept = [file for file in files if file.name not in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")]
        with zipfile.ZipFile(folder / f"{about.removesuffix('.dist-info')}-{tag[1]}.whl", "w") as archive:
            for file in kept:
                archive.write(str(file.locate()), str(file))
            lines = "".join(f"{file},,\n" for file in kept)
            archive.writestr(f"{about}/RECORD", f"{lines}{about}/RECORD,,\n")
