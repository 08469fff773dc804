"""Load options about positions, put into a model's configuration."""

from __future__ import annotations

from typing import Any

from uml.core.errors import BadOption
from uml.core.options import LoadOptions


def with_rope(config: Any, options: LoadOptions) -> Any:
    """The configuration with the options that were set. Raises BadOption where it has no such thing."""
    changed = options.changed()
    names = [name for name in changed if name.startswith(("rope_", "yarn_"))]
    if not names:
        return config
    text = config.get_text_config()
    known = getattr(text, "rope_parameters", None)
    if not isinstance(known, dict) or any(isinstance(value, dict) for value in known.values()):
        raise BadOption(names[0], changed[names[0]], "nothing: this model's positions cannot be stretched by options")
    found = dict(known)
    if options.rope_freq_base:
        found["rope_theta"] = options.rope_freq_base
    if options.rope_freq_scale:
        found["factor"] = 1 / options.rope_freq_scale
        found.setdefault("rope_type", "linear")
        if found["rope_type"] == "default":
            found["rope_type"] = "linear"
    if options.rope_scaling != "auto":
        found["rope_type"] = {"none": "default"}.get(options.rope_scaling, options.rope_scaling)
    if found.get("rope_type", "default") != "default" and "factor" not in found:
        raise BadOption("rope_scaling", options.rope_scaling, "rope_freq_scale beside it, to say how far")
    if found.get("rope_type") == "longrope" and not found.get("long_factor"):
        raise BadOption("rope_scaling", "longrope", "yarn or linear: this model brings no factors for longrope")
    for option, key in (
        ("yarn_orig_ctx", "original_max_position_embeddings"),
        ("yarn_attn_factor", "attention_factor"),
        ("yarn_beta_fast", "beta_fast"),
        ("yarn_beta_slow", "beta_slow"),
    ):
        if option in changed:
            found[key] = changed[option]
    if found.get("rope_type") == "yarn":
        found.setdefault("original_max_position_embeddings", text.max_position_embeddings)
    text.rope_parameters = found
    return config
