"""A worker's error, as the client of the gateway gets it."""

from __future__ import annotations

import orjson

from uml.core.errors import AnswerDoesNotFit
from uml.gateway.refusal import refusal
from uml.worker.wire import error_body


def test_an_answer_without_room_is_told_with_all_its_parts() -> None:
    error = AnswerDoesNotFit("m", "num_beams 32, each with up to 900 tokens", 5 << 30, 1 << 30, "fewer num_beams")
    assert "m needs 5.00 GiB more for num_beams 32, each with up to 900 tokens, and 1.00 GiB are free" in error.message
    found = refusal(error.status, orjson.dumps(error_body(error)), "m")
    assert found.as_dict() == error.as_dict()
    assert (found.status, found.code) == (507, "answer_does_not_fit")
