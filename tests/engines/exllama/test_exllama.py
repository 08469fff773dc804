"""ExLlama's hosts in real workers, around stand-ins of the libraries that take their calls and no others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.waiting import eventually
from tests.worker.process import Worker, plan_for, question, text_of
from uml.core.engine import Endpoint
from uml.core.errors import BadOption, EngineError, EngineNotInstalled, LoadFailed, OutOfMemory, UnsupportedArchitecture
from uml.core.install import Install
from uml.core.model import Format
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan, Placement
from uml.engines import builtin, handover
from uml.engines.exllama import meaning
from uml.engines.exllama.engine import ExLlama, architectures, version_2, version_3
from uml.engines.exllama.spec import SPEC_V2, SPEC_V3
from uml.engines.exllama.structure import Structurer
from uml.engines.exllama.v2 import Library2
from uml.generation import PARAMETERS

LIBRARY = Path(__file__).parent / "library"
ONE, TWO = Placement({"cuda:1": 8 << 30}), Placement({"cuda:0": 6 << 30, "cuda:1": 4 << 30})
HERE = Install("exllamav3", "1.6.5", LIBRARY, Path(sys.executable), accelerator="cuda", shared=True)
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def installed(engine: str, label: str) -> Install | None:
    return HERE if label in ("", "1.6.5") else None


def plan_of(folder: Path, engine: str = "exllamav3", placement: Placement = ONE, **options: Any) -> LoadPlan:
    plan = plan_for(folder, engine=engine, placement=placement, **{"chat_template": TEMPLATE, **options})
    kind = Format.EXL3 if engine == "exllamav3" else Format.EXL2
    return replace(plan, model=replace(plan.model, info=replace(plan.model.info, format=kind)))


@contextmanager
def worker(tmp_path: Path, engine: str = "exllamav3", placement: Placement = ONE, **options: Any) -> Iterator[Worker]:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    host: ExLlama = version_3(installed) if engine == "exllamav3" else version_2(installed)
    with Worker(host, plan_of(folder, engine, placement, **options), tmp_path, PYTHONPATH=str(LIBRARY)) as started:
        yield started


def calls(worker: Worker, name: str) -> list[dict[str, Any]]:
    """What the library was asked, by the name of the call."""
    lines = [line.removeprefix("CALL ") for line in worker.log.splitlines() if line.startswith(f"CALL {name} ")]
    return [json.loads(line.removeprefix(name)) for line in lines]


def test_it_loads_by_the_plan_and_answers(tmp_path: Path) -> None:
    adapter = str(tmp_path / "adapter")
    with worker(tmp_path, ctx=1000, parallel=2, batch=700, cache_type_k="q8_0", cache_type_v="q4_0",
                lora=[f"{adapter}=0.5"], draft_model="/draft", draft_max=5) as running:  # fmt: skip
        running.ready()
        assert calls(running, "Cache") == [
            {"tokens": 2048, "layers": "CacheLayer_quant", "k_bits": 8, "v_bits": 4},
            {"tokens": 2048},
        ]
        draft, model = calls(running, "Model.load")
        assert draft == {"device": "cuda:0", "max_chunk_size": 2048, "max_batch_size": 1}
        assert model == {"device": "cuda:0", "max_chunk_size": 768, "max_batch_size": 2}
        assert calls(running, "Generator")[0]["num_draft_tokens"] == 5
        assert calls(running, "LoRA") == [{"directory": adapter, "scale": 0.5}]
        assert "loaded 2 of 2 modules" in running.log and handover.progress_in(running.log) == 1
        assert handover.progress_in(running.log.partition("loaded 2 of 2")[0]) == 0.5
        answer = running.post("/v1/chat/completions", question("one two three"))
        assert answer["choices"][0]["message"]["content"] == "one two three"
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["prompt_tokens"] == 3


def test_streams_limits_and_tokens(tmp_path: Path) -> None:
    with worker(tmp_path) as running:
        running.ready()
        streamed = running.stream("/v1/completions", {"prompt": "a b c d", "max_tokens": 2})
        assert text_of(streamed) == "<s>a", "the prompt begins with what all begin with, and is said again"
        assert streamed[-2]["choices"][0]["finish_reason"] == "length"
        tokens = running.post("/tokenize", {"content": "a b"})["tokens"]
        assert running.post("/detokenize", {"tokens": tokens})["content"] == "a b"
        assert running.post("/v1/completions", {"prompt": tokens, "max_tokens": 9})["choices"][0]["text"] == "a b"
        for body, param in (({"prompt": [5000]}, "prompt"), ({"prompt": []}, "prompt")):
            status, _ = running.request("POST", "/v1/completions", body)
            assert status == 400, param
        status, error = running.request("POST", "/v1/completions", {"prompt": "w " * 600})
        assert (status, error["error"]["type"]) == (400, "exceed_context_size_error")
        assert running.request("POST", "/v1/embeddings", {"input": "a"})[0] == 400


def test_samplers_and_guides_become_the_librarys_own(tmp_path: Path) -> None:
    request = {
        "temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1, "xtc_probability": 0.5,
        "repetition_penalty_range": -1, "dry_multiplier": 0.8, "temperature_last": True, "logit_bias": {"5": 2.5},
        "seed": 9, "min_tokens": 2, "banned_strings": ["no"], "json_schema": {"type": "object"},
    }  # fmt: skip
    with worker(tmp_path) as running:
        running.ready()
        running.post("/v1/chat/completions", question("hey", max_tokens=1) | request)
        running.post("/v1/chat/completions", question("hey", max_tokens=1, temperature=0, regex="[ab]"))
        running.post("/v1/chat/completions", question("hey", max_tokens=1, ignore_eos=True) | {"temperature": 1,
                     "adaptive_target": 0.5, "adaptive_decay": 0.6, "grammar": 'root ::= "a"'})  # fmt: skip
        full, greedy, adaptive = calls(running, "Job")
        assert full["steps"] == [
            ["SS_LogitBias", {"5": 2.5}], ["SS_RepP", 1.1, 10**7, 0], ["SS_PresFreqP", 0.0, 0.0, 10**7, 0],
            ["SS_DRY", 0.8, 1.75, 2, 64], ["SS_MinP", 0.1], ["SS_TopK", 5], ["SS_TopP", 0.9], ["SS_XTC", 0.5, 0.1],
            ["SS_Temperature", 0.7], ["SS_Sample"],
        ]  # fmt: skip
        assert (full["seed"], full["least"], full["banned"], full["ends"]) == (9, 2, ["no"], [1])
        assert full["guides"] == [["json_schema", '{"type": "object"}']]
        assert greedy["steps"][-1] == ["SS_Argmax"] and greedy["guides"] == [["regex", "[ab]"]]
        assert adaptive["steps"][-1] == ["SS_AdaptiveP", 0.5, 0.6] and adaptive["ends"] == []
        assert adaptive["guides"] == [["gbnf", 'root ::= "a"']]
        status, error = running.request("POST", "/v1/chat/completions", question("hey", regex="((("))
        assert status == 400 and "unclosed group" in error["error"]["message"]


def test_a_client_that_leaves_ends_its_job(tmp_path: Path) -> None:
    with worker(tmp_path, parallel=1) as running:
        running.ready()
        connection = running.send("POST", "/v1/completions", {"prompt": "endless", "stream": True, "max_tokens": 500})
        connection.getresponse().read(10)
        connection.close()
        eventually(lambda: calls(running, "cancel"), lambda: running.log)
        assert running.post("/v1/chat/completions", question("again"))["choices"][0]["message"]["content"] == "again"


def test_a_job_that_is_refused_is_one_requests_own(tmp_path: Path) -> None:
    with worker(tmp_path) as running:
        running.ready()
        status, error = running.request("POST", "/v1/chat/completions", question("unacceptable"))
        assert status == 502 and "99 pages" in error["error"]["message"]
        assert running.post("/v1/chat/completions", question("fine"))["choices"][0]["message"]["content"] == "fine"


def test_a_step_that_fails_ends_the_worker_with_its_cause(tmp_path: Path) -> None:
    with worker(tmp_path) as running:
        running.ready()
        waiting = running.send("POST", "/v1/chat/completions", question("explode"))
        assert running.end() == 4
        waiting.close()
        cause = running.engine.cause(running.plan, running.log, 4)
        assert isinstance(cause, OutOfMemory) and cause.details["device"] == "cuda:1"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("OutOfMemoryError: CUDA out of memory", OutOfMemory),
        ("AssertionError: Unknown architecture FooForCausalLM in config.json", UnsupportedArchitecture),
        ("AssertionError: something", LoadFailed),
    ],
)
def test_a_load_that_fails_tells_its_cause(tmp_path: Path, fault: str, kind: type[Exception]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "fault").write_text(fault)
    with worker(tmp_path) as running:
        assert running.end() == 3
        assert type(running.engine.cause(running.plan, running.log, 3)) is kind


def test_without_the_library_there_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with Worker(version_3(installed), plan_of(folder), tmp_path) as running:
        assert running.end() == 3
        cause = running.engine.cause(running.plan, running.log, 3)
        assert isinstance(cause, LoadFailed) and "cannot be used here" in cause.message


def test_several_gpus(tmp_path: Path) -> None:
    with worker(tmp_path, placement=TWO, tensor_split=[3, 1]) as running:
        running.ready()
        assert calls(running, "Model.load")[0]["use_per_device"] == [8.25, 2.75], "10 GiB and a tenth, 3 to 1"
    with worker(tmp_path, placement=TWO, split_mode="tensor", spec_type="ngram-simple") as running:
        running.ready()
        assert calls(running, "Model.load")[0]["tensor_p"] is True
        assert calls(running, "Generator")[0]["ngram_match_min"] == 3


def test_version_2_loads_and_answers(tmp_path: Path) -> None:
    with worker(tmp_path, "exllamav2", cache_type_k="q4_0", cache_type_v="q4_0", lora=["/a"], ctx=512) as running:
        running.ready()
        assert calls(running, "ExLlamaV2Cache_Q4") == [{"tokens": 1024}] and calls(running, "load_autosplit")
        assert calls(running, "set_loras") == [{"count": 1}]
        body = question("one two", typical_p=0.9, mirostat_mode=2, top_a=0.1, smoothing_factor=0.3, seed=4)
        answer = running.post("/v1/chat/completions", body | {"temperature": 0.5})
        assert answer["choices"][0]["message"]["content"] == "one two"
        job = calls(running, "Job")[0]
        told = job["settings"]
        assert (told["temperature"], told["typical"], told["mirostat"], told["top_a"]) == (0.5, 0.9, True, 0.1)
        assert (job["ends"], job["seed"]) == ([1, 7], 4)
        status, error = running.request("POST", "/v1/chat/completions", question("a", mirostat_mode=1))
        assert status == 400 and "expected 0 or 2" in error["error"]["message"]


WORDS = {"<s>": 0, "</s>": 1, "a": 2, "\u2581b": 3, "\u2581c": 4, "{": 5, "}": 6}
"""As the library's stand-in numbers the words of "a b c"."""


def test_version_2_follows_structures(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": WORDS}, "decoder": None}))
    with worker(tmp_path, "exllamav2") as running:
        running.ready()

        def said(**more: Any) -> str:
            answer = running.post("/v1/chat/completions", question("a b c", **more))
            assert answer["choices"][0]["finish_reason"] == "stop"
            return str(answer["choices"][0]["message"]["content"])

        assert said() == "a b c"
        assert said(regex="a( c)+", max_tokens=9) == "a c c"
        assert said(grammar='root ::= " b" " b" "a"', ignore_eos=True) == " b ba", "where it is whole, it ends"
        biased = question("a b c", logit_bias=[[3, False], [4, 1.5]])
        running.post("/v1/chat/completions", biased)
        assert calls(running, "Job")[-1]["settings"]["bias"] == {"3": -float("inf"), "4": 1.5}
        for more, sentence in (
            ({"regex": "((("}, "unclosed group"),
            ({"regex": "a", "banned_strings": ["b"]}, "banned_strings and regex exclude each other"),
            ({"logit_bias": {"5000": 1}}, "expected ids from 0 to 999"),
            ({"logit_bias": [["b", 1]]}, "token ids, and no texts"),
        ):
            status, error = running.request("POST", "/v1/chat/completions", question("a b c", **more))
            assert status == 400 and sentence in error["error"]["message"]


def test_version_2_says_what_a_structure_needs(tmp_path: Path) -> None:
    with worker(tmp_path, "exllamav2") as running:
        running.ready()
        status, error = running.request("POST", "/v1/chat/completions", question("a", json_schema={}))
        assert status == 400 and "json_schema: a structure needs tokenizer.json" in error["error"]["message"]


def test_a_structure_that_cannot_be_followed_ends_its_own_answer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": WORDS}, "decoder": None}))
    one = Structurer(tmp_path, 7, [1], SimpleNamespace(from_numpy=lambda array: array)).filter("regex", "a b")
    one.feed(4)
    assert one.failed is not None and "does not allow token 4" in one.failed.message
    masked = one.mask_logits(np.zeros(32, np.float32))
    assert np.flatnonzero(np.isfinite(masked)).tolist() == [1], "an end is all that may come"
    one.feed(1)
    with pytest.raises(EngineError, match="token 4"):
        Library2.check(Library2.__new__(Library2), SimpleNamespace(filters=[one]))


def test_version_2_over_several_gpus_and_with_a_draft(tmp_path: Path) -> None:
    with worker(tmp_path, "exllamav2", TWO, split_mode="row", draft_model="/draft") as running:
        running.ready()
        assert calls(running, "load_tp")[0]["base"] == "ExLlamaV2Cache" and calls(running, "Cache_TP")
        assert calls(running, "Generator")[0]["draft"] == "ExLlamaV2"
    with worker(tmp_path, "exllamav2", TWO, tensor_split=[1, 1], spec_type="ngram-simple") as running:
        running.ready()
        assert calls(running, "load")[0]["gpu_split"] == [5.5, 5.5] and calls(running, "Generator")[0]["ngram"]


@pytest.mark.parametrize(
    ("engine", "options", "param"),
    [
        ("exllamav3", {"cache_type_k": "f32"}, "cache_type_k"),
        ("exllamav3", {"cache_type_k": "q8_0"}, "cache_type_v"),
        ("exllamav3", {"extra_flags": ["k_bits=9"]}, "extra_flags"),
        ("exllamav3", {"spec_type": "mtp"}, "spec_type"),
        ("exllamav3", {"spec_type": "draft"}, "spec_type"),
        ("exllamav2", {"cache_type_k": "q5_0", "cache_type_v": "q5_0"}, "cache_type_k"),
        ("exllamav2", {"split_mode": "row", "lora": ["/a"]}, "lora"),
    ],
)
def test_what_makes_no_sense_is_refused_before_it_starts(engine: str, options: dict[str, Any], param: str) -> None:
    with pytest.raises(BadOption) as refused:
        meaning.check(plan_of(Path("/m"), engine, TWO, **options))
    assert refused.value.param == f"options.{param}"


def test_bits_that_have_no_type_of_their_own() -> None:
    assert meaning.cache_bits(LoadOptions.parse({"extra_flags": ["k_bits=3", "v_bits=2"]})) == (3, 2)
    assert meaning.cache_bits(LoadOptions()) == (16, 16)


def test_where_it_comes_from(tmp_path: Path) -> None:
    assert version_3().available().reason == "uml engine install exllamav3"
    source = tmp_path / "lib/python3.12/site-packages/exllamav3/architecture"
    source.mkdir(parents=True)
    (source / "llama.py").write_text('class LlamaConfig(Config):\n    arch_string = "LlamaForCausalLM"\n')
    assert architectures(tmp_path) == {"LlamaForCausalLM"}
    with pytest.raises(EngineNotInstalled, match=r"uml engine install exllamav3==2"):
        version_3(installed).launch(plan_of(Path("/m"), engine_version="2"), Endpoint("key"))
    launch = version_3(installed).launch(plan_of(Path("/m"), placement=TWO), Endpoint("key"))
    assert launch.environment["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_every_parameter_is_in_the_dialects() -> None:
    names = {one.name for one in PARAMETERS if not (one.inert or one.ours or one.rare)}
    for spec in (SPEC_V3, SPEC_V2):
        assert names <= set(spec.dialect)
    assert SPEC_V3.dialect["adaptive_target"] and SPEC_V3.dialect["typical_p"] is None
    assert SPEC_V2.dialect["typical_p"] and SPEC_V2.dialect["adaptive_target"] is None


def test_no_library_is_imported_where_the_engines_are_listed() -> None:
    assert {"exllamav3", "exllamav2"} <= set(builtin())
    code = "import sys, uml.engines; [e.available() for e in uml.engines.builtin().values()]; "
    code += "print([name for name in ('torch', 'exllamav3', 'exllamav2', 'vllm') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
