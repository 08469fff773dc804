"""What the parent says arrives as it was meant, and what a worker says is believed only when whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.worker.process import plan_for
from uml.core.engine import Endpoint
from uml.core.errors import CorruptFile, DoesNotFit, LoadFailed, OutOfMemory, UmlError
from uml.core.model import Role
from uml.core.plan import Placement
from uml.engines.handover import failure_in, failure_line, from_line, to_line


def test_a_plan_survives_the_pipe(tmp_path: Path) -> None:
    plan = plan_for(
        role=Role.EMBEDDING,
        placement=Placement({"cuda:0": 5}, 3, 6, "fits"),
        lora=["/a=0.5"],
        chat_template="line\nbreak",
    )
    endpoint = Endpoint("k", tmp_path / "s.sock")
    line = to_line(plan, endpoint)
    assert line.count(b"\n") == 1
    back = from_line(line)
    assert back.endpoint == endpoint
    assert back.plan.options == plan.options
    assert (back.plan.model.id, back.plan.model.info.path) == (plan.model.id, plan.model.info.path)
    assert back.plan.model.info.role is Role.EMBEDDING
    assert back.plan.placement.gpu_layers == 3
    assert back.plan.footprint.total_bytes == plan.footprint.total_bytes
    assert from_line(to_line(plan, Endpoint("k", None, "127.0.0.1", 7))).endpoint.port == 7


@pytest.mark.parametrize("line", [b"{}\n", b"nothing\n", b'{"version":2}\n', b'{"version":1}\n'])
def test_a_line_of_somebody_else_is_refused(line: bytes) -> None:
    with pytest.raises(LoadFailed, match="started anew"):
        from_line(line)


def test_a_server_of_an_earlier_version_is_told_to_start_anew() -> None:
    document = json.loads(to_line(plan_for(), Endpoint("k", None, "127.0.0.1", 7)))
    del document["model"]["quantization"]
    with pytest.raises(LoadFailed, match=r"KeyError: 'quantization'.*started anew"):
        from_line(json.dumps(document).encode())


@pytest.mark.parametrize(
    "error",
    [OutOfMemory("demo", "cpu", 9, 3), CorruptFile(Path("/x"), "read", "expected", 7), DoesNotFit("demo", 2, 1)],
)
def test_a_failure_arrives_with_its_type_and_its_parts(error: UmlError) -> None:
    found = failure_in("noise\n" + failure_line(error) + "more noise")
    assert type(found) is type(error)
    assert found.as_dict() == error.as_dict()


def test_a_log_without_a_failure_has_none() -> None:
    assert failure_in("a log") is None
    assert failure_in('uml-worker-failure: {"error": 1}') is None
