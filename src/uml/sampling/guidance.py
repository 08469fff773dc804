"""Classifier-free guidance: what a prompt adds to the logits over those of a negative one, made more of."""

from __future__ import annotations

import numpy as np

from uml.sampling.row import Floats, log_total


def guided(logits: Floats, without: Floats, scale: float) -> Floats:
    """Logits for `Chain.choose`: without + scale x (with - without), both as logarithms of probabilities.

    Sanchez et al. 2023, arXiv 2306.17806, as in Transformers (`UnbatchedClassifierFreeGuidanceLogitsProcessor`). The
    second row is the engine's to compute: the same answer after the negative prompt. scale: 1 changes nothing.
    """
    there = logits - np.float32(log_total(logits))
    elsewhere = without - np.float32(log_total(without))
    led: Floats = elsewhere + np.float32(scale) * (there - elsewhere)
    return led
