"""with_batches(info, asked, options) -> LoadOptions: how much of a prompt is read at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from uml.core.model import READERS, Format, ModelInfo
from uml.core.options import LoadOptions
from uml.planning.cache import is_encoder

BATCH: Final = 512
"""Tokens of a prompt that are read at once: as many as llama.cpp computes at once by itself (`n_ubatch`)."""
SHORT_BATCH: Final = 64
"""The same where that is as fast. A request is given up, and an answer beside it goes on, between two batches.
Processor time for 512 tokens (0.5B shape, Q8_0, one thread, wheel; `llama-server`): 6.45 and 5.16 s by 512, 6.50 and
5.21 by 128, 6.59 and 5.31 by 64; by 32 the wheel takes 7.75."""

_POOLED_BY_LAST_TOKEN: Final = 3
"""`LLAMA_POOLING_TYPE_LAST` in `{architecture}.pooling_type`."""


def with_batches(info: ModelInfo, asked: LoadOptions, options: LoadOptions) -> LoadOptions:
    """The options with the batches that were asked for; those that were left open suit their context and device.

    No batch is longer than the context, no ubatch longer than the batch. An open batch has room for the ubatch that
    was asked for, and for a token of every slot. Where llama.cpp embeds, it hands over no more than it computes at
    once (tools/server/server.cpp): both are then the smaller of what was asked for.
    asked: as the options came, of which 0 leaves a batch open; options: with context, slots and device decided.
    """
    whole = _in_one_piece(info, options)
    if whole:
        open_batch = asked.ubatch or options.ctx
    else:
        short = _in_short_pieces(info, options)
        open_batch = max(SHORT_BATCH if short else BATCH, options.parallel, asked.ubatch)
    batch = min(asked.batch or open_batch, options.ctx)
    together = info.format is Format.GGUF and (info.role in READERS or options.embeddings)
    if together and asked.ubatch:
        batch = min(asked.ubatch, batch)
    ubatch = batch if together else min(asked.ubatch or (options.ctx if whole else BATCH), batch)
    return replace(options, batch=batch, ubatch=ubatch)


def _in_one_piece(info: ModelInfo, options: LoadOptions) -> bool:
    """Whether llama.cpp must compute a text in one batch: an encoder, or one vector out of all tokens."""
    if info.role not in READERS:
        return False
    if is_encoder(info):
        return True
    pooled = info.metadata.get(f"{info.architecture}.pooling_type")
    return options.pooling != "last" and (options.pooling != "auto" or pooled != _POOLED_BY_LAST_TOKEN)


def _in_short_pieces(info: ModelInfo, options: LoadOptions) -> bool:
    """Whether a prompt is read as fast in short batches: by llama.cpp, on processors alone.

    Not a mixture, whose experts get a few tokens each of a batch; nor where something must be in one batch: images,
    texts to embed, guesses.
    """
    if info.format is not Format.GGUF or info.role in READERS or options.device != "cpu":
        return False
    whole = options.mmproj or options.embeddings or options.draft_model or options.spec_type not in ("auto", "none")
    return not whole and not (info.shape and info.shape.experts)
