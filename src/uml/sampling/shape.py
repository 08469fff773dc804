"""Samplers that change how likely tokens are, and leave none out: temperature and smoothing."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from uml.sampling.row import Candidates

COLDEST: Final = 1e-5
"""Below this temperature the likeliest token is taken; single precision could not hold what a division would give."""


def temperature(row: Candidates, low: float, high: float, exponent: float) -> None:
    """Divide the logits; dynamic where low and high differ, 0 leaves the likeliest token alone.

    Dynamic: low + (high - low) x (entropy / highest possible entropy)^exponent. KoboldCpp's `sample_entropy` and
    llama.cpp's `llama_sampler_temp_ext_apply`; banned tokens do not count for the highest possible entropy.
    """
    degree = low
    if low != high:
        choices = int(np.count_nonzero(row.logits > -np.inf))
        if choices < 2:
            return
        degree = low + (high - low) * (max(0.0, row.entropy()) / math.log(choices)) ** exponent
    if degree < COLDEST:
        row.keep_best(1)
    elif degree != 1.0:
        ordered = row.ordered
        row.replace(row.logits / np.float32(degree), ordered=ordered)


def quadratic_sampling(row: Candidates, factor: float, curve: float) -> None:
    """Smoothing: logit = most - k factor d^2 + s factor d^3, with d = logit - most.

    k is (3 - curve) / 2 and s is (curve - 1) / 2. By kalomaze (text-generation-webui, pull requests 5403 and 5551): a
    curve of 1 is quadratic, beyond it cubic.
    """
    most = row.logits.max()
    below = row.logits - most
    banned = np.isneginf(below)
    some = bool(banned.any())
    if some:
        below[banned] = 0
    k, s = np.float32((3 - curve) / 2 * factor), np.float32((curve - 1) / 2 * factor)
    bent = most + below * below * (s * below - k)
    if some:
        bent[banned] = -np.inf
    # Beyond a curve of 3 the unlikely may overtake the likely.
    row.replace(bent, ordered=row.ordered and curve <= 3)
