"""Who is held to the contract of engines: each engine with the demo model in a format of its own, in F32.

UML_TEST_ENGINES is a data folder in which `uml engine install` has made the environments of `transformers` and `onnx`
(`make test ENGINES=1` has one made, once); without it only llama.cpp and the engine that invents tokens are held to
it. UML_TEST_LLAMA_SERVER names a `llama-server`, which is held to it then too.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.engines import demo_onnx
from tests.plugins.packages import EXAMPLE
from tests.worker.process import SERVER
from tools.demo_model.convert import convert
from uml.core.engine import Engine
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement, SamplerFile
from uml.engines.fake import Fake
from uml.engines.llamacpp.engine import LlamaCpp
from uml.engines.onnx.engine import Onnx
from uml.engines.transformers.engine import Transformers
from uml.formats import inspect
from uml.registry import packaged_model
from uml.runtime.installs.shelf import Installs

SOURCE = packaged_model().with_name("demo-safetensors")
DATA = os.environ.get("UML_TEST_ENGINES", "")
INSTALLS = Installs(Path(DATA or "/nonexistent") / "engines")
LIPOGRAM = SamplerFile("lipogram", EXAMPLE / "src" / "uml_wordchain" / "lipogram.py", "wordchain")
CONTEXT = 2048
SLOTS = 4
READY_S = 240.0
"""Seconds within which a worker is ready. Alone the slowest takes four; on a machine that does much else, a minute."""
AT_ONCE_S = 0.25
"""Within which a slot is free once its client has gone."""
ONCE_A_SECOND_S = 1.3
"""The same of llama.cpp before the first token: until then its server looks once a second (`notices_leaving`)."""

PROMPTS = tuple(
    f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    for asked in (
        "Tell me a story about a dog.",
        "Tell me a story about a king.",
        "Tell me a short story.",
        "A story, please.",
        "Count from 3 to 12.",
        "Which command shows memory?",
        "Repeat these words: river stone apple",
        "What is the capital of France?",
    )
)
"""What the demo model knows how to go on with: of other texts it makes the same letter again and again."""
QUESTIONS = ("What is the capital of Japan?", "Who are you?", "Hello!")


@dataclass(frozen=True)
class Subject:
    """One engine. make: its parent's side. model: writes the demo model for it below a folder.

    options: of its load, beside those of all. real: it runs the model, and does not invent what it says.
    waiting_s: within which it has noticed that a client left that waited for a slot.
    loose: it does not heed bounds of numbers in JSON schemas.
    """

    name: str
    make: Callable[[], Engine]
    model: Callable[[Path], Path]
    options: Mapping[str, Any] = field(default_factory=dict)
    real: bool = True
    waiting_s: float = AT_ONCE_S
    weights: str = ""
    loose: bool = False

    def plan(self, path: Path) -> LoadPlan:
        """As planning would make it: small, and without anything left to guess."""
        engine = self.make().spec.name
        # Small batches: what is begun of a prompt is read before anything else is looked at.
        options = {"ctx": CONTEXT, "parallel": SLOTS, "threads": 1, "batch": 64, "ubatch": 64, "engine": engine}
        return LoadPlan(
            model=Model("demo", inspect(path)),
            engine=engine,
            options=LoadOptions.parse({**options, **self.options}),
            footprint=Footprint(24 << 20, 64 << 20, 16 << 20),
            placement=Placement({"cpu": 104 << 20}),
            samplers=(LIPOGRAM,),
        )

    def damage(self, path: Path, how: str) -> Path:
        """Spoil the weights of a model in place; gives the file."""
        file = path / self.weights if self.weights else path
        data = file.read_bytes()
        file.write_bytes(random.Random(1).randbytes(len(data)) if how == "garbage" else data[: len(data) // 2])
        return file


def _gguf(folder: Path) -> Path:
    return convert(SOURCE, folder / "demo-f32.gguf", "f32")


_LLAMACPP: dict[str, Any] = {
    "model": _gguf,
    "options": {"cache_type_k": "f32", "cache_type_v": "f32"},
    "waiting_s": ONCE_A_SECOND_S,
}
SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("llamacpp", LlamaCpp, **_LLAMACPP),
        # Built without llguidance, as it is by default, it follows schemas by a converter of its own.
        Subject("llama-server", lambda: LlamaCpp(Path(SERVER)), **_LLAMACPP, loose=True),
        Subject(
            "transformers",
            lambda: Transformers(INSTALLS.find),
            lambda folder: Path(shutil.copytree(SOURCE, folder / "demo-hf")),
            {"dtype": "float32"},
            weights="model.safetensors",
        ),
        Subject(
            "onnx",
            lambda: Onnx(INSTALLS.find),
            lambda folder: demo_onnx.write(SOURCE, folder / "demo-onnx"),
            weights="model.onnx",
        ),
        Subject(
            "fake",
            Fake,
            lambda folder: Path(shutil.copy(packaged_model(), folder)),
            {"extra_flags": ["tokens_per_s=300"], "batch": 512},
            real=False,
        ),
    )
}


def subject_of(name: str) -> Subject:
    """The engine of this name; the test is skipped where it is not here, and fails where it should be."""
    if name in ("transformers", "onnx"):
        if not DATA:
            pytest.skip("UML_TEST_ENGINES names no folder with engines: make test ENGINES=1")
        assert INSTALLS.find(name, ""), f"{DATA} has no {name}: UML_DATA={DATA} uml engine install {name}"
    if name == "llama-server" and not SERVER:
        pytest.skip("UML_TEST_LLAMA_SERVER names no program")
    return SUBJECTS[name]


@dataclass(frozen=True)
class Said:
    """What Transformers makes of a prompt, greedily.

    tokens: of its answer, without the one that ends it, as far as the best was well ahead of the second.
    whole: that is all of it. text: all of it. logprobs: of each token. shares: the probabilities of the hundred
    likeliest tokens at each place, added up.
    """

    prompt: list[int]
    tokens: list[int]
    whole: bool
    text: str
    logprobs: list[float]
    shares: list[float]


@dataclass(frozen=True)
class Reference:
    """What Transformers says to `PROMPTS` and `QUESTIONS`."""

    prompts: list[Said]
    questions: list[Said]


def reference() -> Reference:
    """Ask the library in its own install, in a process of its own; the test is skipped where there is none."""
    subject_of("transformers")
    install = INSTALLS.get("transformers")
    # -P: else the folder `transformers` beside the program would be the library.
    command = [str(install.python), "-P", str(Path(__file__).with_name("transformers_says.py")), str(SOURCE)]
    done = subprocess.run(
        command,
        input=json.dumps({"prompts": PROMPTS, "questions": QUESTIONS}),
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return Reference(**{name: [Said(**one) for one in found[name]] for name in ("prompts", "questions")})
