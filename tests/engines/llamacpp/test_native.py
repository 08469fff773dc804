"""What a build of llama.cpp for this machine takes, told without one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from uml.engines.llamacpp import native


def test_a_processor_with_amx_is_built_for_twice_if_need_be() -> None:
    assert [attempt.mark for attempt in native.attempts({"avx2", "avx512f"})] == ["-native"]
    fast, safe = native.attempts({"avx2", "amx_int8"})
    assert (fast.mark, fast.flags, safe.mark) == ("-native", "", "-native-no-amx")
    assert "-mno-amx-tile" in safe.flags


def test_nothing_but_the_index_is_asked_for_anything() -> None:
    (attempt,) = native.attempts(())
    told = native.variables(attempt, Path("/x/before.h"), 3, {"CXXFLAGS": "-O2", "CMAKE_ARGS": "-DMINE=1"})
    assert told["CXXFLAGS"].split() == ["-O2", "-include", "/x/before.h"]
    assert {"-DLLAMA_LLGUIDANCE=OFF", "-DGGML_NATIVE=ON", "-DMINE=1"} <= set(told["CMAKE_ARGS"].split())
    assert told["NPROC"] == "3"


def test_what_is_missing_is_named_with_what_installs_it() -> None:
    lacking = native.missing(lambda name: None, {})
    assert [sentence.partition(" (")[0] for sentence in lacking][:2] == ["a C++ compiler", "cmake"]
    assert native.missing(lambda name: f"/usr/bin/{name}", {}) in ((), lacking[2:])
    assert not any("compiler" in sentence for sentence in native.missing(shutil.which, {"CXX": "sh -x"}))


def test_the_version_is_the_one_that_this_package_pins() -> None:
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert f'"xllamacpp=={native.RECIPE.version}"' in project


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_the_header_names_all_bytes_that_the_instruction_reads(tmp_path: Path) -> None:
    (tmp_path / "before.h").write_text(native.HEADER)
    source = tmp_path / "tile.cpp"
    source.write_text(
        "#include <immintrin.h>\n#include <cstdint>\n"
        "struct config { uint8_t palette, start; uint8_t rest[62]; };\n"
        "void use(int rows) { config c{}; c.palette = 1; c.rest[50] = rows; _tile_loadconfig(&c); }\n"
    )
    words = ["g++", "-O3", "-mamx-tile", "-S", "-o", "-", "-include", str(tmp_path / "before.h"), str(source)]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    if "unrecognized command-line option" in told.stderr:
        pytest.skip("this g++ knows no AMX")
    assert told.returncode == 0, told.stderr
    assert "ldtilecfg" in told.stdout
    # The byte that the compiler would lose is written: `rows` comes in %edi.
    assert "%dil" in told.stdout or "%edi" in told.stdout
