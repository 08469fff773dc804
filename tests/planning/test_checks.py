"""Combinations that no memory makes possible: refused with the range, before anything is planned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.planning.things import GIB, SHAPE, SPECS, info, machine, model, small
from uml.core.errors import BadOption
from uml.core.model import Format, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.planning import plan

TARGET = small(architecture="llama")


def file(role: Role = Role.TEXT, tokenizer: str = "", **rest: Any) -> ModelInfo:
    about = replace(small(role=role), **rest)
    return replace(about, metadata={"tokenizer.ggml.model": tokenizer} if tokenizer else {})


def refused(options: LoadOptions, about: ModelInfo = TARGET, **companions: ModelInfo) -> BadOption:
    known = {f"/{name}.gguf": companion for name, companion in companions.items()}
    with pytest.raises(BadOption) as caught:
        plan(model(about), options, machine(gpus=(24 * GIB,)), SPECS, companions=known)
    assert (caught.value.status, caught.value.code) == (400, "bad_option")
    return caught.value


@pytest.mark.parametrize(
    ("options", "option", "expected"),
    [
        (LoadOptions(ctx=4097), "ctx", "a whole number from 0 to 4096"),
        (LoadOptions(tensor_split=(1, 2)), "tensor_split", "1 shares, one a GPU"),
        (LoadOptions(main_gpu=1), "main_gpu", "a whole number from 0 to 0"),
        (LoadOptions(device="cuda:3"), "device", "auto, or one or more, with commas, of cuda:0, cpu"),
        (LoadOptions(cpu_moe_layers=3), "cpu_moe_layers", "0 or -1: some is dense, without experts"),
        (LoadOptions(cache_type_v="q8_0", flash_attention="off"), "cache_type_v", "with flash_attention off"),
    ],
)
def test_what_the_model_or_the_machine_rules_out(options: LoadOptions, option: str, expected: str) -> None:
    error = refused(options)
    assert error.param == f"options.{option}"
    assert expected in error.details["expected"]


def test_a_split_on_a_machine_without_gpus() -> None:
    with pytest.raises(BadOption, match="an empty list: there is no GPU to use"):
        plan(model(TARGET), LoadOptions(tensor_split=(1, 1)), machine(), SPECS)


def test_experts_of_a_mixture_may_be_kept_in_memory() -> None:
    mixture = small(shape=replace(SHAPE, layers=8, kv_heads=(8,) * 8, experts=8, experts_used=2))
    assert plan(model(mixture), LoadOptions(cpu_moe_layers=3), machine(), SPECS).options.cpu_moe_layers == 3
    plan(model(TARGET), LoadOptions(cpu_moe_layers=0), machine(), SPECS)
    plan(model(info(shape=None)), LoadOptions(cpu_moe_layers=3), machine(), SPECS)


def test_a_draft_model_must_speak_the_same_tokens() -> None:
    wanted = LoadOptions(draft_model="/draft.gguf")
    same = file(tokenizer="gpt2")
    target = file(tokenizer="gpt2", metadata={})
    target = replace(target, metadata={"tokenizer.ggml.model": "gpt2"})
    plan(model(target), wanted, machine(), SPECS, companions={"/draft.gguf": same})
    assert TARGET.shape
    near = file(tokenizer="gpt2", shape=replace(TARGET.shape, vocabulary=8128))
    plan(model(target), wanted, machine(), SPECS, companions={"/draft.gguf": near})
    far = file(tokenizer="gpt2", shape=replace(TARGET.shape, vocabulary=8129))
    assert "7872 to 8128 tokens; this one has 8129" in refused(wanted, target, draft=far).message
    assert "with the vocabulary gpt2, not llama" in refused(wanted, target, draft=file(tokenizer="llama")).message
    folder = file(tokenizer="gpt2", format=Format.SAFETENSORS)
    assert "reads, as gguf; this one is safetensors" in refused(wanted, target, draft=folder).message
    assert "a text model; this is one for embedding" in refused(wanted, target, draft=file(Role.EMBEDDING)).message


def test_files_beside_the_model_must_be_what_they_are_named_for() -> None:
    projector, adapter = file(Role.PROJECTOR), file(Role.ADAPTER)
    fine = LoadOptions(mmproj="/p.gguf", lora=("/a.gguf=0.5",))
    plan(model(TARGET), fine, machine(), SPECS, companions={"/p.gguf": projector, "/a.gguf": adapter})
    assert "the path of a projector" in refused(LoadOptions(mmproj="/p.gguf"), p=file()).message
    assert "the path of an adapter" in refused(LoadOptions(lora=("/a.gguf=0.5",)), a=file()).message
    other = replace(adapter, architecture="qwen2", path=Path("/a.gguf"))
    assert "an adapter for llama; this one is for qwen2" in refused(LoadOptions(lora=("/a.gguf",)), a=other).message
    peft = replace(adapter, architecture="LORA", format=Format.SAFETENSORS)
    assert (
        "an adapter as GGUF: llama.cpp's convert_lora_to_gguf.py"
        in refused(LoadOptions(lora=("/a.gguf",)), a=peft).message
    )
    unread = LoadOptions(lora=("/elsewhere.gguf",))
    assert plan(model(TARGET), unread, machine(), SPECS).warnings == (
        "the memory of /elsewhere.gguf is not counted in the estimate",
    )
