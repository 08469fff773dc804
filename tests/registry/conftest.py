"""A registry of an empty home, with models a few kilobytes large."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import write_tiny_gguf
from uml.registry import Registry, packaged_model

ONE = {"demo": packaged_model()}
"""Of what comes with the program the demo model alone."""


class Shelfless(Registry):
    """A registry that does not look into this machine's own caches."""

    def __init__(self, database: Path) -> None:
        super().__init__(database, shelves=tuple, package=ONE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Shelfless(tmp_path / "data" / "registry.sqlite") as opened:
        yield opened


def gguf(path: Path, name: str = "", **metadata: object) -> Path:
    """A tiny model whose content differs by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tiny_gguf(path, name=name or path.stem, **metadata)
