"""Models that a user has pinned, and how they are loaded: a server that starts knows them again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from uml.registry.store import Store


@dataclass(frozen=True, slots=True)
class Pin:
    """One pinned model, by its id. options: its load options as JSON values, as far as they are not the settings'."""

    model: str
    options: Mapping[str, Any]


class Pins:
    """The table, in the registry's database. May be used from any thread; its owner's lock is held around every call.

    Raises SetupError where the database cannot be used.
    """

    def __init__(self, store: Store, lock: threading.RLock) -> None:
        self._store = store
        self._lock = lock

    def keep(self, pin: Pin) -> None:
        """Remember a pin, in place of an earlier one of the same model."""
        with self._lock:
            self._store.change(
                ("INSERT OR REPLACE INTO pins VALUES (?, ?)", (pin.model, json.dumps(dict(pin.options))))
            )

    def drop(self, models: Iterable[str] | None = None) -> None:
        """Forget the pins of these models, or all."""
        with self._lock:
            if models is None:
                self._store.change(("DELETE FROM pins", ()))
            else:
                self._store.change(*(("DELETE FROM pins WHERE model = ?", (model,)) for model in models))

    def all(self) -> tuple[Pin, ...]:
        """Every pin, the oldest first."""
        with self._lock:
            rows = self._store.select("SELECT model, options FROM pins ORDER BY rowid")
        return tuple(Pin(model, json.loads(options)) for model, options in rows)
