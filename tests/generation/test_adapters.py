"""Adapters in requests to an engine that knows them by name."""

from __future__ import annotations

from typing import Any

import pytest

from uml.core.errors import BadRequest
from uml.engines import builtin
from uml.generation import Endpoint, Prepared, check, prepare

VLLM = builtin()["vllm"].spec


def said(loaded: list[float], endpoint: Endpoint = "chat", **more: Any) -> Prepared:
    base: dict[str, Any] = {"chat": {"messages": [{"role": "user", "content": "hi"}]}, "embedding": {"input": "a"}}
    return prepare(check(endpoint, {**base[endpoint], **more}), VLLM, adapters=loaded)


def name(prepared: Prepared) -> str | None:
    assert not prepared.warnings
    assert prepared.body is None or "lora" not in prepared.body
    return (prepared.body or {}).get("model")


def test_one_is_chosen_by_its_name_in_place_of_the_models() -> None:
    assert name(said([1.0, 0.0], lora=[{"id": 1}], model="demo")) == "lora:1"
    assert name(said([1.0, 0.0], model="demo")) == "lora:0", "what the load put on"
    assert name(said([1.0, 0.0])) == "lora:0", "also where the request would go as it came"
    assert name(said([1.0, 0.0], lora=[], model="demo")) is None
    assert name(said([1.0], lora=[{"id": 0, "scale": 0}])) is None
    assert name(said([0.0, 0.0], model="demo")) is None
    assert said([]) == Prepared(None), "without adapters nothing is written anew"


def test_vectors_are_made_by_what_the_load_put_on() -> None:
    assert name(said([1.0], "embedding")) == "lora:0"
    odd = said([1.0], "embedding", lora=5)
    assert odd.body is not None and odd.body["model"] == "lora:0"
    assert [warning["param"] for warning in odd.warnings] == ["lora"], "such requests have no choice"


@pytest.mark.parametrize(
    ("lora", "param", "says"),
    [
        ([{"id": 0}, {"id": 1, "scale": 1.0}], "lora", "vLLM takes one adapter a request"),
        ([{"id": 0, "scale": -0.5}], "lora[0].scale", "vLLM takes an adapter as it is: 1, or 0 for off"),
        ([{"id": 7}], "lora[0].id", "expected 0 to 1"),
    ],
)
def test_several_and_scales_are_refused(lora: list[dict[str, Any]], param: str, says: str) -> None:
    with pytest.raises(BadRequest) as refused:
        said([1.0, 0.0], lora=lora)
    assert refused.value.param == param and says in str(refused.value)
