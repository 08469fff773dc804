"""A Hugging Face folder as a folder of ONNX Runtime GenAI, by that library's own builder in an install of its own."""

from __future__ import annotations

import os
import re
import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uml.core.errors import ConversionFailed, OutOfMemory, UmlError, UnsupportedArchitecture, UnsupportedFormat
from uml.core.install import Install
from uml.core.model import Format, ModelInfo, Role
from uml.formats import inspect
from uml.runtime.conversions.foreign import DIE_WITH_PARENT, LAST_LINES, QUIET, reason
from uml.runtime.conversions.workshop import Making, workshop
from uml.runtime.installs import child

BUILDER: Final = "onnx-builder"
"""The recipe of the environment that it runs in."""
PRECISIONS: Final[Mapping[str, float]] = {"int4": 0.75, "int8": 1.25, "fp32": 4.0}
"""What a processor runs, and about how many bytes each weight takes, embeddings of greater precision counted."""
_FAMILIES: Final = (
    *("Ernie4_5", "Gemma", "Gemma2", "Gemma3", "Granite", "GraniteMoeHybrid", "HunYuanDenseV1", "InternLM2"),
    *("Lfm2", "Lfm2Moe", "Llama", "Mistral", "Nemotron", "Olmo", "Phi", "Phi3", "Qwen2", "Qwen3", "SmolLM3"),
)
ARCHITECTURES: Final = frozenset(f"{name}ForCausalLM" for name in _FAMILIES)
"""Of text, with weights that Transformers has without foreign code: `create_model` of the builder in 0.18. Only the
Llama of the demo model was run here."""
_BUILD: Final = (
    f"{DIE_WITH_PARENT}import runpy\n"
    "runpy.run_module('onnxruntime_genai.models.builder', run_name='__main__', alter_sys=True)\n"
)
_PROOF: Final = (
    "import sys, onnxruntime_genai as og\n"
    "model = og.Model(sys.argv[1])\n"
    "generator = og.Generator(model, og.GeneratorParams(model))\n"
    "generator.append_tokens([0])\n"
    "assert generator.get_logits().shape[-1] > 1\n"
)
"""What was made loads, and scores a token."""
_STAGES: Final[tuple[tuple[re.Pattern[str], str, float, float], ...]] = (
    (re.compile(r"^Reading embedding layer"), "reading embeddings", 5, 5),
    (re.compile(r"^Reading layer (\d+)"), "reading layer {0}", 5, 40),
    (re.compile(r"^Reading (?:final norm|LM head)"), "reading the output", 40, 40),
    (re.compile(r"start to quantize /model/layers\.(\d+)/"), "quantizing layer {0}", 40, 70),
    (re.compile(r"^Saving .*?(\d+)%\|"), "writing", 70, 95),
    (re.compile(r"^Saving GenAI config"), "writing the configuration", 95, 95),
)
"""What the builder says, in words, and how far that is: between two percentages by the number it names."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to make of which model, and where.

    name: of the model, for sentences. precision: one of `PRECISIONS`. builder: the install that makes it.
    """

    name: str
    info: ModelInfo
    precision: str
    place: Path
    builder: Install


def check(name: str, info: ModelInfo) -> None:
    """Whether it can be made into ONNX. Raises UnsupportedFormat, UnsupportedArchitecture."""
    method = info.quantization.method if info.quantization else "none"
    if info.format is not Format.SAFETENSORS or info.role is not Role.TEXT or method != "none":
        label = f" ({info.quantization.label})" if info.quantization and method != "none" else ""
        raise UnsupportedFormat(
            info.path,
            f"it is {info.format}{label} for {info.role}; into ONNX go text models as plain safetensors, in a "
            "folder with config.json and tokenizer",
        )
    if info.architecture not in ARCHITECTURES:
        raise UnsupportedArchitecture(
            name,
            f"the builder of ONNX Runtime GenAI has no {info.architecture or 'such model'}; it has "
            f"{', '.join(sorted(ARCHITECTURES))}; the engine transformers runs it as it is",
            wanted="does not become ONNX",
        )


def needed_bytes(info: ModelInfo, precision: str) -> int:
    """Of disk: the model that is made, and the same at full precision, which the builder writes between."""
    weights = info.parameters or info.size_bytes // 2
    return int(weights * (PRECISIONS[precision] + 4.0))


def convert(order: Order, tell: Callable[[Making], None], cancelled: Callable[[], bool] = lambda: False) -> Path:
    """Make it, prove that it loads, and put it in its place; takes seconds to many minutes.

    Whatever ends it before, nothing of it is left. Raises UnsupportedFormat, UnsupportedArchitecture, BadRequest,
    NoRoom, OutOfMemory, ConversionFailed, Cancelled.
    """
    check(order.name, order.info)
    try:
        with workshop(f"{order.name} in ONNX", order.place, needed_bytes(order.info, order.precision)) as shop:
            made = shop / order.place.name
            _Build(order, shop, made, tell, cancelled).run()
            made.rename(order.place)
    except OSError as error:
        raise ConversionFailed(order.name, str(error)) from error
    tell(Making("done", 100))
    return order.place


class _Build:
    """One run of the builder."""

    def __init__(
        self, order: Order, shop: Path, made: Path, tell: Callable[[Making], None], cancelled: Callable[[], bool]
    ) -> None:
        self._order, self._shop, self._made = order, shop, made
        self._tell, self._cancelled = tell, cancelled
        self._layers = max(1, order.info.shape.layers if order.info.shape else 1)
        self._percent = 0.0
        self._lines: deque[str] = deque(maxlen=LAST_LINES)

    def run(self) -> None:
        """Build, then prove. Raises OutOfMemory, ConversionFailed, Cancelled, OSError."""
        order, python = self._order, str(self._order.builder.python)
        self._say("starting the builder", 1)
        self._child(
            *(python, "-I", "-u", "-c", _BUILD, "-i", str(order.info.path)),
            *("-o", str(self._made), "-p", order.precision, "-e", "cpu", "-c", str(self._shop / "cache")),
            # Scores of a prompt for its last token alone: of 512 tokens of a vocabulary of 150,000 they take 300 MB.
            *("--extra_options", "prune_lm_head=true"),
        )
        self._say("loading what was made", 96)
        self._child(python, "-I", "-c", _PROOF, str(self._made))
        try:
            found = inspect(self._made)
        except UmlError as error:
            raise ConversionFailed(order.name, error.message, self._lines) from error
        if found.format is not Format.ONNX_GENAI:
            raise ConversionFailed(order.name, f"the builder made {found.format}", self._lines)

    def _child(self, *argv: str) -> None:
        environment = {**os.environ, **QUIET, "TMPDIR": str(self._shop), "HF_HOME": str(self._shop / "home")}
        code = child.run(argv, environment, self._heard, cancelled=self._cancelled)
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL) or any("MemoryError" in line for line in self._lines):
            raise OutOfMemory(self._order.name, "cpu")
        if code:
            raise ConversionFailed(self._order.name, reason(self._lines, code), self._lines)

    def _heard(self, line: str) -> None:
        self._lines.append(line)
        for pattern, text, low, high in _STAGES:
            if found := pattern.search(line):
                number = int(found[1]) if pattern.groups else 0
                most = 100 if "%" in pattern.pattern else self._layers
                self._say(text.format(number), low + (high - low) * min(1.0, number / most))
                return

    def _say(self, text: str, percent: float) -> None:
        self._percent = max(self._percent, percent)
        self._tell(Making(text, round(self._percent, 1)))
