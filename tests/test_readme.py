"""What the README tells to type, typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.gateway.server import Server, running
from uml.registry import packaged_model

README = Path("README.md").read_text("utf-8")
LINE = re.compile(r"^(?:\S.*\| )?(?:\.venv/bin/)?uml (?P<words>.*)$", re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def typed(block: str) -> list[list[str]]:
    """Every `uml ...` line of a block, without what follows a `#`."""
    return [shlex.split(match["words"], comments=True) for match in LINE.finditer(block)]


def installs(block: str) -> bool:
    return block.startswith("uml engine install")


def commands() -> list[list[str]]:
    """Every `uml ...` line of the README, in its order, but of blocks that begin with the install of an engine."""
    found = [words for block in blocks("sh") if not installs(block) for words in typed(block)]
    # A server runs already; what starts or ends one has its own tests.
    return [words for words in found if words[0] not in ("serve", "stop")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("readme")
    (home / "models").mkdir()
    shutil.copyfile(packaged_model(), home / "models" / "mine.gguf")
    with running(home, options={"ctx": 1024, "parallel": 1, "threads": 1}) as started:
        yield started


def uml(server: Server, words: list[str], stdin: str) -> subprocess.CompletedProcess[str]:
    mine = str(server.data / "models" / "mine.gguf")
    words = [mine if word == "path/to/model.gguf" else word.replace("~", str(server.data)) for word in words]
    environment = {**os.environ, "HOME": str(server.data), "UML_DATA": str(server.data)}
    return subprocess.run(
        [sys.executable, "-m", "uml", *words], env=environment, input=stdin, capture_output=True, text=True, check=False
    )


def test_there_are_commands_in_it() -> None:
    assert {words[0] for words in commands()} >= {
        "run",
        "scan",
        "ls",
        "inspect",
        "estimate",
        "doctor",
        "load",
        "ps",
        "logs",
    }


def test_every_command_does_what_it_is_shown_for(server: Server) -> None:
    for words in commands():
        done = uml(server, words, "What is 7 + 8?" if words[0] == "run" else "")
        # A doctor may find something to mend on the machine that runs this.
        assert done.returncode == 0 or words == ["doctor"], f"uml {' '.join(words)}: {done.stderr}"
        assert done.stdout, words


def test_the_curl_line_answers(server: Server) -> None:
    (line,) = [block for block in blocks("sh") if block.startswith("curl")]
    _, url, _, body = shlex.split(line)
    reply = httpx2.post(url.replace("http://127.0.0.1:8080", server.url), json=json.loads(body), timeout=30)
    assert "Tokyo" in reply.json()["choices"][0]["message"]["content"]


def test_the_python_lines_answer(server: Server) -> None:
    (code,) = blocks("python")
    code = code.replace("http://127.0.0.1:8080", server.url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "15" in done.stdout) == (0, True), done.stderr


def test_make_knows_the_two_commands() -> None:
    listed = subprocess.run(["make", "help"], capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test"):
        assert re.search(rf"^{target}\b", listed, re.MULTILINE)
        assert f"make {target}" in README


@pytest.mark.slow  # downloads PyTorch: minutes
@pytest.mark.timeout(1800)
def test_engines_are_installed_and_run_as_shown(server: Server) -> None:
    for words in (words for block in blocks("sh") if installs(block) for words in typed(block)):
        done = uml(server, words, "")
        assert done.returncode == 0, f"uml {' '.join(words)}: {done.stderr}"
        assert words[0] != "run" or "Tokyo" in done.stdout
