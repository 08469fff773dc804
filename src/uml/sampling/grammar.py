"""Structure: JSON schemas, regular expressions, choices and grammars, as what may come next. By llguidance.

    structures = Structures(vocabulary)                 # one for each model
    guide = structures.of(request)                      # one for each answer, or None where it is free
    allowed = guide.mask()                              # what may come next, for `Chain.choose`
    guide.accept(choice.token)
    choice = chain.choose_within(logits, guide)         # these three together, and mostly without a mask

In a batch each answer has its own guide. Masks are taken one after the other: one takes 4 us, and llguidance's threads,
which find several at once, 150 us for eight.

What is forced (`forced`) needs no model: an engine may take these tokens at once, and read them as a piece of prompt.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from uml.core.errors import BadRequest, EngineError
from uml.core.quote import quoted
from uml.sampling.settings import STRUCTURES
from uml.sampling.vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

Mask = NDArray[np.int32]

WORD: Final = 32
"""Tokens in a word of a mask."""
KEPT: Final = 64
"""Compiled grammars that a model keeps; the same schema comes with every request of a program."""
AMBIGUITY: Final = 500
"""Ways in which a grammar may be read at one place. What a token takes grows with their square: 2 ms with 500, 180 ms
with llguidance's 2,000, while all other answers of the worker wait. (Schemas are not ambiguous, only broad.)"""
MOST_CHARACTERS: Final = 1 << 20
MOST_CHOICES: Final = 10_000
WHITE: Final = r"( |\n{1,2}[ \t]{0,20})?"
"""White space between the parts of a JSON text, as llama.cpp's converter of schemas lets it be: without a limit, weak
models write nothing else to the end."""


class Structures:
    """Grammars over one vocabulary. Building it takes about a second for 150,000 tokens, and happens once, when needed.

    Safe to use from several threads; compiling lets other threads run, building it does not.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._tokens: LLTokenizer | None = None
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def words(self) -> int:
        """Length of a mask."""
        return -(-len(self._vocabulary) // WORD)

    def of(self, request: Mapping[str, Any]) -> Guide | None:
        """What the request's structure lets come; None where it has none.

        Takes up to a second for very large schemas. Raises BadRequest with llguidance's own words for what it does
        not take.
        """
        found = grammar_of(request)
        if found is None:
            return None
        return self.guide(*found)

    def guide(self, param: str, grammar: str) -> Guide:
        """The same for a grammar in llguidance's own words; param: what asked for it. Raises BadRequest."""
        matcher = self._compiled.get(grammar) or self._compile(param, grammar)
        with self._lock:
            self._compiled[grammar] = matcher
            self._compiled.move_to_end(grammar)
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        return Guide(matcher.deep_copy(), self._vocabulary.ends, self.words)

    def _compile(self, param: str, grammar: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(verbose_errors=False, max_items_in_row=AMBIGUITY if param == "grammar" else None)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        # What is too large is found at the first token or behind it: a schema begins with a brace.
        trial = matcher.deep_copy()
        for _ in range(3):
            bits = np.unpackbits(np.frombuffer(trial.compute_bitmask(), np.uint8), bitorder="little")
            if trial.is_error():
                raise BadRequest(f"{param}: {_one_line(trial.get_error())}", param=param)
            if trial.is_stopped():
                break
            trial.consume_token(int(bits.argmax()))
        return matcher

    def prepare(self) -> None:
        """Do ahead what the first structure waits for, and all of Python with it, for llguidance lets no thread run."""
        self._tokenizer  # noqa: B018 - made by looking

    @property
    def _tokenizer(self) -> LLTokenizer:
        with self._lock:
            if self._tokens is None:
                from llguidance import LLTokenizer, TokenizerWrapper

                self._tokens = LLTokenizer(
                    TokenizerWrapper(_Wrapped(self._vocabulary)),
                    n_vocab=len(self._vocabulary),
                    eos_token=sorted(self._vocabulary.ends),
                )
            return self._tokens


class Guide:
    """The structure of one answer, and how far it has come.

    free_to_choose: the structure is not complete yet, or may go on.
    """

    __slots__ = ("_address", "_ended", "_ends", "_row", "matcher")

    def __init__(self, matcher: LLMatcher, ends: frozenset[int], words: int) -> None:
        self.matcher = matcher
        self._ends = ends
        self._ended = 0
        self._row: Mask = np.zeros(words, np.int32)
        # To ask numpy for it takes as long as a small mask.
        self._address = self._row.ctypes.data

    @property
    def free_to_choose(self) -> bool:
        """Whether anything but an end may come."""
        return not self._ended and not self.matcher.is_stopped()

    @property
    def complete(self) -> bool:
        """Whether the answer could end here and follow the structure."""
        return self._ended > 0 or bool(self.matcher.is_accepting())

    def mask(self) -> Mask:
        """What may come next: one bit for each token. Where the structure is complete and closed, only ends may.

        To be read until the next call: there is one row, written anew each time. Raises EngineError as `checked`.
        """
        row = self._row
        if self.free_to_choose:
            self.matcher.unsafe_compute_mask_ptr(self._address, row.nbytes)
        else:
            row.fill(0)
            for token in self._ends:
                row.view(np.uint32)[token // WORD] |= np.uint32(1 << token % WORD)
        return self.checked(row)

    def checked(self, row: Mask) -> Mask:
        """The same row. Raises EngineError where the structure became more than llguidance can follow."""
        if self.matcher.is_error():
            raise EngineError("this model", _one_line(self.matcher.get_error()))
        return row

    def take(self, token: int) -> bool:
        """Go on by a token of the text, if it is allowed, which is known sooner than by a mask. False also where it is
        hard to tell, as for ends."""
        return not self._ended and token not in self._ends and bool(self.matcher.try_consume_tokens([token]))

    def forced(self) -> list[int]:
        """Tokens that must come next, if any; they are not accepted by that."""
        return list(self.matcher.compute_ff_tokens()) if self.free_to_choose else []

    def accept(self, *tokens: int) -> None:
        """Go on by these tokens. Raises EngineError where the structure does not allow one."""
        for token in tokens:
            # llguidance does not count an end, so that taking one back would take back a token of the text.
            if token in self._ends and self.complete:
                self._ended += 1
            elif self._ended or not self.matcher.consume_token(token):
                why = _one_line(self.matcher.get_error()) or "it has ended"
                raise EngineError("this model", f"the structure of the answer does not allow token {token} ({why})")

    def rewind(self, count: int) -> None:
        """Take the last tokens back."""
        ends = min(count, self._ended)
        self._ended -= ends
        if count > ends and not self.matcher.rollback(count - ends):
            raise EngineError("this model", f"{count} tokens of a structure cannot be taken back")


def grammar_of(request: Mapping[str, Any]) -> tuple[str, str] | None:
    """The parameter that structures an answer, and its grammar in llguidance's words; None where there is none.

    Raises BadRequest for two of them, and for what is no grammar at all.
    """
    given = [name for name in STRUCTURES if request.get(name) is not None and not _is_free(name, request[name])]
    if not given:
        return None
    if len(given) > 1:
        raise BadRequest(f"{given[0]} and {given[1]} exclude each other; give one", param=given[1])
    name = given[0]
    return name, _WRITERS[name](request[name])


def _is_free(name: str, value: Any) -> bool:
    return value == "" or (name == "response_format" and isinstance(value, Mapping) and value.get("type") == "text")


def _schema(schema: Any, param: str = "json_schema") -> str:
    from llguidance import LLMatcher

    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    if not isinstance(schema, Mapping):
        raise BadRequest(f"{param} is {quoted(schema)}; expected a JSON schema", param=param)
    try:
        text = json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"{param}: no JSON schema ({error})", param=param) from error
    _check_length(text, param)
    return LLMatcher.grammar_from_json_schema(text, defaults={"whitespace_flexible": True, "whitespace_pattern": WHITE})


def _response_format(wanted: Any) -> str:
    """OpenAI's, with llama.cpp's `schema` beside `json_object`."""
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "json_object":
        return _schema(wanted.get("schema") or {"type": "object"}, "response_format.schema")
    if kind == "json_schema" and isinstance(outer := wanted.get("json_schema"), Mapping):
        return _schema(outer.get("schema", {}), "response_format.json_schema.schema")
    raise BadRequest(
        f"response_format is {quoted(wanted)}; expected an object with type text, json_object or json_schema",
        param="response_format",
    )


def _written(format: Literal["gbnf", "regex"], param: str) -> Callable[[Any], str]:
    def write(text: Any) -> str:
        from llguidance import grammar_from

        if not isinstance(text, str):
            raise BadRequest(f"{param} is {quoted(text)}; expected a text", param=param)
        _check_length(text, param)
        try:
            return grammar_from(format, _unescaped(text) if format == "gbnf" else text)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"{param}: {_one_line(str(error))}", param=param) from error

    return write


def _choice(choices: Any) -> str:
    from llguidance import LLMatcher

    texts = [choices] if isinstance(choices, str) else choices
    good = isinstance(texts, list | tuple) and 0 < len(texts) <= MOST_CHOICES
    if not good or any(not isinstance(text, str) or not text for text in texts):
        raise BadRequest(f"choice is {quoted(choices)}; expected a list of texts that are not empty", param="choice")
    _check_length("".join(texts), "choice")
    # As an expression thousands of them are one automaton, as a grammar each would be a rule of its own.
    return LLMatcher.grammar_from_regex("|".join(_SYNTAX.sub(r"\\\g<0>", text) for text in texts))


_SYNTAX: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
"""Characters with a meaning in expressions of Rust's `regex`; of others, a backslash in front may have one."""


_WRITERS: Final[Mapping[str, Callable[[Any], str]]] = {
    "grammar": _written("gbnf", "grammar"),
    "json_schema": _schema,
    "response_format": _response_format,
    "regex": _written("regex", "regex"),
    "choice": _choice,
}


_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)", re.DOTALL)


def _unescaped(grammar: str) -> str:
    """GBNF with characters in place of their numbers, which llguidance's converter writes in a way that its reader
    does not know; numbers of control characters and of those with a meaning stay."""

    def character(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        code = int(digits, 16) if digits else 0
        plain = 0x20 <= code <= 0x10FFFF and chr(code).isprintable() and chr(code) not in '\\"[]^-/'
        return chr(code) if plain else match[0]

    return _ESCAPE.sub(character, grammar)


def _check_length(text: str, param: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise BadRequest(f"{param} has {len(text)} characters; expected {MOST_CHARACTERS} at most", param=param)


def _one_line(message: str) -> str:
    """llguidance's words without its pictures of where it stood, 500 characters at most."""
    text = " ".join(message.split())
    return text if len(text) <= 500 else f"{text[:497]}..."


class _Wrapped:
    """A vocabulary as llguidance asks for it."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = min(vocabulary.ends)
        self.tokens = list(vocabulary.pieces)
        self.special_token_ids = sorted(vocabulary.special)
        self._vocabulary = vocabulary

    def __call__(self, text: str) -> list[int]:
        return self._vocabulary.tokens_of(text)
