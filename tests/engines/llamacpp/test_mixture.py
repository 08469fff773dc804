"""Mixtures of types, against what files of llama.cpp's own quantizer are known to hold."""

from __future__ import annotations

from collections import Counter

import pytest

from uml.engines.llamacpp.mixture import KINDS, Network, mixture, needs_matrix
from uml.formats.gguf.tables import type_name

LLAMA_8B = Network("llama", layers=32, heads=32, kv_heads=8)
LLAMA_7B = Network("llama", layers=32, heads=32, kv_heads=32)


def tensors(layers: int, wide: int = 4096, output: bool = True, **more: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (wide, 32000), "output_norm.weight": (wide,)}
    if output:
        found["output.weight"] = (wide, 32000)
    for layer in range(layers):
        names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up")
        found |= {f"blk.{layer}.{name}.weight": (wide, wide) for name in names}
        found[f"blk.{layer}.ffn_down.weight"] = (2 * wide, wide)
        found[f"blk.{layer}.attn_norm.weight"] = (wide,)
        found |= {f"blk.{layer}.{name}.weight": shape for name, shape in more.items()}
    return found


def counted(kind: str, network: Network, sizes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    return dict(Counter(type_name(number) for number in mixture(kind, network, sizes).values()))


@pytest.mark.parametrize(
    ("kind", "network", "expected"),
    [
        # What llama.cpp says of its own files of Llama 3 8B and Llama 2 7B when it loads them.
        ("Q4_K_M", LLAMA_8B, {"Q4_K": 193, "Q6_K": 33}),
        ("Q5_K_M", LLAMA_8B, {"Q5_K": 193, "Q6_K": 33}),
        ("Q2_K", LLAMA_8B, {"Q2_K": 129, "Q3_K": 64, "Q4_K": 32, "Q6_K": 1}),
        ("Q4_K_S", LLAMA_7B, {"Q4_K": 217, "Q5_K": 8, "Q6_K": 1}),
        ("Q3_K_M", LLAMA_7B, {"Q3_K": 129, "Q4_K": 92, "Q5_K": 4, "Q6_K": 1}),
        ("Q3_K_L", LLAMA_7B, {"Q3_K": 129, "Q5_K": 96, "Q6_K": 1}),
        ("Q3_K_S", LLAMA_7B, {"Q3_K": 225, "Q6_K": 1}),
        ("Q5_K_S", LLAMA_7B, {"Q5_K": 225, "Q6_K": 1}),
        ("Q6_K", LLAMA_7B, {"Q6_K": 226}),
        ("Q4_0", LLAMA_7B, {"Q4_0": 225, "Q6_K": 1}),
        ("Q8_0", LLAMA_7B, {"Q8_0": 226}),
        ("F16", LLAMA_7B, {"F16": 226}),
    ],
)
def test_a_mixture_is_llamacpps(kind: str, network: Network, expected: dict[str, int]) -> None:
    assert counted(kind, network, tensors(32)) == expected


def test_an_embedding_that_is_the_output_too_is_kept_as_the_output() -> None:
    chosen = mixture("Q4_K_M", LLAMA_8B, tensors(32, output=False))
    assert type_name(chosen["token_embd.weight"]) == "Q6_K"
    assert type_name(mixture("Q4_K_M", LLAMA_8B, tensors(32))["token_embd.weight"]) == "Q4_K"


def test_values_of_a_70b_and_of_eight_experts_are_kept_better() -> None:
    value = "blk.40.attn_v.weight"
    seventy = Network("llama", layers=80, heads=64, kv_heads=8)
    assert type_name(mixture("Q4_K_S", seventy, tensors(80))[value]) == "Q5_K"
    eight = Network("llama", layers=32, heads=32, kv_heads=8, experts=8)
    chosen = mixture("Q4_K_M", eight, tensors(32, ffn_gate_inp=(4096, 8)))
    names = ("attn_v", "attn_k", "attn_output", "ffn_down")
    assert [type_name(chosen[f"blk.5.{name}.weight"]) for name in names] == ["Q8_0", "Q8_0", "Q5_K", "Q4_K"]
    assert "blk.5.ffn_gate_inp.weight" not in chosen


def test_falcon_has_rules_of_its_own() -> None:
    falcon = Network("falcon", layers=32, heads=71, kv_heads=1)
    sizes = tensors(32)
    down = [type_name(mixture("Q4_K_M", falcon, sizes)[f"blk.{layer}.ffn_down.weight"]) for layer in (0, 3, 4)]
    assert down == ["Q6_K", "Q5_K", "Q4_K"]
    assert type_name(mixture("Q4_K_M", falcon, sizes)["output.weight"]) == "Q8_0"
    assert counted("Q3_K_L", falcon, sizes)["Q4_K"] == 64
    middle = mixture("Q3_K_M", falcon, sizes)
    assert [type_name(middle[f"blk.{at}.ffn_down.weight"]) for at in (0, 4, 30)] == ["Q5_K", "Q3_K", "Q4_K"]


@pytest.mark.parametrize(
    ("kind", "other"), [("Q2_K", "Q4_0"), ("Q4_K_M", "Q5_0"), ("Q5_K_S", "Q5_1"), ("Q6_K", "Q8_0")]
)
def test_rows_that_no_block_divides_fall_back(kind: str, other: str) -> None:
    chosen = mixture(kind, LLAMA_8B, tensors(8, wide=32 * 9))
    assert type_name(chosen["blk.4.ffn_up.weight"]) == other
    assert type_name(mixture(kind, LLAMA_8B, tensors(8, wide=33))["blk.4.ffn_up.weight"]) == "F16"


def test_norms_biases_and_small_matrices_stay_as_they_are() -> None:
    sizes = tensors(1, time_mix_w1=(64, 64), attn_q_norm=(64, 2)) | {
        "blk.0.attn_q.bias": (64,),
        "blk.0.row.weight": (64, 1),
        "position_embd.weight": (64, 64),
    }
    for kind in KINDS:
        names = set(mixture(kind, LLAMA_7B, sizes))
        assert not {name for name in names if "norm" in name or "bias" in name or "time_mix" in name}
        assert not names & {"blk.0.row.weight", "position_embd.weight"}


@pytest.mark.parametrize(
    ("kind", "network", "expected"),
    [
        # Llama 3 8B with an importance matrix: 226 matrices each.
        ("IQ4_XS", LLAMA_8B, {"IQ4_XS": 193, "Q5_K": 32, "Q6_K": 1}),
        ("IQ3_M", LLAMA_8B, {"IQ3_S": 157, "Q4_K": 68, "Q6_K": 1}),
        ("IQ3_XS", LLAMA_8B, {"IQ3_S": 81, "IQ3_XXS": 112, "Q4_K": 32, "Q6_K": 1}),
        ("IQ3_XXS", LLAMA_8B, {"IQ3_XXS": 96, "IQ2_S": 64, "IQ3_S": 33, "Q4_K": 32, "Q5_K": 1}),
        ("IQ2_M", LLAMA_8B, {"IQ2_S": 156, "IQ3_S": 37, "Q4_K": 32, "Q5_K": 1}),
        ("IQ2_S", LLAMA_8B, {"IQ2_XS": 156, "IQ3_S": 37, "Q4_K": 32, "Q5_K": 1}),
        ("IQ2_XXS", LLAMA_7B, {"IQ2_XXS": 188, "Q2_K": 37, "Q5_K": 1}),
        ("IQ1_M", LLAMA_8B, {"IQ1_M": 156, "IQ2_XXS": 32, "Q2_K": 5, "Q4_K": 32, "Q5_K": 1}),
        ("Q2_K_S", LLAMA_8B, {"Q2_K": 189, "Q4_K": 36, "Q6_K": 1}),
        ("Q4_0", LLAMA_7B, {"Q4_0": 221, "Q4_1": 4, "Q6_K": 1}),
    ],
)
def test_a_mixture_with_an_importance_matrix(kind: str, network: Network, expected: dict[str, int]) -> None:
    found = mixture(kind, network, tensors(32), matrix=True)
    assert dict(Counter(type_name(number) for number in found.values())) == expected


def test_without_a_matrix_what_would_suffer_is_kept_better() -> None:
    plain = counted("IQ4_NL", LLAMA_7B, tensors(32))
    assert plain == {"IQ4_NL": 221, "Q5_K": 4, "Q6_K": 1}
    smallest = mixture("IQ3_XXS", LLAMA_7B, tensors(32))
    down = Counter(type_name(smallest[f"blk.{layer}.ffn_down.weight"]) for layer in range(32))
    assert down == {"Q4_K": 4, "Q3_K": 28}
    assert type_name(smallest["blk.0.attn_v.weight"]) == "IQ3_S"


def test_eight_experts_in_small_files() -> None:
    eight = Network("llama", layers=32, heads=32, kv_heads=32, experts=8)
    chosen = mixture("IQ2_XS", eight, tensors(32), matrix=True)
    names = ("attn_v", "attn_k", "attn_output", "ffn_up")
    assert [type_name(chosen[f"blk.9.{name}.weight"]) for name in names] == ["Q4_K", "Q4_K", "Q5_K", "IQ2_XS"]
    better = mixture("IQ3_S", eight, tensors(32), matrix=True)
    assert [type_name(better[f"blk.9.{name}.weight"]) for name in names] == ["Q8_0", "Q8_0", "Q5_K", "IQ3_S"]


def test_which_tensors_are_garbage_without_a_matrix() -> None:
    def blind(kind: str, name: str) -> bool:
        return needs_matrix(kind, name, mixture(kind, LLAMA_8B, tensors(32))[name])

    assert blind("IQ2_XS", "blk.9.ffn_up.weight") and blind("IQ3_XXS", "blk.9.attn_q.weight")
    assert blind("Q2_K_S", "blk.9.ffn_up.weight") and not blind("Q2_K", "blk.9.ffn_up.weight")
    assert not blind("IQ2_XS", "token_embd.weight") and not blind("IQ4_XS", "blk.9.ffn_up.weight")
    assert not any(blind("IQ3_S", name) for name in mixture("IQ3_S", LLAMA_8B, tensors(32)))
