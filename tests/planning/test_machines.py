"""Real machines as data: where models go on each, and laws that hold on all of them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.things import GIB, MIB, SHAPE, info, installed, machine, model, small, spec
from uml.core.errors import BadOption, DoesNotFit
from uml.core.machine import Device, Machine
from uml.core.model import ModelInfo, Shape, TensorGroup
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan
from uml.planning import plan
from uml.planning.batches import SHORT_BATCH
from uml.planning.budget import Budget, room, within_budget
from uml.planning.evict import Running
from uml.planning.layers import Layers, layers_of
from uml.planning.place import place, quality

AUTO = LoadOptions()
EVERYWHERE = installed(spec(devices=frozenset({"cpu", "cuda", "rocm", "metal"}), split="devices"))

LAPTOP = machine(5 * GIB, total=8 * GIB)
GAMER = machine(24 * GIB, gpus=(11 * GIB,), total=32 * GIB)
APPLE = machine(40 * GIB, gpus=(40 * GIB,), kind="metal", total=64 * GIB)
UNEVEN = machine(48 * GIB, gpus=(23 * GIB, 11 * GIB, 7 * GIB))
SERVER = machine(900 * GIB, gpus=(79 * GIB,) * 8, total=1024 * GIB)
MACHINES = [LAPTOP, GAMER, APPLE, UNEVEN, SERVER]

MIXTURE = info(
    "qwen3moe",
    {"Q4_K": 17 * GIB},
    replace(SHAPE, layers=48, embedding=2048, feed_forward=6144, kv_heads=(4,) * 48, experts=128, experts_used=8),
    {"expert_feed_forward_length": 768},
    parameters=30_500_000_000,
    context_length=40_960,
)
"""Qwen3 30B-A3B: 95 of 100 weights are experts."""
HUGE = info(weights={"Q4_K": 230 * GIB}, shape=replace(SHAPE, layers=126, embedding=16_384, kv_heads=(8,) * 126))
LARGE = info(weights={"Q4_K": 40 * GIB}, shape=replace(SHAPE, layers=80, embedding=8192, kv_heads=(8,) * 80))
EIGHT = info(weights={"Q4_K": 4700 * MIB})


def on(where: Machine, about: ModelInfo, options: LoadOptions = AUTO) -> LoadPlan:
    return plan(model(about), options, where, EVERYWHERE)


def test_a_laptop_holds_a_small_model_with_a_shorter_talk() -> None:
    found = on(LAPTOP, info(weights={"Q4_K": 2 * GIB}, shape=replace(SHAPE, layers=28, embedding=3072)))
    assert found.placement.device == "cpu"
    assert (found.options.ctx, found.options.cache_type_k) == (8192, "f16")
    tight = on(LAPTOP, info(weights={"Q4_K": 4 * GIB}))
    assert (tight.options.ctx, tight.options.cache_type_k, tight.options.parallel) == (4096, "q8_0", 1)
    with pytest.raises(DoesNotFit):
        on(LAPTOP, EIGHT)


def test_a_card_takes_the_model_whole_and_then_as_much_context_as_is_decent() -> None:
    found = on(GAMER, EIGHT)
    assert found.placement.gpu_layers == 32
    assert found.options.ctx >= 8192
    assert found.options.parallel == 4
    assert found.placement.device_bytes["cuda:0"] <= room(GAMER.gpus[0])


def test_a_coarser_cache_keeps_a_model_on_the_card() -> None:
    found = on(GAMER, info(weights={"Q8_0": 9 * GIB}))
    assert found.placement.gpu_layers == 32
    assert found.options.cache_type_k == "q8_0"
    assert found.options.ctx >= 8192
    assert any("the cache is q8_0" in warning for warning in found.warnings)


def test_experts_stay_in_memory_so_that_all_layers_are_on_the_card() -> None:
    found = on(GAMER, MIXTURE)
    assert found.placement.gpu_layers == 48
    assert 0 < found.placement.expert_layers < 48
    assert found.options.cpu_moe_layers == found.placement.expert_layers
    assert found.options.gpu_layers == -1
    assert f"the experts of the first {found.placement.expert_layers} in memory" in found.placement.reason
    assert found.placement.device_bytes["cuda:0"] <= room(GAMER.gpus[0])
    assert found.placement.device_bytes["cpu"] > 5 * GIB
    fewer = replace(found.options, cpu_moe_layers=found.placement.expert_layers - 1, gpu_layers=48)
    with pytest.raises(DoesNotFit):
        on(GAMER, MIXTURE, fewer)

    asked = on(GAMER, MIXTURE, LoadOptions(cpu_moe_layers=48, ctx=4096))
    assert asked.placement.expert_layers == 48
    assert "as asked" in asked.placement.reason
    assert on(SERVER, MIXTURE).placement.expert_layers == 0
    assert on(LAPTOP, replace_weights(MIXTURE, 3 * GIB)).options.cpu_moe_layers == 0


def replace_weights(about: ModelInfo, count: int) -> ModelInfo:
    return replace(about, weight_bytes={"Q4_K": count}, size_bytes=count)


def test_a_card_too_small_for_the_dense_part_takes_some_layers() -> None:
    tiny = machine(24 * GIB, gpus=(1200 * MIB,))
    found = on(tiny, MIXTURE)
    assert 0 < found.placement.gpu_layers < 48
    assert found.placement.device_bytes["cuda:0"] <= room(tiny.gpus[0])


def test_where_memory_is_too_small_for_experts_whole_layers_leave_it() -> None:
    needs = Footprint(weight_bytes=16 * GIB, kv_bytes=2 * GIB, compute_bytes=256 * MIB)
    layers = Layers((GIB,) * 4, (3 * GIB,) * 4)
    found = place(needs, machine(64 * GIB, gpus=(9 * GIB,)), AUTO, layers)
    assert found
    assert (found.gpu_layers, found.expert_layers) == (4, 4)


def test_apple_memory_is_given_out_once() -> None:
    with pytest.raises(DoesNotFit):
        on(APPLE, LARGE, LoadOptions(ctx=2048))
    found = on(APPLE, EIGHT)
    assert found.placement.device == "metal:0"
    assert sum(found.placement.device_bytes.values()) <= room(APPLE.memory)


def test_over_uneven_cards_by_their_free_memory() -> None:
    found = on(UNEVEN, info(weights={"Q4_K": 30 * GIB}), LoadOptions(ctx=4096))
    assert found.placement.gpu_layers == 32
    assert sum(found.placement.gpu_split) == 32
    assert list(found.placement.gpu_split) == sorted(found.placement.gpu_split, reverse=True)
    assert "no GPU alone holds" in found.placement.reason
    taken = [found.placement.device_bytes[gpu.id] / room(gpu) for gpu in UNEVEN.gpus]
    assert max(taken) - min(taken) < 0.3, "all about equally full"


def test_a_server_spreads_what_one_card_cannot_hold() -> None:
    assert len(on(SERVER, EIGHT).placement.device_bytes) == 2, "one card, and what stays in memory"
    found = on(SERVER, HUGE)
    assert found.placement.gpu_layers == 126
    assert len(found.placement.gpu_split) == 8


def test_other_programs_on_a_card_count() -> None:
    busy = replace(SERVER, gpus=tuple(replace(gpu, free_bytes=3 * GIB) for gpu in SERVER.gpus[:2]))
    found = on(busy, EIGHT, LoadOptions(ctx=2048))
    assert all(found.placement.device_bytes.get(gpu.id, 0) <= room(gpu) for gpu in busy.gpus)


# --- budgets ---


def test_a_budget_of_a_gpu_is_meant_to_the_byte() -> None:
    where = machine(32 * GIB, gpus=(23 * GIB, 23 * GIB))
    budget = Budget(None, {"cuda:0": 8 * GIB, "*": 0.5})
    capped = within_budget(where, budget, {"cuda:0": 2 * GIB})
    assert room(capped.gpus[0]) == 6 * GIB
    assert room(capped.gpus[1]) == 23 * GIB // 2
    assert capped.memory == where.memory
    assert room(within_budget(where, Budget(0.25), {}).memory) == where.memory.total_bytes // 4


def test_a_budget_decides_the_place() -> None:
    where = machine(32 * GIB, gpus=(23 * GIB,))
    free = plan(model(EIGHT), LoadOptions(ctx=4096), where, EVERYWHERE)
    assert free.placement.gpu_layers == 32
    capped = plan(model(EIGHT), LoadOptions(ctx=4096), where, EVERYWHERE, (), Budget(None, {"*": 3 * GIB}))
    assert 0 < capped.placement.gpu_layers < 32
    assert capped.placement.device_bytes["cuda:0"] <= 3 * GIB
    absent = plan(model(EIGHT), AUTO, where, EVERYWHERE, (), Budget(None, {"cuda:7": GIB}))
    assert "gpu_budget names cuda:7, which is not here" in absent.warnings


def test_one_model_gets_no_more_memory_than_one_worker_may_take() -> None:
    where, small = machine(32 * GIB), Budget(20 * GIB, worker=10 * GIB)
    assert room(within_budget(where, small, {"cpu": 5 * GIB}).memory) == 10 * GIB
    assert room(within_budget(where, small, {"cpu": 15 * GIB}).memory) == 5 * GIB
    assert room(within_budget(where, Budget(worker=0.25), {}).memory) == where.memory.total_bytes // 4
    found = plan(model(EIGHT), AUTO, where, EVERYWHERE, (), small)
    assert found.placement.device_bytes["cpu"] <= 10 * GIB
    assert found.options.ctx < plan(model(EIGHT), AUTO, where, EVERYWHERE).options.ctx


def test_who_is_refused_learns_which_setting_left_no_more() -> None:
    where, long = machine(32 * GIB), LoadOptions(ctx=65536, parallel=4)
    busy = [Running("busy", 4 * GIB, 1, busy=True)]
    for budget, limit, free in (
        (Budget(12 * GIB), "memory_budget", 8),
        (Budget(12 * GIB, worker=5 * GIB), "worker_memory", 5),
        (Budget(worker=5 * GIB), "worker_memory", 5),
        (Budget(8 * GIB, worker=5 * GIB), "memory_budget", 4),
    ):
        with pytest.raises(DoesNotFit, match=rf"{free}\.00 GiB are free within {limit};") as caught:
            plan(model(EIGHT), long, where, EVERYWHERE, busy, budget)
        assert caught.value.details["limit"] == limit
    with pytest.raises(DoesNotFit, match="are free;") as caught:
        plan(model(EIGHT), replace(long, parallel=32), where, EVERYWHERE, busy, Budget(64 * GIB))
    assert caught.value.details["limit"] is None


def test_a_setting_is_to_be_raised_where_that_is_enough() -> None:
    with pytest.raises(DoesNotFit, match=r"; use a smaller quantization, or raise memory_budget$"):
        plan(model(EIGHT), AUTO, machine(32 * GIB), EVERYWHERE, (), Budget(1 * GIB))
    long = LoadOptions(ctx=65536, parallel=4)
    with pytest.raises(DoesNotFit, match=r"it fits with .*; or raise worker_memory$"):
        plan(model(EIGHT), long, machine(40 * GIB), EVERYWHERE, (), Budget(worker=9 * GIB))
    with pytest.raises(DoesNotFit, match=r"; use a smaller quantization, or a machine with more memory$"):
        plan(model(EIGHT), AUTO, machine(4 * GIB), EVERYWHERE, (), Budget(1 * GIB))


def test_an_apple_gpu_is_within_the_budget_of_the_memory() -> None:
    capped = within_budget(APPLE, Budget(16 * GIB, {"*": 0.5}), {})
    assert (room(capped.memory), room(capped.gpus[0])) == (16 * GIB, 16 * GIB)


# --- how weights lie over layers ---


def tensor(name: str, each: int, layers: Sequence[int] = ()) -> TensorGroup:
    return TensorGroup(name, "Q4_K", (1, 1), tuple(layers), each, 0, 0)


def test_layers_from_the_table_of_tensors() -> None:
    def of(*tensors: TensorGroup) -> Layers:
        return layers_of(info(shape=replace(SHAPE, layers=3, kv_heads=(8, 0, 8), tensors=tensors)))

    found = of(
        tensor("token_embd.weight", 50),
        tensor("output.weight", 60),
        tensor("output_norm.weight", 1),
        tensor("attn_q.weight", 7, range(3)),
        tensor("ffn_up_exps.weight", 100, (1, 2)),
        tensor("ffn_down_chexps.weight", 10, (2,)),
        tensor("nextn.eh_proj.weight", 5, (3,)),
    )
    assert found == Layers((7, 7, 12), (0, 100, 110), 61, 50, (8, 0, 8))
    assert found.total == sum((50, 60, 1, 21, 200, 10, 5))
    tied = of(tensor("token_embd.weight", 50), tensor("attn_q.weight", 7, range(3)))
    assert (tied.head, tied.inputs, tied.experts) == (50, 0, ())


def test_layers_from_the_shape_alone() -> None:
    assert layers_of(info(shape=None)).count == 0
    assert layers_of(EIGHT).dense == (4700 * MIB // 32,) * 32
    found = layers_of(MIXTURE)
    assert 0.9 < sum(found.experts) / found.total < 0.97
    leading = info("deepseek2", shape=replace(SHAPE, experts=8), metadata={"leading_dense_block_count": 2})
    assert layers_of(leading).experts[:2] == (0, 0)
    assert layers_of(leading).experts[2] > 0


def test_the_table_of_tokens_stays_in_memory() -> None:
    needs = Footprint(weight_bytes=10 * GIB, kv_bytes=0, compute_bytes=0)
    found = place(needs, machine(gpus=(11 * GIB,)), AUTO, Layers((GIB,) * 8, (), GIB, GIB))
    assert found
    assert found.device_bytes == {"cuda:0": 9 * GIB, "cpu": GIB}


# --- laws ---

shapes = st.builds(
    Shape,
    layers=st.integers(1, 64),
    embedding=st.just(2048),
    feed_forward=st.just(8192),
    heads=st.just(16),
    kv_heads=st.just((8,) * 64),
    key_length=st.sampled_from([64, 80, 128]),
    value_length=st.just(128),
    vocabulary=st.integers(1000, 200_000),
    experts=st.sampled_from([0, 0, 8, 128]),
    experts_used=st.just(2),
).map(lambda shape: replace(shape, kv_heads=shape.kv_heads[: shape.layers]))
models = st.builds(
    lambda shape, weights, trained: info(weights={"Q4_K": weights}, shape=shape, context_length=trained),
    shapes,
    st.integers(64 * MIB, 60 * GIB),
    st.sampled_from([512, 4096, 32_768, 131_072]),
)
kinds = st.sampled_from(["cuda", "metal"])


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    kind = draw(kinds)
    memory = draw(st.integers(0, 128)) * GIB // 2
    cards = draw(st.lists(st.integers(1, 80), max_size=1 if kind == "metal" else 4))
    sizes = tuple(min(card * GIB, max(memory, 1)) if kind == "metal" else card * GIB for card in cards)
    return machine(memory, gpus=sizes, kind=kind)


asked = st.builds(
    LoadOptions,
    ctx=st.sampled_from([0, 0, 512, 4096, 32_768]),
    parallel=st.sampled_from([0, 0, 1, 4]),
    cache_type_k=st.sampled_from(["auto", "auto", "f16", "q8_0"]),
    cache_type_v=st.sampled_from(["auto", "auto", "f16"]),
    gpu_layers=st.sampled_from([-1, -1, -1, 0, 5, 99]),
    kv_offload=st.booleans(),
    cpu_moe_layers=st.sampled_from([-1, -1, 0]),
)


def tried(about: ModelInfo, options: LoadOptions, where: Machine) -> LoadPlan | DoesNotFit | None:
    try:
        return plan(model(about), options, where, EVERYWHERE)
    except DoesNotFit as error:
        return error
    except BadOption:
        return None


def test_who_goes_to_memory_for_want_of_a_gpu_reads_as_on_a_machine_without_one() -> None:
    options = LoadOptions(ctx=4096, parallel=1)
    beside = plan(model(small()), options, machine(48 * GIB, gpus=(MIB,)), EVERYWHERE)
    alone = plan(model(small()), options, machine(48 * GIB), EVERYWHERE)
    assert beside.options == alone.options
    assert beside.options.batch == SHORT_BATCH


@settings(max_examples=70, deadline=None)
@given(models, asked, machines(), st.sampled_from([0, 1, 64, 512, 4096]), st.sampled_from([0, 16, 512]))
def test_a_batch_that_was_asked_for_is_what_the_plan_has(
    about: ModelInfo, options: LoadOptions, where: Machine, batch: int, ubatch: int
) -> None:
    options = replace(options, batch=batch, ubatch=ubatch)
    found = tried(about, options, where)
    if not isinstance(found, LoadPlan):
        return
    had = found.options
    assert found.asked_options == options
    assert had.batch == min(batch, had.ctx) if batch else had.batch > 0
    assert had.ubatch == min(ubatch, had.batch) if ubatch else had.ubatch > 0
    told = {warning.partition(" ")[0] for warning in found.warnings}
    assert ("batch" in told, "ubatch" in told) == (batch > had.batch, ubatch > had.ubatch)


@settings(max_examples=70, deadline=None)
@given(models, asked, machines())
def test_nothing_is_placed_beyond_room_and_shares_sum_up(
    about: ModelInfo, options: LoadOptions, where: Machine
) -> None:
    found = tried(about, options, where)
    if not isinstance(found, LoadPlan):
        return
    put, rooms = found.placement, {device.id: room(device) for device in where.devices}
    assert all(count <= rooms[device] for device, count in put.device_bytes.items())
    shared = [count for device, count in put.device_bytes.items() if device.startswith(("cpu", "metal"))]
    assert sum(shared) <= rooms["cpu"], "memory is given out once"
    assert sum(put.device_bytes.values()) >= found.footprint.total_bytes
    assert 0 <= put.expert_layers <= put.layers
    if put.gpu_split:
        assert sum(put.gpu_split) == put.gpu_layers
        assert len(put.gpu_split) == len(found.options.tensor_split) == len(put.device_bytes) - 1
        assert sum(found.options.tensor_split) == put.gpu_layers + 1
    assert put.reason
    again = plan(model(about), found.options, where, EVERYWHERE)
    assert again.options == found.options
    assert quality(again.placement) == quality(put)


@settings(max_examples=70, deadline=None)
@given(models, asked, machines(), st.integers(0, 32), st.integers(0, 3))
def test_more_memory_never_gives_a_worse_place(
    about: ModelInfo, options: LoadOptions, where: Machine, more: int, which: int
) -> None:
    devices = list(where.devices)
    grown = devices[which % len(devices)]
    larger = replace(grown, free_bytes=grown.free_bytes + more * GIB, total_bytes=grown.total_bytes + more * GIB)
    after = with_device(where, larger)
    before, now = tried(about, options, where), tried(about, options, after)
    if not isinstance(before, LoadPlan):
        return
    assert isinstance(now, LoadPlan), "what fitted still fits"
    assert kind(now) >= kind(before)
    decided = replace(
        options,
        ctx=before.options.ctx,
        parallel=before.options.parallel,
        cache_type_k=before.options.cache_type_k,
        cache_type_v=before.options.cache_type_v,
    )
    fixed, roomier = tried(about, decided, where), tried(about, decided, after)
    assert isinstance(fixed, LoadPlan)
    assert isinstance(roomier, LoadPlan)
    assert quality(roomier.placement) >= quality(fixed.placement)


def with_device(where: Machine, device: Device) -> Machine:
    if device.kind == "cpu":
        return replace(where, memory=device)
    return replace(where, gpus=tuple(device if gpu.id == device.id else gpu for gpu in where.gpus))


def kind(found: LoadPlan) -> int:
    """All on GPUs, all but experts, some layers, memory."""
    put = found.placement
    if put.gpu_layers and put.gpu_layers == put.layers:
        return 3 if not put.expert_layers else 2
    return int(put.gpu_layers > 0)


@settings(max_examples=70, deadline=None)
@given(models, asked, machines())
def test_every_advice_holds(about: ModelInfo, options: LoadOptions, where: Machine) -> None:
    others = [
        replace(model(replace_weights(about, sum(about.weight_bytes.values()) // part)), id=f"some-q{part}_k")
        for part in (2, 4)
    ]
    try:
        plan(model(about), options, where, EVERYWHERE, others=others)
    except BadOption:
        return
    except DoesNotFit as error:
        for change in error.details["would_fit"]:
            plan(model(about), replace(options, **change), where, EVERYWHERE)
        for smaller in error.details["smaller"]:
            (named,) = (other for other in others if other.id == smaller["model"])
            plan(named, options, where, EVERYWHERE)
        assert error.details["needed"] > 0


def test_a_small_model_fits_every_machine() -> None:
    assert all(on(where, small()).options.ctx == 4096 for where in MACHINES)
