"""Values that would end, hang or confuse the engine never reach it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.worker.process import plan_for
from uml.core.errors import BadOption
from uml.core.plan import Placement
from uml.engines.llamacpp.checks import check

GPUS = Placement({"cuda:0": 1, "cuda:1": 1}, gpu_layers=2, layers=2)


@pytest.mark.parametrize(
    ("options", "blamed"),
    [
        ({"ctx": 8}, "ctx"),
        ({"ctx": 1 << 24, "parallel": 256}, "ctx"),
        ({"batch": 1}, "batch"),
        ({"batch": 4, "ubatch": 4, "parallel": 16}, "batch"),
        ({"ubatch": 1, "parallel": 2, "embeddings": True}, "ubatch"),
        ({"batch": 32, "parallel": 2, "spec_type": "ngram-simple"}, "batch"),
        ({"batch": 100, "parallel": 2, "spec_type": "ngram-mod"}, "batch"),
        ({"batch": 4, "parallel": 1, "spec_type": "mtp", "draft_max": 8}, "batch"),
        ({"cache_type_v": "q8_0", "flash_attention": "off"}, "cache_type_v"),
        ({"direct_io": True, "mlock": True}, "direct_io"),
        ({"split_mode": "tensor"}, "split_mode"),
        ({"tensor_split": [0, 0]}, "tensor_split"),
        ({"tensor_split": [-1, 2]}, "tensor_split"),
        ({"override_tensor": ["blk"]}, "override_tensor"),
        ({"override_tensor": ["a,b=CPU"]}, "override_tensor"),
        ({"override_tensor": ["(=CPU"]}, "override_tensor"),
        ({"override_kv": ["a=b"]}, "override_kv"),
        ({"chat_template": "a", "chat_template_file": "b"}, "chat_template_file"),
        ({"chat_template_file": "/nowhere.jinja"}, "chat_template_file"),
        ({"mmproj": "/nowhere.gguf"}, "mmproj"),
        ({"lora": ["/nowhere.gguf=0.5"]}, "lora"),
        ({"control_vector": ["/nowhere.gguf"]}, "control_vector"),
        ({"draft_model": "/nowhere.gguf"}, "draft_model"),
        ({"spec_type": "eagle3"}, "spec_type"),
        ({"draft_min": 4, "draft_max": 2}, "draft_min"),
        ({"image_min_tokens": 9, "image_max_tokens": 3}, "image_max_tokens"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(options: dict[str, Any], blamed: str) -> None:
    with pytest.raises(BadOption) as caught:
        check(plan_for(**options), external=False)
    assert caught.value.param == f"options.{blamed}"


def test_shares_and_the_main_gpu_fit_the_gpus_in_use() -> None:
    with pytest.raises(BadOption, match="one share for each of 2 GPUs"):
        check(plan_for(placement=GPUS, tensor_split=[1, 1, 1]), external=False)
    with pytest.raises(BadOption, match="0 to 1"):
        check(plan_for(placement=GPUS, main_gpu=2), external=False)
    check(plan_for(placement=GPUS, tensor_split=[1, 1], main_gpu=1), external=False)


def test_what_the_program_has_no_word_for_is_refused_there_alone(tmp_path: Path) -> None:
    odd = tmp_path / "a:b.gguf"
    odd.touch()
    for plan in (plan_for(numa="mirror"), plan_for(rope_scaling="longrope")):
        check(plan, external=False)
        with pytest.raises(BadOption, match="llama-server"):
            check(plan, external=True)
    check(plan_for(lora=[f"{odd}=0.5"]), external=False)
    with pytest.raises(BadOption, match="colons"):
        check(plan_for(lora=[f"{odd}=0.5"]), external=True)


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadOption, match="readable text"):
        check(plan_for(chat_template_file=str(file)), external=False)


def test_defaults_pass() -> None:
    check(plan_for(), external=False)
    check(plan_for(ctx=0, parallel=0, threads=0), external=True)
    check(plan_for(spec_type="ngram-cache"), external=True)
