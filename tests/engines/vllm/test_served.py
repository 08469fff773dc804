"""vLLM's server as a worker, through the front door: a program that takes its arguments stands in for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.builders import llama_config, write_adapter_folder, write_hf_folder
from tests.engines.served import write_program
from tests.gateway.server import Server, events, running, spoken


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vllm")
    # The tests' own modules lie where a sandbox would not let a worker read.
    flags = {"vllm": str(write_program(folder, "vllm")), "sandbox": "off", "plugins": False}
    with running(folder / "data", **flags) as started:
        yield started


@pytest.fixture(scope="module")
def model(server: Server) -> str:
    folder = write_hf_folder(server.data / "small-model", llama_config())
    found = server.post("/v1/models/add", {"path": str(folder)})
    assert found.status_code == 200, found.text
    model = str(found.json()["id"])
    loaded = server.post("/v1/models/load", {"model": model, "options": {"engine": "vllm", "ctx": 256, "parallel": 2}})
    assert loaded.status_code == 200, loaded.text
    return model


@pytest.fixture(scope="module")
def adapted(server: Server) -> str:
    """A model with two adapters, of which the second works by itself."""
    folder = write_hf_folder(server.data / "adapted-model", llama_config())
    model = str(server.post("/v1/models/add", {"path": str(folder)}).json()["id"])
    lora = [f"{write_adapter_folder(server.data / 'first')}=0", str(write_adapter_folder(server.data / "second"))]
    loaded = server.post("/v1/models/load", {"model": model, "options": {"engine": "vllm", "ctx": 256, "lora": lora}})
    assert loaded.status_code == 200, loaded.text
    return model


def got(reply: Any) -> dict[str, Any]:
    """What the program says that it was asked."""
    assert reply.status_code == 200, reply.text
    content = reply.json()["choices"][0]["message"]["content"]
    found: dict[str, Any] = json.loads(content[content.index("{") :])
    return found


def test_it_is_started_with_the_plan_and_answers(server: Server, model: str) -> None:
    assert server.worker(model)["engine"] == "vllm"
    reply = server.chat(model, text="hello there", temperature=0.5)
    assert reply.json()["choices"][0]["message"]["content"].startswith("hello there")
    assert reply.json()["usage"]["total_tokens"] == 5
    lines = server.get(f"/v1/models/{model}/log").json()["lines"]
    words = json.loads(next(line for line in lines if line.startswith("started")).split("with ", 1)[1].split(" on ")[0])
    assert words[:2] == ["serve", str(server.data / "small-model")]
    assert words[words.index("--max-model-len") + 1] == "256"
    assert words[words.index("--max-num-seqs") + 1] == "2"
    assert "--uds" in words and not any(word.startswith("--api-key") for word in words)


def test_streams_pass_through(server: Server, model: str) -> None:
    values = events(server.chat(model, text="hello there", stream=True, stream_options={"include_usage": True}).text)
    assert spoken(values).startswith("hello there") and values[-1] == "[DONE]"
    assert values[-2]["usage"]["total_tokens"] == 5


def test_parameters_go_in_its_words(server: Server, model: str) -> None:
    schema = {"type": "object"}
    asked = got(server.chat(model, json_schema=schema, custom_token_bans="5,6", reasoning_budget_tokens=9, top_k=3))
    assert asked["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert asked["logit_bias"] == {"5": -100.0, "6": -100.0}
    guided = got(server.chat(model, regex="[ab]+", banned_strings=["no"], min_tokens=1))
    assert guided["structured_outputs"] == {"regex": "[ab]+"} and guided["bad_words"] == ["no"]
    assert asked["thinking_token_budget"] == 9 and asked["top_k"] == 3
    assert "model" not in asked, "it knows one name only, and a user may have said another"


def test_what_it_has_not_is_said(server: Server, model: str) -> None:
    reply = server.chat(model, dry_multiplier=0.8, mirostat=2)
    assert {warning["param"] for warning in reply.json()["warnings"]} == {"dry_multiplier", "mirostat"}
    strict = server.chat(model, dry_multiplier=0.8, strict=True)
    assert (strict.status_code, strict.json()["error"]["code"]) == (400, "unsupported_parameter")


def test_tokens_there_and_back(server: Server, model: str) -> None:
    found = server.post("/v1/tokenize", {"model": model, "text": "hey"}).json()
    assert found["tokens"] == [104, 101, 121] and found["count"] == 3
    assert server.post("/v1/detokenize", {"model": model, "tokens": found["tokens"]}).json()["text"] == "hey"


def test_a_prompt_that_is_too_long_is_told_with_both_numbers(server: Server, model: str) -> None:
    error = server.chat(model, text="long " * 60).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["details"]["prompt_tokens"] == 300 and error["details"]["context_length"] == 64


def test_a_word_that_it_does_not_take_is_the_users(server: Server, model: str) -> None:
    options = {"engine": "vllm", "extra_flags": ["--no-such-flag", "1"]}
    reply = server.post("/v1/models/load", {"model": model, "options": options})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "bad_option")
    assert "--no-such-flag" in error["message"] and error["param"] == "options.extra_flags"


def test_the_choice_says_that_it_is_away_from_home(server: Server, model: str) -> None:
    found = server.get(f"/v1/models/{model}/capabilities").json()
    assert found["engine"] == "vllm", "it has it loaded"
    assert found["abilities"]["json_schema"]["can"] and not found["abilities"]["guidance"]["can"]
    assert found["abilities"]["lora"]["why"] == "with the option lora, and each request chooses"
    assert "vllm" in [one["engine"] for one in found["engines"]]


def test_adapters_are_loaded_with_the_model_and_each_request_chooses_one(server: Server, adapted: str) -> None:
    first, second = (str(server.data / name) for name in ("first", "second"))
    assert server.get(f"/v1/models/{adapted}/adapters").json()["data"] == [
        {"id": 0, "name": "first", "path": first, "scale": 0},
        {"id": 1, "name": "second", "path": second, "scale": 1},
    ]
    assert got(server.chat(adapted))["model"] == "lora:1", "what the load put on works where a request says nothing"
    assert got(server.chat(adapted, lora=[{"id": 0}]))["model"] == "lora:0"
    assert got(server.chat(adapted, lora=[{"id": 0, "scale": 1}, {"id": 1, "scale": 0}]))["model"] == "lora:0"
    for none in ([], [{"id": 1, "scale": 0}]):
        found = got(server.chat(adapted, lora=none))
        assert "model" not in found and "lora" not in found, "the model as it is"


def test_answers_have_the_name_of_the_model_and_not_the_adapters(server: Server, adapted: str) -> None:
    reply = server.chat(adapted, text="hello there")
    assert reply.json()["model"] == adapted and "warnings" not in reply.json()
    assert '"stream"' not in reply.json()["choices"][0]["message"]["content"], "it is asked for a whole answer"
    assert server.chat(adapted, n=2).json()["model"] == adapted
    nothing = server.chat(adapted, text="hello there", max_tokens=0).json()
    assert (nothing["model"], nothing["choices"][0]["message"]["content"]) == (adapted, "")
    values = events(server.chat(adapted, text="hello there", stream=True).text)
    assert spoken(values).startswith("hello there") and '"model": "lora:1"' in spoken(values)
    assert {value["model"] for value in values if isinstance(value, dict)} == {adapted}
    completed = server.post("/v1/completions", {"model": adapted, "prompt": "hi", "max_tokens": 2, "lora": [{"id": 0}]})
    assert completed.json()["model"] == adapted and '"model": "lora:0"' in completed.json()["choices"][0]["text"]


@pytest.mark.parametrize(
    ("lora", "param", "says"),
    [
        ([{"id": 0}, {"id": 1}], "lora", "vLLM takes one adapter a request; give the others scale 0"),
        ([{"id": 0, "scale": 0.5}], "lora[0].scale", "lora[0].scale is 0.5; vLLM takes an adapter as it is"),
        ([{"id": 2}], "lora[0].id", "lora[0].id is 2; expected 0 to 1, the adapters that the model was loaded with"),
    ],
)
def test_what_vllm_cannot_lay_over_an_answer_is_refused(
    server: Server, adapted: str, lora: list[dict[str, Any]], param: str, says: str
) -> None:
    reply = server.chat(adapted, lora=lora)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == param
    assert says in reply.json()["error"]["message"]


def test_adapters_neither_come_nor_change_later(server: Server, adapted: str) -> None:
    for path, body in (
        ("load", {"adapter": str(server.data / "first")}),
        ("unload", {"id": 0}),
        ("scale", {"id": 0, "scale": 1}),
    ):
        reply = server.post(f"/v1/models/adapters/{path}", {"model": adapted, **body})
        assert reply.status_code == 400 and "option lora" in reply.json()["error"]["message"]


def test_an_adapter_of_another_model_is_the_users(server: Server, adapted: str) -> None:
    strange = write_adapter_folder(server.data / "strange")
    (strange / "of-another-model").touch()
    reply = server.post("/v1/models/load", {"model": adapted, "options": {"engine": "vllm", "lora": [str(strange)]}})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, "options.lora")
    assert "vLLM lays over this model" in error["message"] and "expected target modules" in error["message"]
