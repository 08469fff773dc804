"""Where each tensor goes. Sizes of groups are invented, the rules are those of the engine's log."""

from dataclasses import replace
from pathlib import Path

from tests.builders import write_tiny_gguf
from tests.planning.things import MIB, SHAPE, info
from uml.core.model import TensorGroup
from uml.core.options import LoadOptions
from uml.formats.gguf.file import inspect_gguf
from uml.planning.llamacpp.weights import place_weights

ON_CPU = LoadOptions(ctx=1024, parallel=1, device="cpu", gpu_layers=0)
LAYERS = tuple(range(4))


def group(
    name: str, kind: str, at: int, dims: tuple[int, ...] = (64, 64), layers: tuple[int, ...] = LAYERS
) -> TensorGroup:
    """One MiB each, from `at` MiB on."""
    count = max(1, len(layers))
    return TensorGroup(name, kind, dims, layers, MIB, at * MIB, (at + count) * MIB)


def model(*groups: TensorGroup) -> object:
    return info(shape=replace(SHAPE, layers=4, kv_heads=(8,) * 4, tensors=groups))


TABLE = group("token_embd.weight", "Q4_0", 0, layers=())
MATRICES = group("ffn_up.weight", "Q4_0", 1)
NORMS = group("attn_norm.weight", "F32", 5, (64,))
OUTPUT = group("output.weight", "Q6_K", 9, layers=())


def test_what_is_not_copied_stays_in_one_span_of_the_file() -> None:
    placed = place_weights(model(TABLE, MATRICES, NORMS, OUTPUT), ON_CPU, 0, False)  # type: ignore[arg-type]
    assert (placed.stored, placed.copied, placed.originals) == (10 * MIB, 4 * MIB, 4 * MIB)
    assert placed.span == 10 * MIB, "from the table to the output, with what lies between"
    as_it_lies = place_weights(model(TABLE, MATRICES), replace(ON_CPU, repack=False), 0, False)  # type: ignore[arg-type]
    assert (as_it_lies.copied, as_it_lies.span) == (0, 5 * MIB)


def test_a_table_that_is_the_output_too_is_held_twice() -> None:
    placed = place_weights(model(TABLE, MATRICES), ON_CPU, 0, False)  # type: ignore[arg-type]
    assert (placed.doubled, placed.copied, placed.span) == (MIB, 4 * MIB, MIB)
    on_gpu = place_weights(model(TABLE, MATRICES), ON_CPU, 4, False)  # type: ignore[arg-type]
    assert (on_gpu.host, on_gpu.gpu) == (MIB, 5 * MIB)


def test_experts_are_copied_and_latent_attention_is_not() -> None:
    experts = group("ffn_up_exps.weight", "MXFP4", 1, (64, 64, 8))
    latent = group("attn_k_b.weight", "Q4_0", 5, (64, 64, 8))
    odd = group("attn_q.weight", "Q4_0", 9, (64, 63))
    placed = place_weights(model(TABLE, experts, latent, odd, OUTPUT), ON_CPU, 0, False)  # type: ignore[arg-type]
    assert placed.copied == 4 * MIB


def test_a_build_for_amx_copies_its_own_types() -> None:
    eights = group("ffn_up.weight", "Q8_0", 1, (64, 64))
    placed = place_weights(model(TABLE, eights, OUTPUT), ON_CPU, 0, True)  # type: ignore[arg-type]
    assert placed.copied - MIB == 4 * MIB * 38 // 34, "and the output as it is"


def test_the_last_layers_go_to_the_gpu_and_experts_may_stay() -> None:
    experts = group("ffn_up_exps.weight", "Q8_0", 5, (64, 64, 8))
    options = replace(ON_CPU, device="cuda:0", gpu_layers=3)
    split = place_weights(model(TABLE, MATRICES, experts, OUTPUT), options, 3, False)  # type: ignore[arg-type]
    assert (split.host, split.gpu) == (4 * MIB, 6 * MIB), "table, output, and the first layer's two"
    kept = replace(options, gpu_layers=4, cpu_moe_layers=2)
    placed = place_weights(model(TABLE, MATRICES, experts, OUTPUT), kept, 4, False)  # type: ignore[arg-type]
    assert (placed.host, placed.gpu) == (3 * MIB, 7 * MIB), "the table, and the experts of two layers"


def test_a_real_header_lists_its_tensors(tmp_path: Path) -> None:
    about = inspect_gguf(write_tiny_gguf(tmp_path / "tiny.gguf"))
    assert about.shape is not None
    listed = {one.name: one for one in about.shape.tensors}
    assert listed["attn_q.weight"].layers == (0, 1)
    assert listed["attn_q.weight"].kind == "Q8_0"
    assert sum(one.each_bytes * one.count for one in about.shape.tensors) == sum(about.weight_bytes.values())
    assert place_weights(about, ON_CPU, 0, False).stored == sum(about.weight_bytes.values())
