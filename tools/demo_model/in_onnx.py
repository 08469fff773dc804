"""The demo model as a folder of ONNX Runtime GenAI: made, and how surprised it is by held-out text.

It takes two engines that are installed: `uml engine install onnx` and `uml engine install onnx-builder`.
"""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Final

from tools.demo_model.packing import Document
from tools.demo_model.train import SPOKEN
from uml.core.install import Install
from uml.formats import inspect
from uml.runtime.conversions.onnx import BUILDER, Order
from uml.runtime.conversions.onnx import convert as build
from uml.runtime.installs.shelf import Installs

KIND: Final = "onnx_int4"
"""Its name among kinds of file."""
_ASK: Final = """\
import json, sys
import numpy as np, onnxruntime_genai as og
model = og.Model(sys.argv[1])
cost, count = 0.0, 0
for ids, said in json.load(sys.stdin):
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + 1)
    generator, given = og.Generator(model, params), 0
    for place in said:
        generator.append_tokens(ids[given:place])
        given = place
        scores = np.asarray(generator.get_logits(), np.float64).reshape(-1, generator.get_logits().shape[-1])[-1]
        top = scores.max()
        cost += top + np.log(np.exp(scores - top).sum()) - scores[ids[place]]
        count += 1
print(json.dumps([float(cost), count]))
"""
"""Reads [ids, places of the tokens to say] of each document, writes the sum of their costs in nats and their number:
a graph that was made for chatting scores the last token that it was given, and no other."""


def installed(data: Path, engine: str) -> Install:
    """An engine of a data folder. Raises SystemExit where it is not there."""
    found = Installs(data / "engines").find(engine, "")
    if found is None:
        raise SystemExit(f"{data} has no engine {engine}: UML_DATA={data} uml engine install {engine}")
    return found


def check(data: Path) -> None:
    """Whether a data folder has what it takes. Raises SystemExit."""
    for engine in ("onnx", BUILDER):
        installed(data, engine)


def write(folder: Path, out: Path, data: Path) -> Path:
    """A folder of int4 out of one of safetensors. data: a data folder with the engines. Raises UmlError."""
    return build(Order("the demo model", inspect(folder), "int4", out, installed(data, BUILDER)), lambda making: None)


def perplexity(folder: Path, several: list[Document], data: Path) -> float:
    """e to the mean cost in nats of the tokens that the model is to say, by the library that runs it."""
    asked = [
        [document.ids.tolist(), [i for i in range(1, len(document.ids)) if document.weights[i] >= SPOKEN]]
        for document in several
    ]
    python = str(installed(data, "onnx").python)
    done = subprocess.run(
        [python, "-I", "-c", _ASK, str(folder)], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True
    )
    cost, count = json.loads(done.stdout)
    return math.exp(cost / count)
