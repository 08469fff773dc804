"""What ExLlama's answers are, given the scores of a model: what our chain makes of them, as with every other engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.exllama.library.scores import TOKENS, scores
from tests.engines.exllama.test_exllama import calls, worker
from tests.worker.process import Worker, question
from uml.core.plan import SamplerFile
from uml.sampling.chain import Chain
from uml.sampling.row import log_total
from uml.sampling.settings import Settings
from uml.sampling.vocabulary import Vocabulary

LENGTH = 12
ENDS = {"exllamav3": frozenset({1}), "exllamav2": frozenset({1, 7})}
ENGINES = pytest.mark.parametrize("engine", ENDS)
ASKED: dict[str, Any] = {"prompt": "flat flat flat", "max_tokens": LENGTH, "return_tokens": True, "min_tokens": LENGTH}
VOCABULARY = ["<s>", "</s>", "flat", " flat", ":", *(f" w{token}" for token in range(5, TOKENS))]
"""As the library's stand-in numbers the words of the prompt, and calls all others."""


def folder(tmp_path: Path) -> Path:
    """A model's folder with its tokens, and where it lies."""
    vocabulary = {text.replace(" ", "\u2581"): token for token, text in enumerate(VOCABULARY)}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "decoder": None}))
    return tmp_path


def tokens_of(running: Worker, **more: Any) -> list[int]:
    found: list[int] = running.post("/v1/completions", ASKED | more)["choices"][0]["tokens"]
    return found


def by_chain(engine: str, prompt: list[int], **more: Any) -> list[int]:
    """What the chain alone says to the same scores."""
    vocabulary = Vocabulary(tuple(text.encode() for text in VOCABULARY), ENDS[engine])
    chain = Chain(Settings.of(ASKED | more), vocabulary, prompt)
    return [chain.choose(scores(place)).token for place in range(LENGTH)]


@ENGINES
def test_every_sampler_acts_as_with_every_other_engine(tmp_path: Path, engine: str) -> None:
    wide: dict[str, Any] = {"top_k": 0, "top_p": 1, "min_p": 0, "temperature": 1.5}
    asked: list[dict[str, Any]] = [
        {"sampler_priority": ["temperature", "top_p", "xtc"], "xtc_probability": 0.5, "top_p": 0.8},
        {"sampler_priority": "min_p;penalties;top_k", "repetition_penalty": 1.4},
        wide | {"top_n_sigma": 1.5},
        wide | {"top_h": 0.3},
        wide | {"typical_p": 0.4, "min_keep": 3},
        wide | {"dynatemp_range": 0.4, "smoothing_factor": 0.2, "smoothing_curve": 2},
        wide | {"mirostat_mode": 1, "mirostat_tau": 3},
        wide | {"adaptive_target": 0.2},
        {"dry_multiplier": 3, "dry_allowed_length": 1, "dry_sequence_breakers": [":"], "presence_penalty": 2},
        {"no_repeat_ngram_size": 1, "encoder_repetition_penalty": 1.2, "temperature": 3, "logit_bias": [["flat", 9]]},
    ]
    with worker(folder(tmp_path), engine) as running:
        running.ready()
        prompt = [0, *running.post("/tokenize", {"content": ASKED["prompt"]})["tokens"]]
        assert prompt == [0, 2, 3, 3]
        for more in asked:
            assert tokens_of(running, seed=5, **more) == by_chain(engine, prompt, seed=5, **more), more
        assert tokens_of(running, seed=6, **asked[2]) != by_chain(engine, prompt, seed=5, **asked[2])
        # The likeliest token is the same whoever looks for it.
        likeliest: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.3, "repetition_penalty_range": 2}
        likeliest |= {"frequency_penalty": 0.4, "logit_bias": {"9": 4.5, "3": 8}}
        assert tokens_of(running, **likeliest) == by_chain(engine, prompt, **likeliest)
        if engine == "exllamav3":
            own = [call["steps"][-1][0] for call in calls(running, "CustomSampler")]
            assert own == ["ChainStep"] * (len(asked) + 1) + ["SS_Argmax"]


@ENGINES
def test_a_seed_repeats_whoever_samples(tmp_path: Path, engine: str) -> None:
    with worker(folder(tmp_path), engine) as running:
        running.ready()
        for more in ({}, {"top_n_sigma": 2.0}):
            first, again, other = (tokens_of(running, seed=seed, top_k=0, min_p=0, **more) for seed in (3, 3, 4))
            assert first == again != other


@ENGINES
def test_a_banned_text_does_not_come_and_probabilities_are_told(tmp_path: Path, engine: str) -> None:
    with worker(folder(tmp_path), engine) as running:
        running.ready()
        request = ASKED | {"seed": 8, "no_repeat_ngram_size": 1, "logprobs": 2}
        free = running.post("/v1/completions", request)["choices"][0]
        second, *_, eighth, ninth = free["tokens"][1:9]
        banned = [f" w{second}", f" W{eighth} w{ninth}" if engine == "exllamav3" else f" w{eighth} w{ninth}"]
        held = running.post("/v1/completions", request | {"banned_strings": banned})["choices"][0]
        assert free["text"].startswith(" w") and all(text.lower() in free["text"] for text in banned)
        assert len(held["tokens"]) == LENGTH and not any(text.lower() in held["text"] for text in banned)
        assert held["tokens"][0] == free["tokens"][0] and len(set(held["tokens"])) == LENGTH
        told = held["logprobs"]["content"]
        assert [one["id"] for one in told] == held["tokens"] and len(told[0]["top_logprobs"]) == 2
        for place, one in enumerate(told):
            row = scores(place)[:TOKENS]
            assert one["logprob"] == pytest.approx(row[one["id"]] - log_total(row), abs=1e-4), "as the model gave them"


@ENGINES
def test_what_only_begins_as_a_banned_text_is_told(tmp_path: Path, engine: str) -> None:
    with worker(tmp_path, engine) as running:
        running.ready()
        answer = running.post("/v1/chat/completions", question("one two three", banned_strings=["three four"]))
        assert answer["choices"][0]["message"]["content"] == "one two three"
        assert answer["usage"]["completion_tokens"] >= 3


@ENGINES
def test_a_sampler_of_a_plugin_chooses(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "only.py"
    step = "lambda row, ids: row + 90 * (numpy.arange(len(row)) == setting)"
    path.write_text(f"import numpy\n\n\ndef sampler(setting, about):\n    return {step}\n")
    with worker(folder(tmp_path), engine, samplers=(SamplerFile("only", path, "a-plugin"),)) as running:
        running.ready()
        assert tokens_of(running, plugin_samplers={"only": 77}) == [77] * LENGTH


@ENGINES
def test_scores_that_are_no_numbers_end_their_own_answer(tmp_path: Path, engine: str) -> None:
    with worker(folder(tmp_path), engine) as running:
        running.ready()
        status, error = running.request("POST", "/v1/completions", {"prompt": "broken", "top_n_sigma": 1})
        assert status == 502 and "its logits are not numbers" in error["error"]["message"]
        assert len(tokens_of(running)) == LENGTH
