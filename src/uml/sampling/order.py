"""The samplers by name, and the order in which they act."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from uml.core.errors import BadRequest
from uml.core.quote import quoted

DEFAULT: Final = (
    "encoder_repetition_penalty",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "no_repeat_ngram",
    "dry",
    "top_n_sigma",
    "top_k",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "tfs",
    "top_a",
    "top_h",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
    "quadratic_sampling",
    "mirostat",
    "adaptive_p",
)
"""llama.cpp's order (`common_params_sampling.samplers`, b11549), and between its samplers those that it lacks, where
text-generation-webui or KoboldCpp have them. Biases, bans and structure come before all of them."""

SELECTORS: Final = ("mirostat", "adaptive_p")
"""They choose the token themselves, and so act last wherever they are named, as in llama.cpp."""

REPLACED_BY_MIROSTAT: Final = frozenset(DEFAULT[DEFAULT.index("top_n_sigma") : DEFAULT.index("xtc") + 1])
"""Truncations that do not act beside Mirostat, which truncates by itself."""

ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "penalties": ("repetition_penalty", "presence_penalty", "frequency_penalty"),
    "dynamic_temperature": ("temperature",),
    "smoothing": ("quadratic_sampling",),
    "smoothing_factor": ("quadratic_sampling",),
    "typ_p": ("typical_p",),
    "typical": ("typical_p",),
    "tail_free": ("tfs",),
    "no_repeat_ngram_size": ("no_repeat_ngram",),
}
"""Names of llama.cpp and text-generation-webui for the same samplers."""


PLACE: Final = DEFAULT.index("top_n_sigma")
"""Where samplers of plug-ins act unless a request says where: behind the penalties, before the truncations."""


def resolve(names: Iterable[object] | str, others: Collection[str] = ()) -> tuple[str, ...]:
    """A request's `sampler_priority` under our names, each once. Raises BadRequest for a name that there is not.

    A text is names with white space, commas or semicolons between them. others: samplers of plug-ins.
    """
    parts = names.replace(",", " ").replace(";", " ").split() if isinstance(names, str) else names
    order: list[str] = []
    for name in parts:
        known: tuple[str, ...] = ()
        if isinstance(name, str):
            known = (name,) if name in DEFAULT or name in others else ALSO.get(name, ())
        if not known:
            all_names = ", ".join((*DEFAULT, *ALSO, *others))
            raise BadRequest(
                f"sampler_priority: there is no sampler {quoted(name)}; known are {all_names}",
                param="sampler_priority",
            )
        order += known
    return tuple(dict.fromkeys(order))
