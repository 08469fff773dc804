"""Models that read images: what they answer is what the library answers, with the same image and the same words."""

from __future__ import annotations

import base64
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import pictures
from tests.engines.transformers.conftest import PYTHON, SOURCE, Start
from tests.worker.process import LEFT_S, Worker, text_of
from uml.core.model import Role
from uml.engines.transformers.spec import SPEC
from uml.formats import inspect
from uml.generation import capabilities

# Every worker imports PyTorch, which takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
IMAGES = {"image": pictures.png(60, 40), "other": pictures.png(33, 77, 40)}
ASKED = (
    ("What is this?", ("image",)),
    ("What is this?", ("other",)),
    ("Which is larger?", ("image", "other")),
    ("Who are you?", ()),
)
Made = dict[str, Any]
NAMES = ("llava", "qwen", "gemma")


@pytest.fixture(scope="session")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What `make_seeing.py` tells of each model, and their `folder`."""
    if not PYTHON or subprocess.run([PYTHON, "-c", "import PIL"], capture_output=True).returncode:
        pytest.skip("UML_TEST_TRANSFORMERS_PYTHON names no interpreter with Transformers and Pillow")
    folder = tmp_path_factory.mktemp("seeing")
    told = json.dumps({name: base64.b64encode(data).decode() for name, data in IMAGES.items()})
    command = [PYTHON, str(Path(__file__).with_name("make_seeing.py")), str(folder), str(SOURCE)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, input=told)
    return {"folder": folder, **json.loads(done.stdout)}


def asked(text: str, which: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    message = pictures.seen(text, *(IMAGES[name] for name in which))
    return {"messages": [message], "temperature": 0, "max_tokens": 12, "return_tokens": True, **more}


def answer(worker: Worker, text: str, which: tuple[str, ...] = (), **more: Any) -> tuple[list[int], int]:
    """The tokens of a greedy answer, and those of its prompt."""
    reply = worker.post("/v1/chat/completions", asked(text, which, **more))
    return reply["choices"][0]["tokens"], reply["usage"]["prompt_tokens"]


def agrees(told: dict[str, Any], found: tuple[list[int], int]) -> None:
    tokens, prompt = found
    assert tokens[: len(told["tokens"])] == told["tokens"]
    assert prompt == told["prompt"], "what an image becomes is counted"


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_to_images_as_the_library_does(seeing: Made, start: Start, name: str) -> None:
    worker = start(seeing["folder"] / name, ctx=256)
    for told, (text, which) in zip(seeing[name], ASKED, strict=True):
        agrees(told, answer(worker, text, which))
    assert sum(len(told["tokens"]) for told in seeing[name]) >= 30
    assert len({tuple(told["tokens"]) for told in seeing[name]}) == 4, "each image matters"


@pytest.mark.parametrize("name", ["llava", "qwen"])
def test_images_and_texts_are_answered_side_by_side(seeing: Made, start: Start, name: str) -> None:
    worker = start(seeing["folder"] / name, ctx=256)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: answer(worker, *one), ASKED * 3))
    for told, one in zip(seeing[name] * 3, found, strict=True):
        agrees(told, one)


def test_a_text_goes_on_while_an_image_is_answered(seeing: Made, start: Start) -> None:
    worker = start(seeing["folder"] / "llava", ctx=256)
    long = asked("What is this?", ("image",), max_tokens=200, ignore_eos=True, stream=True)
    looking = worker.send("POST", "/v1/chat/completions", long)
    response = looking.getresponse()
    response.readline()
    agrees(seeing["llava"][3], answer(worker, *ASKED[3]))
    assert worker.busy() == 1, "it is still being answered"
    looking.close()
    response.close()
    assert worker.wait_until_busy(0) < LEFT_S


def test_sampling_streams_stops_and_structures_hold_for_images_too(seeing: Made, start: Start) -> None:
    worker = start(seeing["folder"] / "llava", ctx=256)
    body = asked("What is this?", ("image",), temperature=1, seed=5)
    whole = worker.post("/v1/chat/completions", body)
    assert whole["choices"][0]["tokens"] == worker.post("/v1/chat/completions", body)["choices"][0]["tokens"]
    assert text_of(worker.stream("/v1/chat/completions", body)) == whole["choices"][0]["message"]["content"]
    word = whole["choices"][0]["message"]["content"].split()[-1]
    stopped = worker.post("/v1/chat/completions", {**body, "stop": [word]})["choices"][0]
    assert (stopped["finish_reason"], word in stopped["message"]["content"]) == ("stop", False)
    chosen = worker.post("/v1/chat/completions", {**body, "choice": ["cat", "dog"], "logprobs": True, "n": 2})
    assert {one["message"]["content"] for one in chosen["choices"]} <= {"cat", "dog"}
    assert chosen["choices"][0]["logprobs"]["content"][0]["logprob"] <= 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"not an image", "are no image"),
        (pictures.png()[:60], "cut short"),
        (pictures.png().replace(b"IDAT", b"IDAU"), "cannot be decoded"),
        (pictures.gif(9, 9), "cannot be decoded"),
        (pictures.huge_png(), "100000 x 100000 pixels"),
        (pictures.png(4000, 2), "at most 200 times the other"),
    ],
)
def test_it_is_said_which_image_is_broken(seeing: Made, start: Start, data: bytes, says: str) -> None:
    worker = start(seeing["folder"] / "qwen", ctx=256)
    body = {"messages": [pictures.seen("What?", IMAGES["image"], data)]}
    status, refused = worker.request("POST", "/v1/chat/completions", body)
    assert status == 400, refused
    assert says in refused["error"]["message"]
    assert refused["error"]["param"] == "messages[0].content[1].image_url.url"


def test_a_prompt_that_images_make_too_long_is_refused(seeing: Made, start: Start) -> None:
    worker = start(seeing["folder"] / "llava", ctx=40)
    status, refused = worker.request("POST", "/v1/chat/completions", asked(*ASKED[2]))
    assert (status, refused["error"]["n_prompt_tokens"], refused["error"]["n_ctx"]) == (400, 46, 40)
    body = {"messages": [pictures.seen("What is an <image>?", IMAGES["image"])]}
    status, refused = worker.request("POST", "/v1/chat/completions", body)
    assert status == 400, "a mark of an image in what the user says has no image"


def test_a_model_for_texts_says_so(start: Start) -> None:
    worker = start(SOURCE)
    status, refused = worker.request("POST", "/v1/chat/completions", asked(*ASKED[0]))
    assert (status, "reads texts only" in refused["error"]["message"]) == (400, True)
    assert "messages[0].content[0].image_url.url" in refused["error"]["message"]


def test_without_what_prepares_images_it_reads_texts(seeing: Made, start: Start, tmp_path: Path) -> None:
    for path in (seeing["folder"] / "llava").iterdir():
        if "processor" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    worker = start(tmp_path, ctx=256)
    agrees(seeing["llava"][3], answer(worker, *ASKED[3]))
    status, refused = worker.request("POST", "/v1/chat/completions", asked(*ASKED[0]))
    assert (status, "preprocessor_config.json" in refused["error"]["message"]) == (400, True)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_known_for_what_it_is(seeing: Made, name: str) -> None:
    info = inspect(seeing["folder"] / name)
    assert info.role is Role.TEXT
    assert capabilities(info, SPEC).abilities["vision"].can
    assert not capabilities(inspect(SOURCE), SPEC).abilities["vision"].can
