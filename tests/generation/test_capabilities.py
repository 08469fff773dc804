"""What a model on an engine can do: from what both say, and nothing written down twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from uml.core.engine import EngineSpec
from uml.core.model import Format, ModelInfo, Role
from uml.core.options import OPTIONS
from uml.engines import builtin
from uml.generation import PARAMETERS, capabilities
from uml.generation.parameters import SAMPLERS

LLAMA = builtin()["llamacpp"].spec
PLAIN = EngineSpec(
    name="plain", title="Plain", formats=frozenset({Format.SAFETENSORS}), roles=frozenset({Role.TEXT}),
    devices=frozenset({"cpu"}), split="whole", served=False, options=frozenset({"ctx"}),
    dialect=dict.fromkeys(one.name for one in PARAMETERS if one.name not in ("messages", "prompt", "temperature")),
)  # fmt: skip
MODEL = ModelInfo(Path("/m.gguf"), Format.GGUF, Role.TEXT, 1.0, "magic", 1, chat_template="{{ tools }} enable_thinking")


def abilities(info: ModelInfo = MODEL, spec: EngineSpec = LLAMA, *, sessions: bool = False) -> dict[str, bool]:
    return {name: one.can for name, one in capabilities(info, spec, sessions=sessions).abilities.items()}


def test_every_parameter_and_option_is_in_the_matrix() -> None:
    found = capabilities(MODEL, LLAMA)
    assert set(found.parameters) == {one.name for one in PARAMETERS if not one.inert}
    assert set(found.options) == {option.name for option in OPTIONS}
    assert {name for name, one in found.parameters.items() if one.sampler} == set(SAMPLERS)
    assert {"temperature", "top_a", "mirostat_mode", "dry_base", "logit_bias"} <= set(SAMPLERS)


def test_a_parameter_is_told_under_the_engines_name() -> None:
    found = capabilities(MODEL, LLAMA).parameters
    assert found["temperature"].names == ("temperature",)
    assert found["mirostat_mode"].names == ("mirostat",)
    assert not found["top_a"].can and not found["penalty_alpha"].can
    assert found["do_sample"].can, "it is said with the temperature"
    assert found["custom_token_bans"].names == ("logit_bias",)
    assert found["keep_alive"].can and found["keep_alive"].names == ()


def test_llama_cpp_does_what_its_data_says() -> None:
    can = abilities(sessions=True)
    assert all(can[name] for name in ("chat", "tools", "vision", "lora", "json_schema", "grammar", "logprobs"))
    assert can["sessions"] and not abilities()["sessions"]
    assert can["thinking"] and can["embeddings"] and can["speculative"] and can["parallel"]


def test_an_engine_with_little_can_little() -> None:
    can = abilities(spec=PLAIN)
    assert [name for name, yes in can.items() if yes] == ["chat", "completion"]
    assert capabilities(MODEL, PLAIN).abilities["lora"].why == "Plain has no adapters"
    assert capabilities(MODEL, PLAIN).options["keep_alive"], "no engine needs to know it"


@pytest.mark.parametrize(
    ("template", "can", "why"),
    [
        (None, False, "it brings no chat template"),
        ("{{ messages }}", False, "its chat template does not know tools"),
        ("{{ tools }}", True, "its chat template knows tools"),
    ],
)
def test_tools_need_a_template_that_knows_them(template: str | None, can: bool, why: str) -> None:
    found = capabilities(replace(MODEL, chat_template=template), LLAMA).abilities
    assert (found["tools"].can, found["tools"].why) == (can, why)
    assert found["chat"].can


def test_a_model_for_vectors_does_not_chat() -> None:
    vectors = replace(MODEL, role=Role.EMBEDDING)
    can = abilities(vectors)
    assert can["embeddings"] and not any(can[name] for name in ("chat", "completion", "tools", "vision", "json_schema"))
    assert not abilities(replace(MODEL, role=Role.RERANKER), PLAIN)["embeddings"]


def test_an_engine_that_takes_images_needs_a_model_that_sees() -> None:
    seeing = replace(PLAIN, inputs=frozenset({"image"}))
    assert not abilities(spec=seeing)["vision"]
    assert abilities(replace(MODEL, metadata={"image_token_id": 7}), seeing)["vision"]


def test_what_scores_texts_says_so() -> None:
    ranker = replace(MODEL, role=Role.RERANKER)
    assert (abilities(ranker)["rerank"], abilities(ranker)["classify"]) == (True, False), "llama.cpp has no labels"
    hosted = builtin()["onnx"].spec
    can = capabilities(ranker, hosted).abilities
    assert can["rerank"].why == "it is made for it" and can["classify"].why == "it is a classifier with one label"
    sorter = abilities(replace(MODEL, role=Role.CLASSIFIER), hosted)
    assert (sorter["rerank"], sorter["classify"], sorter["chat"]) == (False, True, False)
    assert not abilities(spec=hosted)["rerank"]


def test_what_no_engine_tells_of_a_prompt_is_no_ability() -> None:
    echoing = replace(LLAMA, dialect={**LLAMA.dialect, "echo": "echo"})
    assert abilities(spec=echoing)["prompt_logprobs"] and not abilities()["prompt_logprobs"]
    assert not abilities()["guidance"] and not abilities()["contrastive_search"]
    assert capabilities(MODEL, LLAMA).abilities["prompt_logprobs"].why == "llama.cpp has no echo"
