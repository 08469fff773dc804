"""llama.cpp from the parent's side, and what its build says of itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.worker.process import KEY, plan_for
from uml.core.engine import Endpoint
from uml.core.errors import BadOption
from uml.core.plan import Placement
from uml.engines import builtin, host
from uml.engines.llamacpp.build import embedded_devices, needed_libraries, visible_devices
from uml.engines.llamacpp.engine import LlamaCpp
from uml.engines.llamacpp.order import arguments
from uml.engines.llamacpp.spec import EXTERNAL_ONLY

STAND_IN = """#!/bin/sh
case "$1" in
    --version) echo "version: 11549 (abc1234)" >&2 ;;
    --list-devices) printf 'Available devices:\\n  CUDA0: Some GPU (8192 MiB, 8000 MiB free)\\n' ;;
esac
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "llama-server"
    file.write_text(STAND_IN)
    file.chmod(0o755)
    return file


def endpoint(tmp_path: Path) -> Endpoint:
    return Endpoint(KEY, tmp_path / "w.sock")


def test_the_package_has_llamacpp_first_and_the_fake(program: Path) -> None:
    assert next(iter(builtin())) == "llamacpp" and [*builtin()][-1] == "fake"
    assert builtin(program)["llamacpp"].available().way == "external"
    with pytest.raises(KeyError):
        host("llamacpp")


def test_the_library_tells_its_version_without_being_imported() -> None:
    told = LlamaCpp().available()
    assert told.available and told.way == "embedded" and told.version
    assert "cpu" in told.devices


def test_a_program_tells_its_version_and_its_devices(program: Path) -> None:
    engine = LlamaCpp(program)
    told = engine.available()
    assert (told.available, told.version, told.way) == (True, "11549 (abc1234)", "external")
    assert engine.spec.devices == told.devices == {"cpu", "cuda"}
    assert engine.spec.options >= EXTERNAL_ONLY
    assert not EXTERNAL_ONLY & LlamaCpp().spec.options


def test_a_program_that_is_not_there_is_not_available(tmp_path: Path) -> None:
    told = LlamaCpp(tmp_path / "nothing").available()
    assert not told.available and "nothing" in told.reason


def test_the_key_is_in_nobodys_argv(program: Path, tmp_path: Path) -> None:
    for engine in (LlamaCpp(), LlamaCpp(program)):
        launch = engine.launch(plan_for(), endpoint(tmp_path))
        assert KEY not in " ".join(launch.argv)
        assert KEY not in launch.environment.values()
        assert launch.stdin.endswith(b"\n") and launch.stdin.count(b"\n") == 1
    order = json.loads(launch.stdin)
    assert KEY not in order["argv"] and order["environment"] == {"LLAMA_API_KEY": KEY}


def test_a_programs_line_listens_where_it_is_told(tmp_path: Path) -> None:
    line = arguments(plan_for(extra_flags=["--prio", "2"]), endpoint(tmp_path))
    assert line[line.index("--host") + 1] == str(tmp_path / "w.sock")
    assert "--port" not in line
    assert line[-2:] == ["--prio", "2"]
    tcp = arguments(plan_for(), Endpoint(KEY, None, "127.0.0.1", 4711))
    assert tcp[tcp.index("--port") + 1] == "4711"


def test_bad_options_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(BadOption):
        LlamaCpp().launch(plan_for(lora=["/nowhere"]), endpoint(tmp_path))


def test_a_library_sees_the_chosen_gpus_only(tmp_path: Path) -> None:
    assert visible_devices(("cuda:1", "cuda:0")) == {"CUDA_VISIBLE_DEVICES": "1,0", "HIP_VISIBLE_DEVICES": "-1"}
    assert visible_devices(("vulkan:0",))["GGML_VK_VISIBLE_DEVICES"] == "0"
    plan = plan_for(placement=Placement({"cuda:1": 1, "cpu": 1}))
    assert LlamaCpp().launch(plan, endpoint(tmp_path)).environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert LlamaCpp().launch(plan_for(), endpoint(tmp_path)).environment["CUDA_VISIBLE_DEVICES"] == "-1"


def test_threads_do_not_spin_for_long_unless_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert LlamaCpp().launch(plan_for(), endpoint(tmp_path)).environment["GOMP_SPINCOUNT"] == "30000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert "GOMP_SPINCOUNT" not in LlamaCpp().launch(plan_for(), endpoint(tmp_path)).environment


def test_a_build_says_which_instructions_it_uses(program: Path) -> None:
    assert LlamaCpp(program).system_info() == {}
    told = LlamaCpp().system_info()
    assert told and all(isinstance(value, bool) for value in told.values())


@pytest.mark.skipif(sys.platform != "linux", reason="ELF")
def test_a_shared_library_names_what_it_needs(tmp_path: Path) -> None:
    import xllamacpp.xllamacpp

    needed = needed_libraries(Path(xllamacpp.xllamacpp.__file__))
    assert any(name.startswith("libc.so") for name in needed)
    # The wheel of the public index computes on processors.
    assert embedded_devices() == {"cpu"}
    (tmp_path / "no.so").write_bytes(b"\x7fELF\x02\x01" + b"\xff" * 100)
    assert needed_libraries(tmp_path / "no.so") == []
    (tmp_path / "text.so").write_text("no")
    assert needed_libraries(tmp_path / "text.so") == needed_libraries(tmp_path / "missing") == []
