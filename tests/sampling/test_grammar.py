"""Structured output: whatever the logits, the answer has the form that was asked for."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.sampling import schemas
from uml.core.errors import BadRequest, EngineError
from uml.sampling.chain import Chain, choose_all
from uml.sampling.grammar import Guide, Structures
from uml.sampling.settings import Settings
from uml.sampling.vocabulary import Vocabulary

WORDS = (
    '{"',
    '":',
    '": ',
    '", "',
    "name",
    "age",
    "true",
    "false",
    "null",
    "}",
    "}}",
    "[",
    "]",
    " the",
    "日",
    "12",
    "\n\n  ",
)
PIECES = [*(bytes([byte]) for byte in range(256)), *(word.encode() for word in WORDS), b"<end>", b"<turn>", b"<image>"]
END, TURN, IMAGE = len(PIECES) - 3, len(PIECES) - 2, len(PIECES) - 1
SYNTAX = r"""\d.+*?()|[a-z]{2}^$#&~<b>@-/'"` %!,;:=_"""
VOCABULARY = Vocabulary.of_pieces(PIECES, ends=[END, TURN], special=[IMAGE])


@cache
def structures() -> Structures:
    return Structures(VOCABULARY)


def guide(**request: Any) -> Guide:
    found = structures().of(request)
    assert found is not None
    return found


def text_of(tokens: list[int]) -> str:
    return b"".join(PIECES[token] for token in tokens if token not in VOCABULARY.ends).decode()


def answer(structure: Guide, seed: int, most: int = 600, **request: Any) -> str:
    """What random logits make of a structure: an answer that came to its end."""
    chain = Chain(
        Settings.of({"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "seed": seed, **request}), VOCABULARY
    )
    noise, tokens = np.random.default_rng(seed), list[int]()
    while len(tokens) < most:
        choice = chain.choose((noise.standard_normal(len(PIECES)) * 3).astype(np.float32), structure.mask())
        structure.accept(choice.token)
        tokens.append(choice.token)
        if choice.token in VOCABULARY.ends:
            return text_of(tokens)
    raise AssertionError(f"no end: {text_of(tokens)!r}")


def allowed(structure: Guide) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(structure.mask().view(np.uint8), bitorder="little")).tolist())


def state(structure: Guide) -> str:
    """Whether the answer could end here, and whether it may go on."""
    return {
        (False, True): "open", (True, True): "may end", (True, False): "ended", (False, False): "stuck",
    }[structure.complete, structure.free_to_choose]  # fmt: skip


@pytest.mark.parametrize("start", range(0, 100, 10))
def test_random_logits_obey_a_hundred_random_schemas(start: int) -> None:
    for seed in range(start, start + 10):
        schema = schemas.make(random.Random(seed))
        for name, value in (("json_schema", schema), ("response_format", _openai(schema))):
            text = answer(guide(**{name: value}), seed)
            assert schemas.follows(json.loads(text), schema), (schema, text)


def _openai(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}


def test_the_judge_of_schemas_can_say_no() -> None:
    judged: list[tuple[schemas.Schema, Any]] = [
        ({"type": "integer", "minimum": 0, "maximum": 9}, 10), ({"type": "boolean"}, 1), ({"type": "null"}, False),
        ({"type": "string", "minLength": 2, "maxLength": 3}, "a"), ({"enum": [True]}, 1), ({"const": 7}, 7.0),
        ({"type": "object", "properties": {}, "required": [], "additionalProperties": False}, {"a": 1}),
        ({"type": "array", "items": {"type": "null"}, "minItems": 0, "maxItems": 1}, [None, None]),
    ]  # fmt: skip
    assert not any(schemas.follows(value, schema) for schema, value in judged)


def test_json_of_any_kind() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"]}
    closed = {**schema, "additionalProperties": False}
    assert json.loads(answer(guide(response_format={"type": "json_object", "schema": closed}), 1)).keys() == {"a"}
    assert ord("{") in allowed(guide(response_format={"type": "json_object"}))
    assert ord("[") not in allowed(guide(response_format={"type": "json_object"}))
    assert ord("7") in allowed(guide(json_schema=True))


def test_white_space_has_an_end() -> None:
    one = guide(json_schema={"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]})
    one.accept(*b"{\n\n" + b"\t" * 20)
    assert allowed(one) <= {ord('"'), PIECES.index(b'"')}
    with pytest.raises(EngineError, match="does not allow token 32"):
        one.accept(32)


@pytest.mark.parametrize(
    ("request_", "matches"),
    [
        ({"regex": r"[0-9]{3}/[a-c]+\.x"}, lambda text: re.fullmatch(r"[0-9]{3}/[a-c]+\.x", text)),
        ({"regex": "(ja|nein)\n?"}, lambda text: text in ("ja", "nein", "ja\n", "nein\n")),
        ({"choice": ["yes", "yesterday", 'n"o', "日本"]}, lambda text: text in ("yes", "yesterday", 'n"o', "日本")),
        ({"choice": [SYNTAX, "a\nb"]}, lambda text: text in (SYNTAX, "a\nb")),
        ({"regex": "a"}, lambda text: text == "a"),
        ({"choice": "one"}, lambda text: text == "one"),
        ({"grammar": 'root ::= "x" [a-c]{1,3} ("+" | "\\u00e9")'}, lambda text: re.fullmatch("x[a-c]{1,3}[+é]", text)),
        ({"grammar": 'root ::= item+ # a list\nitem ::= "- " [^\\n]{1,4} "\\n"'}, lambda text: text.startswith("- ")),
        ({"grammar": 'start: "x" N\nN: /[0-9]{1,2}/'}, lambda text: re.fullmatch("x[0-9]{1,2}", text)),
        ({"response_format": {"type": "text"}, "regex": "[0-9]"}, str.isdigit),
    ],
)
def test_expressions_choices_and_grammars(request_: dict[str, Any], matches: Callable[[str], Any]) -> None:
    for seed in range(6):
        text = answer(guide(**request_), seed)
        assert matches(text), text


def test_a_request_without_a_structure_is_free() -> None:
    for request in ({}, {"grammar": ""}, {"response_format": {"type": "text"}}, {"json_schema": None}):
        assert structures().of(request) is None


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        ({"json_schema": {"type": "objekt"}}, "json_schema", "Invalid type: objekt"),
        ({"json_schema": {"$ref": "#/nowhere"}}, "json_schema", "Pointer '/nowhere' does not exist"),
        ({"json_schema": {"not": {}}}, "json_schema", 'Unimplemented keys: ["not"]'),
        ({"json_schema": False}, "json_schema", "Unimplemented keys"),
        ({"json_schema": [1]}, "json_schema", "expected a JSON schema"),
        ({"json_schema": {"const": {1, 2}}}, "json_schema", "no JSON schema"),
        ({"json_schema": {"description": "a" * (1 << 20)}}, "json_schema", "1048576 at most"),
        ({"response_format": _openai({"type": 3})}, "response_format", ""),
        ({"response_format": {"type": "xml"}}, "response_format", "expected an object with type text, json_object"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "expected an object"),
        ({"response_format": "json"}, "response_format", "expected an object"),
        ({"regex": "(a"}, "regex", "unclosed group"),
        ({"regex": "(?=a)b"}, "regex", "look-around"),
        ({"regex": 3}, "regex", "expected a text"),
        ({"grammar": "root = x"}, "grammar", "Expected ::="),
        ({"grammar": "rot ::= x"}, "grammar", "not found"),
        ({"grammar": "(" * 50_000}, "grammar", "Expected name"),
        ({"grammar": "root ::= " + "(" * 50_000}, "grammar", "recursion"),
        ({"choice": []}, "choice", "a list of texts that are not empty"),
        ({"choice": ["a", ""]}, "choice", "a list of texts that are not empty"),
        ({"choice": ["a"], "regex": "b"}, "choice", "regex and choice exclude each other"),
        ({"choice": ["a"] * 10_001}, "choice", "a list of texts"),
    ],
)
def test_what_is_no_structure_is_a_sentence(request_: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        structures().of(request_)
    assert (caught.value.param or "").startswith(param)
    assert words in str(caught.value) and len(str(caught.value)) < 600


def test_what_is_forced_needs_no_model() -> None:
    one = guide(choice=["certainly", "certain"])
    forced = one.forced()
    assert text_of(forced) == "certain" and state(one) == "open"
    one.accept(*forced)
    assert state(one) == "may end" and one.forced() == []
    assert allowed(one) == {ord("l"), END, TURN}
    one.accept(ord("l"))
    assert text_of(one.forced()) == "y" and state(one) == "open"


def test_a_structure_that_is_complete_may_only_end() -> None:
    one = guide(choice=["ab"])
    one.accept(*b"ab")
    assert state(one) == "ended" and allowed(one) == {END, TURN} and one.forced() == []
    one.accept(TURN)
    assert state(one) == "ended" and allowed(one) == {END, TURN}
    with pytest.raises(EngineError, match="does not allow token 97"):
        one.accept(97)


def test_an_end_comes_no_sooner_than_the_structure() -> None:
    one = guide(choice=["ab"])
    with pytest.raises(EngineError, match=f"token {END}"):
        one.accept(END)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("more", [{}, {"min_tokens": 30}, {"temperature": 1}, {"logprobs": True}])
def test_the_short_way_to_a_token_is_that_of_the_mask(seed: int, more: dict[str, Any]) -> None:
    asked = {"temperature": 0, "seed": seed, **more}
    schema = {"type": "array", "items": {"enum": [True, 12, "age"]}, "minItems": 4, "maxItems": 6}
    short, long = Chain(Settings.of(asked), VOCABULARY), Chain(Settings.of(asked), VOCABULARY)
    one, other = guide(json_schema=schema), guide(json_schema=schema)
    noise = np.random.default_rng(seed)
    for _ in range(200):
        logits = noise.standard_normal(len(PIECES)).astype(np.float32)
        # As often as not the likeliest token is one that may come, and once in a while an end.
        logits[noise.choice([*allowed(other), END])] += 3
        expected = long.choose(logits, other.mask())
        other.accept(expected.token)
        found = short.choose_within(logits, one)
        assert found.token == expected.token
        assert found.logprob == expected.logprob or np.isnan(expected.logprob)
        if found.token in VOCABULARY.ends:
            break
    assert (one.complete, one.free_to_choose) == (other.complete, other.free_to_choose) == (True, False)
    assert list(short.history.answer) == list(long.history.answer)


def test_special_tokens_are_no_text() -> None:
    assert not allowed(guide(regex="(.|\n)*")) & {IMAGE}
    assert not allowed(guide(regex="<image>")) & {IMAGE}


def test_tokens_are_taken_back() -> None:
    one = guide(choice=["yes", "yesno"])
    one.accept(*b"yes", END)
    one.rewind(2)
    assert state(one) == "open" and text_of(one.forced()) == "s"
    one.accept(*b"sno")
    one.rewind(5)
    assert text_of(one.forced()) == "yes"
    with pytest.raises(EngineError, match="cannot be taken back"):
        one.rewind(3)


def test_every_answer_of_a_batch_has_its_own_structure() -> None:
    requests: list[dict[str, Any]] = [
        {"regex": "[0-9]{4}"}, {}, {"choice": ["red", "green"]}, {"json_schema": {"enum": ["a", 1]}},
        {"regex": "[0-9]{4}"}, {"choice": ["x"]},
    ]  # fmt: skip
    guides = [structures().of(request) for request in requests]
    chains = [Chain(Settings.of({"seed": place}), VOCABULARY) for place in range(len(requests))]
    noise, texts = np.random.default_rng(1), [list[int]() for _ in requests]
    for _ in range(12):
        masks = [one.mask() if one else None for one in guides]
        rows = noise.standard_normal((len(requests), len(PIECES))).astype(np.float32)
        for place, choice in enumerate(choose_all(chains, rows, masks)):
            texts[place].append(choice.token)
            if one := guides[place]:
                one.accept(choice.token)
    ended = [text_of(tokens) for place, tokens in enumerate(texts) if guides[place]]
    for text, expected in zip(ended, ("[0-9]{4}", "red|green", '"a"|1', "[0-9]{4}", "x"), strict=True):
        assert re.fullmatch(expected, text), text
    assert ended[0] != ended[3]


def test_the_same_structure_is_compiled_once_and_shared_by_none() -> None:
    own = Structures(VOCABULARY)
    first, second = own.of({"regex": "a+b"}), own.of({"regex": "a+b"})
    assert first is not None and second is not None
    first.accept(*b"aab")
    assert (state(first), state(second)) == ("ended", "open")
    for number in range(200):
        own.of({"regex": f"a{{{number}}}"})
    assert len(own._compiled) == 64


class Looked(list[bytes]):
    """Pieces that count how often all of them were looked at."""

    times = 0

    def __iter__(self) -> Iterator[bytes]:
        self.times += 1
        return super().__iter__()


def test_what_the_first_structure_waits_for_can_be_done_ahead() -> None:
    pieces = Looked(PIECES)
    made = Structures(Vocabulary(pieces, frozenset([END]), frozenset([END])))
    made.prepare()
    before = pieces.times
    assert before > 0
    assert made.of({"choice": ["true", "false"]}) is not None
    assert pieces.times == before


def test_threads_may_ask_for_structures_at_the_same_time() -> None:
    own, failures = Structures(VOCABULARY), list[BaseException]()

    def ask(seed: int) -> None:
        try:
            schema = schemas.make(random.Random(seed % 5))
            found = own.of({"json_schema": schema})
            assert found is not None and schemas.follows(json.loads(answer(found, seed)), schema)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_structure_that_grows_too_complex_is_the_engines_fault() -> None:
    one = guide(grammar='root ::= a\na ::= a a | b b | "x" | "xx"\nb ::= a a a | b a b | "x" "x"? "x"?')
    with pytest.raises(EngineError, match="max is 500"):
        for _ in range(500):
            one.accept(ord("x"))


def test_what_is_too_broad_is_told_before_it_begins() -> None:
    assert guide(choice=[f"choice {number}" for number in range(3000)]).forced() == list(b"choice ")
    many = {f"property {number}": {"type": "null"} for number in range(1000)}
    with pytest.raises(BadRequest, match=r"^json_schema: .* items; max is 2000"):
        structures().of({"json_schema": {"type": "object", "properties": many, "additionalProperties": False}})


def test_a_vocabulary_without_a_tokenizer_is_cut_by_its_longest_pieces() -> None:
    assert VOCABULARY.tokens_of('{"name": 12') == [PIECES.index(p) for p in (b'{"', b"name", b'": ', b"12")]
    assert Vocabulary.of_pieces([b"a"], [0]).tokens_of("xay") == []
    assert Vocabulary.of_pieces([b"<e>", b"a"], [0]).tokens_of("xay") == [1]
    owned = Vocabulary(VOCABULARY.pieces, VOCABULARY.ends, VOCABULARY.special, lambda text: list(text.encode()))
    found = Structures(owned).of({"choice": ["name"]})
    assert found is not None and found.forced() == list(b"name")
    assert guide(choice=["name"]).forced() == [PIECES.index(b"name")]
