"""Who leaves so that another fits."""

from hypothesis import given
from hypothesis import strategies as st

from uml.planning import Running, evict

OLD, MIDDLE, NEW = Running("old", 3, 1), Running("middle", 3, 2), Running("new", 10, 3)


def test_nobody_leaves_when_it_fits() -> None:
    assert evict(5, 5, [OLD]) == ()


def test_the_least_recently_used_leave_first() -> None:
    assert evict(5, 0, [NEW, MIDDLE, OLD]) == ("old", "middle")


def test_nobody_leaves_in_vain() -> None:
    assert evict(13, 0, [NEW, MIDDLE, OLD]) == ("old", "new"), "without the middle one it is enough"
    assert evict(10, 0, [OLD, NEW]) == ("new",)


def test_a_busy_and_a_pinned_model_stay() -> None:
    busy, pinned = Running("busy", 50, 0, busy=True), Running("pinned", 50, 0, pinned=True)
    assert evict(5, 0, [busy, pinned, OLD, MIDDLE]) == ("old", "middle")
    assert evict(7, 0, [busy, pinned, OLD, MIDDLE]) is None


def test_bytes_are_in_memory_unless_told() -> None:
    assert (OLD.on("cpu"), OLD.on("cuda:0")) == (3, 0)
    split = Running("split", 9, 1, device_bytes={"cpu": 2, "cuda:0": 7})
    assert (split.on("cpu"), split.on("cuda:0"), split.on("cuda:1")) == (2, 7, 0)


models = st.lists(
    st.builds(
        Running,
        model=st.uuids().map(str),
        bytes=st.integers(0, 100),
        idle_order=st.integers(0, 5),
        busy=st.booleans(),
        pinned=st.booleans(),
    ),
    max_size=8,
)


@given(st.integers(0, 400), st.integers(0, 100), models)
def test_it_frees_enough_and_none_too_many(needed: int, free: int, running: list[Running]) -> None:
    known = {one.model: one for one in running}
    gone = evict(needed, free, running)
    idle = sum(one.bytes for one in running if not one.busy and not one.pinned)
    assert (gone is None) == (free + idle < needed)
    if gone is None:
        return
    assert len(set(gone)) == len(gone)
    assert not any(known[name].busy or known[name].pinned for name in gone)
    freed = sum(known[name].bytes for name in gone)
    assert free + freed >= needed
    for name in gone:
        assert free + freed - known[name].bytes < needed
