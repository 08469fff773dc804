"""What was made is put in the place of what ships, and whoever has that mapped keeps it as it was."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from tools.demo_model.ship import ship


def made(folder: Path, content: bytes) -> Path:
    """Files as a make leaves them."""
    for path in (folder / "demo.gguf", folder / "demo-peft" / "adapter.safetensors", folder / "kinds" / "q4.gguf"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def mapping(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def test_what_is_mapped_stays_whole_while_new_files_take_its_place(tmp_path: Path) -> None:
    package = tmp_path / "package"
    assert ship(made(tmp_path / "first", b"old" * 5000), package) == [package / "demo-peft", package / "demo.gguf"]
    (package / "README.md").write_text("of the package")
    (package / "demo-peft" / "left").write_text("of an earlier make")
    places = [package / "demo.gguf", package / "demo-peft" / "adapter.safetensors"]
    mapped = [mapping(place) for place in places]
    ship(made(tmp_path / "second", b"new"), package)
    assert [place.read_bytes() for place in places] == [b"new", b"new"]
    assert [one[:] for one in mapped] == [b"old" * 5000] * 2, "nothing was cut away under them"
    assert sorted(path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()) == [
        "README.md",
        "demo-peft/adapter.safetensors",
        "demo.gguf",
    ]


def test_a_copy_that_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    package = tmp_path / "package"
    ship(made(tmp_path / "first", b"old"), package)
    second = made(tmp_path / "second", b"new")
    (second / "demo-peft" / "adapter.safetensors").unlink()
    (second / "demo-peft" / "adapter.safetensors").symlink_to("nowhere")
    with pytest.raises(OSError, match="No such file"):
        ship(second, package)
    assert (package / "demo-peft" / "adapter.safetensors").read_bytes() == b"old"
    assert sorted(path.name for path in package.iterdir()) == ["demo-peft", "demo.gguf"]
