"""What is said of a worker that ended: how, and the words that may tell why."""

from __future__ import annotations

import signal

import pytest

from tests.runtime.stand_in import DEMO, machine, plan
from uml.core.options import LoadOptions
from uml.engines.fake import Fake
from uml.runtime.workers.ending import LATELY, Shortage, explain

AT_WORK = """0.07.078.600 I srv  update_slots: all slots are idle
0.07.078.649 W slot   operator(): id  1 | task 5 | n_past was set to 10
"""
QUOTING = """0.01.369.480 I srv          init: init: chat template, example_format: '<|im_start|>user
How are you?<|im_end|>
<|im_start|>assistant
'
0.01.369.831 I srv          init: model loaded
"""


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", "killed by SIGKILL, without a word in its log"),
        (AT_WORK, "killed by SIGKILL; its log tells of no error (uml logs demo)"),
        (f"0.07.070.000 E srv: the disk is full\n{AT_WORK}", "; its last words: srv: the disk is full"),
        (f"{AT_WORK}terminate called without an active exception\n\n", "; its last words: terminate called without"),
        ("INFO: done\nValueError: seven\n", "; its last words: ValueError: seven"),
        ("ValueError: eight\n'\n", "; its last words: ValueError: eight"),  # the end of a text of several lines
        (QUOTING, "; its log tells of no error"),
        (QUOTING.replace("\n'", "'"), "; its log tells of no error"),
        (f"{QUOTING}terminate called 'nine'\n", "; its last words: terminate called 'nine'"),
        ("0.01.369.480 I a: 'b\nValueError: ten\n", "; its last words: ValueError: ten"),  # quotes nothing to its end
        ("0.01.369.480 I a: 'b\nValueError: ten\n0.01.369.490 I 'c'\n", "; its last words: ValueError: ten"),
        ("0.01.369.480 I it doesn't\nValueError: 'no'\n", "; its last words: ValueError: 'no'"),
    ],
)
def test_usual_work_is_not_given_as_a_reason(log: str, said: str) -> None:
    there = plan(DEMO, LoadOptions(), machine(1 << 30), ())
    for served in (True, False):
        found = explain(there, Fake(), log, -signal.SIGKILL, served=served, starved=False)
        assert said in found.message
        assert "n_past" not in found.message


def test_only_a_shortage_of_late_explains_an_end() -> None:
    killed = 5
    shortage = Shortage(lambda: killed)
    assert not shortage.felt(), "what was before it began is not its own"
    killed += 1
    for _ in range(LATELY - 1):
        assert shortage.felt()
        shortage.beat()
    assert shortage.felt()
    shortage.beat()
    assert not shortage.felt(), "somebody else ended by it, long ago"
