"""ONNX Runtime from the child's side: what writes text, and what makes vectors of it, behind one door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from uml.core.host import Classes, Classifies, Delta
from uml.core.model import Format
from uml.core.plan import LoadPlan


class _Part(Protocol):
    """All that a loaded model is asked; what it cannot do raises BadRequest."""

    def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]: ...
    def prompt(self, request: Mapping[str, Any]) -> str: ...
    def tokenize(self, text: str) -> list[int]: ...
    def detokenize(self, tokens: list[int]) -> str: ...
    def embed(self, texts: list[str]) -> list[list[float]]: ...
    def adapters(self) -> list[dict[str, Any]]: ...
    def load_adapter(self, path: str, scale: float) -> int: ...
    def unload_adapter(self, id: int) -> None: ...
    def scale_adapters(self, scales: Mapping[int, float]) -> None: ...
    def close(self) -> None: ...


class OnnxHost:
    """One model: of ONNX Runtime GenAI, or a bare .onnx file."""

    _part: _Part

    def load(self, plan: LoadPlan) -> None:
        """As `Host.load`."""
        # Imported here: each needs its own library only.
        if plan.model.info.format is Format.ONNX_GENAI:
            from uml.engines.onnx.writer import Writer

            self._part = Writer(plan)
        else:
            from uml.engines.onnx.encoder import Encoder

            self._part = Encoder(plan)

    def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """As `Host.generate`."""
        return self._part.generate(request)

    def prompt(self, request: Mapping[str, Any]) -> str:
        """As `WritesPrompts.prompt`."""
        return self._part.prompt(request)

    def tokenize(self, text: str) -> list[int]:
        """As `Host.tokenize`."""
        return self._part.tokenize(text)

    def detokenize(self, tokens: list[int]) -> str:
        """As `Host.detokenize`."""
        return self._part.detokenize(tokens)

    def embed(self, texts: list[str]) -> list[list[float]]:
        """As `Host.embed`."""
        return self._part.embed(texts)

    def classes(self) -> Classes | None:
        """As `Classifies.classes`."""
        return self._part.classes() if isinstance(self._part, Classifies) else None

    def score(self, texts: Sequence[str | tuple[str, str]]) -> tuple[list[list[float]], int]:
        """As `Classifies.score`; asked of models with labels only."""
        assert isinstance(self._part, Classifies)
        return self._part.score(texts)

    def adapters(self) -> list[dict[str, Any]]:
        """As `SwapsAdapters.adapters`."""
        return self._part.adapters()

    def load_adapter(self, path: str, scale: float) -> int:
        """As `SwapsAdapters.load_adapter`."""
        return self._part.load_adapter(path, scale)

    def unload_adapter(self, id: int) -> None:
        """As `SwapsAdapters.unload_adapter`."""
        self._part.unload_adapter(id)

    def scale_adapters(self, scales: Mapping[int, float]) -> None:
        """As `SwapsAdapters.scale_adapters`."""
        self._part.scale_adapters(scales)

    def close(self) -> None:
        """As `Host.close`; nothing is to be given back where the load failed."""
        if hasattr(self, "_part"):
            self._part.close()
