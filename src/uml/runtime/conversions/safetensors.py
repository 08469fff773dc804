"""PyTorch checkpoints (.bin, .pt, .pth) as safetensors, which cannot run as programs: the parent's side."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uml.core.errors import BadFile, ConversionFailed, OutOfMemory, UmlError, UnsupportedFormat
from uml.core.model import Format, ModelInfo
from uml.engines import transformers
from uml.formats import inspect
from uml.formats.bounded_json import read_object
from uml.formats.hf.weights import PYTORCH, SHARD_NAME
from uml.runtime.conversions.foreign import LAST_LINES, QUIET, reason
from uml.runtime.conversions.workshop import Making, trouble, workshop
from uml.runtime.installs import child

CHILD: Final = Path(transformers.__file__).with_name("safetensors_child.py")
_HEARD: Final = re.compile(r"^(\d+)% (.+)$")
_STEMS: Final = {"pytorch_model": "model", "adapter_model": "adapter_model"}


@dataclass(frozen=True, slots=True)
class Order:
    """What to make of which model, and where. name: of the model, for sentences. python: that has torch."""

    name: str
    info: ModelInfo
    place: Path
    python: Path


def check(info: ModelInfo) -> None:
    """Raises UnsupportedFormat for what is no PyTorch checkpoint."""
    if info.format is not Format.PYTORCH:
        raise UnsupportedFormat(info.path, f"it is {info.format}; into safetensors go PyTorch checkpoints (.bin, .pt)")


def new_name(path: Path) -> str:
    """What the weights of a file are called as safetensors, as loaders look for them."""
    if shard := SHARD_NAME.fullmatch(path.name):
        return f"{_STEMS.get(shard['stem'], shard['stem'])}-{shard['number']}-of-{shard['count']}.safetensors"
    return f"{_STEMS.get(path.stem, 'model')}.safetensors"


def convert(order: Order, tell: Callable[[Making], None], cancelled: Callable[[], bool] = lambda: False) -> Path:
    """Make a folder of the same model, compare each tensor, and put it in its place.

    Whatever ends it before, nothing of it is left. Raises UnsupportedFormat, BadRequest, NoRoom, OutOfMemory,
    ConversionFailed, Cancelled.
    """
    check(order.info)
    try:
        with workshop(f"{order.name} as safetensors", order.place, order.info.size_bytes) as shop:
            made = shop / order.place.name
            made.mkdir()
            weights = [path for path in order.info.files if path.suffix in PYTORCH]
            _convert(order, weights, shop, made, tell, cancelled)
            _copy(order.info, weights, made)
            _look(order, made)
            made.rename(order.place)
    except OSError as error:
        raise ConversionFailed(order.name, trouble(error, order.place)) from error
    tell(Making("done", 100))
    return order.place


def _convert(
    order: Order,
    weights: list[Path],
    shop: Path,
    made: Path,
    tell: Callable[[Making], None],
    cancelled: Callable[[], bool],
) -> None:
    job = shop / "job.json"
    job.write_text(json.dumps(_job(order, weights, made)))
    lines: deque[str] = deque(maxlen=LAST_LINES)

    def heard(line: str) -> None:
        lines.append(line)
        if found := _HEARD.match(line):
            tell(Making(f"wrote {found[2]}", min(98.0, float(found[1]))))

    tell(Making("reading weights", 0))
    argv = (str(order.python), "-I", str(CHILD), str(job))
    code = child.run(argv, {**os.environ, **QUIET}, heard, cancelled=cancelled)
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL) or any("MemoryError" in line for line in lines):
        raise OutOfMemory(order.name, "cpu")
    if code:
        refused = next((line.removeprefix("Refused: ") for line in lines if line.startswith("Refused: ")), "")
        raise ConversionFailed(order.name, refused or reason(lines, code, "the process that has torch"), lines)


def _job(order: Order, weights: list[Path], made: Path) -> Mapping[str, Any]:
    folder = order.info.path if order.info.path.is_dir() else order.info.path.parent
    files = []
    for path in weights:
        to = (made / path.relative_to(folder)).with_name(new_name(path))
        to.parent.mkdir(parents=True, exist_ok=True)
        files.append({"from": str(path), "to": str(to), "size": path.stat().st_size})
    several = len(weights) > 1
    index = (made / weights[0].relative_to(folder)).with_name("model.safetensors.index.json") if several else ""
    return {"files": files, "index": str(index), "tied": _tied(weights[0].with_name("config.json"))}


def _tied(config: Path) -> bool:
    """Whether loaders tie the output to the embedding again: so they do unless the configuration says no."""
    try:
        found = read_object(config)
    except BadFile:
        return False  # weights alone: whoever loads them gets all that was there
    inner = found.get("text_config")
    said = inner.get("tie_word_embeddings") if isinstance(inner, dict) else None
    return found.get("tie_word_embeddings", said) is not False


def _copy(info: ModelInfo, weights: list[Path], made: Path) -> None:
    """Configuration, tokenizer and all else that belongs to the model."""
    if not info.path.is_dir():
        return
    for path in info.files:
        if path in weights or path.name.endswith((".bin.index.json", ".safetensors")):
            continue
        to = made / path.relative_to(info.path)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)


def _look(order: Order, made: Path) -> None:
    try:
        found = inspect(made)
    except UmlError as error:
        raise ConversionFailed(order.name, error.message) from error
    if found.format is not Format.SAFETENSORS:
        raise ConversionFailed(order.name, f"what was made is {found.format}")
