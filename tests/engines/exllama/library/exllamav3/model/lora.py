"""exllamav3.model.lora, as far as it is called."""

from __future__ import annotations

from typing import Any

from words import record


class LoRA:
    @staticmethod
    def from_directory(model: Any, directory: str, lora_scaling: float = 1.0) -> LoRA:
        record("LoRA", directory=directory, scale=lora_scaling)
        return LoRA()

    def unload(self) -> None:
        record("LoRA.unload")
