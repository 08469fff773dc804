"""What a user pins is known to the next server."""

from __future__ import annotations

from pathlib import Path

from tests.builders import write_tiny_gguf
from uml.registry import Registry
from uml.registry.pins import Pin


def test_pins_outlive_the_registry_that_took_them(tmp_path: Path) -> None:
    with Registry(tmp_path / "r.sqlite") as registry:
        registry.pins.keep(Pin("demo", {}))
        registry.pins.keep(Pin("other", {"ctx": 512, "lora": ["a=0.5"]}))
        registry.pins.keep(Pin("third", {}))
        registry.pins.drop(["third", "nobody"])
    with Registry(tmp_path / "r.sqlite") as registry:
        assert registry.pins.all() == (Pin("demo", {}), Pin("other", {"ctx": 512, "lora": ["a=0.5"]}))
        registry.pins.keep(Pin("other", {"ctx": 1024}))
        assert registry.pins.all()[-1] == Pin("other", {"ctx": 1024})
        registry.pins.drop()
        assert registry.pins.all() == ()


def test_a_model_that_is_forgotten_is_pinned_no_more(tmp_path: Path) -> None:
    with Registry(tmp_path / "r.sqlite") as registry:
        model = registry.add(write_tiny_gguf(tmp_path / "old.gguf"))
        registry.pins.keep(Pin(model.id, {}))
        registry.remove(model.id)
        assert registry.pins.all() == ()
