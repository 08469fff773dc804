"""What a hosted engine is in its worker: a `Host`, what it says of an answer, and further sides that it may have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from uml.core.plan import LoadPlan


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability, before any sampler.

    piece: its own bytes, which may be a part of a character.
    top: the likeliest tokens at its place, best first; their own `top` is empty.
    """

    id: int
    piece: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A piece of a call of a function.

    index: which of the answer's calls, from 0. id, name: on its first piece, else empty.
    arguments: a further piece of the JSON text.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer from a hosted engine.

    text: of the answer itself; thoughts and calls of tools are not in it.
    tokens: how many tokens were generated for this piece, those that made no text counted.
    finish: `stop`, `length` or `tool_calls` on the last piece, else None.
    prompt_tokens, cached_tokens: how many tokens the prompt had, and how many of these were not read anew; on the
        first piece.
    reasoning: thoughts of the model before its answer.
    ids: of the tokens of this piece, where the engine tells them.
    logprobs: of the same tokens, where the request asks for them.
    warnings: `{"param", "reason"}` for what the engine cannot honour in this request; on the first piece.
    """

    text: str
    tokens: int = 1
    finish: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    warnings: tuple[Mapping[str, str], ...] = ()


class Host(Protocol):
    """The child's side of a hosted engine; heavy imports happen inside its methods."""

    def load(self, plan: LoadPlan) -> None:
        """Load the model; raises an UmlError."""
        ...

    def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """The answer to an engine request, piece by piece. Closing the iterator cancels.

        The request has `messages` or `prompt`, a text or token ids, and parameters by their names in the engine's
        dialect; the server has checked its outer shape and applies `stop` to text and thoughts itself.
        Raises an UmlError; after the first piece it becomes the last event of a stream.
        """
        ...

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, without those that begin or end a prompt; texts of special tokens become these."""
        ...

    def detokenize(self, tokens: list[int]) -> str:
        """The text of token ids, special ones as their texts. Raises BadRequest for an id that there is not."""
        ...

    def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector a text. Raises BadRequest where the model has none."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@runtime_checkable
class WritesPrompts(Protocol):
    """A further side of a `Host`: it has a chat template."""

    def prompt(self, request: Mapping[str, Any]) -> str:
        """What a chat request makes the model read. Raises BadRequest for messages that the template refuses."""
        ...


@dataclass(frozen=True, slots=True)
class Classes:
    """What a model sorts texts into.

    labels: in the order of its scores; a reranker has one. way: how scores become probabilities: `softmax` where one
    label is right, `sigmoid` where each is for itself, `none` where they are something else, such as stars.
    """

    labels: tuple[str, ...]
    way: Literal["softmax", "sigmoid", "none"]


@runtime_checkable
class Classifies(Protocol):
    """A further side of a `Host`: it scores texts, or pairs of a query and a document."""

    def classes(self) -> Classes | None:
        """The labels of the loaded model; None for one of another kind."""
        ...

    def score(self, texts: Sequence[str | tuple[str, str]]) -> tuple[list[list[float]], int]:
        """A score for each label of each text, as the model gives it, without bounds; and how many tokens were read.

        Raises ContextLengthExceeded for a text that does not fit.
        """
        ...


@runtime_checkable
class SwapsAdapters(Protocol):
    """A further side of a `Host`: LoRA adapters come and go while the model stays.

    An adapter has an `id`, its place from 0, a `path` and a `scale`; 0 is off. A request may give other scales.
    """

    def adapters(self) -> list[dict[str, Any]]:
        """What is loaded: `{"id", "path", "scale"}` each."""
        ...

    def load_adapter(self, path: str, scale: float) -> int:
        """Load another one: its id. Raises an UmlError, and nothing has changed then."""
        ...

    def unload_adapter(self, id: int) -> None:
        """Take one out; the ids of others stay, and answers that have it keep it to their end.

        Raises BadRequest where there is none.
        """
        ...

    def scale_adapters(self, scales: Mapping[int, float]) -> None:
        """Set what requests get that give no scales themselves. Raises BadRequest for an unknown id."""
        ...
