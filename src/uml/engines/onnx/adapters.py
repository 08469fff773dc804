"""LoRA adapters (.onnx_adapter) of a loaded model: one at a time works on a request, as strongly as it was made."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from uml.core.errors import BadRequest
from uml.engines.onnx.native import Model, NativeError
from uml.engines.onnx.slots import Slots


@dataclass(slots=True)
class Adapter:
    """scale: 1 where requests get it that say nothing, 0 where they do not."""

    path: str
    name: str
    scale: float


class Adapters:
    """What is loaded beside a model. slots: conversations, of which some may have been read with an adapter.

    One that is taken out is not given to further requests, and goes when the last answer that has it is complete.
    May be used from any thread.
    """

    def __init__(self, model: Model, slots: Slots) -> None:
        self._model, self._slots = model, slots
        self._loaded: dict[int, Adapter] = {}
        self._ids = count()
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        """Answers that have an adapter, by its name."""
        self._leaving: set[str] = set()

    def shown(self) -> list[dict[str, Any]]:
        """As `SwapsAdapters.adapters`."""
        with self._lock:
            return [{"id": id, "path": one.path, "scale": one.scale} for id, one in sorted(self._loaded.items())]

    def load(self, path: str, scale: float) -> int:
        """As `SwapsAdapters.load_adapter`."""
        _check(scale)
        id = next(self._ids)  # of its own, even where two are loaded at once
        name = f"adapter-{id}"
        try:
            self._model.load_adapter(Path(path).expanduser(), name)
        except NativeError as error:
            raise BadRequest(f"{path} is no adapter of this model: {error}", param="lora") from error
        with self._lock:
            self._loaded[id] = Adapter(path, name, scale)
        return id

    def unload(self, id: int) -> None:
        """As `SwapsAdapters.unload_adapter`."""
        with self._lock:
            name = self._known(id).name
            del self._loaded[id]
            if self._users[name]:
                self._leaving.add(name)
                return
        self._drop(name)

    def scale(self, scales: Mapping[int, float]) -> None:
        """As `SwapsAdapters.scale_adapters`."""
        with self._lock:
            for id, scale in scales.items():
                self._known(id)
                _check(scale)
            for id, scale in scales.items():
                self._loaded[id].scale = scale

    def of(self, request: Mapping[str, Any]) -> str:
        """The name of the adapter that works on this request; empty for none. Raises BadRequest."""
        given = request.get("lora")
        with self._lock:
            scales = {id: one.scale for id, one in self._loaded.items()}
            if given is not None:
                scales = dict.fromkeys(scales, 0.0)
                for item in given:
                    id, scale = item.get("id"), item.get("scale", 1.0)
                    self._known(id)
                    _check(scale)
                    scales[id] = scale
            active = [self._loaded[id].name for id, scale in scales.items() if scale]
        if len(active) > 1:
            raise BadRequest("ONNX Runtime GenAI takes one adapter a request; give the others scale 0", param="lora")
        return active[0] if active else ""

    def hold(self, name: str) -> None:
        """An answer is to have this one, or none. Raises BadRequest where it has been taken out meanwhile."""
        with self._lock:
            if name and all(one.name != name for one in self._loaded.values()):
                raise BadRequest("the adapter of this request was unloaded before its answer began", param="lora")
            self._users[name] += 1

    def let_go(self, name: str) -> None:
        """That answer is complete, and no slot computes for it. One that was taken out goes with the last of them."""
        with self._lock:
            self._users[name] -= 1
            if self._users[name] or name not in self._leaving:
                return
            self._leaving.discard(name)
        self._drop(name)

    def _drop(self, name: str) -> None:
        """Give the memory of one back that nobody has, and nobody will."""
        self._slots.forget(name)
        self._model.unload_adapter(name)

    def _known(self, id: Any) -> Adapter:
        found = self._loaded.get(id)
        if found is None:
            known = ", ".join(map(str, sorted(self._loaded)))
            there = f"loaded are: {known}" if known else "none is loaded"
            raise BadRequest(f"lora: there is no adapter {id}; {there}", param="lora")
        return found


def _check(scale: float) -> None:
    if scale not in (0, 1):
        told = f"the scale of an adapter is {scale}; ONNX Runtime GenAI takes it as it is: 1, or 0 for off"
        raise BadRequest(told, param="lora")
