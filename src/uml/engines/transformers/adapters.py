"""LoRA adapters of a loaded model: several, each row of a step with its own, coming and going while it stays.

PEFT puts them into the model's layers. What it adds there is multiplied by a scale, which may be a tensor: with one
number a row, rows of one step are computed by different adapters.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from uml.core.errors import BadOption, BadRequest


@dataclass(slots=True)
class Adapter:
    """One adapter: where it came from, and how strongly it works for requests that do not say."""

    id: int
    path: str
    scale: float

    @property
    def name(self) -> str:
        """As PEFT calls it."""
        return f"lora{self.id}"


class Adapters:
    """The adapters of one model.

    One that is taken out is not given to further requests, and goes when the last answer that has it is complete.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._known: dict[int, Adapter] = {}
        self._next = 0
        self._lock = threading.Lock()
        self._users: Counter[int] = Counter()
        self._leaving: set[int] = set()
        self._layers: list[tuple[Any, str, float]] = []
        """Layer, adapter's name and the scale that the adapter itself says there."""
        self._current: list[dict[int, float]] | None = None

    def __len__(self) -> int:
        return len(self._known)

    def load(self, path: str, scale: float) -> int:
        """Load one: its id. Raises BadOption for what is no adapter of this model."""
        folder = Path(path).expanduser()
        if not all((folder / name).is_file() for name in ("adapter_config.json", "adapter_model.safetensors")):
            raise BadOption("lora", path, "a folder of PEFT, with adapter_config.json and adapter_model.safetensors")
        adapter = Adapter(self._next, path, scale)
        try:
            self._model.load_adapter(str(folder), adapter_name=adapter.name)
            if self._is_variant(adapter.name):
                raise BadOption("lora", path, "a plain LoRA: of DoRA and its like, rows of a step cannot differ")
        except BadOption:
            self._remove(adapter.name)
            raise
        except Exception as error:
            # The boundary to PEFT, which raises errors of every kind for adapters of other models.
            self._remove(adapter.name)
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise BadOption("lora", path, f"an adapter for this model ({reason})") from error
        self._next += 1
        self._known[adapter.id] = adapter
        self._look()
        return adapter.id

    def hold(self, scales: Mapping[int, float]) -> None:
        """An answer is to have these. Raises BadRequest where one has been taken out meanwhile."""
        with self._lock:
            self._check(scales)
            self._users.update(scales.keys())

    def let_go(self, scales: Mapping[int, float]) -> list[int]:
        """That answer is complete; those that nobody has any more, to be dropped."""
        with self._lock:
            self._users.subtract(scales.keys())
            return [id for id in scales if id in self._leaving and not self._users[id]]

    def leave(self, id: int) -> bool:
        """Give one to no further request; whether it can be dropped at once. Raises BadRequest."""
        with self._lock:
            self._check({id: 0.0})
            self._leaving.add(id)
            return not self._users[id]

    def drop(self, id: int) -> None:
        """Take one out of the layers, while no step runs."""
        self._remove(self._known.pop(id).name)
        with self._lock:
            self._leaving.discard(id)
        self._look()

    @property
    def _offered(self) -> list[Adapter]:
        # A copy, made at once: the thread that computes adds and drops some meanwhile.
        return [one for one in list(self._known.values()) if one.id not in self._leaving]

    def shown(self) -> list[dict[str, Any]]:
        """Ids, paths and scales."""
        return [{"id": one.id, "path": one.path, "scale": one.scale} for one in self._offered]

    def scale(self, scales: Mapping[int, float]) -> None:
        """What requests get that do not say. Raises BadRequest."""
        with self._lock:
            self._check(scales)
            for id, scale in scales.items():
                self._known[id].scale = scale

    def of(self, request: Mapping[str, Any]) -> dict[int, float]:
        """Adapter -> scale for a request: its `lora`, else what is set; none that is off. Raises BadRequest."""
        given = request.get("lora")
        if given is None:
            scales = {one.id: one.scale for one in self._offered}
        else:
            scales = {one["id"]: float(one.get("scale", 1.0)) for one in given}
            self._check(scales)
        return {id: scale for id, scale in scales.items() if scale}

    def _check(self, scales: Mapping[int, float]) -> None:
        offered = {one.id for one in self._offered}
        unknown = next((id for id in scales if id not in offered), None)
        if unknown is not None:
            raise self._unknown(unknown)

    def _unknown(self, id: int) -> BadRequest:
        known = ", ".join(str(one.id) for one in self._offered)
        hint = f"loaded are: {known}" if known else "none is loaded"
        return BadRequest(f"lora: there is no adapter {id}; {hint}", param="lora")

    def use(self, scales: Sequence[Mapping[int, float]]) -> None:
        """From now on, row by row of a step. Costs nothing while the rows stay the same."""
        wanted = [{id: scale for id, scale in row.items() if id in self._known} for row in scales]
        if wanted == self._current or not self._layers:
            return
        self._current = wanted
        by_name = {self._known[id].name: self._column(wanted, id) for id in {id for row in wanted for id in row}}
        for layer, name, base in self._layers:
            layer._active_adapter = list(by_name)
            layer._disable_adapters = not by_name
            if name in by_name:
                layer.scaling[name] = by_name[name] * base

    def _column(self, rows: Sequence[Mapping[int, float]], id: int) -> torch.Tensor | float:
        values = [row.get(id, 0.0) for row in rows]
        if len(set(values)) == 1:
            return values[0]
        return torch.tensor(values, device=self._model.device, dtype=self._model.dtype)[:, None, None]

    def _look(self) -> None:
        """Find the layers anew; nothing is on until a step says so."""
        found = [layer for layer in self._model.modules() if hasattr(layer, "lora_A") and hasattr(layer, "scaling")]
        names = {one.name for one in self._known.values()}
        before = {(id(layer), name): base for layer, name, base in self._layers}
        self._layers = [
            (layer, name, before.get((id(layer), name), layer.scaling[name]))
            for layer in found
            for name in layer.scaling
            if name in names
        ]
        for layer in found:
            layer._disable_adapters = True
        self._current = None

    def _is_variant(self, name: str) -> bool:
        return any(name in getattr(layer, "lora_variant", {}) for layer in self._model.modules())

    def _remove(self, name: str) -> None:
        if name in getattr(self._model, "peft_config", {}):
            self._model.delete_adapter(name)


def parse(text: str) -> tuple[str, float]:
    """`PATH` or `PATH=SCALE`."""
    path, found, scale = text.rpartition("=")
    if not found:
        return text, 1.0
    try:
        return path, float(scale)
    except ValueError:
        return text, 1.0
