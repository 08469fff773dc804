from __future__ import annotations

import json
from pathlib import Path

import pytest

from uml.core.jsonable import jsonable
from uml.core.machine import Device, Machine
from uml.core.model import Format, Model, ModelInfo, Quantization, Role
from uml.core.plan import Footprint, Placement


def test_nouns_become_json() -> None:
    info = ModelInfo(
        path=Path("/m.gguf"),
        format=Format.GGUF,
        role=Role.TEXT,
        confidence=1.0,
        reason="magic",
        size_bytes=7,
        files=(Path("/m.gguf"),),
        quantization=Quantization("gguf", "Q8_0", 8.5),
        metadata={"general.name": "m"},
    )
    found = json.loads(json.dumps(jsonable(Model("m", info, aliases=("n",)))))
    assert found["aliases"] == ["n"]
    assert found["info"]["path"] == "/m.gguf"
    assert found["info"]["format"] == "gguf"
    assert found["info"]["quantization"] == {"method": "gguf", "label": "Q8_0", "bits": 8.5}


def test_sets_are_sorted_and_enums_are_their_value() -> None:
    assert jsonable({Format.GGUF: frozenset({"b", "a"}), "t": (1, None, True)}) == {
        "gguf": ["a", "b"],
        "t": [1, None, True],
    }


def test_what_has_no_json_form_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        jsonable(object())


def test_figures_that_follow_from_others() -> None:
    footprint = Footprint(weight_bytes=5, kv_bytes=3, compute_bytes=2, other_bytes=1)
    assert footprint.total_bytes == sum(footprint.parts.values()) == 11
    assert Placement({"cpu": 1, "cuda:0": 5}).device == "cuda:0"
    assert Placement({}).device == "cpu"
    cpu, gpu = Device("cpu", "cpu", "memory", 8, 4), Device("cuda:0", "cuda", "card", 8, 8)
    machine = Machine("Linux", "x86_64", "p", 1, 1, frozenset(), cpu, (gpu,))
    assert machine.devices == (gpu, cpu)
