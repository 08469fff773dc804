"""ExLlama's hosts in real workers, around stand-ins of the libraries that take their calls and no others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually
from tests.worker.process import Worker, plan_for, question, text_of
from uml.core.engine import Endpoint
from uml.core.errors import BadOption, EngineNotInstalled, LoadFailed, OutOfMemory, UnsupportedArchitecture
from uml.core.install import Install
from uml.core.model import Format
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan, Placement, SamplerFile
from uml.engines import builtin, handover
from uml.engines.exllama import meaning
from uml.engines.exllama.engine import ExLlama, architectures, version_2, version_3
from uml.engines.exllama.spec import SPEC_V2, SPEC_V3
from uml.generation import PARAMETERS
from uml.generation.parameters import SAMPLERS

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
def worker(
    tmp_path: Path,
    engine: str = "exllamav3",
    placement: Placement = ONE,
    samplers: tuple[SamplerFile, ...] = (),
    **options: Any,
) -> Iterator[Worker]:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    host: ExLlama = version_3(installed) if engine == "exllamav3" else version_2(installed)
    plan = replace(plan_of(folder, engine, placement, **options), samplers=samplers)
    with Worker(host, plan, tmp_path, PYTHONPATH=str(LIBRARY)) as started:
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


def test_what_the_library_samples_as_we_do_stays_with_it(tmp_path: Path) -> None:
    request = {
        "temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1, "frequency_penalty": 0.5,
        "repetition_penalty_range": -1, "logit_bias": {"5": 2.5, "7000": 1},
        "seed": 9, "min_tokens": 2, "banned_strings": ["no"],
    }  # fmt: skip
    with worker(tmp_path) as running:
        running.ready()
        answer = running.post("/v1/chat/completions", question("hey", max_tokens=1) | request)
        assert [warning["param"] for warning in answer["warnings"]] == ["logit_bias"]
        running.post("/v1/chat/completions", question("hey", max_tokens=1, temperature=0, regex="[ab]"))
        running.post("/v1/chat/completions", question("hey", max_tokens=1, ignore_eos=True))
        running.post("/v1/chat/completions", question("hey", max_tokens=1, ignore_eos=True, grammar='root ::= "a"'))
        running.post("/v1/chat/completions", question("hey", max_tokens=1, choice=["yes", "no"]))
        full, greedy, endless, guided, *_ = (call["steps"] for call in calls(running, "CustomSampler"))
        assert full == [
            ["SS_LogitBias", {"5": 2.5, "7000": 1}], ["SS_RepP", 1.1, 10**7, 0], ["SS_PresFreqP", 0.0, 0.5, 10**7, 0],
            ["SS_TopK", 5], ["SS_TopP", 0.9], ["SS_MinP", 0.1], ["SS_Temperature", 0.7], ["SS_Sample"],
        ]  # fmt: skip
        assert greedy == [["SS_Argmax"]] and guided == [["ChainStep"]]
        assert endless[0] == ["SS_LogitBias", {"1": -float("inf")}] and endless[-1] == ["SS_Argmax"]
        first, second, _, fourth, fifth = calls(running, "Job")
        assert (first["seed"], first["least"], first["banned"], first["ends"]) == (9, 2, ["no"], [1])
        for job, part in ((second, "/[ab]/"), (fourth, 'start: "a"'), (fifth, "/yes|no/")):
            ((kind, grammar),) = job["guides"]
            assert kind == "llg" and part in grammar
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
        assert calls(running, "Job") == [{"ends": [1, 7]}]


WORDS = {"<s>": 0, "</s>": 1, "a": 2, "\u2581b": 3, "\u2581c": 4, "{": 5, "}": 6}
"""As the library's stand-in numbers the words of "a b c"."""


def test_version_2_follows_structures(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": WORDS}, "decoder": None}))
    with worker(tmp_path, "exllamav2") as running:
        running.ready()

        def said(**more: Any) -> str:
            answer = running.post("/v1/chat/completions", question("a b c", **more))
            assert answer["choices"][0]["finish_reason"] == ("length" if more.get("max_tokens") == 2 else "stop")
            return str(answer["choices"][0]["message"]["content"])

        assert said() == "a b c"
        assert said(regex="a( c)+", max_tokens=9) == "a c c"
        assert said(grammar='root ::= " b" " b" " c"', ignore_eos=True) == " b b c", "where it is whole, it ends"
        assert said(regex="(a| b)(a| b)", max_tokens=2) == "a b"
        assert said(choice=["a c", "{}"]) == "a c"
        assert said(regex="(a| b)(a| b)", banned_strings=[" b"], max_tokens=2) == "aa"
        assert said(logit_bias=[[" b", False], [4, 30]], max_tokens=2) == " c c", "a text is all its tokens"
        status, error = running.request("POST", "/v1/chat/completions", question("a b c", regex="((("))
        assert status == 400 and "unclosed group" in error["error"]["message"]


def test_version_2_says_what_a_structure_needs(tmp_path: Path) -> None:
    with worker(tmp_path, "exllamav2") as running:
        running.ready()
        status, error = running.request("POST", "/v1/chat/completions", question("a", json_schema={}))
        assert status == 400 and "json_schema: a structure needs tokenizer.json" in error["error"]["message"]


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
        lacking = {name for name in SAMPLERS if spec.dialect[name] is None}
        assert lacking == {"penalty_alpha", "guidance_scale", "negative_prompt"}, "every sampler is there"


def test_no_library_is_imported_where_the_engines_are_listed() -> None:
    assert {"exllamav3", "exllamav2"} <= set(builtin())
    code = "import sys, uml.engines; [e.available() for e in uml.engines.builtin().values()]; "
    code += "print([name for name in ('torch', 'exllamav3', 'exllamav2', 'vllm') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
