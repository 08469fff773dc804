"""Where the bytes go."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.things import GIB, MIB, machine
from uml.core.errors import BadOption
from uml.core.options import LoadOptions
from uml.core.plan import Footprint
from uml.planning.budget import margin, room, within_budget
from uml.planning.place import place

NEEDS = Footprint(weight_bytes=8 * GIB, kv_bytes=2 * GIB, compute_bytes=512 * MIB, other_bytes=64 * MIB)
AUTO = LoadOptions()


def test_without_a_gpu_it_is_all_or_nothing() -> None:
    found = place(NEEDS, machine(16 * GIB), AUTO, 32)
    assert found
    assert found.device_bytes == {"cpu": NEEDS.total_bytes}
    assert (found.gpu_layers, found.layers, found.device) == (0, 32, "cpu")
    assert found.reason == "all in memory: 10.56 GiB of 15.75 GiB"


def test_to_the_byte() -> None:
    just = machine(NEEDS.total_bytes + 256 * MIB)
    assert room(just.memory) == NEEDS.total_bytes
    assert place(NEEDS, just, AUTO, 32)
    assert place(NEEDS, machine(NEEDS.total_bytes + 256 * MIB - 1), AUTO, 32) is None


def test_a_margin_is_small_on_a_small_device() -> None:
    assert margin(machine(GIB, total=GIB).memory) == GIB // 16
    assert margin(machine(gpus=(8 * GIB,)).gpus[0]) == GIB
    assert margin(machine(gpus=(GIB,)).gpus[0]) == GIB // 8
    assert margin(machine(gpus=(80 * GIB,)).gpus[0]) == GIB


def test_whole_on_the_gpu_with_most_room() -> None:
    found = place(NEEDS, machine(gpus=(12 * GIB, 24 * GIB, 16 * GIB)), AUTO, 32)
    assert found
    assert found.device_bytes == {"cuda:1": NEEDS.total_bytes - 64 * MIB, "cpu": 64 * MIB}
    assert found.gpu_layers == 32
    assert "all on cuda:1 (GPU 1)" in found.reason


def test_a_cache_that_stays_in_memory_does_not_count_on_the_gpu() -> None:
    found = place(NEEDS, machine(gpus=(10 * GIB,)), replace(AUTO, kv_offload=False), 32)
    assert found
    assert found.gpu_layers == 32
    assert found.device_bytes["cpu"] == 2 * GIB + 64 * MIB


def test_over_several_gpus_by_free_memory() -> None:
    found = place(NEEDS, machine(gpus=(9 * GIB, 5 * GIB)), AUTO, 32)
    assert found
    assert found.gpu_layers == 32
    assert sum(found.gpu_split) == 32
    assert found.gpu_split[0] > found.gpu_split[1]
    assert found.reason == (
        "no GPU alone holds 10.50 GiB: 32 layers by free memory: "
        "21 on cuda:0 (8.00 GiB free), 11 on cuda:1 (4.38 GiB free)"
    )


def test_shares_that_were_asked_for_are_kept() -> None:
    wanted = replace(AUTO, tensor_split=(1.0, 3.0))
    found = place(NEEDS, machine(gpus=(24 * GIB, 24 * GIB)), wanted, 32)
    assert found
    assert found.gpu_split == (9, 23), "the output counts as one more layer, on the last GPU"
    assert "32 layers as tensor_split asks" in found.reason
    fewer = place(NEEDS, machine(gpus=(24 * GIB, 6 * GIB)), wanted, 32)
    assert fewer
    assert fewer.gpu_layers < 32
    assert fewer.gpu_split[1] == pytest.approx(3 * fewer.gpu_split[0], abs=3)
    one = place(NEEDS, machine(gpus=(24 * GIB, 24 * GIB)), replace(AUTO, tensor_split=(0.0, 1.0)), 32)
    assert one
    assert one.device == "cuda:1"
    assert one.gpu_split == ()


def test_as_many_layers_as_fit_the_rest_in_memory() -> None:
    found = place(NEEDS, machine(gpus=(6 * GIB,)), AUTO, 32)
    assert found
    assert 0 < found.gpu_layers < 32
    assert found.device_bytes["cuda:0"] <= 6 * GIB - 768 * MIB
    assert f"{32 - found.gpu_layers} in memory" in found.reason


def test_layers_that_were_counted_out_do_not_end_up_elsewhere() -> None:
    twelve = replace(AUTO, gpu_layers=12)
    found = place(NEEDS, machine(gpus=(24 * GIB,)), twelve, 32)
    assert found
    assert found.gpu_layers == 12
    assert place(NEEDS, machine(gpus=(3 * GIB,)), twelve, 32) is None
    beyond = place(NEEDS, machine(gpus=(24 * GIB,)), replace(AUTO, gpu_layers=99), 32)
    assert beyond
    assert beyond.gpu_layers == 32


def test_a_gpu_too_small_for_anything_leaves_it_in_memory() -> None:
    found = place(NEEDS, machine(gpus=(GIB // 2,)), AUTO, 32)
    assert found
    assert found.device == "cpu"
    assert "cuda:0 cannot hold one layer" in found.reason
    assert place(NEEDS, machine(gpus=(GIB // 2,)), replace(AUTO, tensor_split=(1.0,)), 32)


def test_not_enough_memory_beside_the_gpu() -> None:
    assert place(NEEDS, machine(300 * MIB, gpus=(6 * GIB,)), AUTO, 32) is None
    assert place(NEEDS, machine(256 * MIB, gpus=(24 * GIB,)), AUTO, 32) is None


def test_what_the_engine_cannot_do() -> None:
    two = machine(gpus=(8 * GIB, 8 * GIB))
    whole = place(NEEDS, two, AUTO, 32, split="whole")
    assert whole
    assert whole.device == "cpu"
    assert place(NEEDS, two, AUTO, 32, split="whole", on_cpu=False) is None
    assert place(NEEDS, machine(gpus=(8 * GIB,)), AUTO, 32, split="devices", on_cpu=False) is None
    spread = place(NEEDS, two, AUTO, 32, split="devices", on_cpu=False)
    assert spread
    assert spread.gpu_layers == 32


def test_a_model_of_unknown_depth_is_not_cut() -> None:
    assert place(NEEDS, machine(gpus=(24 * GIB,)), AUTO, 0).device == "cuda:0"  # type: ignore[union-attr]
    assert place(NEEDS, machine(gpus=(6 * GIB,)), AUTO, 0).device == "cpu"  # type: ignore[union-attr]


def test_an_apple_gpu_shares_the_memory() -> None:
    roomy = place(NEEDS, machine(16 * GIB, gpus=(12 * GIB,), kind="metal"), AUTO, 32)
    assert roomy
    assert roomy.gpu_layers == 32
    mixed = machine(9 * GIB, gpus=(9 * GIB,), kind="metal")
    assert place(NEEDS, mixed, AUTO, 32) is None, "the same bytes are not given out twice"


@pytest.mark.parametrize(
    ("wanted", "device"),
    [
        (replace(AUTO, device="cpu"), "cpu"),
        (replace(AUTO, gpu_layers=0), "cpu"),
        (replace(AUTO, device="cuda:1"), "cuda:1"),
        (replace(AUTO, device="cuda:1, cuda:0"), "cuda:0"),
        (replace(AUTO, split_mode="none", main_gpu=1), "cuda:1"),
        (replace(AUTO, device="cpu,cuda:1"), "cuda:1"),
    ],
)
def test_the_options_say_where(wanted: LoadOptions, device: str) -> None:
    found = place(NEEDS, machine(gpus=(24 * GIB, 20 * GIB)), wanted, 32)
    assert found
    assert found.device == device


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (replace(AUTO, device="cuda:7"), "auto, or one or more, with commas, of cuda:0, cuda:1, cpu"),
        (replace(AUTO, tensor_split=(1.0,)), "2 shares, one a GPU"),
        (replace(AUTO, tensor_split=(0.0, 0.0)), "shares of 0 and more, not all of them 0"),
        (replace(AUTO, tensor_split=(-1.0, 2.0)), "shares of 0 and more, not all of them 0"),
        (replace(AUTO, main_gpu=2), "a whole number from 0 to 1"),
    ],
)
def test_what_is_not_there_is_named(wanted: LoadOptions, expected: str) -> None:
    with pytest.raises(BadOption, match=expected):
        place(NEEDS, machine(gpus=(24 * GIB, 20 * GIB)), wanted, 32)


def test_free_is_the_least_of_report_promises_and_budget() -> None:
    before = machine(30 * GIB, gpus=(10 * GIB,), total=64 * GIB)
    assert within_budget(before, None, {}) == before
    assert within_budget(before, None, {"cpu": 60 * GIB}).memory.free_bytes == 4 * GIB
    assert within_budget(before, None, {"cuda:0": 4 * GIB}).gpus[0].free_bytes == 6 * GIB
    capped = within_budget(before, 8 * GIB, {"cpu": 3 * GIB})
    assert room(capped.memory) == 5 * GIB, "to the byte"
    assert capped.gpus == before.gpus
    assert within_budget(before, GIB, {"cpu": 3 * GIB}).memory.free_bytes == 0


sizes = st.integers(0, 40 * GIB)


@settings(max_examples=300, deadline=None)
@given(
    st.builds(Footprint, weight_bytes=sizes, kv_bytes=sizes, compute_bytes=st.integers(0, GIB), other_bytes=sizes),
    st.lists(st.integers(1, 48 * GIB), max_size=3),
    sizes,
    st.integers(0, 80),
    st.integers(-1, 90),
    st.sampled_from(["whole", "layers", "devices"]),
    st.booleans(),
)
def test_no_device_gets_more_than_it_has(
    needs: Footprint, gpus: list[int], free: int, layers: int, gpu_layers: int, split: str, on_cpu: bool
) -> None:
    where = machine(free, gpus=tuple(gpus))
    wanted = LoadOptions(gpu_layers=gpu_layers)
    found = place(needs, where, wanted, layers, split=split, on_cpu=on_cpu)  # type: ignore[arg-type]
    if found is None:
        return
    rooms = {device.id: room(device) for device in where.devices}
    assert all(count <= rooms[device] for device, count in found.device_bytes.items())
    assert sum(found.device_bytes.values()) >= needs.total_bytes
    assert 0 <= found.gpu_layers <= layers
    if gpu_layers > 0 and gpus and layers:
        assert found.gpu_layers == min(gpu_layers, layers)
