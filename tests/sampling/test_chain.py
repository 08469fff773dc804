"""Chains: from logits to tokens, as an engine asks for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from uml.core.errors import EngineError
from uml.sampling.chain import Chain, choose_all
from uml.sampling.row import softmax
from uml.sampling.settings import Settings
from uml.sampling.vocabulary import Vocabulary

Floats = NDArray[np.float32]

WORDS = ["<end>", "a", "b", "ab", " ", ".", "the", " the", "\n", "é"]
VOCABULARY = Vocabulary.of_pieces([word.encode() for word in WORDS], ends=[0])
NEUTRAL = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0}
EVERYTHING = {
    "temperature": 0.9, "dynatemp_range": 0.3, "smoothing_factor": 0.2, "smoothing_curve": 1.5, "top_k": 50,
    "top_p": 0.95, "min_p": 0.01, "typical_p": 0.97, "tfs": 0.98, "top_a": 0.01, "top_h": 0.95, "top_n_sigma": 4,
    "epsilon_cutoff": 1, "eta_cutoff": 1, "xtc_probability": 0.5, "repetition_penalty": 1.1, "presence_penalty": 0.2,
    "frequency_penalty": 0.2, "encoder_repetition_penalty": 1.1, "no_repeat_ngram_size": 4, "dry_multiplier": 0.8,
    "logit_bias": {"3": 1}, "banned_strings": ["aba"], "min_tokens": 2, "min_keep": 1,
}  # fmt: skip


def chain(prompt: list[int] | None = None, vocabulary: Vocabulary = VOCABULARY, /, **request: Any) -> Chain:
    return Chain(Settings.of(request), vocabulary, prompt or [])


def logits(*values: float) -> Floats:
    return np.array(values, np.float32)


def random_rows(count: int, seed: int = 0, size: int = len(WORDS)) -> Floats:
    return (np.random.default_rng(seed).standard_normal((count, size)) * 2).astype(np.float32)


def written(one: Chain, rows: Floats) -> list[int]:
    return [one.choose(row).token for row in rows]


def text_of(tokens: list[int]) -> str:
    return b"".join(VOCABULARY.pieces[token] for token in tokens).decode()


def shares(request: dict[str, Any], row: Floats, vocabulary: Vocabulary = VOCABULARY, times: int = 4000) -> Floats:
    """How often each token is chosen by many chains."""
    one, counts = chain(None, vocabulary, seed=3, **request), np.zeros(len(row))
    for _ in range(times):
        counts[one.choose(row).token] += 1
        one.rewind(1)
    return (counts / times).astype(np.float32)


# --- which token --------------------------------------------------------------------------------------------------


def test_without_a_temperature_the_likeliest_token_is_taken() -> None:
    rows = random_rows(50)
    assert written(chain(temperature=0), rows) == rows.argmax(axis=1).tolist()
    assert written(chain(temperature=0, top_k=3, tfs=0.5, logprobs=True), rows) == rows.argmax(axis=1).tolist()
    assert written(chain(top_k=1), rows) == rows.argmax(axis=1).tolist()
    assert chain(temperature=0).bare and not chain(temperature=0, logprobs=True).bare


def test_tokens_come_as_often_as_they_are_likely() -> None:
    row = random_rows(1, seed=2)[0]
    np.testing.assert_allclose(shares(NEUTRAL, row), softmax(row), atol=0.03)
    np.testing.assert_allclose(shares({**NEUTRAL, "temperature": 2}, row), softmax(row / 2), atol=0.03)
    large = Vocabulary.of_pieces([b"x"] * 6000, [0])
    big = random_rows(1, 3, 6000)[0]
    big[[7, 4000, 5999]] = 9
    np.testing.assert_allclose(shares(NEUTRAL, big, large)[[7, 4000, 5999]], softmax(big)[[7, 4000, 5999]], atol=0.04)


def test_the_order_matters_as_given() -> None:
    """0.5, 0.3, 0.15, 0.05: flattened first, all four are needed for 0.85; truncated first, three are."""
    row = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    four = Vocabulary.of_pieces([b"a", b"b", b"c", b"d"], [])
    request = {**NEUTRAL, "top_p": 0.85, "temperature": 3}
    assert shares({**request, "sampler_priority": ["top_p", "temperature"]}, row, four)[3] == 0
    assert shares({**request, "sampler_priority": ["temperature", "top_p"]}, row, four)[3] > 0.1
    assert shares({**request, "sampler_priority": ["temperature"]}, row, four)[3] > 0.1
    last = {**request, "sampler_priority": ["temperature", "top_p"], "temperature_last": True}
    assert shares(last, row, four)[3] == 0
    # A penalty in front of the truncation decides who is in; behind it, nobody comes back.
    for names, expected in ((["repetition_penalty", "top_k"], 1), (["top_k", "repetition_penalty"], 0)):
        one = Chain(Settings.of({"top_k": 1, "repetition_penalty": 10, "sampler_priority": names}), four, [0])
        assert one.choose(logits(3, 2, 1, 0)).token == expected


def test_a_seed_repeats_whatever_runs_beside_it() -> None:
    rows = random_rows(60, seed=5)
    for request in (NEUTRAL, {}, EVERYTHING, {"mirostat_mode": 2}, {"mirostat_mode": 1}, {"adaptive_target": 0.4}):
        alone = written(chain([1, 2, 3], seed=11, **request), rows)
        mine, other = chain([1, 2, 3], seed=11, **request), chain(seed=12, **NEUTRAL)
        together = [choose_all([other, mine], np.stack([row[::-1], row]))[1].token for row in rows]
        assert together == alone
        assert written(chain([1, 2, 3], seed=13, **request), rows) != alone
    assert chain().seed != chain().seed and chain(seed=7).seed == 7


def test_a_batch_of_different_chains_is_each_of_them_alone() -> None:
    requests: list[dict[str, Any]] = [{"temperature": 0}, {}, EVERYTHING, {"mirostat_mode": 1}, {"temperature": 0}]
    rows = random_rows(5 * 40, seed=8).reshape(40, 5, len(WORDS))
    together = [chain([1, 3], seed=4, **request) for request in requests]
    batched = [[choice.token for choice in choose_all(together, batch)] for batch in rows]
    for place, request in enumerate(requests):
        assert [tokens[place] for tokens in batched] == written(chain([1, 3], seed=4, **request), rows[:, place])


def test_the_logits_of_the_engine_are_never_written_to() -> None:
    rows = random_rows(30)
    kept = rows.copy()
    rows.flags.writeable = False
    for request in (NEUTRAL, EVERYTHING, {"mirostat_mode": 1}, {"adaptive_target": 0.3}, {"temperature": 0}):
        written(chain([1, 2], seed=1, **request), rows)
    np.testing.assert_array_equal(rows, kept)


def test_rows_of_other_types_and_lengths_are_read() -> None:
    row = logits(0, 1, 2, 3)
    longer = np.append(random_rows(1)[0], np.float32(99))
    assert chain(temperature=0).choose(longer).token < len(WORDS)
    small = Vocabulary.of_pieces([b"a"] * 4, [])
    for kind in (np.float16, np.float64):
        assert Chain(Settings.of({"top_k": 2, "seed": 1}), small).choose(row.astype(kind)).token in (2, 3)


def test_logits_that_are_no_numbers_are_the_engines_fault() -> None:
    broken = [[1, math.nan, 0, 0], [-math.inf] * 4, [math.inf, 0, 0, 0]]
    small = Vocabulary.of_pieces([b"a"] * 4, [])
    for values in broken:
        for request in ({"temperature": 0}, {}, {"logprobs": True}):
            with pytest.raises(EngineError, match="logits are not numbers"):
                Chain(Settings.of(request), small).choose(logits(*values))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, (1 << 32) - 1), st.sampled_from([len(WORDS), 3000]), st.data())
def test_any_settings_choose_a_token(seed: int, size: int, data: st.DataObject) -> None:
    request = {
        name: data.draw(st.sampled_from([EVERYTHING[name], Settings.__dataclass_fields__[name].default]), label=name)
        for name in EVERYTHING
        if name not in ("logit_bias", "banned_strings")
    }
    request |= {"mirostat_mode": data.draw(st.integers(0, 2)), "post_sampling_probs": data.draw(st.booleans())}
    request |= {"adaptive_target": data.draw(st.sampled_from([-1, 0.5])), "logprobs": 3, "seed": seed}
    vocabulary = Vocabulary.of_pieces([b"%d" % token for token in range(size)], [0])
    one = chain([1, 2, 1, 2], vocabulary, **request)
    for row in random_rows(6, seed, size):
        choice = one.choose(row)
        assert 0 <= choice.token < size and -np.inf < choice.logprob <= 1e-6


# --- what was there, what may not come ----------------------------------------------------------------------------


def test_repetition_is_seen_in_prompt_and_answer() -> None:
    row = logits(0, 3, 2.5, 2, 0, 0, 0, 0, 0, 0)
    assert written(chain([1], temperature=0, presence_penalty=1.1), np.stack([row] * 3)) == [2, 3, 1]
    assert written(chain([1], temperature=0, presence_penalty=1, repetition_penalty_range=0), row[None]) == [1]
    far = chain([1, *[5] * 70], temperature=0, presence_penalty=1)
    assert far.choose(row).token == 1  # beyond the last 64
    far = chain([1, *[5] * 70], temperature=0, presence_penalty=1, repetition_penalty_range=-1)
    assert far.choose(row).token == 2
    assert written(chain([2], temperature=0, encoder_repetition_penalty=1.5), row[None]) == [2]
    assert written(chain(temperature=0, no_repeat_ngram_size=2), np.stack([row] * 4)) == [1, 1, 2, 1]


def test_dry_lets_no_sequence_go_on_but_across_breakers() -> None:
    row = logits(0, 1, 1, 5, 0, 0, 0, 0, 0, 0)
    assert chain([1, 2, 3, 1, 2], temperature=0, dry_multiplier=10).choose(row).token in (1, 2)
    assert chain([1, 2, 3, 1, 2], temperature=0, dry_multiplier=10, dry_allowed_length=3).choose(row).token == 3
    # ". a b" is there twice; after a breaker inside, too little of it is left.
    assert chain([5, 1, 3, 5, 1], temperature=0, dry_multiplier=10).choose(row).token != 3
    assert chain([5, 1, 3, 5, 1], temperature=0, dry_multiplier=10, dry_sequence_breakers=["."]).choose(row).token == 3
    # A breaker may lie across tokens, and one that would end in the token itself is never penalised.
    assert chain([1, 2, 3, 1, 2], temperature=0, dry_multiplier=10, dry_sequence_breakers="ab").choose(row).token == 3
    assert chain([1, 2, 3, 1, 2], temperature=0, dry_multiplier=10, dry_sequence_breakers="bb").choose(row).token != 3


def test_dry_looks_at_what_came_in_place_of_what_was_taken_back() -> None:
    row = logits(0, 1, 1, 5, 0, 0, 0, 0, 0, 0)
    one = chain([1, 6, 3, 1], temperature=0, dry_multiplier=10, dry_sequence_breakers=["."])
    one.accept(5)
    one.choose(row)
    one.rewind(2)
    one.accept(6)
    assert one.choose(row).token != 3


def test_single_tokens_are_biased_and_banned() -> None:
    row = logits(0, 3, 2, 1, 0, 0, 0, 0, 0, 0)
    assert chain(temperature=0, logit_bias={"2": 5}).choose(row).token == 2
    assert chain(temperature=0, logit_bias={"1": -100, "2": -100}).choose(row).token == 3
    assert chain(temperature=0, logit_bias=[[1, False], [99, 3]]).choose(row).token == 2
    assert chain(temperature=0, logit_bias=[["ab", 9]]).choose(row).token == 3
    assert shares({**NEUTRAL, "logit_bias": [[1, False]]}, row)[1] == 0


def test_an_answer_does_not_end_too_soon() -> None:
    row = logits(9, 1, 0, 0, 0, 0, 0, 0, 0, 0)
    assert written(chain([1, 1, 1], temperature=0, min_tokens=2), np.stack([row] * 3)) == [1, 1, 0]
    assert written(chain(temperature=0, ignore_eos=True), np.stack([row] * 3)) == [1, 1, 1]
    assert shares({**NEUTRAL, "ignore_eos": True}, row)[0] == 0


def test_where_bans_leave_nothing_they_yield() -> None:
    everything = [[token, False] for token in range(len(WORDS))]
    assert chain(temperature=0, logit_bias=everything).choose(random_rows(1)[0]).token == random_rows(1)[0].argmax()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "ab", "the", " the", "the ab", "é", "bab.", "a\na"]), min_size=1, max_size=4),
    st.integers(0, (1 << 32) - 1),
)
def test_banned_phrases_never_come_however_they_are_cut(phrases: list[str], seed: int) -> None:
    one = chain([1, 2], banned_strings=phrases, seed=seed, ignore_eos=True, **NEUTRAL)
    text = text_of(written(one, random_rows(80, seed)))
    assert len(text) > 20 and not any(phrase in text for phrase in phrases)


def test_pieces_of_characters_are_looked_at_as_bytes() -> None:
    vocabulary = Vocabulary.of_pieces([b"<end>", b"\xc3", b"\xa9", b"\xff", b"x\xff\xff"], [0])
    one = Chain(Settings.of({"temperature": 0, "banned_strings": ["é"]}), vocabulary)
    assert [one.choose(logits(0, 2, 3, 1, 1)).token, *written(one, np.stack([logits(0, 4, 3, 1, 1)] * 2))] == [2, 1, 1]
    assert vocabulary.beginning_with(b"x") == vocabulary.beginning_with(b"x\xff") == [4]
    assert vocabulary.beginning_with(b"\xff") == [3]


def test_a_structure_restricts_what_may_come() -> None:
    row = logits(0, 3, 2, 1, 0, 0, 0, 0, 0, 0)
    only = np.array([0b1100], np.int32)
    assert chain(temperature=0).choose(row, only).token == 2
    assert chain(temperature=0, logprobs=1).choose(row, only).top[0][0] == 1  # told is the raw distribution
    assert {chain(seed=seed, **NEUTRAL).choose(row, only).token for seed in range(40)} == {2, 3}
    assert chain(temperature=0, presence_penalty=2, repetition_penalty=1.5).choose(row, only).token == 2
    # A structure that is complete may end, whatever the request says about ends.
    assert chain(temperature=0, ignore_eos=True).choose(row, np.array([1], np.int32)).token == 0
    with pytest.raises(EngineError, match="allows no token"):
        chain().choose(row, np.array([0], np.int32))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_structure_on_a_long_row_leaves_out_all_that_it_does_not_allow(share: float) -> None:
    large, random = Vocabulary.of_pieces([b"%d" % token for token in range(6001)], [0]), np.random.default_rng(6)
    bits = np.append(random.random(6001) < share, np.zeros(31, bool))[:6016]
    mask = np.packbits(bits, bitorder="little").view(np.int32)
    allowed = np.flatnonzero(bits)
    # What is not allowed is likelier than all the rest.
    row = np.where(bits[:6001], random.standard_normal(6001), 20).astype(np.float32)
    for request in ({}, NEUTRAL, EVERYTHING, {**EVERYTHING, "top_k": 0, "top_h": 0}, {"mirostat_mode": 1}):
        one = chain([1, 2, 3], large, seed=1, **request)
        assert {one.choose(row, mask).token for _ in range(30)} <= set(allowed.tolist())
    greedy = chain(None, large, temperature=0).choose(row, mask).token
    assert greedy == allowed[row[allowed].argmax()]


# --- what is told -------------------------------------------------------------------------------------------------


def test_probabilities_are_those_of_the_raw_distribution() -> None:
    row = random_rows(1, seed=9)[0]
    raw = np.log(softmax(row))
    for request in ({"temperature": 0}, {"top_k": 2}, {"logit_bias": {"1": 50}, "repetition_penalty": 2}):
        choice = chain([1, 2], seed=1, logprobs=True, top_logprobs=10, **request).choose(row)
        assert choice.logprob == pytest.approx(raw[choice.token], abs=1e-5)
        assert [token for token, _ in choice.top] == np.argsort(-raw).tolist()
        assert sum(math.exp(logprob) for _, logprob in choice.top) == pytest.approx(1)
    assert chain(logprobs=0).choose(row).top == ()
    assert math.isnan(chain().choose(row).logprob)


def test_probabilities_after_the_samplers_are_told_when_asked_for() -> None:
    row = logits(0, 0, math.log(4), math.log(4), 0, 0, 0, 0, 0, 0)
    choice = chain(top_k=2, temperature=1, n_probs=5, post_sampling_probs=True).choose(row)
    assert [token for token, _ in choice.top] == [2, 3]
    assert [logprob for _, logprob in choice.top] == pytest.approx([math.log(0.5)] * 2)
    assert choice.logprob == pytest.approx(math.log(0.5))
    assert chain(temperature=0, n_probs=5, post_sampling_probs=True).choose(row).top == ((2, 0.0),)


# --- what a chain remembers ---------------------------------------------------------------------------------------


def test_tokens_that_were_forced_or_taken_back_are_remembered_right() -> None:
    row = logits(0, 3, 2.5, 2, 0, 0, 0, 0, 0, 0)
    one = chain(temperature=0, presence_penalty=1.1, repetition_penalty_range=3)
    one.accept(1, 2)
    assert one.choose(row).token == 3
    one.rewind(2)
    assert one.history.last(-1).tolist() == [1]
    assert one.choose(row).token == 2
    one.rewind(99)
    assert one.history.written == 0 and one.choose(row).token == 1
    one.accept(*[5] * 2000)
    assert one.choose(row).token == 1 and len(one.history) == 2002


def test_an_answer_is_followed_that_its_engine_took_back_and_wrote_on() -> None:
    row = logits(0, 3, 2.5, 2, 0, 0, 0, 0, 0, 0)
    one = chain(temperature=0, presence_penalty=1.1)
    for answer, next_ in (([], 1), ([1], 2), ([1, 2], 3), ([2], 1), ([2, 1], 3), ([2, 1, 5, 3], 1), ([], 1)):
        one.follow(np.array(answer, np.int64))
        assert one.history.answer.tolist() == answer
        assert one.choose(row).token == next_


def test_mirostat_keeps_the_surprise() -> None:
    rows = (np.random.default_rng(1).standard_normal((400, 3000)) * 2.5).astype(np.float32)
    vocabulary = Vocabulary.of_pieces([b"x"] * 3000, [0])
    for version in (1, 2):
        for tau in (2.0, 5.0):
            request = {"mirostat_mode": version, "mirostat_tau": tau, "temperature": 1, "logprobs": 0, "seed": 1}
            one = chain(None, vocabulary, post_sampling_probs=True, **request)
            surprises = [-one.choose(row).logprob / math.log(2) for row in rows]
            assert np.mean(surprises[100:]) == pytest.approx(tau, abs=0.5)


@given(st.integers(0, 10_000), st.booleans(), st.integers(0, 3), st.booleans())
def test_the_likeliest_token_is_found_the_short_way_and_the_long_way(
    seed: int, ignore_eos: bool, least: int, structured: bool
) -> None:
    rows = random_rows(6, seed)
    rows[:, 0] += 2  # an end is often the likeliest
    random = np.random.default_rng(seed)
    asked = {"temperature": 0, "ignore_eos": ignore_eos, "min_tokens": least}
    short, long = chain(**asked), chain(**asked, n_probs=1)
    for row in rows:
        mask = random.integers(1, 1 << len(WORDS), dtype=np.int32).reshape(1) if structured else None
        assert short.choose(row, mask).token == long.choose(row, mask).token
    assert (short.endless, short.bare) == (ignore_eos, not ignore_eos)
    assert not long.endless and not long.bare


def test_logits_that_are_no_numbers_are_an_error_for_the_likeliest_too() -> None:
    with pytest.raises(EngineError, match="not numbers"):
        chain(temperature=0).choose(logits(*[math.nan] * len(WORDS)))
