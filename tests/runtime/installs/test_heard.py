"""What installers say, in our words: lines of pip 26.3 and uv 0.13 as they were printed."""

from __future__ import annotations

import pytest

from uml.runtime.installs.heard import step, why

GIB = 1 << 30


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Collecting torch==2.13.0", "looking for torch"),
        ("Collecting filelock (from torch==2.13.0)", "looking for filelock"),
        ("  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (202.3 MB)", "downloading torch, 202.3 MB"),
        ("Downloading uvloop-0.23.0-cp311-cp311-manylinux2014_x86_64.whl (4.0 MB)", "downloading uvloop, 4.0 MB"),
        ("  Downloading torch-2.13.0-cp311-none-any.whl.metadata (30 kB)", None),
        ("Processing /opt/wheels/jinja2-3.1.6-py3-none-any.whl", "reading jinja2-3.1.6-py3-none-any.whl"),
        ("  Building wheel for gptqmodel (pyproject.toml): started", "building gptqmodel"),
        ("Building wheels for collected packages: gptqmodel", None),
        ("Installing collected packages: a, b, c", "installing 3 packages"),
        ("Resolved 28 packages in 1.2s", "found 28 packages"),
        ("Prepared 28 packages in 3.1s", "fetched 28 packages"),
        ("Looking in links: /opt/wheels", None),
        ("", None),
    ],
)
def test_a_line_is_a_step_or_nothing(line: str, words: str | None) -> None:
    assert step(line) == words


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(...)': /simple/x/\n"
            "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)",
            "the package index cannot be reached",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)",
            "or it cannot look",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement x==9 (from versions: 1.0, 2.0)\n"
            "ERROR: No matching distribution found for x==9",
            "there is no x==9 for this Python and system on the package index; the newest there is 2.0",
        ),
        ("ERROR: Wheel 'x' located at /tmp/x-1.0-py3-none-any.whl is invalid.", "the file of x is broken"),
        ("  cause: Because x==5.0 has an invalid package format and you require x==5.0, ...", "x==5.0 is broken"),
        ("zipfile.BadZipFile: File is not a zip file", "is broken"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "its hash is another"),
        ("OSError: [Errno 28] No space left on device", "the disk is full (2.00 GiB are free)"),
        ("error: failed to write to file: No space left on device (os error 28)", "the disk is full"),
        ("ERROR: ResolutionImpossible: for help visit ...", "do not go together"),
        (
            "error: No solution found when resolving dependencies\n"
            "  cause: Because there is no version of x==3 and you require x==3, we can conclude that your ...",
            "there is no x==3 for this Python and system",
        ),
        (
            "error: No solution found when resolving dependencies\n"
            "  cause: Because x==1 depends on z>=2 and y==1 depends on z<2, we can conclude that x==1 and y==1 ...",
            "do not go together",
        ),
        (
            "error: Request failed after 3 retries in 5.7s\n  cause: Failed to fetch: http://127.0.0.1:9/simple/x/\n"
            "  cause: error sending request for url (http://127.0.0.1:9/simple/x/)\n  cause: client error (Connect)",
            "cannot be reached",
        ),
        (
            "The virtual environment was not created successfully because ensurepip is not\n"
            "available.  On Debian/Ubuntu systems, you need to install the python3-venv\npackage using ...",
            "this Python cannot make environments; install what it lacks (Debian, Ubuntu: apt install python3-venv)",
        ),
        ("/usr/bin/python3: No module named venv", "or let uv make them: --installer uv"),
        ("ERROR: Failed building wheel for exllamav2", "exllamav2 has no file for this machine"),
        ("ERROR: Failed to build installable wheels for some pyproject.toml based projects", "a package has no file"),
        ("ERROR: HTTP error 403 Client Error: Forbidden for url: https://index/x", "refuses to give it"),
        ("ERROR: Package 'x' requires a different Python: 3.11.7 not in '>=3.12'", "another version of Python"),
        ("ERROR: something nobody has seen before", "the installer says: something nobody has seen before"),
        ("no error at all", "did not say why"),
    ],
)
def test_the_reason_is_one_sentence(text: str, sentence: str) -> None:
    assert sentence in why(text.splitlines(), 2 * GIB)


def test_offline_the_reason_is_the_setting() -> None:
    text = "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)"
    assert "the setting offline" in why([text], GIB, offline=True)
