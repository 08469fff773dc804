"""What ships is what the card says, and what the card says is enough."""

from __future__ import annotations

from tools.demo_model.card import card
from tools.demo_model.corpus import FAMILIES
from tools.demo_model.evaluate import BAR, BARS, evaluate, questions
from tools.demo_model.scores import read
from uml.registry import packaged_model

PLACE = packaged_model().parent
FOUND = read((PLACE / "scores.json").read_text("utf-8"))
WORSE = {"q8_0": 0.01, "q4_k_m": 0.05}
"""Share of the questions that a kind of file may answer wrong beside those of f16."""


def test_the_card_tells_the_scores() -> None:
    assert card(FOUND) == (PLACE / "README.md").read_text("utf-8")
    assert FOUND.kinds["q8_0"].bytes == packaged_model().stat().st_size


def test_every_family_reaches_its_bar() -> None:
    right = FOUND.kinds["f16"].right
    assert set(right) == set(FAMILIES)
    assert not {name for name, count in right.items() if count < BARS.get(name, BAR) * FOUND.count}
    for kind, worse in WORSE.items():
        less = {name: right[name] - count for name, count in FOUND.kinds[kind].right.items()}
        assert max(less.values()) <= worse * FOUND.count, kind


def test_its_companions_are_good_enough_and_all_is_small() -> None:
    assert FOUND.draft_parameters < 1_000_000
    assert FOUND.accepted >= 0.7 * FOUND.guessed > 0
    assert FOUND.nearest >= 0.9 * FOUND.pairs > 0
    assert packaged_model().stat().st_size < 7_000_000
    assert sum(path.stat().st_size for path in PLACE.rglob("*") if path.is_file()) < 30_000_000


async def test_the_file_answers_as_the_card_says() -> None:
    few = questions(count=3)
    scores = await evaluate(str(packaged_model()), few)
    assert sum(score.right for score in scores) >= 0.9 * sum(map(len, few.values()))
