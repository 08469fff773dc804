"""llama.cpp built for this very machine: what that takes, as data. Nothing is started here.

The wheel is built for processors of 2013. Built out of the same source for a processor with AVX-512 or AMX, prompts
are read 1.5 to 4 times as fast. Two things are known to go wrong, and kept here as data:

- GCC 12 loses what llama.cpp writes before `ldtilecfg`, and its AMX code dies of SIGILL at the first batch of a
  prompt: GCC's intrinsic says that it reads 8 of the 64 bytes. A header in front of every file says all of them.
- Where AMX dies all the same, a build without it is tried next.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.install import Recipe
from uml.engines.llamacpp.spec import NAME

_MIB: Final = 1 << 20

CMAKE_ARGS: Final = (
    "-DGGML_NATIVE=ON -DLLAMA_LLGUIDANCE=OFF -DLLAMA_BUILD_BORINGSSL=OFF -DLLAMA_USE_PREBUILT_UI=OFF "
    "-DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"
)
"""Without what is fetched from elsewhere than the package index: LLGuidance (Rust, needs cargo), TLS, the web page."""

HEADER: Final = """\
#pragma once
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 14
#include <immintrin.h>
struct uml_tile_config { unsigned char bytes[64]; };
#define _tile_loadconfig(p) \\
    __asm__ volatile("ldtilecfg %0" : : "m"(*reinterpret_cast<const uml_tile_config *>(p)))
#endif
"""
"""For C++: the intrinsic of AMX that GCC 12 gets wrong, with all bytes that the instruction reads as its operand."""

RECIPE: Final = Recipe(
    engine=NAME,
    title="llama.cpp",
    distribution="xllamacpp",
    version="2026.10.11549",
    module="xllamacpp",
    # A wheel for this machine must not stay in pip's cache, from which any other environment would take it.
    steps=(("--no-cache-dir", "--no-binary", "xllamacpp", "xllamacpp=={version}"),),
    # Source and objects, while it is built; what stays is a tenth of it.
    disk_bytes={"cpu": 600 * _MIB},
    download_bytes={"cpu": 100 * _MIB},
    built=True,
    note="out of its source for this machine: needs a C++ compiler and cmake, and some minutes",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to build it. mark: of the install's label. flags: for the C and C++ compilers."""

    mark: str
    says: str
    flags: str = ""


def attempts(instructions: Collection[str]) -> tuple[Attempt, ...]:
    """How to build it for a processor, the fastest first."""
    fast = Attempt("-native", "for all that this processor has")
    if not any(name.startswith("amx") for name in instructions):
        return (fast,)
    safe = Attempt("-native-no-amx", "without AMX", "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16")
    return fast, safe


def missing(which: Callable[[str], str | None], environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What is not here and needed to build it, each with what installs it."""
    compilers = (environ.get("CXX", "").partition(" ")[0], "c++", "g++", "clang++")
    lacking = []
    if not any(name and which(name) for name in compilers):
        lacking.append("a C++ compiler (apt install g++, or xcode-select --install)")
    if not which("cmake"):
        lacking.append("cmake (apt install cmake, or pip install cmake)")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        lacking.append("the headers of Python (apt install python3-dev)")
    return tuple(lacking)


def variables(attempt: Attempt, header: Path, threads: int, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of the build. header: where `HEADER` was written."""
    own = f"-include {header}" if not attempt.flags else ""
    return {
        "CMAKE_ARGS": f"{CMAKE_ARGS} {environ.get('CMAKE_ARGS', '')}".strip(),
        "CFLAGS": f"{environ.get('CFLAGS', '')} {attempt.flags}".strip(),
        "CXXFLAGS": f"{environ.get('CXXFLAGS', '')} {attempt.flags} {own}".strip(),
        "NPROC": str(threads),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(threads),
    }
