"""Load options of a command line, as they go to a server."""

from __future__ import annotations

from uml.cli.load_flags import collect


def test_an_engine_keeps_the_version_that_stands_behind_it() -> None:
    assert collect({"engine": "transformers==5.22.2"}) == {"engine": "transformers", "engine_version": "5.22.2"}
    assert collect({"engine": "transformers", "option": ["ctx=0"]}) == {"engine": "transformers", "ctx": 0}
