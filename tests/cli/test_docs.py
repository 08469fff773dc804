from __future__ import annotations

from tools.docs_cli import PAGE, page


def test_the_page_of_the_command_line_is_current() -> None:
    assert PAGE.read_text("utf-8") == page(), "write it anew with: make docs"
