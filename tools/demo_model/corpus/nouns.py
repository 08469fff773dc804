"""What the corpus is made of: dialogues to learn from, cases to be asked, and the families both come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from tools.demo_model.corpus.draw import Draw, held_out
from tools.demo_model.corpus.words import SYSTEMS

Split: TypeAlias = Literal["train", "heldout"]
Message: TypeAlias = Mapping[str, Any]

TRIES: Final = 100


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation in OpenAI's shape; the arguments of tool calls are JSON texts."""

    family: str
    messages: tuple[Message, ...]
    tools: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A function that was called."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, as an engine parsed it."""

    content: str
    reasoning: str = ""
    calls: tuple[Call, ...] = ()

    @classmethod
    def of(cls, message: Message) -> Reply:
        """From a message in OpenAI's shape; arguments that are no JSON object become `{"": text}`."""
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        return cls(
            (message.get("content") or "").strip(),
            (message.get("reasoning_content") or "").strip(),
            tuple(Call(call["name"], _arguments(call["arguments"])) for call in calls),
        )


def _arguments(text: str) -> Mapping[str, Any]:
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError:
        return {"": text}
    return arguments if isinstance(arguments, dict) else {"": text}


Check: TypeAlias = Callable[[Reply], bool]


@dataclass(frozen=True, slots=True)
class Case:
    """A question for the evaluation: the conversation up to the answer, and what holds of a right one."""

    messages: tuple[Message, ...]
    tools: tuple[Message, ...]
    check: Check


@dataclass(frozen=True, slots=True)
class Sample:
    """One draw of a family: a whole dialogue, of which one answer is the one that is asked for.

    key: what is held out of it, as a whole; "" where its words are, one by one, so that the draw sees to it.
    asked: index into `messages` of that answer. check: None for the same message and nothing else.
    """

    key: str
    messages: tuple[Message, ...]
    tools: tuple[Message, ...] = ()
    asked: int = -1
    check: Check | None = None

    def case(self) -> Case:
        """The question without its answer."""
        asked = self.asked % len(self.messages)
        return Case(self.messages[:asked], self.tools, self.check or same_as(self.messages[asked]))


def same_as(message: Message) -> Check:
    """Right is what says the same words and makes the same calls; thoughts are free."""
    expected = Reply.of(message)
    return lambda reply: (reply.content, reply.calls) == (expected.content, expected.calls)


@dataclass(frozen=True, slots=True)
class Family:
    """A thing that the model can do. weight: share of the dialogues that start from it, relative to the others'."""

    name: str
    weight: float
    make: Callable[[Draw], Sample]

    def draw(self, draw: Draw) -> Sample:
        """A sample of the draw's split, by its key."""
        while True:
            sample = self.make(draw)
            if not sample.key or held_out(f"{self.name}: {sample.key}") == (draw.split == "heldout"):
                return sample

    def prompts(self, seed: int, count: int) -> Iterator[Case]:
        """`count` held-out questions, about a third with a system message.

        None is asked twice: else a family with few that are short would be judged by those. Only where `TRIES` draws
        bring nothing new there are no more, and they come again.
        """
        draw = Draw(f"{seed} {self.name}", "heldout")
        asked: set[str] = set()
        for _ in range(count):
            for _ in range(TRIES):
                case = self.draw(draw).case()
                case = replace(case, messages=framed(draw, case.messages))
                if (text := repr((case.messages, case.tools))) not in asked:
                    break
            asked.add(text)
            yield case


def framed(draw: Draw, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """With a system message that changes nothing, three times in ten; never over one that is there."""
    if messages[0]["role"] == "system" or not draw.chance(0.3):
        return messages
    return (system(draw.pick(SYSTEMS)), *messages)


def user(text: str) -> Message:
    """What the user says."""
    return {"role": "user", "content": text}


def assistant(text: str, reasoning: str | None = None) -> Message:
    """What the model says; reasoning None is none asked for, "" is one that was forbidden."""
    message = {"role": "assistant", "content": text}
    return message if reasoning is None else message | {"reasoning_content": reasoning}


def system(text: str) -> Message:
    """What the model is told to be."""
    return {"role": "system", "content": text}


def exchange(question: str, answer: str, key: str | None = None) -> Sample:
    """One question and its answer; the question is the key where none is given."""
    return Sample(question if key is None else key, (user(question), assistant(answer)))
