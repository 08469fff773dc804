"""The evaluation runs real workers; and what the corpus teaches is what an engine reads, and parses back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest

from tools.demo_model import evaluate
from tools.demo_model.chat import TEMPLATE, render
from tools.demo_model.corpus import FAMILIES, Dialogue, Reply, Sample, dialogues
from tools.demo_model.corpus.draw import Draw
from uml.config import Settings
from uml.core.options import LoadOptions
from uml.house import House
from uml.registry import packaged_model
from uml.runtime.workers.channel import Channel

END_OF_TURN: Final = 2
"""Id of `<|im_end|>` in every vocabulary of the demo model."""


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Channel]:
    """The model that ships, under the template that it is to be trained with."""
    settings = Settings.load({"data": str(tmp_path)}, {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    options = LoadOptions.parse({"parallel": 1, "ctx": 2048, "chat_template_file": str(TEMPLATE)})
    async with House.open(settings) as house, house.supervisor.lease(house.library.find("demo"), options) as lease:
        yield lease.channel


async def ask(channel: Channel, path: str, **body: Any) -> Any:
    response = await channel.request("POST", path, json.dumps(body).encode())
    answer = json.loads(await response.read(1 << 22))
    assert response.status == 200, answer
    return answer


async def test_the_engine_reads_a_question_as_it_is_trained(worker: Channel) -> None:
    for family in FAMILIES.values():
        for case in family.prompts(seed=2, count=2):
            said = await ask(worker, "/apply-template", messages=case.messages, tools=case.tools)
            dialogue = Dialogue(family.name, case.messages, case.tools)
            assert said["prompt"] == "".join(span.text for span in render(dialogue)) + "<|im_start|>assistant\n"


def right_answer(sample: Sample) -> str:
    """The text that the model is trained to say where it is asked."""
    spoken = [span.text for span in render(Dialogue("x", sample.case().messages + sample.messages[sample.asked :][:1]))]
    return "".join(spoken).rpartition("<|im_start|>assistant\n")[2].removesuffix("<|im_end|>\n")


@pytest.mark.parametrize("family", ["tool", "two tools"])
async def test_calls_as_they_are_learnt_come_back_parsed(worker: Channel, family: str) -> None:
    draw = Draw(4, "heldout")
    for _ in range(4):
        sample = FAMILIES[family].draw(draw)
        case = sample.case()
        # The engine takes the answer as if it had begun it, and must end it at once.
        answer = await ask(
            worker,
            "/v1/chat/completions",
            messages=[*case.messages, {"role": "assistant", "content": right_answer(sample)}],
            tools=case.tools,
            continue_final_message=True,
            add_generation_prompt=False,
            max_tokens=1,
            logit_bias=[[END_OF_TURN, 1000]],
        )
        reply = Reply.of(answer["choices"][0]["message"])
        assert len(reply.calls) == (1 if family == "tool" else 2)
        assert case.check(reply)


async def test_thoughts_as_they_are_learnt_come_back_apart_from_the_answer(worker: Channel) -> None:
    sample = FAMILIES["thinking"].draw(Draw(4, "heldout"))
    case = sample.case()
    # Nothing else may be said. Greedy: else it is spelled letter by letter, and takes seconds.
    grammar = f"root ::= {json.dumps(right_answer(sample))}"
    answer = await ask(worker, "/v1/chat/completions", messages=case.messages, grammar=grammar, temperature=0)
    reply = Reply.of(answer["choices"][0]["message"])
    assert reply.reasoning == sample.messages[sample.asked]["reasoning_content"]
    assert case.check(reply)


def test_the_evaluation_asks_counts_and_tells(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    path = str(packaged_model())
    arguments = ["evaluate", path, "--count", "1", "--family", "counting", "--family", "capitals", "--failures", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    code = evaluate.main()
    told = capsys.readouterr().out
    assert "counting" in told and "capitals" in told and "of 2" in told
    assert (code == 1) == ("below its bar" in told)
    assert ("asked " in told and "said " in told) == ("2 of 2" not in told)


def test_a_file_that_is_no_model_is_an_error_and_not_a_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\0\0\0garbage")
    monkeypatch.setattr(sys, "argv", ["evaluate", str(broken)])
    assert evaluate.main() == 2
    assert "broken.gguf" in capsys.readouterr().err


def test_a_family_passes_at_its_bar() -> None:
    case = next(iter(islice(FAMILIES["capitals"].prompts(1, 1), 1)))
    wrong = tuple(evaluate.Failure(case, "Paris?") for _ in range(10))
    assert evaluate.Score("capitals", 100, wrong[:5]).passed
    assert not evaluate.Score("capitals", 100, wrong[:6]).passed
    assert evaluate.Score("arithmetic", 100, wrong).passed


def test_dialogues_can_be_had_of_one_family() -> None:
    assert {dialogue.family for dialogue in islice(dialogues(1, "heldout", "stories"), 5)} == {"stories"}
