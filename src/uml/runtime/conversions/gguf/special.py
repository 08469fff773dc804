"""Tokens with a meaning of their own, which of them begin and end a text, and the chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from uml.formats.bounded_json import child, count, text
from uml.formats.gguf.values import flag, texts, u32
from uml.formats.gguf.values import text as string
from uml.runtime.conversions.gguf.source import Json, Source

KEYS: Final = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",
    "pad": "padding_token_id",
    "mask": "mask_token_id",
}
"""What Transformers calls a token -> its key in GGUF, which is spelled so."""
_PAIRING: Final = ("TemplateProcessing", "RobertaProcessing", "BertProcessing")


def special_keys(source: Source, numbers: Mapping[str, int], count: int, *, begins: bool) -> dict[str, bytes]:
    """Metadata. numbers: token -> its number. count: of tokens. begins: whether texts begin with the token for that
    where nothing says so.
    """
    named = {kind: text_of(source.tokenizer_config.get(f"{kind}_token")) for kind in (*KEYS, "cls")}
    first, last = _around(source.tokenizer)
    between = _between(source.tokenizer)
    if between > 1:
        named["sep"] = named["sep"] or last
    named["bos"] = named["bos"] or named["cls"] or first
    named["eos"] = named["eos"] or named["sep"]
    named["unk"] = named["unk"] or text(child(source.tokenizer, "model"), "unk_token")
    found = {}
    for kind, key in KEYS.items():
        number = numbers.get(named[kind]) if named[kind] else None
        for config in (source.whole, source.config, source.generation):
            number = _number(config.get(f"{kind}_token_id")) if number is None else number
        if number is not None and number < count:
            found[f"tokenizer.ggml.{key}"] = u32(number)
    processed = bool(child(source.tokenizer, "post_processor"))
    starts = bool(first) if processed else _said(source.tokenizer_config, "add_bos_token", begins)
    ends = bool(last) if processed else _said(source.tokenizer_config, "add_eos_token", False)
    found["tokenizer.ggml.add_bos_token"] = flag(starts)
    if ends or processed or "add_eos_token" in source.tokenizer_config:
        found["tokenizer.ggml.add_eos_token"] = flag(ends)
    # What llama.cpp puts between query and document behind the end of the first. Single texts end by it anyway.
    if ends and named["sep"]:
        found["tokenizer.ggml.add_sep_token"] = flag(between > 1)
    return found | _templates(source)


def text_of(token: Any) -> str:
    """A token that is given as text or as an object."""
    return token if isinstance(token, str) else text(token, "content") if isinstance(token, dict) else ""


def _number(value: Any) -> int | None:
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _said(config: Json, key: str, otherwise: bool) -> bool:
    value = config.get(key)
    return value if isinstance(value, bool) else otherwise


def _around(tokenizer: Json) -> tuple[str, str]:
    """What comes before and after a single text; empty for nothing."""
    first = last = ""
    for processor in _processors(child(tokenizer, "post_processor")):
        match text(processor, "type"):
            case "TemplateProcessing":
                single = processor.get("single")
                parts = [part for part in single if isinstance(part, dict)] if isinstance(single, list) else []
                if len(parts) > 1:
                    first = text(child(parts[0], "SpecialToken"), "id")
                    last = text(child(parts[-1], "SpecialToken"), "id")
            case "RobertaProcessing" | "BertProcessing":
                first, last = (str((processor.get(key) or [""])[0]) for key in ("cls", "sep"))
    return first, last


def _between(tokenizer: Json) -> int:
    """How many tokens stand between the two texts of a pair."""
    count = 0
    for processor in _processors(child(tokenizer, "post_processor")):
        match text(processor, "type"):
            case "TemplateProcessing":
                pair = processor.get("pair")
                parts = (
                    ["Sequence" in part for part in pair if isinstance(part, dict)] if isinstance(pair, list) else []
                )
                places = [place for place, is_text in enumerate(parts) if is_text]
                count = places[1] - places[0] - 1 if len(places) == 2 else count
            case "RobertaProcessing":
                count = 2
            case "BertProcessing":
                count = 1
    return count


def marked(source: Source) -> bool:
    """Whether the second text of a pair gets another type of tokens than the first."""
    names = source.tokenizer_config.get("model_input_names")
    if isinstance(names, list) and "token_type_ids" not in names:
        return False
    told = [one for one in _processors(child(source.tokenizer, "post_processor")) if text(one, "type") in _PAIRING]
    if not told or not isinstance(told[-1].get("pair", []), list):
        return True
    if text(told[-1], "type") != "TemplateProcessing":
        return text(told[-1], "type") == "BertProcessing"
    types = [count(one, "type_id") for part in told[-1].get("pair", []) for one in part.values()]
    return any(types) or not types


def _processors(processor: Json) -> Iterator[Json]:
    inner = processor.get("processors")
    if isinstance(inner, list):
        yield from (one for one in inner if isinstance(one, dict))
    else:
        yield processor


def _templates(source: Source) -> dict[str, bytes]:
    """The usual template, and those with names of their own."""
    found = {}
    if source.chat_template:
        found["tokenizer.chat_template"] = string(source.chat_template)
    several = source.tokenizer_config.get("chat_template")
    named = {
        text(one, "name"): text(one, "template")
        for one in (several if isinstance(several, list) else ())
        if isinstance(one, dict) and text(one, "name") not in ("", "default")
    }
    if named := {**named, **source.templates}:
        found["tokenizer.chat_templates"] = texts(tuple(named))
        found |= {f"tokenizer.chat_template.{name}": string(template) for name, template in named.items()}
    return found
