"""How texts are cut into words before bytes are merged: llama.cpp's names, told by the expressions of tokenizer.json.

llama.cpp has the expressions built in, under names (`tokenizer.ggml.pre`). They stand there in words of its own; what
is compared here is what tokenizer.json says, which its source quotes beside most of them (src/llama-vocab.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from uml.formats.bounded_json import child, text

_ENDINGS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPELLED: Final = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
"""The same, as llama.cpp and the demo model spell it."""
_SPACES: Final = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_HEAD: Final = r"[^\r\n\p{L}\p{N}]?"
_CASED: Final = f"{_HEAD}{_UPPER}*{_LOWER}+%s|{_HEAD}{_UPPER}+{_LOWER}*%s"
_SLASHED: Final = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_ASCII_SIGN: Final = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"

LLAMA3: Final = rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
QWEN2: Final = rf"{_ENDINGS}|{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}"
QWEN35: Final = (
    rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
TEKKEN: Final = rf"{_CASED % ('', '')}|\p{{N}}|{_SLASHED}|{_SPACES}"
GPT4O: Final = rf"{_CASED % (_ENDINGS + '?', _ENDINGS + '?')}|\p{{N}}{{1,3}}|{_SLASHED}|{_SPACES}"
DEEPSEEK3: Final = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    rf"{_ASCII_SIGN}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
)
BYTES: Final = "bytes"
"""GPT-2's own expression, which the step that makes bytes may bring along."""
DIGITS: Final = "digits"
"""Each digit on its own."""

NAMES: Final[Mapping[tuple[tuple[str, ...], bool], str]] = {
    ((BYTES,), False): "gpt-2",
    ((DIGITS, BYTES), False): "smollm",
    ((LLAMA3,), True): "llama-bpe",
    ((LLAMA3,), False): "smaug-bpe",
    ((QWEN2,), False): "qwen2",
    ((QWEN35,), False): "qwen35",
    ((TEKKEN,), True): "tekken",
    ((GPT4O,), False): "gpt-4o",
    (DEEPSEEK3, False): "deepseek-v3",
}
"""What cuts, in its order, and whether a word that is a token itself is taken whole (`ignore_merges`) -> the name."""

NOTES: Final = dict.fromkeys(
    ("tekken", "gpt-4o"), "accents that stand without their letter are cut in another way than by Transformers"
)
"""Where llama.cpp's expression of a name is simpler than the tokenizer's own."""


class Unknown(Exception):
    """A way of cutting that llama.cpp has no name for, in words."""


def name(tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name for how a byte-level tokenizer cuts. Raises Unknown."""
    steps = tuple(_steps(child(tokenizer, "pre_tokenizer")))
    whole = child(tokenizer, "model").get("ignore_merges") is True
    found = NAMES.get((steps, whole)) or (NAMES.get((steps, not whole)) if steps == (TEKKEN,) else None)
    if found is None:
        told = " then ".join(repr(step) for step in steps) or "nothing"
        raise Unknown(f"words that are cut by {told}{', ignoring merges' if whole else ''}")
    return found


def canonical(expression: str) -> str:
    """An expression with line ends spelled out, and endings as most tokenizers have them."""
    spelled = expression.replace("\r", r"\r").replace("\n", r"\n")
    return spelled.replace(_SPELLED, _ENDINGS)


def _steps(step: Mapping[str, Any]) -> list[str]:
    match text(step, "type"):
        case "Sequence":
            inner = step.get("pretokenizers")
            steps = inner if isinstance(inner, list) else []
            return [cut for one in steps if isinstance(one, dict) for cut in _steps(one)]
        case "Split":
            return [_expression(step)]
        case "Digits" if step.get("individual_digits") is True:
            return [DIGITS]
        case "ByteLevel":
            if step.get("add_prefix_space") is True:
                raise Unknown("a space that is put before each text (add_prefix_space)")
            return [BYTES] if step.get("use_regex") is not False else []
        case "":
            return []
    raise Unknown(f"words that are cut by {text(step, 'type')}")


def _expression(step: Mapping[str, Any]) -> str:
    expression = text(child(step, "pattern"), "Regex")
    behavior, inverted = text(step, "behavior"), step.get("invert") is True
    # What removes all but the matches cuts as what keeps the matches apart, where the expression matches everything.
    if not expression or behavior not in ("Isolated", "Removed") or (behavior == "Removed") is not inverted:
        told = text(child(step, "pattern"), "String", "Regex")
        raise Unknown(f"words that are cut by {told!r}, {behavior or 'in a way'}")
    return canonical(expression)


def byte_level(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a tokenizer merges bytes, written as letters, as GPT-2 does."""
    return bool(re.search(r"'type': 'ByteLevel'", repr(child(tokenizer, "pre_tokenizer"))))
