from __future__ import annotations

import pytest

from uml.cli import words
from uml.cli.answer import Measured, Printer
from uml.cli.progress import stage
from uml.client import Piece


def test_numbers_as_people_read_them() -> None:
    assert [words.size(n) for n in (0, None, 3 << 20, 5 << 30)] == ["", "", "3 MiB", "5.00 GiB"]
    assert [words.count(n) for n in (None, True, 999, 5_153_024, 8_030_000_000, 2 * 10**12)] == [
        "", "", "999", "5.15 M", "8.03 B", "2 T",
    ]  # fmt: skip
    assert [words.seconds(s) for s in (None, 0.25, 200, 7500)] == ["", "0.2 s", "3 min 20 s", "2 h 5 min"]
    assert stage({"stage": "queued", "queue_position": 2}) == "queued (place 2)"
    waits = {"stage": "queued", "queue_position": 1, "reason": "the memory of alpha, which is busy"}
    assert stage(waits) == "queued (place 1): waits for the memory of alpha, which is busy"
    assert stage({**waits, "stage": "evicting"}) == "evicting"


def test_thoughts_and_tool_calls_stay_out_of_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(verbose=True)
    call = {"function": {"name": "get_time", "arguments": '{"city": "Oslo"}'}}
    for piece in (Piece(reasoning="hm"), Piece(text="yes"), Piece(tool_calls=(call,))):
        printer.put(piece)
    printer.end("fast")
    out, err = capsys.readouterr()
    assert out == "yes\n" and err == 'hm\n\nget_time{"city": "Oslo"}\n(fast)\n'


def test_speed_is_measured_where_the_engine_does_not_tell() -> None:
    pieces = Measured(
        iter([Piece(text="a"), Piece(text="b"), Piece(usage={"prompt_tokens": 3, "completion_tokens": 2})])
    )
    assert pieces.speed == ""
    assert len(list(pieces)) == 3
    assert pieces.speed.startswith("3 tokens of prompt, 2 tokens, ") and "tokens/s" in pieces.speed
    pieces.close()  # an iterator that cannot be closed is none of its concern
