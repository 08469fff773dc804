"""Calling tools: one, two at once, using what they answer, asking for what is missing, and leaving them alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tools.demo_model.corpus.draw import Draw
from tools.demo_model.corpus.nouns import Message, Sample, assistant, user
from tools.demo_model.corpus.tool_kinds import TOOLS
from tools.demo_model.corpus.toolbox import Offered, Tool, offer

NO_TOOL: Final = "I have no tool for that."
EARLIER: Final = (0, 1, 2, 3, 4, 5)
"""How many turns may come before the one that is asked for."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How hard it is made.

    missing, double: of the earlier turns, the share that no tool fits, and of the others that with two calls.
    nameless: share of tools whose name says nothing. all_names: the others have names of both splits. counts: how many
    tools are given, drawn evenly. reword: share of descriptions in other words. kinds: of tools that there are.
    alike: share of the offers where one takes what another takes ("the weather in Oslo", "the time in Oslo"), and
    names begin with the same verb where they can. casual: share of requests that are said with "What's" for "What is",
    and of two that are one sentence.
    """

    missing: float = 0.0
    double: float = 0.0
    nameless: float = 0.0
    all_names: bool = False
    counts: tuple[int, ...] = (1, 2, 2, 2, 3, 3, 4, 5, 6)
    reword: float = 0.0
    kinds: tuple[Tool, ...] = TOOLS
    alike: float = 0.0
    casual: float = 0.0

    def offer(self, draw: Draw, tool: Tool, verb: str = "") -> Offered:
        """Define a tool, this hard; its name begins with the verb if it can."""
        return offer(draw, tool, self.nameless, all_names=self.all_names, reword=self.reword, verb=verb)


CALLS: Final = Mix()
ALSO: Final = (" Also: {}", " And then: {}", " {}", " After that: {}")


@dataclass(frozen=True, slots=True)
class Request:
    """A tool with values for its params, and the words that ask for it, with `{}` of the params' slots."""

    offered: Offered
    values: Mapping[str, str | int]
    wording: str

    @property
    def asked(self) -> str:
        """What the user says."""
        return self.wording.format(**self.values)

    def call(self, i: int) -> Message:
        """The call in OpenAI's shape."""
        arguments = json.dumps(self.offered.arguments(self.values), ensure_ascii=False)
        return {"id": f"call_{i}", "type": "function", "function": {"name": self.offered.name, "arguments": arguments}}

    def answered(self, draw: Draw) -> tuple[str, str]:
        """What the tool says, as JSON, and what is said to the user."""
        result = {field: value(draw) for field, value in self.offered.tool.result.items()}
        return json.dumps(result), self.offered.tool.answer.format(**{**self.values, **result})


def request_of(draw: Draw, offered: Offered) -> Request:
    """Something that the tool is for, with values of this split's."""
    values = {param.slot: param.value(draw) for param in offered.tool.params}
    return Request(offered, values, draw.pick(offered.tool.asks))


def _offers(draw: Draw, mix: Mix, at_least: int = 1) -> list[Offered]:
    """One to six tools of different kinds; in training mostly few: definitions are long."""
    tools = draw.some(mix.kinds, max(at_least, draw.pick(mix.counts)))
    verb = ""
    if len(tools) > 1 and mix.alike and draw.chance(mix.alike):
        first, *others = tools
        rivals = [tool for tool in mix.kinds if tool.takes_as(first) and tool not in others]
        tools[-1] = draw.pick(rivals) if rivals else tools[-1]
        draw.random.shuffle(tools)
        verb = _shared_verb(draw, tools)
    return [mix.offer(draw, tool, verb) for tool in tools]


def _shared_verb(draw: Draw, tools: list[Tool]) -> str:
    """What most names may begin with: `get_`."""
    several = Counter(verb for tool in tools for verb in tool.verbs)
    most = max(several.values(), default=0)
    return draw.pick([verb for verb, count in several.items() if count == most] or [""])


def _definitions(offers: list[Offered]) -> tuple[Message, ...]:
    return tuple(offered.definition for offered in offers)


def _calls(requests: list[Request]) -> Message:
    return {"role": "assistant", "content": None, "tool_calls": [r.call(i) for i, r in enumerate(requests)]}


def _turn(draw: Draw, requests: list[Request]) -> list[Message]:
    """The calls, what the tools say, and the answer."""
    messages = [_calls(requests)]
    said = []
    for i, request in enumerate(requests):
        result, sentence = request.answered(draw)
        messages.append({"role": "tool", "tool_call_id": f"call_{i}", "content": result})
        said.append(sentence)
    return [*messages, assistant(" ".join(said))]


def _earlier(draw: Draw, offers: list[Offered], mix: Mix) -> list[Message]:
    """None to five turns with the same tools before: definitions are long, and each is worth more than one use."""
    messages: list[Message] = []
    for _ in range(draw.pick(EARLIER)):
        if mix.missing and draw.chance(mix.missing):
            messages += _missing(draw, offers, mix)
            continue
        double = mix.double and len(offers) > 1 and draw.chance(mix.double)
        requests = [request_of(draw, offered) for offered in (draw.some(offers, 2) if double else [draw.pick(offers)])]
        messages += [user(_said(draw, requests, mix)), *_turn(draw, requests)]
    return messages


def _missing(draw: Draw, offers: list[Offered], mix: Mix) -> tuple[Message, Message]:
    others = [tool for tool in mix.kinds if all(tool is not offered.tool for offered in offers)]
    missing = offer(draw, draw.pick(others))
    return user(_said(draw, [request_of(draw, missing)], mix)), assistant(NO_TOOL)


_SHORT: Final = re.compile(r"\b(What|How|Where) is\b", re.IGNORECASE)


def _said(draw: Draw, requests: list[Request], mix: Mix) -> str:
    """What the user says who wants this, one thing or two."""
    casual = mix.casual and draw.chance(mix.casual)
    if casual and len(requests) == 2:
        said = _in_one_sentence(*requests)
    else:
        said = requests[0].asked + "".join(draw.pick(ALSO).format(request.asked) for request in requests[1:])
    return _SHORT.sub(r"\1's", said) if casual and draw.chance(0.5) else said


def _in_one_sentence(first: Request, second: Request) -> str:
    """ "What is the weather in Oslo and Rome?"; or the one and the other, where the first is no text that goes on."""
    if first.offered is second.offered and len(first.values) == 1:
        ((slot, value),), (other,) = first.values.items(), second.values.values()
        return first.wording.format(**{slot: f"{value} and {other}"})
    if any(" " in str(value) for value in first.values.values()):
        return f"{first.asked} {second.asked}"
    next_ = second.asked if second.asked.startswith("I ") else second.asked[0].lower() + second.asked[1:]
    return f"{first.asked.rstrip('.?!')} and {next_}"


def _sample(before: list[Message], messages: tuple[Message, ...], offers: list[Offered], asked: int = 1) -> Sample:
    """A dialogue with tools; `asked` counts from the end of what was said before."""
    return Sample("", (*before, *messages), _definitions(offers), asked=len(before) + asked)


def calling(draw: Draw, mix: Mix = CALLS) -> Sample:
    """One call; what the tool says is answered too."""
    offers = _offers(draw, mix)
    before = _earlier(draw, offers, mix)
    request = request_of(draw, draw.pick(offers))
    return _sample(before, (user(_said(draw, [request], mix)), *_turn(draw, [request])), offers)


def calling_two(draw: Draw, mix: Mix = CALLS) -> Sample:
    """Two calls at once: of one tool with two values, or of two tools."""
    if draw.chance(0.35):
        offers = _offers(draw, mix)
        before = _earlier(draw, offers, mix)
        single = [offered for offered in offers if len(offered.tool.params) == 1] or [offers[0]]
        offered = draw.pick(single)
        requests = _two_requests(draw, offered)
    else:
        offers = _offers(draw, mix, at_least=2)
        before = _earlier(draw, offers, mix)
        requests = [request_of(draw, offered) for offered in draw.some(offers, 2)]
    return _sample(before, (user(_said(draw, requests, mix)), *_turn(draw, requests)), offers)


def _two_requests(draw: Draw, offered: Offered) -> list[Request]:
    """For the same tool, with different values."""
    first = second = request_of(draw, offered)
    while second.values == first.values:
        second = request_of(draw, offered)
    return [first, second]


def answering(draw: Draw, mix: Mix = CALLS) -> Sample:
    """What a tool said, in a sentence; sometimes of two tools, sometimes after an earlier turn."""
    offers = _offers(draw, mix)
    before = _earlier(draw, offers, mix)
    requests = [request_of(draw, offered) for offered in draw.some(offers, min(len(offers), draw.pick((1, 1, 2))))]
    messages = (user(_said(draw, requests, mix)), *_turn(draw, requests))
    return _sample(before, messages, offers, asked=len(messages) - 1)


def no_tool_fits(draw: Draw, other: Callable[[Draw], Sample], mix: Mix = CALLS) -> Sample:
    """Either the model can answer by itself, or it says that it has no tool; with no tools at all as well."""
    offers = _offers(draw, mix)
    before = _earlier(draw, offers, mix)
    if draw.chance(0.5):
        sample = other(draw)
        return Sample("", (*before, *sample.messages), _definitions(offers), check=sample.check)
    messages = _missing(draw, offers, mix)
    if draw.chance(0.15):
        return Sample(messages[0]["content"], messages)
    return _sample(before, messages, offers)


def asking_back(draw: Draw, mix: Mix = CALLS) -> Sample:
    """A request without what the tool needs: asked for, given, called."""
    offers = _offers(draw, mix)
    before = _earlier(draw, offers, mix)
    request = request_of(draw, draw.pick(offers))
    tool = request.offered.tool
    param = tool.params[0]
    messages: list[Message] = [user(draw.pick(tool.unclear)), assistant(param.missing)]
    if len(tool.params) == 1:
        messages += [user(f"{request.values[param.slot]}"), *_turn(draw, [request])]
    return _sample(before, tuple(messages), offers, asked=draw.pick((1, 3)) if len(messages) > 2 else 1)
