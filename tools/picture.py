"""Draws docs/picture.svg: a terminal in which the README's commands were really run.

python -m tools.picture
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURE = REPOSITORY / "docs" / "picture.svg"
COMMANDS = (
    ("ls",),
    ("estimate", "demo", "--ctx", "2048", "--parallel", "1"),
    ("run", "demo", "-v", "--temperature", "0", "What is the capital of Japan?"),
    ("run", "demo", "--temperature", "0", "Extract as JSON: Ada is 36 years old and lives in London."),
    ("run", "dmo", "hello"),
)


def main() -> None:
    """Run the commands and write the picture."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory(prefix="uml-picture-") as home:
        environment = {**os.environ, "HOME": home, "UML_DATA": f"{home}/data", "COLUMNS": "100", "NO_COLOR": "1"}
        for command in COMMANDS:
            words = " ".join(f'"{word}"' if " " in word else word for word in command)
            console.print(Text.assemble(("$ ", "bold green"), ("uml " + words, "bold")))
            done = subprocess.run(
                [sys.executable, "-m", "uml", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            console.print(Text(done.stdout.replace(str(REPOSITORY), ".").rstrip()), soft_wrap=True)
            console.print()
    # A page is not to fetch a font from elsewhere.
    svg_format = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    PICTURE.write_text(console.export_svg(title="uml", code_format=svg_format, unique_id="uml"), "utf-8")
    print(f"wrote {PICTURE.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
