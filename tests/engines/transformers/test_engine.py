"""Transformers from the parent's side, and what its worker decides without PyTorch."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders import llama_config, write_hf_folder
from tests.engines.transformers.conftest import plan_of
from uml.core.engine import Endpoint
from uml.core.errors import BadOption, EngineNotInstalled, IllegalInstruction, LoadFailed, OutOfMemory
from uml.core.install import Install
from uml.core.model import Model, Quantization
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.engines.handover import failure_line
from uml.engines.transformers import trust
from uml.engines.transformers.engine import Transformers
from uml.engines.transformers.guess import Lookup
from uml.engines.transformers.rows import Row, best_row, common
from uml.engines.transformers.spec import NEEDS
from uml.generation import check, prepare
from uml.hardware import snapshot
from uml.planning import Ranked, rank
from uml.planning import plan as decide

ENDPOINT = Endpoint("key", socket=Path("/run/w.sock"))


def installs(*names: str) -> Transformers:
    """The engine where these installs are."""

    def find(engine: str, label: str) -> Install | None:
        return (
            Install(engine, "5.23.0", Path("/e") / engine, Path("/e") / engine / "bin/python")
            if engine in names
            else None
        )

    return Transformers(find)


@pytest.fixture
def plan(tmp_path: Path) -> LoadPlan:
    return plan_of(write_hf_folder(tmp_path / "m"))


def quantized(plan: LoadPlan, method: str) -> LoadPlan:
    info = replace(plan.model.info, quantization=Quantization(method, method))
    return replace(plan, model=replace(plan.model, info=info))


def test_an_engine_that_is_not_installed_says_how_to_install_it(plan: LoadPlan) -> None:
    engine = Transformers()
    assert not engine.available().available
    with pytest.raises(EngineNotInstalled, match="uml engine install transformers"):
        engine.launch(plan, ENDPOINT)


def test_its_worker_runs_in_the_installs_environment_and_reaches_for_no_net(plan: LoadPlan) -> None:
    engine = installs("transformers")
    state = engine.available()
    assert (state.available, state.version, state.devices) == (True, "5.23.0", frozenset({"cpu"}))
    launch = engine.launch(plan, ENDPOINT)
    assert launch.argv[0] == "/e/transformers/bin/python"
    assert launch.environment["HF_HUB_OFFLINE"] == "1"
    assert launch.environment["USE_HUB_KERNELS"] == "0"
    assert plan.model.info.path in launch.reads
    assert b'"key":"key"' in launch.stdin


def test_a_version_that_is_not_there_is_named(plan: LoadPlan) -> None:
    pinned = replace(plan, options=replace(plan.options, engine_version="4.0"))
    with pytest.raises(EngineNotInstalled, match=r"transformers==4\.0"):
        Transformers().launch(pinned, ENDPOINT)


def test_gptq_runs_in_an_environment_of_its_own(plan: LoadPlan) -> None:
    launch = installs("transformers", "gptqmodel").launch(quantized(plan, "gptq"), ENDPOINT)
    assert launch.argv[0] == "/e/gptqmodel/bin/python"
    with pytest.raises(EngineNotInstalled, match="uml engine install gptqmodel"):
        installs("transformers").launch(quantized(plan, "awq"), ENDPOINT)


def test_what_runs_gptq_is_told_apart_from_what_runs_the_rest(plan: LoadPlan) -> None:
    coded, machine = quantized(plan, "gptq").model, snapshot()

    def ranked(model: Model, *names: str) -> Ranked:
        engine = installs(*names)
        return rank(model.info, machine, {"transformers": (engine.spec, engine.available())})[0]

    assert ranked(coded, "transformers").command == "uml engine install gptqmodel"
    assert ranked(coded, "gptqmodel").reason.endswith("installed (gptqmodel)")
    assert ranked(plan.model, "gptqmodel").command == "uml engine install transformers"
    assert ranked(plan.model, "transformers").available


@pytest.mark.parametrize("engine", ["auto", "transformers", "gptqmodel"])
def test_gptq_needs_no_other_install_than_its_own(plan: LoadPlan, engine: str) -> None:
    here = installs("gptqmodel")
    specs = {"transformers": (here.spec, here.available())}
    found = decide(quantized(plan, "gptq").model, LoadOptions(engine=engine), snapshot(), specs)
    assert here.launch(found, ENDPOINT).argv[0] == "/e/gptqmodel/bin/python"
    missing = {"transformers": (here.spec, installs("transformers").available())}
    with pytest.raises(EngineNotInstalled, match=r"needs the engine gptqmodel.*: uml engine install gptqmodel"):
        decide(quantized(plan, "gptq").model, LoadOptions(engine=engine), snapshot(), missing)


def test_its_install_runs_plain_weights_where_it_is_named(plan: LoadPlan) -> None:
    both = installs("transformers", "gptqmodel")
    specs = {"transformers": (both.spec, both.available())}
    found = decide(plan.model, LoadOptions(engine="gptqmodel"), snapshot(), specs)
    assert (found.engine, both.launch(found, ENDPOINT).argv[0]) == ("transformers", "/e/gptqmodel/bin/python")
    assert found.choice == "Transformers gptqmodel was asked for"
    with pytest.raises(BadOption, match="expected auto or one of transformers"):
        decide(plan.model, LoadOptions(engine="gptq"), snapshot(), specs)


@pytest.mark.parametrize("method", sorted(method for method, need in NEEDS.items() if need.gpu))
def test_what_cannot_run_here_says_what_it_needs(plan: LoadPlan, method: str) -> None:
    need = NEEDS[method]
    with pytest.raises(LoadFailed, match=re.escape(need.gpu)) as caught:
        installs("transformers").launch(quantized(plan, method), ENDPOINT)
    assert all(package in caught.value.message for package in need.packages)


def test_some_quantizations_need_a_word_to_the_worker(plan: LoadPlan) -> None:
    engine = installs("transformers", "gptqmodel")
    assert engine.launch(quantized(plan, "bitnet"), ENDPOINT).environment["TORCHDYNAMO_DISABLE"] == "1"
    assert engine.launch(quantized(plan, "gptq"), ENDPOINT).environment["GPTQMODEL_CPU_WORKERS"] == "2"
    assert "TORCHDYNAMO_DISABLE" not in engine.launch(plan, ENDPOINT).environment


def test_a_folder_for_weights_must_be_there_and_is_written_to(plan: LoadPlan, tmp_path: Path) -> None:
    engine = installs("transformers")
    given = replace(plan, options=replace(plan.options, offload_folder=str(tmp_path)))
    assert tmp_path in engine.launch(given, ENDPOINT).writes
    gone = replace(plan, options=replace(plan.options, offload_folder=str(tmp_path / "no")))
    with pytest.raises(BadOption, match="offload_folder"):
        engine.launch(gone, ENDPOINT)


@pytest.mark.parametrize("amount", ["cpu=-4", "0=-0.5", "cpu=lots", "cpu=nan", "cpu=inf", "4", "=4"])
def test_an_amount_that_is_none_is_refused_before_a_worker_is_started(plan: LoadPlan, amount: str) -> None:
    engine = installs("transformers")
    fine = replace(plan, options=replace(plan.options, max_memory=("cpu=4", "0 = 10.5GiB", "1=0")))
    assert engine.launch(fine, ENDPOINT).argv
    with pytest.raises(BadOption, match=r"option max_memory is .*; expected DEVICE=GIB of 0 to 1048576 GiB, such as"):
        engine.launch(replace(plan, options=replace(plan.options, max_memory=(amount,))), ENDPOINT)


def test_the_end_of_a_worker_has_a_cause(plan: LoadPlan) -> None:
    engine = installs("transformers")
    told = engine.cause(plan, "noise\n" + failure_line(BadOption("lora", "x", "y")), 3)
    assert isinstance(told, BadOption)
    memory = engine.cause(plan, "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried", 1)
    assert isinstance(memory, OutOfMemory)
    assert isinstance(engine.cause(plan, "", -4), IllegalInstruction)
    assert engine.cause(plan, "nothing to see", 1) is None


def test_what_it_cannot_honour_is_told() -> None:
    asked = check("chat", {"messages": [{"role": "user", "content": "hi"}], "n_keep": 3, "top_k": 5, "tfs": 0.9})
    prepared = prepare(asked, Transformers().spec)
    assert [one["param"] for one in prepared.warnings] == ["n_keep"]
    assert prepared.body
    assert (prepared.body["top_k"], prepared.body["tfs"]) == (5, 0.9)


def write_code(folder: Path, **config: Any) -> Path:
    write_hf_folder(folder, {**llama_config(), **config})
    (folder / "own.py").write_text("x = 1\n")
    return folder


def test_code_of_a_model_is_trusted_by_its_content(tmp_path: Path) -> None:
    folder = write_code(tmp_path / "m", auto_map={"AutoConfig": "own.Own"})
    with pytest.raises(LoadFailed, match="not trusted") as caught:
        trust.check("m", folder, "")
    found = caught.value.details["sha256"]
    assert trust.check("m", folder, found.upper())
    (folder / "own.py").write_text("x = 2\n")
    with pytest.raises(LoadFailed, match="changed since"):
        trust.check("m", folder, found)


def test_code_that_is_elsewhere_is_refused(tmp_path: Path) -> None:
    elsewhere = write_code(tmp_path / "a", auto_map={"AutoConfig": "owner/name--own.Own"})
    kernel = write_code(tmp_path / "b", _attn_implementation="owner/kernel")
    for folder in (elsewhere, kernel):
        with pytest.raises(LoadFailed, match="refused"):
            trust.check("m", folder, trust.content_hash(folder))


def test_a_model_without_code_needs_no_trust(tmp_path: Path) -> None:
    folder = write_hf_folder(tmp_path / "m")
    assert not trust.check("m", folder, "")
    (folder / "config.json").write_text("[]")
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": None})[:-1])
    assert not trust.check("m", folder, "")


def test_a_text_goes_on_as_it_did_before() -> None:
    lookup = Lookup(size=3, most=4)
    assert lookup.guess([1, 2, 3, 4, 5, 9, 1, 2, 3], 10) == [4, 5, 9, 1]
    assert lookup.guess([7, 2, 3, 8, 1, 2, 3], 2) == [8, 1]
    assert lookup.guess([1, 2, 3], 10) == []
    assert lookup.guess([], 10) == []


class Waits:
    """As much of an answer as rows look at."""

    def __init__(self, *prompt: int) -> None:
        self.prompt, self.made, self.scales = list(prompt), list[int](), dict[int, float]()


def test_the_last_token_of_a_prompt_is_always_read() -> None:
    assert common([1, 2, 3], [1, 2, 3], 0) == 2
    assert common([1, 2, 3], [1, 2, 9, 4], 0) == 2
    assert common([], [1], 0) == 0


def test_a_window_can_go_on_but_not_back() -> None:
    assert common([1, 2, 3], [1, 2, 3, 4], 2) == 3
    assert common([1, 2, 3], [1, 2, 9], 2) == 0
    assert common([1, 2], [1, 9], 2) == 1


def test_a_conversation_goes_on_in_its_row() -> None:
    rows = [Row(held=[5, 6, 7], used=1), Row(held=[1, 2, 3], used=2), Row(used=3)]
    waits: Any = Waits(1, 2, 3, 4)
    assert best_row(rows, 0, waits, 0, reuse=True) == (1, 3)
    assert best_row(rows, 0, waits, 0, reuse=False)[1] == 0


def test_a_short_beginning_takes_no_long_conversation() -> None:
    rows = [Row(held=[1, *range(50, 90)], used=9), Row(used=1)]
    waits: Any = Waits(1, 2, 3)
    assert best_row(rows, 0, waits, 0, reuse=True) == (1, 0)


def test_what_adapters_have_read_is_theirs() -> None:
    rows = [Row(held=[1, 2, 3], scales={0: 1.0})]
    waits: Any = Waits(1, 2, 3, 4)
    assert best_row(rows, 0, waits, 0, reuse=True) == (0, 0)


def test_a_row_knows_what_it_has_to_read() -> None:
    waits: Any = Waits(1, 2, 3)
    row = Row(held=[1], answer=waits)
    assert (row.waiting, row.reading) == ([2, 3], True)
    waits.made.append(4)
    row.held = [1, 2, 3]
    assert (row.waiting, row.reading) == ([4], False)
