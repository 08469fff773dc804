from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml.core.errors import BadOption, BadRequest, UmlError, UnknownField
from uml.core.option import Option
from uml.core.options import OPTIONS, LoadOptions, options_by_name
from uml.core.options_elsewhere import ELSEWHERE


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_says_what_it_does_and_takes_its_own_default(option: Option) -> None:
    assert option.help
    assert option.check(option.default) == getattr(LoadOptions(), option.name)


def test_there_is_one_option_a_field() -> None:
    assert [option.name for option in OPTIONS] == [field.name for field in fields(LoadOptions)]
    names = [name for option in OPTIONS for name in (option.name, *option.aliases)]
    assert len(names) == len(set(names)) == len(options_by_name())


def test_names_of_other_systems_are_understood() -> None:
    assert LoadOptions.parse({"n_ctx": 4096, "n-gpu-layers": 3}) == LoadOptions(ctx=4096, gpu_layers=3)
    assert LoadOptions.parse({"num_batch": 512}) == LoadOptions.parse({"n_batch": 512}) == LoadOptions(batch=512)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"ctx": 2_000_000_000}, "ctx is 2000000000; expected a whole number from 0 to 16777216"),
        ({"parallel": -1}, "expected a whole number from 0 to 256"),
        ({"cache_type_k": "i32"}, "expected one of auto, f32, f16"),
        ({"mmap": 1}, "mmap is 1; expected true or false"),
        ({"ctx": True}, "ctx is true; expected a whole number"),
        ({"ctx": 1.0}, "ctx is 1.0"),
        ({"rope_freq_scale": float("nan")}, "rope_freq_scale is nan; expected a number from 0 to 1000"),
        ({"draft_p_min": 2}, "expected a number from 0 to 1"),
        ({"lora": "a.gguf"}, "expected a list of texts, 0 to 64 of them"),
        ({"lora": ["x"] * 65}, "0 to 64 of them"),
        ({"tensor_split": [1, "a"]}, "expected a list of numbers"),
        ({"chat_template": "a\0b"}, "expected a text"),
        ({"rope_freq_base": 10**400}, "rope_freq_base is 1000000"),
        ({"ctx": 10**5000}, "ctx is a number too long to show"),
        ({"ctx": None}, "ctx is null"),
        ({"flash_attention": "yes"}, "expected one of auto, on, off"),
        ({"numa": True}, "numa is true; expected one of disabled"),
        ({"ctx": 1, "n_ctx": 2}, "given twice, under two names"),
    ],
)
def test_a_bad_value_is_refused_with_its_range(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadOption) as caught:
        LoadOptions.parse(values)
    assert sentence in str(caught.value)
    assert caught.value.param is not None
    assert caught.value.param.startswith("options.")
    json.dumps(caught.value.as_dict())


def test_an_error_stays_short_whatever_was_sent() -> None:
    for values in ({"ctx": "x" * 100_000}, {"lora": [0] * 100_000}, {"x" * 100_000: 1}, {"ctx": 9**999}):
        with pytest.raises(BadRequest) as caught:
            LoadOptions.parse(values)
        assert len(json.dumps(caught.value.as_dict())) < 1000


def test_what_can_mean_one_thing_only_is_taken() -> None:
    meant = LoadOptions(cache_type_k="q8_0", flash_attention="on", ctx=512)
    assert LoadOptions.parse({"ctk": "Q8_0", "flash_attn": True, "context_size": 512}) == meant
    assert LoadOptions.parse({"fa": False}) == LoadOptions(flash_attention="off")


def test_a_name_of_another_program_is_refused_with_what_it_is_here() -> None:
    with pytest.raises(UnknownField, match=r"options\.load-in-4bit; it is quantize=bnb-nf4 here"):
        LoadOptions.parse({"load-in-4bit": True})
    assert not set(ELSEWHERE) & set(options_by_name()), "a name that is known needs no word"
    words = " ".join(ELSEWHERE.values())
    said = [(name, value) for name, value in re.findall(r"(\w+)=([\w-]+)", words) if name in options_by_name()]
    assert len(said) > 15
    for name, value in said:
        if value not in ("1", "FOLDER", "DEVICE"):
            LoadOptions.parse({name: {"true": True, "false": False}.get(value, value)})


def test_an_unknown_name_is_refused_with_a_close_one() -> None:
    with pytest.raises(UnknownField, match=r"unknown field options\.cache_typek; did you mean cache_type_k"):
        LoadOptions.parse({"cache_typek": "f16"})
    with pytest.raises(UnknownField, match=r"unknown field options\.CTX; did you mean ctx\?"):
        LoadOptions.parse({"CTX": 1})
    with pytest.raises(UnknownField, match="did you mean gpu_layers"):
        LoadOptions.parse({"ngll": 1})


def test_what_was_changed_can_be_given_back() -> None:
    options = LoadOptions.parse({"ctx": 8192, "tensor_split": [3, 1], "lora": ["a=0.5"]})
    assert options.changed() == {"ctx": 8192, "tensor_split": [3.0, 1.0], "lora": ["a=0.5"]}
    assert LoadOptions.parse(options.changed()) == options
    assert LoadOptions().changed() == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(options_by_name())) | st.text(max_size=8), JSON, max_size=4))
def test_whatever_is_given_either_parses_or_is_refused_in_words(values: dict[str, object]) -> None:
    try:
        options = LoadOptions.parse(values)
    except UmlError as error:
        assert error.status == 400
        assert error.as_dict()["error"]["code"] in ("bad_option", "unknown_field")
    else:
        assert LoadOptions.parse(options.changed()) == options
