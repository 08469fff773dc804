"""llama.cpp is asked what a load would take, in a child process, and nothing is loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually
from tests.worker.process import DEMO
from uml.core.model import Model
from uml.core.options import OPTIONS, LoadOptions
from uml.core.plan import LoadPlan, Placement
from uml.engines.llamacpp import dryrun, dryrun_library
from uml.engines.llamacpp.dryrun import DryRuns, NoAnswer, question
from uml.engines.llamacpp.dryrun_library import WheelOracle, library_path, read
from uml.engines.llamacpp.dryrun_tool import ServerOracle
from uml.engines.llamacpp.engine import LlamaCpp
from uml.engines.llamacpp.rows import Member
from uml.engines.llamacpp.table import HONOURED, parameters
from uml.formats import inspect
from uml.planning import estimate
from uml.planning.refine import Figures, Foretelling

SPEC = LlamaCpp().spec
INFO = inspect(DEMO)
MODEL = Model("demo", INFO)


def planned(path: Path = DEMO, device: str = "cpu", **options: Any) -> LoadPlan:
    """A plan as planning makes it, without the machine."""
    settled = {"ctx": 1024, "parallel": 2, "batch": 512, "ubatch": 512, "cache_type_k": "f16", "cache_type_v": "f16"}
    wanted = LoadOptions.parse({**settled, "device": device, **options})
    info = INFO if path == DEMO else inspect(path)
    footprint = estimate(info, wanted, SPEC)
    place = Placement({device: footprint.total_bytes})
    return LoadPlan(Model("demo", info), "llamacpp", wanted, footprint, place)


@pytest.fixture
def runs() -> Iterator[DryRuns]:
    opened = DryRuns(WheelOracle(library_path))
    yield opened
    opened.close()


def told(runs: DryRuns, plan: LoadPlan) -> Figures:
    """The figures for a plan that nobody has asked about."""
    assert runs.foretell(plan)
    figures = runs.foretold(plan.model)("llamacpp", plan.options)
    assert figures is not None
    return figures


def test_the_cache_and_the_weights_come_out_as_the_header_says(runs: DryRuns) -> None:
    plan = planned()
    figures = told(runs, plan)
    assert figures.method == "dry run"
    assert figures.kv_bytes == plan.footprint.kv_bytes
    assert figures.weight_bytes == pytest.approx(sum(INFO.weight_bytes.values()), rel=0.3)
    assert figures.mapped_bytes is not None
    assert figures.mapped_bytes <= (figures.weight_bytes or 0)
    assert figures.compute_bytes == pytest.approx(plan.footprint.compute_bytes, rel=0.5)


def test_every_option_that_memory_depends_on_changes_the_answer(runs: DryRuns) -> None:
    plain = told(runs, planned())
    longer = told(runs, planned(ctx=2048))
    assert longer.kv_bytes == 2 * (plain.kv_bytes or 0)
    assert told(runs, planned(parallel=4)).kv_bytes == 2 * (plain.kv_bytes or 0)
    small = told(runs, planned(cache_type_k="q8_0", cache_type_v="q8_0"))
    assert small.kv_bytes == (plain.kv_bytes or 0) * 34 // 64
    assert (told(runs, planned(ubatch=128)).compute_bytes or 0) < (plain.compute_bytes or 0) / 2
    assert (told(runs, planned(embeddings=True)).compute_bytes or 0) > (plain.compute_bytes or 0)
    assert (told(runs, planned(flash_attention="off")).compute_bytes or 0) > (plain.compute_bytes or 0)
    assert told(runs, planned(override_tensor=[r"ffn_up=CPU"])).kv_bytes == plain.kv_bytes
    without_map = told(runs, planned(mmap=False))
    assert without_map.mapped_bytes == 0
    assert without_map.weight_bytes == plain.weight_bytes


def test_an_answer_is_kept_and_belongs_to_its_options_and_its_model_under_any_path(
    runs: DryRuns, tmp_path: Path
) -> None:
    plan = planned()
    told(runs, plan)
    assert not runs.foretell(plan)
    moved = tmp_path / "moved.gguf"
    moved.write_bytes(DEMO.read_bytes())
    elsewhere = Model("other", inspect(moved))
    known = runs.foretold(elsewhere)
    assert known("llamacpp", plan.options) is not None
    assert known("llamacpp", replace(plan.options, threads=3)) is not None
    assert known("llamacpp", replace(plan.options, ctx=512)) is None
    assert known("llamacpp", replace(plan.options, device="cuda:0")) is None
    assert known("other", plan.options) is None


def test_a_file_with_its_header_only_is_enough(runs: DryRuns, tmp_path: Path) -> None:
    hollow = tmp_path / "hollow.gguf"
    weights = sum(INFO.weight_bytes.values())
    whole = DEMO.read_bytes()
    with hollow.open("wb") as file:
        file.write(whole[: len(whole) - weights + 4096])
        file.truncate(len(whole))
    assert told(runs, planned(hollow, ctx=768)) == told(DryRuns(WheelOracle(library_path)), planned(ctx=768))


@pytest.mark.parametrize("options", [{}, {"embeddings": True, "pooling": "last"}, {"cache_type_k": "q5_1"}])
def test_what_is_asked_is_what_the_server_gets(options: dict[str, Any]) -> None:
    plan = planned(**options)
    asked = question(plan)
    assert not isinstance(asked, str)
    for attribute, value in parameters(plan).items():
        if attribute in dryrun.FIELDS:
            expected = value.name if isinstance(value, Member) else value
            assert asked["context"][dryrun.FIELDS[attribute]] == expected
    assert set(asked["context"]) >= {"n_ctx", "n_batch", "n_ubatch", "n_seq_max", "type_k", "type_v", "embeddings"}


def test_every_option_with_a_say_in_memory_is_asked_about_or_known_not_to_be() -> None:
    elsewhere = {
        # On a GPU nothing is asked; `draft` and its like are companions, which the header's figures count.
        *("gpu_layers", "split_mode", "tensor_split", "main_gpu", "device", "kv_offload", "mmproj_offload"),
        *("mmproj", "lora", "draft_model", "draft_gpu_layers", "cache_ram_mib", "context_checkpoints"),
        # Read from the options when the answer is understood.
        *("mmap", "mlock", "direct_io", "repack", "cpu_moe_layers", "override_tensor"),
    }
    asked = {option for row in dryrun._ROWS for option in row.options}
    assert {option.name for option in OPTIONS if option.memory} & HONOURED <= asked | elsewhere


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "cuda:0"}, "GPU"),
        ({"spec_type": "mtp"}, "mtp"),
        ({"override_tensor": ["blk=CUDA0"]}, "CUDA0"),
        ({"extra_flags": ["--x"]}, "extra_flags"),
    ],
)
def test_what_cannot_be_asked_is_not(
    runs: DryRuns, caplog: pytest.LogCaptureFixture, options: dict[str, Any], reason: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert not runs.foretell(planned(**options))
    assert reason in caplog.text


def test_a_guess_reserves_its_outputs() -> None:
    asked = question(planned(spec_type="ngram-simple", spec_ngram_size_m=7, batch=8))
    assert not isinstance(asked, str)
    assert asked["context"]["n_outputs_max"] == 8
    assert asked["context"]["n_outputs_max_per_seq"] == 8


def altered(tmp_path: Path, change: Callable[[str], str]) -> Path:
    """The child's program with something changed in it."""
    path = tmp_path / "child.py"
    path.write_text(change(dryrun_library.CHILD.read_text()))
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace('("n_ctx", c.c_uint32, 512)', '("n_ctx", c.c_uint32, 513)'), "layout .*n_ctx"),
        (lambda text: text.replace('"q8_0": 8', '"q8_0": 9'), "enums"),
        (lambda text: text.replace('("model", c.c_size_t)', '("x", c.c_size_t), ("model", c.c_size_t)'), "buffers of"),
        (lambda text: text.replace("waiting = [header.parent]", "waiting = []"), "laid out"),
        (lambda text: "import os; os.abort()", "the child is gone|ended with -6"),
        (lambda text: "import time; time.sleep(60)", "no answer in"),
        (lambda text: "print('hello', flush=True); input()", "hello"),
        (lambda text: 'print(\'{"refused": "no"}\', flush=True); input()', "no"),
    ],
    ids=["layout", "enums", "node", "tree", "crash", "silence", "words", "refusal"],
)
def test_a_child_that_is_off_means_no_figures(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[str], str],
    reason: str,
) -> None:
    monkeypatch.setattr(dryrun_library, "CHILD", altered(tmp_path, change))
    runs = DryRuns(WheelOracle(library_path, limit_s=0.3 if reason == "no answer in" else 20))
    with caplog.at_level(logging.DEBUG):
        runs.foretell(planned())
    runs.close()
    assert re.search(reason, caplog.text), caplog.text


def test_without_the_map_of_buffers_the_log_tells_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = altered(tmp_path, lambda text: text.replace('sys.platform == "linux"', 'sys.platform == "none"'))
    monkeypatch.setattr(dryrun_library, "CHILD", change)
    runs = DryRuns(WheelOracle(library_path))
    plan = planned()
    figures = told(runs, plan)
    runs.close()
    assert figures.weight_bytes is None
    assert figures.kv_bytes == pytest.approx(plan.footprint.kv_bytes, abs=1 << 14)


def test_weights_that_cannot_be_are_not_believed() -> None:
    answer = {"buffers": {"CPU": [1, 1000, 10]}, "context": 1000, "compute": 10}
    with pytest.raises(NoAnswer, match="its weights are 1 bytes"):
        read(answer, planned())
    pinned = read(
        {**answer, "buffers": {"CPU": [0, 1000, 10], "CPU_REPACK": [INFO.size_bytes] * 1 + [0, 0]}}, planned(mlock=True)
    )
    assert (pinned.weight_bytes or 0) > INFO.size_bytes


@pytest.mark.parametrize("library", [lambda: None, lambda: Path("/nowhere/lib.so"), lambda: DEMO])
def test_without_a_library_nothing_is_told(library: Callable[[], Path | None]) -> None:
    runs = DryRuns(WheelOracle(library))
    assert not runs.foretell(planned())
    runs.close()


def test_a_file_that_llama_cpp_refuses_is_not_asked_about_for_ever(
    runs: DryRuns, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(DEMO.read_bytes().replace(b"tokenizer.ggml.model", b"tokenizer.ggml.m0del"))
    with caplog.at_level(logging.DEBUG):
        assert not runs.foretell(planned(broken))
        assert not runs.foretell(planned(broken))
    assert caplog.text.count("no dry run of demo: ") == 1
    assert runs.foretell(planned())  # the child has lived on, or there is another


def test_a_child_that_nobody_asks_ends() -> None:
    oracle = WheelOracle(library_path, idle_s=0.05)
    runs = DryRuns(oracle)
    assert runs.foretell(planned())
    eventually(lambda: oracle._child is None)
    assert runs.foretell(planned(ctx=512))
    runs.close()


def test_a_child_that_was_killed_is_started_anew() -> None:
    oracle = WheelOracle(library_path)
    runs = DryRuns(oracle)
    assert runs.foretell(planned())
    assert oracle._child
    oracle._child._process.kill()
    oracle._child._process.wait()
    assert runs.foretell(planned(ctx=512))
    runs.close()


def test_the_engine_foretells() -> None:
    engine = LlamaCpp()
    assert isinstance(engine, Foretelling)
    assert engine.foretold(MODEL)("llamacpp", planned().options) is None


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_server_of_the_same_build_is_asked_for_by_the_library(tmp_path: Path) -> None:
    server = program(tmp_path / "llama-server", 'echo "version: 0.6.0-dev (build 11549, commit unknown)"')
    for has_amx in (False, True):
        runs = DryRuns(ServerOracle(server, WheelOracle(library_path), partial(bool, has_amx)))
        figures = told(runs, planned())
        runs.close()
        assert figures.kv_bytes
        assert (figures.weight_bytes is None) is has_amx


@pytest.mark.parametrize(
    ("tool", "options", "kv_bytes"),
    [
        ('[ "$1$3$4" = "--model--fit-printon" ] && echo "Host 107 56 137"', {}, 57 << 20),
        ('echo "$*" | grep -q "ctx-size 2048.*swa-full" && echo "Host 1 2 3"', {"swa_full": True}, 3 << 20),
        ("echo sorry", {}, None),
        ("exec false", {}, None),
        ('echo "Host 1 2 3"', {"kv_unified": True}, None),
        (None, {}, None),
    ],
)
def test_a_server_of_another_build_is_asked_for_by_its_tool(
    tmp_path: Path, tool: str | None, options: dict[str, Any], kv_bytes: int | None
) -> None:
    server = program(tmp_path / "llama-server", 'echo "version: 9000 (abcdef)"')
    if tool:
        program(tmp_path / "llama-fit-params", tool)
    runs = DryRuns(ServerOracle(server, WheelOracle(lambda: None)))
    plan = planned(**options)
    runs.foretell(plan)
    figures = runs.foretold(MODEL)("llamacpp", plan.options)
    assert (figures.kv_bytes if figures else None) == kv_bytes
    runs.close()


def test_a_figure_of_the_header_that_lies_in_the_tools_mib_is_the_exact_one(tmp_path: Path) -> None:
    plan = planned()
    server = program(tmp_path / "llama-server", 'echo "version: 9000 (abcdef)"')
    program(tmp_path / "llama-fit-params", f'echo "Host 5 {plan.footprint.kv_bytes >> 20} 7"')
    runs = DryRuns(ServerOracle(server, WheelOracle(lambda: None)))
    assert told(runs, plan).kv_bytes == plan.footprint.kv_bytes
