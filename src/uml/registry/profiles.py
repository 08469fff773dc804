"""How a user wants each model loaded, whoever asks for it: its profile, kept between runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from uml.registry.store import Store


class Profiles:
    """The table, in the registry's database. May be used from any thread; its owner's lock is held around every call.

    Options are JSON values by their own names, already checked. Raises SetupError where the database cannot be used.
    """

    def __init__(self, store: Store, lock: threading.RLock) -> None:
        self._store = store
        self._lock = lock

    def of(self, model: str) -> Mapping[str, Any]:
        """The options of a model, by its id; empty where none were saved."""
        with self._lock:
            rows = self._store.select("SELECT options FROM profiles WHERE model = ?", model)
        return json.loads(rows[0][0]) if rows else {}

    def all(self) -> Mapping[str, Mapping[str, Any]]:
        """The options of every model that has some, by its id."""
        with self._lock:
            rows = self._store.select("SELECT model, options FROM profiles ORDER BY model")
        return {model: json.loads(options) for model, options in rows}

    def keep(self, model: str, options: Mapping[str, Any]) -> None:
        """Save the options of a model in place of earlier ones; none is no profile."""
        with self._lock:
            if options:
                self._store.change(("INSERT OR REPLACE INTO profiles VALUES (?, ?)", (model, json.dumps({**options}))))
            else:
                self._store.change(("DELETE FROM profiles WHERE model = ?", (model,)))
