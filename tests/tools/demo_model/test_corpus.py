"""What the demo model learns from: it repeats, it is right, and what is held out stays out."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tools.demo_model.corpus import (
    EVERYDAY,
    FAMILIES,
    PHASES,
    UNNAMED,
    Case,
    Dialogue,
    Family,
    Message,
    Reply,
    Sample,
    dialogues,
    facts,
)
from tools.demo_model.corpus.draw import Draw, held_out, parts
from tools.demo_model.corpus.families import WORKS
from tools.demo_model.corpus.memory import LONG_CHARS, NOT_TOLD
from tools.demo_model.corpus.more_tools import MORE_TOOLS
from tools.demo_model.corpus.nouns import assistant, user
from tools.demo_model.corpus.program import ABOUT, MORE_ABOUT, MORE_TOPICS, TOPICS, questions
from tools.demo_model.corpus.stories import ANY
from tools.demo_model.corpus.tool_kinds import TOOLS
from tools.demo_model.corpus.words import NAMES, PET_NAMES, SYSTEMS
from tools.demo_model.corpus.words import TOPICS as NEWS
from tools.demo_model.evaluate import SEED

DOCS = Path("docs/cli.md").read_text("utf-8")
CONVERSATIONS = {"remembering", "remembering long", "tool", "two tools", "tool answers", "no tool fits", "asking back"}


@cache
def train(phase: int = 0) -> tuple[Dialogue, ...]:
    return tuple(itertools.islice(dialogues(7, "train", phase=phase), 5000))


LAST = len(PHASES) - 1
EVERY_PHASE = pytest.mark.parametrize("phase", range(len(PHASES)))


@cache
def cases(family: str) -> tuple[Case, ...]:
    return tuple(FAMILIES[family].prompts(seed=3, count=40 if family != "remembering long" else 5))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_question_is_asked_twice(family: str) -> None:
    several = [repr((case.messages, case.tools)) for case in FAMILIES[family].prompts(SEED, count=100)]
    assert len(set(several)) == len(several) == 100


def test_a_family_without_more_questions_asks_them_again() -> None:
    greeting = Family("greeting", 1.0, lambda draw: Sample("", (user("Hello"), assistant("Hello!"))))
    several = [repr(case.messages) for case in greeting.prompts(SEED, count=50)]
    assert len(several) == 50 and len(set(several)) == 1 + len(SYSTEMS)


def bare(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Without a system message that changes nothing."""
    return messages[1:] if messages[0]["content"] in SYSTEMS else messages


def prompts(dialogue: Dialogue) -> Iterator[str]:
    """Everything that the dialogue teaches an answer to."""
    messages = bare(dialogue.messages)
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            yield json.dumps([messages[:i], dialogue.tools])


def test_the_same_seed_gives_the_same_dialogues() -> None:
    again = tuple(itertools.islice(dialogues(7, "train"), 200))
    assert again == train()[:200]
    assert again != tuple(itertools.islice(dialogues(8, "train"), 200))
    assert again != tuple(itertools.islice(dialogues(7, "heldout"), 200))


@EVERY_PHASE
def test_no_held_out_prompt_is_ever_in_training(phase: int) -> None:
    seen = {prompt for dialogue in train(phase) for prompt in prompts(dialogue)}
    asked = {json.dumps([bare(case.messages), case.tools]) for name in FAMILIES for case in cases(name)}
    assert len(asked) > 500
    assert not seen & asked


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - CONVERSATIONS))
def test_no_held_out_question_is_asked_in_training_in_any_conversation(family: str) -> None:
    # Who it is depends on the system message: under another one the same words ask another question.
    plain = [messages for dialogue in train() if (messages := bare(dialogue.messages))[0]["role"] != "system"]
    asked = {message["content"] for messages in plain for message in messages if message["role"] == "user"}
    new = {case.messages[-1]["content"] for case in cases(family) if len(bare(case.messages)) == 1}
    assert new and not new & asked


@EVERY_PHASE
def test_held_out_words_are_never_said_in_training(phase: int) -> None:
    learned = train(phase)
    said = " ".join(str(message["content"]) for dialogue in learned for message in dialogue.messages)
    words = set(re.findall(r"\w+", said))
    assert not words & {*parts(NAMES)[1], *parts(PET_NAMES)[1]}


def offered(phase: int) -> list[tuple[str, str]]:
    """Name and description of every tool that is offered in training."""
    functions = [tool["function"] for dialogue in train(phase) for tool in dialogue.tools]
    return [(function["name"], function["description"].rstrip(".")) for function in functions]


def test_every_name_of_a_tool_is_learned_and_some_that_say_nothing() -> None:
    """What is held out of calls is what they are asked with, and which tools come together."""
    known = {name for tool in (*TOOLS, *MORE_TOOLS) for name in tool.names}
    seen = {name for phase in range(len(PHASES)) for name, _ in offered(phase)}
    assert len(known - seen) < len(known) / 50, "of so many some wait for their turn"
    for phase, low, high in ((0, 0.1, 0.2), (1, 0.05, 0.1), (LAST, 0.1, 0.15)):
        names = [name for name, _ in offered(phase)]
        strange = [name for name in names if name not in known]
        assert low < len(strange) / len(names) < high
        assert any("_" in name for name in strange) and any(name != name.lower() for name in strange)


def test_in_the_end_there_are_more_kinds_of_tools_in_more_words() -> None:
    first, more = ({tool.about for tool in kinds} for kinds in (TOOLS, MORE_TOOLS))
    assert {about for phase in (0, 1) for _, about in offered(phase)} == first
    practised = [about for _, about in offered(LAST)]
    assert first | more <= set(practised)
    reworded = [about for about in practised if about not in first | more]
    assert 0.4 < len(reworded) / len(practised) < 0.6


def test_tools_that_take_the_same_and_begin_alike_are_learned_side_by_side() -> None:
    weather, time = (
        {name for tool in TOOLS for name in tool.names if noun in tool.names and name.startswith("get_")}
        for noun in ("weather", "time")
    )
    both = [
        dialogue
        for dialogue in train(LAST)
        if (names := {tool["function"]["name"] for tool in dialogue.tools}) & weather and names & time
    ]
    assert both
    for phase in range(len(PHASES)):
        several = [dialogue.tools for dialogue in train(phase) if len(dialogue.tools) > 1]
        verbs = [[tool["function"]["name"].split("_")[0] for tool in tools] for tools in several]
        assert sum(len(set(each)) < len(each) for each in verbs) / len(verbs) > 0.1


def calls(phase: int) -> list[str]:
    """Texts that tools are called with in training."""
    arguments = [
        json.loads(call["function"]["arguments"])
        for dialogue in train(phase)
        for message in dialogue.messages
        for call in message.get("tool_calls", ())
    ]
    return [value for given in arguments for value in given.values() if isinstance(value, str) and " " in value]


def test_in_the_end_texts_have_words_twice() -> None:
    first, last = ([len(set(text.split())) < len(text.split()) for text in calls(phase)] for phase in (0, LAST))
    assert sum(first) / len(first) < 0.05
    assert sum(last) / len(last) > 0.2


def test_in_the_end_two_calls_are_asked_for_in_one_sentence_too() -> None:
    def said(phase: int) -> list[str]:
        return [
            asked["content"]
            for dialogue in train(phase)
            for asked, reply in itertools.pairwise(dialogue.messages)
            if len(reply.get("tool_calls", ())) == 2
        ]

    def in_one(text: str) -> bool:
        return " and " in text and not re.search("[.?:] ", text)

    assert sum(map(in_one, said(LAST))) > len(said(LAST)) / 12
    assert sum(map(in_one, said(0))) < len(said(0)) / 100


def test_a_story_may_be_asked_for_without_a_word_of_what_it_is_about() -> None:
    asked = {case.messages[-1]["content"] for case in FAMILIES["stories"].prompts(seed=3, count=200)}
    free = {text for text in asked if "about" not in text}
    told = {message["content"] for dialogue in train(LAST) for message in dialogue.messages}
    assert free
    assert len(told & set(ANY)) > len(ANY) / 3
    assert not free & told


def test_in_the_end_both_names_of_a_story_may_be_unknown() -> None:
    def unknown(phase: int) -> list[str]:
        pairs = [
            re.findall(r"about (\w+) and (\w+)", bare(dialogue.messages)[0]["content"])
            for dialogue in train(phase)
            if dialogue.family == "stories"
        ]
        return [second for pair in pairs for first, second in pair if first[0].isupper() and second not in NAMES]

    assert unknown(LAST)
    assert not unknown(0)


def test_who_asks_first_of_all_what_was_never_told_is_told_so() -> None:
    def answers(phase: int) -> set[str]:
        return {bare(dialogue.messages)[1]["content"] for dialogue in train(phase) if dialogue.family == "remembering"}

    assert set(NOT_TOLD.values()) & answers(LAST)
    assert not set(NOT_TOLD.values()) & answers(0)


def test_in_practice_other_talk_has_few_stories() -> None:
    def share(phase: int) -> float:
        others = (dialogue for dialogue in train(phase) if dialogue.family != "stories")
        said = [str(message["content"]) for dialogue in others for message in dialogue.messages]
        return sum(len(text) > 200 for text in said) / len(said)

    assert share(LAST) < share(0) / 2


def test_tools_as_others_define_them_are_never_learned_from() -> None:
    learned = {pair for phase in range(len(PHASES)) for pair in offered(phase)}
    for case in EVERYDAY.prompts(seed=3, count=50):
        defined = [(tool["function"]["name"], tool["function"]["description"]) for tool in case.tools]
        assert 2 <= len(defined) <= 3 and not learned & set(defined)


def test_unnamed_tools_are_told_by_what_they_do_only() -> None:
    known = {name for tool in TOOLS for name in tool.names}
    for case in UNNAMED.prompts(seed=3, count=20):
        assert not known & {tool["function"]["name"] for tool in case.tools}
        assert all(tool["function"]["description"] for tool in case.tools)


@EVERY_PHASE
def test_held_out_sums_are_shown_nowhere_in_training(phase: int) -> None:
    said = "\n".join(
        str(message["content"]) + "\n" + message.get("reasoning_content", "")
        for dialogue in train(phase)
        for message in dialogue.messages
        if message["role"] == "assistant"
    )
    shown = re.findall(r"^(\d+ [+-] \d+) = ", said, re.MULTILINE)
    assert len(shown) > 500
    assert not [pair for pair in shown if held_out(f"arithmetic: {pair}")]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_corpus_passes_its_own_checks_and_nonsense_does_not(family: str) -> None:
    draw = Draw(5, "heldout")
    for _ in range(20 if family != "remembering long" else 3):
        sample = FAMILIES[family].draw(draw)
        case = sample.case()
        assert case.check(Reply.of(sample.messages[sample.asked])), sample
        assert not case.check(Reply("Bananas."))
        assert case.messages[-1]["role"] in ("user", "tool")


def test_in_practice_what_is_asked_about_may_be_the_work_of_another_tool_but_no_held_out_word() -> None:
    assert {"flight", "music", "timer"} <= set(WORKS)
    assert "weather" in parts(NEWS)[1] and "weather" not in WORKS
    asked = {
        message["content"].lower()
        for dialogue in train(1)
        for message in dialogue.messages
        if message["role"] == "user"
    }
    about = {match[1] for text in asked if (match := re.search(r"news about (\w+)", text))}
    assert about & set(WORKS)
    assert not about & set(parts(NEWS)[1])


def test_every_family_comes_up_and_tools_come_by_twos_too() -> None:
    assert {dialogue.family for dialogue in train()} == set(FAMILIES) - {"offhand"}
    assert {dialogue.family for dialogue in train(LAST)} == set(FAMILIES)
    calls = [len(message.get("tool_calls", ())) for dialogue in train() for message in dialogue.messages]
    assert max(calls) == 2
    assert {len(dialogue.tools) for dialogue in train()} == set(range(7))


def test_called_tools_are_offered_and_get_the_arguments_that_they_define() -> None:
    for dialogue in train():
        defined = {tool["function"]["name"]: tool["function"]["parameters"] for tool in dialogue.tools}
        for call in (call for message in dialogue.messages for call in message.get("tool_calls", ())):
            properties = defined[call["function"]["name"]]["properties"]
            arguments = json.loads(call["function"]["arguments"])
            assert list(arguments) == list(properties)
            for name, value in arguments.items():
                assert isinstance(value, int) == (properties[name]["type"] == "integer")


def test_long_talk_is_long_and_fits_the_context() -> None:
    for case in cases("remembering long"):
        length = sum(len(message["content"]) for message in case.messages)
        assert LONG_CHARS[0] / 2 < length < LONG_CHARS[1] + 700


@pytest.mark.parametrize(
    "pairs", [facts.CAPITALS, facts.OPPOSITES, facts.COLORS, facts.SOUNDS, facts.PLURALS], ids=lambda pairs: pairs[0][0]
)
def test_a_question_has_one_answer(pairs: tuple[tuple[str, str], ...]) -> None:
    assert len({first for first, _ in pairs}) == len(pairs)
    if pairs is facts.OPPOSITES:
        assert len({word for pair in pairs for word in pair}) == 2 * len(pairs)


@pytest.mark.parametrize("command", [topic.command for topic in (*TOPICS, *MORE_TOPICS)])
def test_commands_are_those_of_the_documentation(command: str) -> None:
    known = [title for title in re.findall("^## (uml.*)$", DOCS, re.MULTILINE) if f"{command} ".startswith(f"{title} ")]
    name = max(known, key=len)
    rest = command.removeprefix(name).split()
    section = DOCS.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    shared = DOCS.partition("\n## For every command\n")[2].partition("\n## ")[0]
    if "[load options]" in section:
        shared += DOCS.partition("\n## Load options\n")[2]
    for option in (word for word in rest if word.startswith("--")):
        assert f"| `{option}`" in section + shared, command
    if rest and rest[0] in ("MODEL", "FOLDER", "NAME"):
        given = "(NAME|MODEL)" if rest[0] == "MODEL" else rest[0]
        assert re.search(rf"^{name} \[OPTIONS\] \[?{given}\]?", section, re.MULTILINE), command


def test_no_question_about_the_program_has_two_answers() -> None:
    asked = [question for topic in (*TOPICS, *MORE_TOPICS) for question in questions(topic)]
    asked += [question for about in (ABOUT, MORE_ABOUT) for ways in about.values() for question in ways]
    asked += [does for topic in (*TOPICS, *MORE_TOPICS) for does in topic.does]
    assert len(asked) == len(set(asked))


def test_a_story_whose_names_run_together_is_not_one() -> None:
    sample = FAMILIES["stories"].draw(Draw(1, "heldout"))
    text = str(sample.messages[-1]["content"])
    first, second = re.findall(r"named (\w+)", text)
    check = sample.case().check
    assert check(Reply(text))
    assert not check(Reply(text.replace(second, first)))
    assert not check(Reply(text.rsplit(". ", 1)[0] + "."))
    assert not check(Reply(text + " The end."))
