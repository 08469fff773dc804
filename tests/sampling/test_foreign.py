"""Samplers of plug-ins: files that are loaded by their path, and whatever they do, other answers go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugins.packages import EXAMPLE
from uml.core import guard
from uml.core.errors import BadRequest, EngineError
from uml.core.plan import SamplerFile
from uml.sampling.chain import Chain
from uml.sampling.foreign import Foreign, opened
from uml.sampling.settings import Settings
from uml.sampling.vocabulary import Vocabulary

WORDS = [b"</s>", b" sea", b" old", b" hut", b" TIDE"]
VOCABULARY = Vocabulary(WORDS, frozenset({0}), frozenset({0}))
ROW = np.array([0, 4, 3, 2, 1], np.float32)
"""Likeliest first: sea, old, hut, TIDE, the end."""

Make = Callable[..., Mapping[str, Foreign]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Load samplers, each from a file of this code."""

    def made(**codes: str) -> Mapping[str, Foreign]:
        for name, code in codes.items():
            (tmp_path / f"{name}.py").write_text(code)
        return opened(SamplerFile(name, tmp_path / f"{name}.py", "mine") for name in codes)

    return made


def chain(samplers: Mapping[str, Foreign], **request: Any) -> Chain:
    return Chain(Settings.of({"temperature": 0, **request}, samplers=samplers), VOCABULARY, [1, 2])


def says(samplers: Mapping[str, Foreign], **request: Any) -> bytes:
    return WORDS[chain(samplers, **request).choose(ROW).token]


def test_the_example_leaves_letters_out() -> None:
    file = EXAMPLE / "src" / "uml_wordchain" / "lipogram.py"
    samplers = opened([SamplerFile("lipogram", file, "wordchain")])
    assert says(samplers) == b" sea"
    assert says(samplers, plugin_samplers={"lipogram": "s"}) == b" old", "the end of an answer has no letters"
    assert says(samplers, plugin_samplers={"lipogram": "aLU"}) == b" TIDE"
    assert says(samplers, plugin_samplers={"lipogram": None}) == b" sea", "null: as if it were not there"
    with pytest.raises(BadRequest, match=r"^plugin_samplers\.lipogram: 'é' is no text of letters") as refused:
        chain(samplers, plugin_samplers={"lipogram": "é"})
    assert refused.value.param == "plugin_samplers.lipogram"


def test_it_is_told_of_the_answer_and_of_chance(make: Make) -> None:
    code = (
        "def sampler(setting, about):\n"
        "    assert about.pieces[1] == b' sea' and about.ends == {0} and about.prompt == 2\n"
        "    seen = setting['seen'] = []\n"
        "    def step(logits, tokens):\n"
        "        seen.append((tokens.tolist(), about.uniform()))\n"
        "        logits[tokens] -= 10\n"
        "        return logits\n"
        "    return step\n"
    )
    samplers, told = make(once=code), [dict[str, Any](), dict[str, Any]()]
    for setting in told:
        one = chain(samplers, seed=5, plugin_samplers={"once": setting})
        assert [one.choose(ROW).token for _ in range(2)] == [3, 4]
    assert [tokens for tokens, _ in told[0]["seen"]] == [[1, 2], [1, 2, 3]]
    assert told[0]["seen"] == told[1]["seen"], "a seed repeats its random numbers"
    assert ROW.tolist() == [0, 4, 3, 2, 1], "the engine's logits are not written to"


def test_it_acts_behind_penalties_or_where_the_request_says(make: Make) -> None:
    samplers = make(turn="def sampler(s, a):\n    return lambda logits, tokens: -logits\n")
    assert says(samplers, plugin_samplers={"turn": 1}) == b"</s>", "before truncations, which would keep the sea"
    late = {"plugin_samplers": {"turn": 1}, "top_k": 2, "sampler_priority": ["top_k", "turn"]}
    assert says(samplers, **late) == b" old", "of what top_k has left"
    left_out = Settings.of({**late, "sampler_priority": "top_k"}, samplers=samplers)
    assert left_out.notices == ({"param": "plugin_samplers.turn", "reason": "sampler_priority does not name turn"},)
    assert "turn" in Settings.of({"sampler_priority": ["turn"]}, samplers=samplers).order, "named, and not asked for"


def test_what_cannot_come_stays_so(make: Make) -> None:
    code = "import numpy\ndef sampler(s, a):\n    return lambda logits, tokens: numpy.array([9.0, 0, 0, 0, 5])\n"
    samplers = make(wish=code)
    assert says(samplers, plugin_samplers={"wish": 1}, logit_bias=[[0, False]]) == b" TIDE"
    one = chain(samplers, plugin_samplers={"wish": 1})
    only_hut = np.array([0b01000], np.int32)
    assert WORDS[one.choose(ROW, only_hut).token] == b" hut"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("return lambda logits, tokens: 1 / 0", "its step raised ZeroDivisionError"),
        ("return lambda logits, tokens: None", "its step gives no row of 5 logits"),
        ("return lambda logits, tokens: logits[:2]", "its step gives no row of 5 logits"),
        ("return lambda logits, tokens: logits - float('inf')", "its step leaves no token"),
        ("return lambda logits, tokens: logits * float('nan')", "gives a logit that is no number"),
        ("return lambda: 1", "its step raised TypeError"),
        ("about.pieces.clear()", "'tuple' object has no attribute"),
        ("return 5", r"sampler\(\) gives int, expected a function"),
        ("raise KeyError(setting)", r"sampler\(\) raised KeyError"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_one_that_fails_fails_the_answer_that_asked_for_it(make: Make, code: str, reason: str) -> None:
    samplers = make(bad=f"def sampler(setting, about):\n    {code}\n")
    with pytest.raises(EngineError, match=f"the sampler bad of the plug-in mine: .*{reason}"):
        says(samplers, plugin_samplers={"bad": 1})
    assert says(samplers) == b" sea" and samplers["bad"].guard.state == "ready"


def test_one_that_hangs_is_left_out_of_what_follows(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import threading\ndef sampler(s, a):\n    return lambda logits, tokens: threading.Event().wait(30)\n"
    samplers, wish = make(slow=code), {"plugin_samplers": {"slow": 1}}
    monkeypatch.setattr(guard.Guard.call, "__kwdefaults__", {"limit_s": 0.05})
    with pytest.raises(EngineError, match=r"its step did not come back within 0\.05 s"):
        says(samplers, **wish)
    with pytest.raises(BadRequest, match=r"slow of the plug-in mine is left out: its step did not come back"):
        chain(samplers, **wish)
    assert says(samplers) == b" sea"


def test_one_that_cannot_be_loaded_is_told_to_the_log_and_to_who_asks(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        samplers = make(lost="import there_is_no_such_module\n", bare="x = 1\n")
    assert "the sampler lost of the plug-in mine is left out: its import raised ModuleNotFoundError" in caplog.text
    with pytest.raises(BadRequest, match="is left out: its import raised AttributeError"):
        chain(samplers, plugin_samplers={"bare": 1})
    with pytest.raises(BadRequest, match=r"plugin_samplers\.lots: there is no such sampler; known are lost, bare"):
        chain(samplers, plugin_samplers={"lots": 1})
    with pytest.raises(BadRequest, match="no plug-in of this server brings any"):
        chain({}, plugin_samplers={"lots": 1})
    with pytest.raises(BadRequest, match="is no object"):
        chain({}, plugin_samplers=["lots"])
    with pytest.raises(BadRequest, match="there is no sampler 'lots'"):
        chain({}, sampler_priority=["lots"])
