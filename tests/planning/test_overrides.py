"""Tensors that somebody moves are counted where they go."""

import time
from dataclasses import replace

import pytest

from tests.planning.llamacpp.test_weights import ON_CPU, TABLE, group, model
from tests.planning.things import GIB, LLAMACPP, MIB, SHAPE, SPECS, info, machine
from tests.planning.things import model as registered
from uml.core.errors import BadOption, DoesNotFit
from uml.core.model import ModelInfo, TensorGroup
from uml.core.options import LoadOptions
from uml.planning.layers import layers_of
from uml.planning.llamacpp.weights import place_weights
from uml.planning.overrides import check_devices, engine_name, overrides
from uml.planning.plan import plan

UP = group("ffn_up.weight", "Q6_K", 1)
EXPERTS = group("ffn_up_exps.weight", "Q6_K", 5, (64, 64, 8))
OUTPUT = group("output.weight", "Q6_K", 9, layers=())


def big(layers: int = 32, each: int = 256 * MIB) -> ModelInfo:
    """Half of every layer is in one matrix; 16 GiB in all, and no table of tokens worth counting."""
    names = ("ffn_up.weight", "attn_q.weight")
    tensors = tuple(TensorGroup(name, "Q6_K", (64, 64), tuple(range(layers)), each, 0, each) for name in names)
    weights = {"Q6_K": 2 * layers * each}
    return info(shape=replace(SHAPE, tensors=tensors), weights=weights)


def asked(*texts: str, **more: object) -> LoadOptions:
    return LoadOptions.parse({"ctx": 4096, "parallel": 1, "override_tensor": list(texts), **more})


def test_the_first_pattern_that_is_found_decides() -> None:
    options = replace(ON_CPU, override_tensor=(r"blk\.[01]\.ffn_up\.=CUDA0", r"ffn_up=CPU"))
    found = layers_of(model(TABLE, UP, OUTPUT), options)  # type: ignore[arg-type]
    assert found.pinned == {"cuda:0": 2 * MIB, "cpu": 2 * MIB}
    assert found.dense == (0,) * 4 and found.total == 6 * MIB


def test_weights_lie_where_they_are_moved() -> None:
    on_gpu = replace(ON_CPU, device="cuda:0", gpu_layers=4)
    moved = replace(on_gpu, override_tensor=(r"blk\.0\.ffn_up=CPU", r"output=CPU"))
    placed = place_weights(model(TABLE, UP, OUTPUT), moved, 4, False)  # type: ignore[arg-type]
    assert (placed.host, placed.gpu) == (3 * MIB, 3 * MIB), "the table and what was moved; three of four layers"
    assert place_weights(model(TABLE, UP, OUTPUT), on_gpu, 4, False).host == MIB  # type: ignore[arg-type]
    back = replace(on_gpu, cpu_moe_layers=4, override_tensor=(r"blk\.3\.ffn_up_exps=CUDA0",))
    kept = place_weights(model(TABLE, EXPERTS, OUTPUT), back, 4, False)  # type: ignore[arg-type]
    assert (kept.host, kept.gpu) == (4 * MIB, 2 * MIB), "a pattern beats cpu_moe_layers"


def test_a_table_that_is_the_output_too_is_not_copied_where_it_was_moved() -> None:
    on_gpu = replace(ON_CPU, device="cuda:0", gpu_layers=4)
    tied = place_weights(model(TABLE, UP), on_gpu, 4, False)  # type: ignore[arg-type]
    here = place_weights(model(TABLE, UP), replace(on_gpu, override_tensor=("token_embd=CPU",)), 4, False)  # type: ignore[arg-type]
    assert (tied.gpu, here.gpu) == (5 * MIB, 4 * MIB)
    assert layers_of(model(TABLE, UP), replace(on_gpu, override_tensor=("token_embd=CPU",))).inputs == MIB  # type: ignore[arg-type]


def test_what_is_moved_into_memory_makes_room_on_the_gpu() -> None:
    where = machine(64 * GIB, gpus=(12 * GIB,))
    assert plan(registered(big()), asked(), where, SPECS).placement.gpu_layers < 32
    found = plan(registered(big()), asked(r"\.ffn_up\.=CPU"), where, SPECS)
    assert found.placement.gpu_layers == 32
    assert 8 * GIB < found.placement.device_bytes["cuda:0"] < 12 * GIB
    assert found.placement.device_bytes["cpu"] > 8 * GIB
    assert "8.00 GiB in memory, as override_tensor asks" in found.reason
    assert not [text for text in found.warnings if "override_tensor" in text]


def test_what_is_moved_into_memory_must_fit_there() -> None:
    with pytest.raises(DoesNotFit):
        plan(registered(big()), asked(r"\.ffn_up\.=CPU", gpu_layers=32), machine(6 * GIB, gpus=(12 * GIB,)), SPECS)


def test_what_is_put_on_a_gpu_is_counted_there_whatever_else_is() -> None:
    where = machine(64 * GIB, gpus=(20 * GIB, 12 * GIB))
    plain = plan(registered(big()), asked(), where, SPECS)
    assert set(plain.placement.device_bytes) == {"cuda:0", "cpu"}
    found = plan(registered(big()), asked(r"\.ffn_up\.=CUDA1"), where, SPECS)
    assert found.placement.device_bytes["cuda:1"] > 8 * GIB and found.placement.gpu_layers == 32
    assert found.options.device == "cuda:0,cuda:1"
    assert sum(found.options.tensor_split) == 33, "the output goes where the last layer is"
    assert "8.00 GiB on cuda:1, as override_tensor asks" in found.reason


def test_a_gpu_may_hold_nothing_but_what_is_put_there() -> None:
    where = machine(64 * GIB, gpus=(20 * GIB, 12 * GIB))
    found = plan(registered(big()), asked(r"\.ffn_up\.=CUDA1", tensor_split=[1, 0]), where, SPECS)
    assert found.options.tensor_split == (33.0, 0.0)
    assert 8 * GIB < found.placement.device_bytes["cuda:1"] < 10 * GIB
    alone = plan(registered(big()), asked(r"\.ffn_up\.=CUDA0"), machine(64 * GIB, gpus=(24 * GIB,)), SPECS)
    assert alone.placement.gpu_layers == 32 and "all on cuda:0" in alone.reason


def test_what_is_put_on_a_gpu_does_not_silently_end_up_in_memory() -> None:
    with pytest.raises(DoesNotFit):
        plan(registered(big()), asked(r"\.ffn_up\.=CUDA0"), machine(64 * GIB, gpus=(6 * GIB,)), SPECS)


def test_a_header_without_tensors_is_said_not_to_tell() -> None:
    found = plan(registered(), LoadOptions(override_tensor=("ffn_up=CPU",)), machine(gpus=(24 * GIB,)), SPECS)
    assert "what override_tensor moves is not counted in the place: the header lists no tensors" in found.warnings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("blk", "PATTERN=DEVICE"),
        ("=CPU", "PATTERN=DEVICE"),
        ("a,b=CPU", "without commas"),
        ("(=CPU", "a regular expression"),
        ("a{1}{99999999999999999999}=CPU", "a regular expression"),
        ("(?<=a)b=CPU", "look-behind"),
        ("[[:alpha:]]=CPU", "classes"),
        ("(a|a)*b=CPU", "none of a group"),
        (".*.*.*.*.*x=CPU", "at most 4"),
        ("ffn=GPU", "as CUDA0"),
        ("ffn=CUDA7", "among CPU, CUDA0"),
        ("ffn=Vulkan0", "among CPU, CUDA0"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused_before_anything_starts(text: str, words: str) -> None:
    with pytest.raises(BadOption, match="option override_tensor is") as caught:
        plan(registered(big()), asked(text), machine(gpus=(24 * GIB,)), SPECS)
    assert words in caught.value.message


def test_a_gpu_is_named_only_where_one_is_used() -> None:
    with pytest.raises(BadOption, match="the load uses no GPU"):
        plan(registered(big()), asked("ffn=CUDA0"), machine(), SPECS)
    with pytest.raises(BadOption, match="the load uses no GPU"):
        plan(registered(big()), asked("ffn=CUDA0", device="cpu"), machine(gpus=(24 * GIB,)), SPECS)
    deaf = {"other": (replace(LLAMACPP, name="other", options=frozenset({"ctx"})), SPECS["llamacpp"][1])}
    warned = plan(registered(big()), asked("ffn=CUDA0"), machine(), deaf).warnings
    assert any("does not honour the option override_tensor" in text for text in warned)


def test_devices_are_called_as_the_engine_calls_them_or_as_we_do() -> None:
    names = ("CPU", "cpu", "CUDA1", "cuda:1", "ROCm0", "Vulkan2", "Metal", "MTL0")
    found = [one.device for one in overrides(asked(*(f"x={name}" for name in names)))]
    assert found == ["cpu", "cpu", "cuda:1", "cuda:1", "rocm:0", "vulkan:2", "metal:0", "metal:0"]
    assert [engine_name(id) for id in ("cpu", "cuda:1", "rocm:0", "metal:0")] == ["CPU", "CUDA1", "ROCm0", "Metal"]
    check_devices(asked("x=Metal"), ["metal:0"])


def test_a_hostile_pattern_takes_no_time() -> None:
    worst = asked(*(f".*.*.*.*{letter}=CPU" for letter in "XYZ"))
    began = time.process_time()
    plan(registered(big()), worst, machine(gpus=(24 * GIB,)), SPECS)
    assert time.process_time() - began < 3
