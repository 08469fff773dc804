"""exllamav2 0.3.2, as far as it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import words
from words import record

Told = Callable[[int, int], None]


class ExLlamaV2Config:
    vocab_size = 1000
    max_seq_len = 0
    max_input_len = 0

    def __init__(self, model_dir: str) -> None:
        record("Config", directory=model_dir)
        words.read(model_dir)
        self.generation_config = {"eos_token_id": [words.END, 7]}


class ExLlamaV2:
    def __init__(self, config: ExLlamaV2Config) -> None:
        record("ExLlamaV2", context=config.max_seq_len, chunk=config.max_input_len)

    def load(self, gpu_split: list[float] | None = None, callback: Told | None = None) -> None:
        record("load", gpu_split=gpu_split)

    def load_autosplit(self, cache: Cache, callback: Told | None = None) -> None:
        assert cache.lazy
        record("load_autosplit")
        if callback:
            callback(1, 1)

    def load_tp(
        self,
        gpu_split: list[float] | None = None,
        callback: Told | None = None,
        expect_cache_tokens: int = 0,
        expect_cache_base: type | None = None,
    ) -> None:
        record("load_tp", tokens=expect_cache_tokens, base=expect_cache_base and expect_cache_base.__name__)

    def unload(self) -> None:
        record("unload")


class Cache:
    def __init__(self, model: ExLlamaV2, batch_size: int = 1, max_seq_len: int = -1, lazy: bool = False) -> None:
        assert max_seq_len % 256 == 0
        self.lazy = lazy
        record(type(self).__name__, tokens=max_seq_len)


class ExLlamaV2Cache(Cache): ...


class ExLlamaV2Cache_Q8(Cache): ...  # noqa: N801


class ExLlamaV2Cache_Q6(Cache): ...  # noqa: N801


class ExLlamaV2Cache_Q4(Cache): ...  # noqa: N801


class ExLlamaV2Cache_TP:  # noqa: N801
    def __init__(self, model: ExLlamaV2, base: type = ExLlamaV2Cache, max_seq_len: int = -1) -> None:
        record("Cache_TP", base=base.__name__, tokens=max_seq_len)


class ExLlamaV2Tokenizer(words.Tokenizer):
    def __init__(self, config: ExLlamaV2Config) -> None: ...


class ExLlamaV2Lora:
    @staticmethod
    def from_directory(model: Any, directory: str, lora_scaling: float = 1.0) -> ExLlamaV2Lora:
        record("Lora", directory=directory, scale=lora_scaling)
        return ExLlamaV2Lora()
