"""What ONNX Runtime and ONNX Runtime GenAI mean by their errors. The texts are those of 1.31.1 and 0.18.0."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from uml.core.errors import (
    BadFile,
    CorruptFile,
    EngineError,
    LoadFailed,
    MissingShard,
    OutOfMemory,
    UmlError,
    UnsupportedArchitecture,
)
from uml.core.plan import LoadPlan

LONGEST: Final = 400
_MEMORY: Final = ("bad_alloc", "Failed to allocate memory", "out of memory", "Cannot allocate memory")


def cause(plan: LoadPlan, text: str) -> UmlError:
    """A load that failed with this text."""
    return _memory(plan, text) or _file(plan, text) or LoadFailed(plan.model.id, short(text))


def failure(plan: LoadPlan, text: str) -> UmlError:
    """A request that failed with this text, in a model that had loaded."""
    return _memory(plan, text) or EngineError(plan.model.id, short(text))


def _memory(plan: LoadPlan, text: str) -> UmlError | None:
    if any(sign in text for sign in _MEMORY):
        return OutOfMemory(plan.model.id, "cpu", plan.footprint.total_bytes or None)
    return None


def _file(plan: LoadPlan, text: str) -> UmlError | None:
    for pattern, make in _SIGNS:
        if found := re.search(pattern, text, re.DOTALL):
            return make(plan, found)
    return None


def _no_graph(plan: LoadPlan, found: re.Match[str]) -> UmlError:
    path = Path(found[1]) if found[1] else plan.model.info.path
    return CorruptFile(path, f"ONNX Runtime says: {found[2].strip()}", "a whole ONNX graph; download it again")


def _short_data(plan: LoadPlan, found: re.Match[str]) -> UmlError:
    path = next((file for file in plan.model.info.files if file.name.endswith("data")), plan.model.info.path)
    offset, size, length = (int(number) for number in found.groups())
    return CorruptFile(path, f"the weights end at byte {length}", f"{offset + size} at least; download it again")


def _no_data(plan: LoadPlan, found: re.Match[str]) -> UmlError:
    return MissingShard(plan.model.info.path, [Path(found[1]).name])


def _outside(plan: LoadPlan, found: re.Match[str]) -> UmlError:
    return BadFile(
        plan.model.info.path,
        f"{found[1]} is a link to {found[2]}, and ONNX Runtime reads weights beside their graph only; "
        "put the file itself there, or a link to the graph beside its target",
    )


def _config(plan: LoadPlan, found: re.Match[str]) -> UmlError:
    return CorruptFile(Path(found[1]), found[2].strip()[:LONGEST], "the configuration of ONNX Runtime GenAI 0.18")


def _type(plan: LoadPlan, found: re.Match[str]) -> UmlError:
    return UnsupportedArchitecture(plan.model.id, f"ONNX Runtime GenAI does not know models of type {found[1]}")


def _operator(plan: LoadPlan, found: re.Match[str]) -> UmlError:
    return UnsupportedArchitecture(
        plan.model.id,
        f"ONNX Runtime has no implementation of {found[1]} for processors; it was made for another device",
    )


def _vocabulary(plan: LoadPlan, found: re.Match[str]) -> UmlError:
    return CorruptFile(
        plan.model.info.path / "genai_config.json",
        f"it says vocab_size {found[1]}",
        f"{found[2]}, as the graph has it",
    )


_SIGNS: Final[tuple[tuple[str, Callable[[LoadPlan, re.Match[str]], UmlError]], ...]] = (
    (r"Load model from (.*?) failed: ?(.*)", _no_graph),
    (r"()((?:Protobuf parsing failed|No graph was found).*)", _no_graph),
    (r"offset: (\d+) size to read: (\d+) given file_length: (\d+) are out of bounds", _short_data),
    (r'External data path does not exist: "(.*?)"', _no_data),
    (r'External data path: "(.*?)" resolved path: "(.*?)"', _outside),
    (r"Error encountered while parsing '(.*?)' (.*)", _config),
    (r"Error opening (.*)()", lambda plan, found: MissingShard(plan.model.info.path, [Path(found[1]).name])),
    (r"Unsupported model_type in config.json: (\S+)", _type),
    (r"Could not find an implementation for (\w+\(\d+\))", _operator),
    (r"invalid dimensions for output: logits.*?Got: (\d+) Expected: (\d+)", _vocabulary),
)
"""What stands in a text, and what it means."""


def short(text: str) -> str:
    """The end of a text that may begin with C++'s name of a function."""
    plain = text.strip().rpartition("[ONNXRuntimeError]")[2].strip(" :")
    return plain if len(plain) <= LONGEST else f"... {plain[-LONGEST:]}"
