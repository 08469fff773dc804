"""What the llama.cpp in use was built for, told without importing it into this process."""

from __future__ import annotations

import struct
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "xllamacpp"
PROBE_TIMEOUT_S: Final = 20.0

BACKENDS: Final = {
    "libcuda": "cuda",
    "libcublas": "cuda",
    "libamdhip": "rocm",
    "libhipblas": "rocm",
    "librocblas": "rocm",
    "libvulkan": "vulkan",
}
"""Beginning of a shared library's name -> the kind of device that needs it."""


def embedded_version() -> str:
    """Version of the wheel, or empty when it is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return ""


@cache
def embedded_devices() -> frozenset[str]:
    """Kinds of device that the wheel computes on: the processor, and what its shared library is linked to.

    The wheel of the public index is for processors only (Metal on a Mac); those for GPUs carry the same name
    and version, so the file itself has to tell.
    """
    kinds = {"cpu"}
    if sys.platform == "darwin":
        kinds.add("metal")
    try:
        files = distribution(DISTRIBUTION).files or ()
    except PackageNotFoundError:
        files = ()
    for file in files:
        if file.name.startswith(DISTRIBUTION) and file.suffix == ".so":
            for library in needed_libraries(Path(str(file.locate()))):
                kinds |= {kind for prefix, kind in BACKENDS.items() if library.startswith(prefix)}
    return frozenset(kinds)


def needed_libraries(path: Path) -> list[str]:
    """Names of the shared libraries that a 64-bit little-endian ELF file is linked to; empty for anything else.

    Layout: System V ABI, chapters 4 and 5. Section headers lead to `.dynamic` (type 6), whose entries of
    tag 1 (DT_NEEDED) are offsets into the string table that the section links to.
    """
    try:
        with path.open("rb") as file:
            header = file.read(64)
            if header[:6] != b"\x7fELF\x02\x01":
                return []
            offset, entry_size, count = *struct.unpack_from("<Q", header, 40), *struct.unpack_from("<HH", header, 58)
            file.seek(offset)
            table = file.read(min(entry_size * count, 1 << 20))
            sections = [struct.unpack_from("<IIQQQQI", table, entry_size * i) for i in range(count)]
            dynamic = next((section for section in sections if section[1] == 6), None)
            if dynamic is None:
                return []
            file.seek(dynamic[4])
            entries = file.read(min(dynamic[5], 1 << 20))
            names = sections[dynamic[6]]
            file.seek(names[4])
            strings = file.read(min(names[5], 1 << 26))
    except (OSError, ValueError, struct.error, IndexError):
        return []
    found = []
    for at in range(0, len(entries) - 15, 16):
        tag, value = struct.unpack_from("<QQ", entries, at)
        if tag == 1:
            found.append(strings[value : strings.find(b"\0", value)].decode(errors="replace"))
    return found


def system_info(llama_server: Path | None = None, python: Path | None = None) -> dict[str, bool]:
    """Instruction sets and features that the build uses, asked in a short-lived child.

    `{"AVX2": True, "F16C": True, ...}`; empty when the child says nothing. A program of the user's does not tell.
    python: the interpreter of the environment that it is in; ours by default.
    """
    if llama_server is not None:
        return {}
    text = _ask(str(python or sys.executable), "-c", "import xllamacpp; print(xllamacpp.get_system_info())")
    pairs = (part.rpartition(":")[2].partition("=") for part in text.split("|"))
    return {name.strip(): value.strip() == "1" for name, equals, value in pairs if equals}


@cache
def server_devices(program: Path) -> frozenset[str]:
    """Kinds of device that a `llama-server` lists; the processor is always one of them."""
    kinds = {"cpu"}
    words = {"cuda": "cuda", "rocm": "rocm", "hip": "rocm", "vulkan": "vulkan", "mtl": "metal", "metal": "metal"}
    for line in _ask(str(program), "--list-devices").splitlines():
        if line.startswith("  "):
            kinds |= {kind for word, kind in words.items() if line.strip().lower().startswith(word)}
    return frozenset(kinds)


@cache
def server_version(program: Path) -> str:
    """`version: 11549 (abc1234)` of a `llama-server` without its first word, or empty."""
    for line in _ask(str(program), "--version").splitlines():
        if line.startswith("version:"):
            return line.removeprefix("version:").strip()
    return ""


def _ask(*argv: str) -> str:
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def visible_devices(ids: tuple[str, ...]) -> dict[str, str]:
    """Environment in which a library sees only these devices; without any, none.

    The embedded library has no parameter for it. `-1` hides all GPUs from CUDA and HIP.
    """
    variables = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES", "vulkan": "GGML_VK_VISIBLE_DEVICES"}
    numbers: dict[str, list[str]] = {}
    for device in ids:
        kind, _, number = device.partition(":")
        numbers.setdefault(kind, []).append(number or "0")
    chosen = {variables[kind]: ",".join(numbers[kind]) for kind in numbers if kind in variables}
    hidden = {variables[kind]: "-1" for kind in ("cuda", "rocm") if kind not in numbers}
    return {**hidden, **chosen}
