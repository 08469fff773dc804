from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.docs import REPOSITORY, pages


def test_generated_pages_are_current() -> None:
    stale = [str(path.relative_to(REPOSITORY)) for path, text in pages().items() if path.read_text("utf-8") != text]
    assert not stale, "write them anew with: make docs"


def documents() -> list[Path]:
    found = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
    return [path for path in found if path.name != "LICENSE"]


@pytest.mark.parametrize("page", documents(), ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
