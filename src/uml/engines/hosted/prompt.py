"""A request as a hosted engine works on it: its prompt, its limits, its settings, and how its answer is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from uml.core.errors import BadRequest, ContextLengthExceeded
from uml.engines.hosted.answer import Teller
from uml.engines.hosted.speech import Marks, Reader, wants_tools
from uml.engines.hosted.template import Template
from uml.sampling.bans import heard
from uml.sampling.foreign import Foreign
from uml.sampling.guidance import Guidance, scale_of, unguided
from uml.sampling.settings import Settings
from uml.sampling.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for.

    tokens: of the prompt. most: tokens to generate. thinking: the prompt has opened a thought already.
    guidance: away from another text, where that is asked for.
    """

    tokens: list[int]
    most: int
    settings: Settings
    thinking: bool
    guidance: Guidance | None = None


@dataclass(frozen=True, slots=True)
class Language:
    """What a model reads and writes: its tokens, its chat template, and the marks that it uses.

    begins: tokens before every prompt that has none of its own (`<s>`). thoughts: whether thoughts are told apart
    where a request does not say. samplers: of plug-ins.
    """

    vocabulary: Vocabulary
    marks: Marks
    template: Template | None
    begins: tuple[int, ...] = ()
    thoughts: bool = True
    samplers: Mapping[str, Foreign] = field(default_factory=dict)

    def prompt(self, request: Mapping[str, Any]) -> str:
        """What a chat request makes the model read. Raises BadRequest."""
        if self.template is None:
            raise BadRequest(
                "this model has no chat template; load it with chat_template, or use /v1/completions",
                param="messages",
            )
        return self.template.render(request)

    def ask(self, request: Mapping[str, Any], context: int) -> Ask:
        """A request, checked. context: tokens that prompt and answer may have. Raises BadRequest."""
        settings = self._heard(Settings.of(request, samplers=self.samplers), unguided(request))
        thinking = False
        if "messages" in request:
            text = self.prompt(request)
            tokens = self.encode(text)
            think = self.marks.think
            thinking = think is not None and text.rstrip().endswith(think[0])
        else:
            tokens = self._given(request["prompt"])
        if not tokens:
            raise BadRequest("the prompt is empty; expected at least one token", param="prompt")
        if len(tokens) >= context:
            param = "messages" if "messages" in request else "prompt"
            raise ContextLengthExceeded(len(tokens), context, param)
        guidance = self._guidance(request, tokens)
        read = max(len(tokens), len(guidance.tokens) if guidance else 0)
        if read >= context:
            raise ContextLengthExceeded(read, context, "negative_prompt")
        room = context - read
        return Ask(tokens, min(request.get("max_tokens") or room, room), settings, thinking, guidance)

    def _guidance(self, request: Mapping[str, Any], tokens: list[int]) -> Guidance | None:
        """Away from a negative prompt: in a chat it stands in the system message's place, before the same talk.

        Without one, away from what the model says with nothing but the prompt's last token before it.
        """
        scale = scale_of(request)
        if scale is None:
            return None
        text = request.get("negative_prompt")
        if not text:
            return Guidance(scale, tokens[-1:])
        if "messages" not in request:
            return Guidance(scale, self.encode(text))
        rest = [message for message in request["messages"] if message.get("role") not in ("system", "developer")]
        talk = {**request, "messages": [{"role": "system", "content": text}, *rest]}
        return Guidance(scale, self.encode(self.prompt(talk)))

    def _heard(self, settings: Settings, notices: tuple[Mapping[str, str], ...]) -> Settings:
        """The settings, with these notices, and one of the biases that they cannot have an effect by."""
        settings = replace(settings, notices=(*settings.notices, *notices)) if notices else settings
        return heard(settings, len(self.vocabulary))

    def _given(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            return self.encode(prompt)
        size = len(self.vocabulary)
        wrong = next((token for token in prompt if not 0 <= token < size), None)
        if wrong is not None:
            raise BadRequest(f"prompt has the token {wrong}; expected ids from 0 to {size - 1}", param="prompt")
        return prompt

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, with what every prompt begins with."""
        tokens = self.vocabulary.tokens_of(text)
        begins = list(self.begins)
        # Templates write the beginning themselves.
        return tokens if tokens[: len(begins)] == begins else begins + tokens

    def teller(self, request: Mapping[str, Any], ask: Ask) -> Teller:
        """Who tells the answer."""
        form = request.get("reasoning_format") or "auto"
        thoughts = self.thoughts if form == "auto" else form != "none"
        chat = "messages" in request
        reader = Reader(
            self.marks, thoughts=thoughts and chat, tools=chat and wants_tools(request), thinking=ask.thinking
        )
        marked = {text.encode() for text in self.marks.texts}
        pieces = self.vocabulary.pieces
        hidden = {token for token in self.vocabulary.special if pieces[token] not in marked}
        return Teller(
            *(pieces, hidden, reader),
            prompt_tokens=len(ask.tokens),
            ids=bool(request.get("return_tokens")),
            warnings=ask.settings.notices,
        )
