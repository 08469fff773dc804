"""How often the demo model says what the draft model guessed.

python -m tools.demo_model.acceptance MODEL.gguf DRAFT.gguf [--family stories] [--count 40]
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from pathlib import Path

from tools.demo_model.corpus import FAMILIES
from tools.demo_model.evaluate import MAX_TOKENS, SEED, ask, worker

DRAFT_TOKENS = 4
"""Tokens guessed at a time: a model this small is soon through with its own."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Tokens that the draft guessed, and those of them that the model said too."""

    guessed: int
    accepted: int

    @property
    def share(self) -> float:
        """0 to 1; 0 where nothing was guessed."""
        return self.accepted / self.guessed if self.guessed else 0.0


async def acceptance(
    model: str, draft: str, family: str = "stories", count: int = 40, max_tokens: int = MAX_TOKENS
) -> Acceptance:
    """Ask `count` held-out questions of a family, one at a time, greedily. Raises UmlError where a load fails."""
    options = {"draft_model": draft, "draft_max": DRAFT_TOKENS}
    guessed = accepted = 0
    async with worker(model, options) as channel:
        for case in FAMILIES[family].prompts(SEED, count):
            _, answer = await ask(channel, case, max_tokens)
            guessed += answer["timings"].get("draft_n", 0)
            accepted += answer["timings"].get("draft_n_accepted", 0)
    return Acceptance(guessed, accepted)


def main() -> None:
    """Command line door."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("draft", type=Path)
    parser.add_argument("--family", choices=sorted(FAMILIES), default="stories")
    parser.add_argument("--count", type=int, default=40)
    given = parser.parse_args()
    model, draft = str(given.model.absolute()), str(given.draft.absolute())
    found = asyncio.run(acceptance(model, draft, given.family, given.count))
    print(f"{found.accepted} of {found.guessed} guessed tokens, {found.share:.1%}")


if __name__ == "__main__":
    main()
