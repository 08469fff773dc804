"""Asks a model held-out questions of every family, greedily, and counts what is right.

    python -m tools.demo_model.evaluate MODEL.gguf [--count 100] [--failures]

The model is run as the product runs it: found by the library, loaded by the supervisor, asked over the worker's
own chat endpoint, one question after the other: what an engine computes together depends on what arrives together,
and with it the last digits, on which a close word hangs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from tools.demo_model.corpus import FAMILIES, Case, Reply
from uml.config import Settings
from uml.core.errors import UmlError
from uml.core.options import LoadOptions
from uml.house import House
from uml.runtime.workers.channel import Channel
from uml.runtime.workers.response import ChannelBroken

CONTEXT: Final = 2048
MAX_TOKENS: Final = 192
REPLY_LIMIT: Final = 1 << 22
SEED: Final = 1
BAR: Final = 0.95
BARS: Final = {"arithmetic": 0.90}
"""Share of right answers that a family must reach; sums whose numbers were never seen together are harder."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A question that was not answered right; `said` is the reply in one line, or why there was none."""

    case: Case
    said: str


@dataclass(frozen=True, slots=True)
class Score:
    """How a family did."""

    family: str
    count: int
    failures: tuple[Failure, ...] = field(default=())

    @property
    def right(self) -> int:
        """Questions answered right."""
        return self.count - len(self.failures)

    @property
    def passed(self) -> bool:
        """Whether the family reached its bar."""
        return self.right >= BARS.get(self.family, BAR) * self.count


Questions: TypeAlias = Mapping[str, Sequence[Case]]
"""What is asked, by family."""


def questions(families: Sequence[str] = tuple(FAMILIES), count: int = 100) -> Questions:
    """`count` held-out questions of each family, always the same."""
    return {name: tuple(FAMILIES[name].prompts(SEED, count)) for name in families}


async def evaluate(
    model: str,
    asked: Questions | None = None,
    options: Mapping[str, object] | None = None,
    max_tokens: int = MAX_TOKENS,
    data: Path | None = None,
) -> tuple[Score, ...]:
    """Load the model, an id or a path, and ask; None asks a hundred questions of every family.

    options: load options over the evaluation's own. max_tokens: of an answer. data: as of `worker`.
    Raises UmlError where the model cannot be loaded.
    """
    async with worker(model, options, data) as channel:
        return tuple(
            [await _family(channel, name, cases, max_tokens) for name, cases in (asked or questions()).items()]
        )


@asynccontextmanager
async def worker(
    model: str, options: Mapping[str, object] | None = None, data: Path | None = None
) -> AsyncIterator[Channel]:
    """The model, an id or a path, in a worker of its own. data: a data folder with engines; None is one of its own."""
    wanted = LoadOptions.parse({"ctx": CONTEXT, "parallel": 1, **(options or {})})
    with tempfile.TemporaryDirectory(prefix="uml-evaluate-") as home:
        # A home of its own too, so that nobody's settings change the scores.
        settings = Settings.load({"data": str(data or home)}, {"HOME": home, "PATH": os.environ["PATH"]})
        async with House.open(settings) as house, house.supervisor.lease(house.library.find(model), wanted) as lease:
            yield lease.channel


async def _family(channel: Channel, name: str, cases: Sequence[Case], max_tokens: int) -> Score:
    failures = [await _check(channel, case, max_tokens) for case in cases]
    return Score(name, len(cases), tuple(failure for failure in failures if failure))


async def _check(channel: Channel, case: Case, max_tokens: int) -> Failure | None:
    try:
        status, answer = await ask(channel, case, max_tokens)
    except (ChannelBroken, json.JSONDecodeError) as error:
        return Failure(case, f"no answer: {error}")
    if status != 200:
        return Failure(case, f"{status}: {answer}")
    message = answer["choices"][0]["message"]
    return None if case.check(Reply.of(message)) else Failure(case, _shown(message))


async def ask(channel: Channel, case: Case, max_tokens: int = MAX_TOKENS) -> tuple[int, Any]:
    """Status and answer of one question, greedily. Raises ChannelBroken, and JSONDecodeError for what is no answer."""
    response = await channel.request("POST", "/v1/chat/completions", json.dumps(_body(case, max_tokens)).encode())
    return response.status, json.loads(await response.read(REPLY_LIMIT))


def _body(case: Case, max_tokens: int) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": case.messages, "temperature": 0, "max_tokens": max_tokens}
    return body | {"tools": case.tools, "parallel_tool_calls": True} if case.tools else body


def _shown(message: Mapping[str, Any]) -> str:
    """What a message says, thinks and calls, in one line."""
    reply = Reply.of(message)
    calls = "".join(f" {call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in reply.calls)
    return (f"({reply.reasoning}) " if reply.reasoning else "") + reply.content + calls


def table(scores: Sequence[Score]) -> str:
    """One row a family, and the sum."""
    width = max(len(score.family) for score in scores)
    rows = [
        f"{score.family:<{width}}  {score.right:>4} of {score.count}{'' if score.passed else '  below its bar'}"
        for score in scores
    ]
    right, count = sum(score.right for score in scores), sum(score.count for score in scores)
    return "\n".join([*rows, f"{'all':<{width}}  {right:>4} of {count}"])


def examples(scores: Sequence[Score], most: int) -> str:
    """At most so many failures of each family: question, answer."""
    lines = []
    for score in scores:
        for failure in score.failures[:most]:
            asked = failure.case.messages[-1]
            lines.append(f"{score.family}\n  asked  {asked['content']}\n  said   {failure.said}")
    return "\n".join(lines)


def main() -> int:
    """Command line door. Returns 0 when every family reached its bar, 1 when not, 2 when the model cannot be run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=100, help="questions a family")
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES), help="only this; may be given again")
    parser.add_argument("--engines", type=Path, help="data folder with the engine that runs it; llama.cpp needs none")
    parser.add_argument("--threads", type=int, help="of the processor; what the engine chooses where not given")
    parser.add_argument("--failures", type=int, nargs="?", const=3, default=0, help="show so many of each family")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        asked = questions(arguments.family or tuple(FAMILIES), arguments.count)
        options = {"threads": arguments.threads} if arguments.threads else None
        scores = asyncio.run(evaluate(str(arguments.model.absolute()), asked, options, data=arguments.engines))
    except UmlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(scores))
    if arguments.failures:
        print(examples(scores, arguments.failures))
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if all(score.passed for score in scores) else 1


if __name__ == "__main__":
    sys.exit(main())
