"""The child's side: it runs in a worker, and `uml.worker` is its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from uml.core.errors import BadRequest, ContextLengthExceeded, CorruptFile
from uml.core.host import Delta
from uml.core.plan import LoadPlan
from uml_wordchain.chain import Chain, words
from uml_wordchain.format import MARK


class WordChainHost:
    """One loaded text."""

    def __init__(self) -> None:
        self._chain = Chain("")
        self._context = 0

    def load(self, plan: LoadPlan) -> None:
        """Read the text and learn from it. Raises CorruptFile."""
        path = plan.model.info.path
        try:
            text = path.read_bytes().removeprefix(MARK).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorruptFile(path, "the text is not UTF-8", offset=error.start) from error
        if not text.strip():
            raise CorruptFile(path, "there is no text", expected="some words after the first line")
        self._chain = Chain(text)
        self._context = plan.options.ctx or plan.model.info.context_length or 4096

    async def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """Words until `max_tokens` or the end of the context. Closing this iterator is the cancel."""
        prompt = self._prompt(request)
        read = len(words(prompt))
        if read >= self._context:
            raise ContextLengthExceeded(read, self._context)
        limit = min(request.get("max_tokens") or 64, self._context - read)
        temperature, seed = request.get("temperature", 1.0), request.get("seed")
        for index, word in enumerate(self._chain.go_on(prompt, temperature, seed), 1):
            finish = "length" if index == limit else None
            yield Delta(word, finish=finish, prompt_tokens=read if index == 1 else 0)
            if finish:
                return
            await asyncio.sleep(0)  # others are answered in between, and a client that has left is noticed

    def _prompt(self, request: Mapping[str, Any]) -> str:
        if "prompt" in request:
            given = request["prompt"]
            return given if isinstance(given, str) else self.detokenize(given)
        return "\n".join(str(message.get("content") or "") for message in request["messages"])

    def tokenize(self, text: str) -> list[int]:
        """Numbers of known words; others are left out, for it has none for them."""
        return [self._chain.ids[word] for word in words(text) if word in self._chain.ids]

    def detokenize(self, tokens: list[int]) -> str:
        """The words of these numbers. Raises BadRequest."""
        try:
            return "".join(self._chain.pieces[token] for token in tokens if token >= 0)
        except IndexError as error:
            raise BadRequest(f"a token is not one of {len(self._chain.pieces)}", param="tokens") from error

    def embed(self, texts: list[str]) -> list[list[float]]:
        """It makes no vectors."""
        raise BadRequest("a word chain makes no vectors", param="input")

    def close(self) -> None:
        """Nothing to give back."""
