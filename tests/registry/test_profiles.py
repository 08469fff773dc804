"""Load options that a user saves for a model are known to the next server."""

from __future__ import annotations

from pathlib import Path

from tests.builders import write_tiny_gguf
from uml.registry import Registry


def test_a_profile_outlives_the_registry_that_took_it_and_goes_with_its_model(tmp_path: Path) -> None:
    with Registry(tmp_path / "r.sqlite") as registry:
        model = registry.add(write_tiny_gguf(tmp_path / "old.gguf")).id
        registry.profiles.keep(model, {"ctx": 512, "lora": ["a=0.5"]})
        registry.profiles.keep("demo", {"ctx": 256})
        registry.profiles.keep("demo", {})
    with Registry(tmp_path / "r.sqlite") as registry:
        assert registry.profiles.of(model) == {"ctx": 512, "lora": ["a=0.5"]}
        assert registry.profiles.all() == {model: {"ctx": 512, "lora": ["a=0.5"]}}
        assert registry.profiles.of("demo") == registry.profiles.of("nobody") == {}
        registry.remove(model)
        assert registry.profiles.of(model) == {}
