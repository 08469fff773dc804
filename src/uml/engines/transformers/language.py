"""A model's language, from the library's tokenizer and the load options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from uml.core.errors import BadOption, BadRequest
from uml.core.options import LoadOptions
from uml.engines.hosted import template as templates
from uml.engines.hosted.pieces import pieces_of
from uml.engines.hosted.prompt import Language
from uml.engines.hosted.speech import marks_of
from uml.engines.hosted.template import Template
from uml.sampling.vocabulary import Vocabulary


def language_of(model: Any, tokenizer: Any, options: LoadOptions, *, image: str = "", template: str = "") -> Language:
    """What the model reads and writes. Raises BadOption for a chat template that is none.

    image: what stands for an image in a prompt; empty where it reads none. template: where the tokenizer brings none.
    """
    size = int(model.config.get_text_config().vocab_size)
    pieces = _pieces(tokenizer, size)
    ends = ends_of(model, tokenizer)
    special = frozenset(tokenizer.all_special_ids) | ends
    source = _template(tokenizer, options) or template
    known = tokenizer.get_vocab()

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    empty = list(tokenizer("", verbose=False)["input_ids"])
    begin = tokenizer.bos_token_id
    specials = {name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    return Language(
        vocabulary=Vocabulary(tuple(pieces), ends, special, encode),
        marks=marks_of(source or "", lambda text: text in known),
        template=Template(source, specials, image) if source else None,
        begins=(begin,) if begin is not None and empty[:1] == [begin] else (),
        thoughts=options.reasoning_format != "none",
    )


def ends_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: those of the generation's configuration, the model's, and the tokenizer's."""
    found: set[int] = set()
    for given in (
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
        getattr(model.config.get_text_config(), "eos_token_id", None),
        tokenizer.eos_token_id,
    ):
        found |= {token for token in (given if isinstance(given, list) else [given]) if isinstance(token, int)}
    return frozenset(token for token in found if token >= 0)


def _pieces(tokenizer: Any, size: int) -> list[bytes]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return pieces_of(json.loads(backend.to_str()), size)
    pieces = [b""] * max(size, len(tokenizer))
    for token in range(len(tokenizer)):
        # Alone, a token may lose the blank before it: behind another one it shows what it adds.
        before, both = tokenizer.decode([0]), tokenizer.decode([0, token])
        pieces[token] = (both.removeprefix(before) if both.startswith(before) else tokenizer.decode([token])).encode()
    return pieces


def _template(tokenizer: Any, options: LoadOptions) -> str:
    if options.chat_template:
        name, source = "chat_template", options.chat_template
    elif options.chat_template_file:
        name = "chat_template_file"
        try:
            source = Path(options.chat_template_file).expanduser().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadOption(name, options.chat_template_file, f"a file with a template ({error})") from error
    else:
        given = tokenizer.chat_template
        if isinstance(given, dict):
            return str(given.get("default") or "")
        return given or ""
    try:
        templates.check(source)
    except BadRequest as error:
        raise BadOption(name, source[:100], f"a Jinja template ({error.message})") from error
    return source
