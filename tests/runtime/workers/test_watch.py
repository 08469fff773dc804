"""When a worker that serves is given up: pure stories of looks at it, and real processes for the looks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.waiting import until
from uml.runtime.workers.family import family
from uml.runtime.workers.progress import Sample
from uml.runtime.workers.watch import Look, Patience, Watch, condition, observe

REST = Look(0.0, 0, 0, 0, Sample(1.0, 1 << 20, 0), "waiting")
CPU = Patience.of(30.0, gpu=False)


def story(*looks: Look, patience: Patience = CPU, seconds: float = 60.0) -> tuple[float, str]:
    """Look once a second, the last look going on: when it is given up, and why; 0 where it is not."""
    watch = Watch(0.0)
    for second in range(1, int(seconds) + 1):
        now = float(second)
        look = looks[min(second, len(looks)) - 1]
        sample = look.sample
        if sample is not None and sample.cpu_s < 0:  # a share of a processor since the beginning
            sample = replace(sample, cpu_s=-sample.cpu_s * now)
        watch.take(replace(look, now=now, sample=sample))
        if reason := watch.hang(patience, now):
            return now, reason
    return 0.0, ""


OWES = replace(REST, owed=1)


def test_a_worker_without_work_that_answers_is_left_alone() -> None:
    assert story(replace(REST, answers=True)) == (0.0, "")
    assert story(REST) == (0.0, "")


def test_one_that_does_nothing_for_its_work_is_given_up_although_it_answers() -> None:
    when, reason = story(replace(OWES, answers=True))
    assert when == 31  # since it was seen to owe
    assert reason == "it had done nothing for 30 s, with 1 request to answer"


def test_one_that_does_not_answer_either_is_given_up_sooner() -> None:
    when, reason = story(replace(OWES, owed=2, answers=False))
    assert when == 11
    assert reason == "it had neither answered nor worked for 10 s, with 2 requests to answer"


def test_one_that_a_signal_has_stopped_is_given_up_at_once_when_it_has_work() -> None:
    assert story(replace(OWES, condition="stopped"))[0] == 6
    assert "a signal had stopped it" in story(replace(OWES, condition="stopped"))[1]
    # Somebody may have stopped an idle one to look at it.
    assert story(replace(REST, condition="stopped", answers=False), seconds=20) == (0.0, "")
    assert "neither answered nor worked" in story(replace(REST, condition="stopped", answers=False))[1]


def test_a_slow_prompt_is_not_a_hang() -> None:
    burning = replace(OWES, sample=Sample(-0.9, 1 << 20, 0), answers=False)
    assert story(burning, seconds=3600) == (0.0, "")


def test_a_machine_that_lets_it_not_run_and_a_slow_disk_are_not_a_hang() -> None:
    assert story(replace(OWES, condition="able", answers=False), seconds=3600) == (0.0, "")
    # A thread that happened to run while we looked is no sign.
    now_and_then = [OWES, OWES, replace(OWES, condition="able")] * 20
    assert story(*now_and_then)[0] == 31


def test_bytes_of_an_answer_are_work() -> None:
    assert story(*(replace(OWES, heard=n) for n in range(100)), seconds=90) == (0.0, "")
    assert story(*(replace(OWES, heard=min(n, 20)) for n in range(100)), seconds=90)[0] == 51


def test_growth_of_memory_reading_and_log_are_work() -> None:
    for sign in ("resident_bytes", "read_bytes"):
        grows = [replace(OWES, sample=replace(Sample(1.0, 0, 0), **{sign: n << 20})) for n in range(100)]
        assert story(*grows, seconds=90) == (0.0, "")
    assert story(*(replace(OWES, log_bytes=n) for n in range(100)), seconds=90) == (0.0, "")


def test_the_clock_begins_with_the_work() -> None:
    assert story(*[REST] * 20, OWES)[0] == 51


def test_a_gpu_gets_more_time_and_one_that_is_to_go_less() -> None:
    on_gpu, leaving = Patience.of(30.0, gpu=True), Patience.of(30.0, gpu=False, hurry=True)
    assert story(replace(OWES, answers=True), patience=on_gpu, seconds=200)[0] == 121
    assert story(replace(OWES, answers=True), patience=leaving)[0] == 5
    assert story(replace(OWES, answers=False), patience=leaving)[0] == 3
    assert story(replace(OWES, condition="stopped"), patience=leaving)[0] == 2


def test_it_is_asked_only_in_doubt() -> None:
    watch = Watch(0.0)
    watch.take(replace(REST, now=1.0))
    assert not watch.doubts(100.0)
    watch.take(replace(OWES, now=2.0))
    assert not watch.doubts(3.5)
    assert watch.doubts(4.5)
    watch.take(replace(OWES, now=5.0, answers=False))
    assert watch.deaf
    watch.take(replace(OWES, now=6.0, answers=True, sample=None))
    assert not watch.deaf


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    program = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '60']); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout and process.stdout.readline()
        yield process
        os.killpg(process.pid, signal.SIGKILL)


async def test_looks_at_real_processes(sleeper: subprocess.Popen[bytes]) -> None:
    assert len(family(sleeper.pid)) == 2
    await until(lambda: condition(sleeper.pid) == "waiting")
    seen = observe(sleeper.pid, 1, 2, 3)
    assert (seen.owed, seen.heard, seen.log_bytes) == (1, 2, 3)
    assert seen.sample and seen.sample.resident_bytes > 1 << 20
    sleeper.send_signal(signal.SIGSTOP)
    await until(lambda: condition(sleeper.pid) == "stopped")
    assert observe(sleeper.pid, 1, 0, 0).condition == "waiting"  # its child is not stopped
    assert condition(os.getpid()) == "able"
    gone = observe(1 << 30, 0, 0, 0)
    assert (gone.sample, gone.condition) == (None, "waiting")
