"""How a model turns positions, as llama.cpp is told: keys of metadata, and factors that it keeps as tensors.

Formulas: Transformers' modeling_rope_utils.py (5.23) on one side, `llama_context` and `rope_yarn` of llama.cpp b11549
on the other.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field

from uml.formats.bounded_json import child, count, number, text
from uml.formats.gguf.values import f32, u32
from uml.formats.gguf.values import text as string
from uml.runtime.conversions.gguf.families import Family
from uml.runtime.conversions.gguf.source import Json, rope_parameters


@dataclass(slots=True)
class Rope:
    """keys: behind the architecture's name -> value. factors: name of a tensor -> numbers. notes: what is lost."""

    keys: dict[str, bytes] = field(default_factory=dict)
    factors: dict[str, array[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Untold(Exception):
    """Something of the model that llama.cpp cannot be told, in words."""


class Uncomputed(Untold):
    """Something that llama.cpp computes in another way, whoever converts the model."""


def rope(family: Family, config: Json, head: int) -> Rope:
    """Turns of positions. head: numbers of one head. Raises Untold."""
    given = rope_parameters(config)
    full = child(given, "full_attention") or given
    found = Rope()
    fraction = number(full, "partial_rotary_factor") or number(config, "partial_rotary_factor") or 1.0
    turned = int(head * fraction)
    theta = number(full, "rope_theta") or number(config, "rope_theta", "global_rope_theta") or family.theta
    found.keys["rope.dimension_count"] = u32(turned)
    found.keys["rope.freq_base"] = f32(theta)
    if family.local_theta:
        local = number(child(given, "sliding_attention"), "rope_theta")
        local = local or number(config, "rope_local_base_freq", "local_rope_theta")
        found.keys["rope.freq_base_swa"] = f32(local or family.local_theta)
    kind = text(full, "rope_type", "type") or "default"
    if family.encoder and kind != "default":
        raise Untold(f"positions of type {kind!r} in an encoder")
    match kind:
        case "default":
            pass
        case "linear":
            found.keys |= {"rope.scaling.type": string("linear"), "rope.scaling.factor": f32(_factor(full))}
        case "yarn":
            _yarn(found, config, full)
        case "llama3":
            found.factors["rope_freqs.weight"] = array("f", llama3(full, theta, turned))
        case "longrope" | "su":
            _long(found, config, full, turned)
        case "dynamic":
            positions = count(config, "max_position_embeddings")
            found.notes.append(
                f"beyond {positions} tokens Transformers would stretch positions, and llama.cpp does not"
            )
        case _:
            raise Untold(f"positions of type {kind!r}")
    return found


def _factor(given: Json) -> float:
    factor = number(given, "factor")
    if not factor or factor <= 0:
        raise Untold(f"a factor of positions of {given.get('factor')!r}")
    return factor


def _yarn(found: Rope, config: Json, given: Json) -> None:
    original = _original(config, given)
    factor = number(given, "factor") or count(config, "max_position_embeddings") / original
    if factor < 1:
        raise Untold(f"YaRN with a factor of {factor:g}")
    if given.get("truncate") is False:
        raise Untold("YaRN whose range is not rounded (truncate)")
    found.keys |= {
        "rope.scaling.type": string("yarn"),
        "rope.scaling.factor": f32(factor),
        "rope.scaling.original_context_length": u32(original),
    }
    for key, name in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
        if value := number(given, key):
            found.keys[f"rope.scaling.{name}"] = f32(value)
    usual = _scale(factor, 1.0)
    wanted = number(given, "attention_factor")
    if wanted is None:
        above, below = number(given, "mscale"), number(given, "mscale_all_dim")
        wanted = _scale(factor, above) / _scale(factor, below) if above and below else usual
    # llama.cpp multiplies by the usual one, whatever is asked.
    if abs(wanted - usual) > 1e-6:
        found.keys["rope.scaling.attn_factor"] = f32(wanted / usual)


def _scale(factor: float, by: float) -> float:
    return 0.1 * by * math.log(factor) + 1.0 if factor > 1 else 1.0


def llama3(given: Json, theta: float, turned: int) -> list[float]:
    """What the turns of each pair are divided by: 1 for the quick ones, the factor for the slow ones."""
    factor, low, high = (
        _factor(given),
        number(given, "low_freq_factor") or 1.0,
        number(given, "high_freq_factor") or 4.0,
    )
    original = count(given, "original_max_position_embeddings") or 8192
    found = []
    for pair in range(0, turned, 2):
        length = 2 * math.pi * theta ** (pair / turned)
        if length < original / high:
            found.append(1.0)
        elif length > original / low:
            found.append(factor)
        else:
            smooth = (original / length - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def _long(found: Rope, config: Json, given: Json, turned: int) -> None:
    original = _original(config, given)
    for name in ("long", "short"):
        values = _numbers(given.get(f"{name}_factor"))
        if len(values) != turned // 2:
            raise Untold(f"LongRoPE without {turned // 2} numbers in {name}_factor")
        found.factors[f"rope_factors_{name}.weight"] = array("f", values)
    factor = number(given, "factor") or count(config, "max_position_embeddings") / original
    wanted = number(given, "attention_factor")
    if wanted is None:
        wanted = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    found.keys |= {
        "rope.scaling.type": string("longrope"),
        "rope.scaling.original_context_length": u32(original),
        "rope.scaling.attn_factor": f32(wanted),
    }


def _numbers(values: object) -> list[float]:
    """The numbers of a list; none where it is something else."""
    listed = values if isinstance(values, list) else []
    return [float(value) for value in listed if isinstance(value, int | float) and not isinstance(value, bool)]


def _original(config: Json, given: Json) -> int:
    found = count(given, "original_max_position_embeddings") or count(config, "original_max_position_embeddings")
    found = found or count(config, "max_position_embeddings")
    if not found:
        raise Untold("positions that are stretched from an unknown length (original_max_position_embeddings)")
    return found
