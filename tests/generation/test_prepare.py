"""Requests, checked and said in an engine's words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import pictures
from uml.core.engine import EngineSpec
from uml.core.errors import BadRequest, UmlError, UnsupportedParameter
from uml.engines import builtin
from uml.generation import PARAMETERS, Endpoint, Prepared, check, prepare
from uml.generation.schema import lenient

LLAMA = builtin()["llamacpp"].spec
FAKE = builtin()["fake"].spec
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def said(
    endpoint: Endpoint = "chat", spec: EngineSpec = LLAMA, context: int = 0, vocabulary: int = 0, **more: Any
) -> Prepared:
    bases: dict[str, dict[str, Any]] = {"chat": HELLO, "completion": {"prompt": "a"}, "embedding": {"input": "a"}}
    base = bases[endpoint]
    return prepare(check(endpoint, {**base, **more}), spec, context, vocabulary)


def body(**more: Any) -> dict[str, Any]:
    prepared = said(**more)
    assert prepared.body is not None and prepared.warnings == ()
    return {name: value for name, value in prepared.body.items() if name != "messages"}


def test_a_plain_request_goes_as_it_came() -> None:
    common: dict[str, Any] = {
        "model": "m", "temperature": 0.7, "top_p": 1, "top_k": 40.0, "max_tokens": 5, "stream": True, "stop": ["a"],
        "seed": 1, "n": 1, "user": "me", "presence_penalty": None, "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert said(spec=LLAMA, **common) == Prepared(None)
    assert said("completion", prompt=[[1, 2], "three"]).body is None
    assert said("embedding", encoding_format="base64").body is None


def test_names_of_other_systems_are_translated() -> None:
    assert body(max_new_tokens=3) == {"max_tokens": 3}
    assert body(max_completion_tokens=3) == {"max_tokens": 3}
    assert body(max_tokens=3, num_predict=3) == {"max_tokens": 3}
    assert body(repetition_penalty=1.1) == body(rep_pen=1.1) == body(repeat_penalty=1.1) == {"repeat_penalty": 1.1}
    assert body(typical=0.9, nsigma=1, temp=0.5) == {"typical_p": 0.9, "top_n_sigma": 1, "temperature": 0.5}
    assert body(mirostat=2) == {"mirostat": 2}
    assert body(grammar_string="g", ban_eos_token=True) == {"grammar": "g", "ignore_eos": True}


@pytest.mark.parametrize("spec", [LLAMA, builtin()["transformers"].spec, builtin()["vllm"].spec], ids=lambda s: s.name)
def test_biases_of_tokens_that_the_model_does_not_have_are_told(spec: EngineSpec) -> None:
    found = said(spec=spec, vocabulary=100, logit_bias={"99": 1, "100": 2, "5000000000": -1})
    assert found.body is not None and found.body["logit_bias"] == {"99": 1}
    (warning,) = found.warnings
    assert warning == {
        "param": "logit_bias",
        "reason": "left out of it: 100, 5000000000; the model's tokens are 0 to 99",
    }
    bans = said(spec=spec, vocabulary=100, custom_token_bans="7,100")
    assert bans.body is not None and len(bans.body["logit_bias"]) == 1
    assert [warning["param"] for warning in bans.warnings] == ["custom_token_bans"]
    with pytest.raises(UnsupportedParameter, match="the model's tokens are 0 to 99"):
        said(spec=spec, vocabulary=100, logit_bias={"100": 2}, strict=True)
    whole: dict[str, Any] = {"logit_bias": {"99": 1}}
    assert said(spec=spec, vocabulary=100, **whole).warnings == said(spec=spec, vocabulary=0, **whole).warnings == ()


def test_what_llamacpp_would_pass_over_without_a_word_is_said_so_that_it_acts_or_is_told() -> None:
    """Found by tests/engines/test_walk.py."""
    found = body(adaptive_target=0.3)
    assert found["samplers"][-2:] == ["temperature", "adaptive_p"] and found["samplers"][0] == "penalties"
    assert body(adaptive_target=0.3, samplers=["adaptive_p", "top_k"])["samplers"] == ["top_k", "adaptive_p"]
    assert "samplers" not in body(adaptive_target=-1.0)
    schema = {"type": "array"}
    for format_, expected in (
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}, schema),
        ({"type": "json_object"}, {"type": "object"}),
    ):
        prepared = said("completion", response_format=format_)
        assert prepared.body == {"prompt": "a", "json_schema": lenient(expected)} and not prepared.warnings
        assert body(response_format=format_)["response_format"] == format_, "in chats it heeds it"
    assert said("completion", response_format={"type": "text"}).body == {"prompt": "a"}
    assert [warning["param"] for warning in said(return_tokens=True).warnings] == ["return_tokens"]


def test_many_biases_beyond_the_vocabulary_are_told_in_few_words() -> None:
    (warning,) = said(vocabulary=9, logit_bias=[[token, 1] for token in range(9, 99)]).warnings
    assert warning["reason"].startswith("left out of it: 9, 10, 11,") and ", ...;" in warning["reason"]
    texts = said(vocabulary=9, logit_bias=[["word", 1], [3, False]])
    assert texts.warnings == () and texts.body is not None
    assert texts.body["logit_bias"] == [["word", 1], [3, False]]


def test_a_choice_is_a_grammar_where_the_engine_has_none() -> None:
    expected = {"grammar": 'root ::= "yes" | "a \\"no\\"" | "\\x0a\\\\"'}
    assert body(choice=["yes", 'a "no"', "\n\\"]) == body(guided_choice=["yes", 'a "no"', "\n\\"]) == expected
    assert body(choice="one", response_format={"type": "text"})["grammar"] == 'root ::= "one"'
    with pytest.raises(BadRequest, match="json_schema and guided_choice exclude each other"):
        said(guided_choice=["a"], json_schema={})
    assert [warning["param"] for warning in said(spec=FAKE, choice=["a"]).warnings] == ["choice"]


def test_values_that_the_engine_says_differently() -> None:
    assert body(dynamic_temperature=True, dynatemp_low=0.5, dynatemp_high=1.5) == {
        "temperature": 1.0,
        "dynatemp_range": 0.5,
    }
    assert body(dynamic_temperature=False, dynatemp_low=0.5) == {}
    assert body(do_sample=False, temperature=1) == {"temperature": 0}
    assert body(do_sample=True) == {}
    assert body(repetition_penalty_range=-1, context=500) == {"repeat_last_n": 500}
    assert body(dry_penalty_last_n=-1) == {"dry_penalty_last_n": 1 << 20}
    assert body(repeat_last_n=0) == {"repeat_last_n": 0}
    assert body(adaptive_target=0) == {"adaptive_target": -1.0}
    assert body(custom_token_bans="5, 7", logit_bias={"9": 1, "word": -1}) == {
        "logit_bias": [[9, 1], ["word", -1], [5, False], [7, False]]
    }
    assert body(custom_token_bans="5", logit_bias=[[1, 2]]) == {"logit_bias": [[1, 2], [5, False]]}
    assert body(custom_token_bans="") == {}
    for breakers in ('["a", "b"]', '"a", "b"', ["a", "b"]):
        assert body(dry_sequence_breakers=breakers) == {"dry_sequence_breakers": ["a", "b"]}
    assert body(dry_sequence_breakers="\n") == {"dry_sequence_breakers": ["\n"]}
    assert body(enable_thinking=False, chat_template_kwargs={"a": 1}) == {
        "chat_template_kwargs": {"enable_thinking": False, "a": 1}
    }
    order = ["repetition_penalty", "presence_penalty", "top_k", "typical_p"]
    assert body(sampler_priority=order) == {"samplers": ["penalties", "top_k", "typ_p"]}
    assert body(samplers="top_k temperature") == {"samplers": ["top_k", "temperature"]}


def test_what_the_engine_cannot_do_is_told() -> None:
    prepared = said(tfs=0.5, colour="red", temperatur=1, guidance_scale=2.0)
    assert prepared.body == HELLO
    reasons = {warning["param"]: warning["reason"] for warning in prepared.warnings}
    assert set(reasons) == {"tfs", "colour", "temperatur", "guidance_scale"}
    assert "llamacpp" in reasons["tfs"] and "did you mean temperature?" in reasons["temperatur"]
    ollama = {each["param"]: each["reason"] for each in said(num_ctx=4096, options={"num_ctx": 4096}).warnings}
    assert ollama["num_ctx"].endswith("left out; give it to the load as options.ctx")
    assert "beside `model`" in ollama["options"] and "stream_options" not in ollama["options"]
    assert not said("embedding", dimensions=8).warnings, "the gateway cuts them"
    assert said(spec=FAKE, tfs=0.5).warnings[0]["param"] == "tfs"
    assert said("completion", echo=True).warnings[0]["param"] == "echo"
    assert said("embedding", temperature=1.0).warnings[0] == {
        "param": "temperature",
        "reason": "not known here, left out; it is a parameter of /v1/chat/completions and /v1/completions",
    }
    assert said(echo=True).warnings[0]["reason"].endswith("left out; it is a parameter of /v1/completions")
    with pytest.raises(UnsupportedParameter) as caught:
        said(strict=True, tfs=0.5)
    assert caught.value.param == "tfs"
    assert said(strict=True).body == HELLO
    silent = EngineSpec(
        name="quiet", title="", formats=frozenset(), roles=frozenset(), devices=frozenset(), split="whole",
        served=False, options=frozenset(), dialect={"logit_bias": None},
    )  # fmt: skip
    assert said(spec=silent, custom_token_bans="5").warnings[0]["param"] == "custom_token_bans"


@pytest.mark.parametrize(
    ("endpoint", "given", "param"),
    [
        ("chat", {"temperature": float("nan")}, "temperature"),
        ("chat", {"temperature": True}, "temperature"),
        ("chat", {"top_k": 2.5}, "top_k"),
        ("chat", {"max_tokens": -2}, "max_tokens"),
        ("chat", {"stop": ["a"] * 65}, "stop"),
        ("chat", {"chat_template_kwargs": []}, "chat_template_kwargs"),
        ("chat", {"max_tokens": 1, "n_predict": 2}, "n_predict"),
        ("chat", {"dry_sequence_breakers": "[1]"}, "dry_sequence_breakers"),
        ("chat", {"samplers": ["guess"]}, "samplers"),
        ("chat", {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ("completion", {"prompt": {}}, "prompt"),
        ("completion", {"prompt": [-1]}, "prompt"),
        ("completion", {"prompt": []}, "prompt"),
        ("completion", {"prompt": None}, "prompt"),
        ("completion", {"prompt": [["a"]]}, "prompt"),
        ("embedding", {"input": None}, "input"),
        ("embedding", {"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_wrong_values_are_named(endpoint: Endpoint, given: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        said(endpoint, **given)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"seed": 1 << 32}, "a whole number from -1 to 4294967295"),
        ({"repetition_penalty": 0}, "a number from 0.01 to 10"),
        ({"dry_sequence_breakers": []}, "a text or a list of texts, 1 to 64 of them"),
        ({"reasoning_format": "loud"}, "one of none, auto, deepseek, deepseek-legacy"),
        ({"tools": {}}, "a list"),
    ],
)
def test_a_wrong_value_is_told_what_it_takes_as_an_options_is(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadRequest) as caught:
        said("chat", **given)
    assert caught.value.message.endswith(f"; expected {expected}")


def test_answers_are_counted_over_prompts() -> None:
    assert check("completion", {"prompt": ["a", "b"], "n": 3}).choices == 6
    assert check("completion", {"prompt": [1, 2, 3]}).choices == 1
    assert check("chat", {**HELLO, "n": 2}).choices == 2
    assert check("embedding", {"input": ["a", "b"]}).choices == 1


def test_an_assistant_may_say_nothing() -> None:
    call: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": []}
    assert check("chat", {"messages": [call, {"role": "tool", "content": "x"}]}).plain


def test_every_parameter_has_one_name_and_words() -> None:
    for endpoint in ("chat", "completion", "embedding", "rerank", "classify"):
        names = [name for p in PARAMETERS if endpoint in p.endpoints for name in (p.name, *p.aliases)]
        assert len(names) == len(set(names))
    for parameter in PARAMETERS:
        assert parameter.expected and parameter.help and parameter.schema["description"]
        assert not parameter.accepts(None) or parameter.kind == "any"


NOT_FOR_THE_ENGINE = {"model", "messages", "prompt", "input", "strict", "encoding_format", "enable_thinking"}


def test_llamacpp_says_of_every_parameter_whether_it_has_it() -> None:
    """One that the dialect does not know would go to the engine, and be dropped there without a word."""
    silent = {p.name for p in PARAMETERS if not (p.inert or p.rare or p.ours)} - set(LLAMA.dialect) - NOT_FOR_THE_ENGINE
    assert silent == set()


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3)
)


@given(st.dictionaries(st.sampled_from([p.name for p in PARAMETERS]), VALUES, max_size=4))
def test_no_value_breaks_it(given_values: dict[str, Any]) -> None:
    try:
        prepared = said(**{name: value for name, value in given_values.items() if name != "messages"})
    except UmlError as error:
        assert error.param
    else:
        assert prepared.body is None or all(value is not None for value in prepared.body.values())


def test_the_detail_of_an_image_is_told_to_have_no_effect() -> None:
    part: dict[str, Any] = pictures.part(pictures.png())
    for detail, count in (("auto", 0), ("high", 1)):
        image = {**part["image_url"], "detail": detail}
        messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, {**part, "image_url": image}]}]
        prepared = prepare(check("chat", {"messages": messages}), LLAMA)
        assert (prepared.body, len(prepared.warnings)) == (None, count)
    assert prepared.warnings[0]["param"] == "messages[0].content[1].image_url.detail"
    with pytest.raises(UnsupportedParameter, match="detail"):
        prepare(check("chat", {"messages": messages, "strict": True}), LLAMA)


def test_an_engine_that_invents_tokens_says_what_it_is_deaf_to() -> None:
    tools = [{"type": "function", "function": {"name": "now"}}]
    found = said(spec=FAKE, logprobs=True, tools=tools, response_format={"type": "json_object"}, temperature=1, seed=3)
    assert [notice["param"] for notice in found.warnings] == ["logprobs", "tools", "response_format", "temperature"]
    assert found.body is not None and set(found.body) == {"messages", "seed"}
    with pytest.raises(UnsupportedParameter, match="logprobs"):
        said(spec=FAKE, logprobs=True, strict=True)
    heard = {"messages", "prompt", "input", "model", "stream", "stream_options", "max_tokens", "stop", "n", "seed"}
    heard |= {"query", "documents", "lora"}
    silent = {one.name for one in PARAMETERS if not one.inert and not one.ours} - set(FAKE.dialect)
    assert silent == heard | {"encoding_format", "strict"}, "every other parameter is told to have no effect"


@pytest.mark.parametrize(
    ("loaded", "ids", "sentence"),
    [
        (0, [0], r"lora\[0\].id is 0; expected none; the model was loaded without adapters"),
        (2, [0, 2], r"lora\[1\].id is 2; expected 0 to 1, the adapters that the model was loaded with"),
    ],
)
def test_an_adapter_that_is_not_loaded_is_refused(loaded: int, ids: list[int], sentence: str) -> None:
    messages = [{"role": "user", "content": "hi"}]
    asked = check("chat", {"messages": messages, "lora": [{"id": id, "scale": 1} for id in ids]})
    with pytest.raises(BadRequest, match=sentence):
        prepare(asked, LLAMA, adapters=[1.0] * loaded)
    assert prepare(asked, LLAMA, adapters=[1.0] * 3).body is None
    assert prepare(asked, LLAMA).body is None, "an engine that refuses it itself is asked"
