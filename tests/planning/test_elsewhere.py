"""What models take whose engines are no part of this program: figures for every format that is detected."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders import (
    hf_tensors,
    llama_config,
    write_adapter_folder,
    write_genai_folder,
    write_hf_folder,
    write_onnx,
    write_pytorch,
    write_tensorrt_folder,
    write_tiny_gguf,
)
from tests.planning.things import GIB, MIB, SHAPE, info, machine
from tests.planning.things import model as registered
from uml.core.errors import BadOption, DoesNotFit
from uml.core.model import Format, Model, ModelInfo, Quantization, Role, Shape
from uml.core.options import LoadOptions
from uml.core.plan import Footprint
from uml.formats import inspect
from uml.planning.advice import how_to_use
from uml.planning.elsewhere import Outlook, outlook
from uml.planning.libraries import GENAI

HERE = machine()
WITH_GPU = machine(gpus=(24 * GIB,))

PACKED = {
    "model.embed_tokens.weight": ("F16", (32, 64)),
    "model.layers.0.mlp.up_proj.qweight": ("I32", (8, 128)),
    "model.layers.0.mlp.up_proj.qzeros": ("I32", (1, 16)),
    "model.layers.0.mlp.up_proj.scales": ("F16", (1, 128)),
    "model.layers.0.mlp.up_proj.g_idx": ("I32", (64,)),
}
"""One matrix of 4 bits in GPTQ's layout: words, zeros, scales, and the order of the groups."""


def look(about: ModelInfo, options: LoadOptions | None = None, **rest: object) -> Outlook:
    on = rest.get("on", HERE)
    found = outlook(Model("some", about), options or LoadOptions(), on)  # type: ignore[arg-type]
    assert found is not None
    return found


def weighed(about: ModelInfo, **options: object) -> Footprint:
    return look(about, replace(LoadOptions(), **options), on=WITH_GPU).plan.footprint  # type: ignore[arg-type]


def foreign(format: Format = Format.SAFETENSORS, method: str = "none", **rest: object) -> ModelInfo:
    about: dict[str, object] = {"weights": {"BF16": 2 * GIB}, "format": format}
    about["quantization"] = Quantization(method, method.upper(), 4.0)
    return info("LlamaForCausalLM", **(about | rest))  # type: ignore[arg-type]


def test_what_is_packed_counts_as_it_is_stored_with_scales_zeros_and_orders(tmp_path: Path) -> None:
    said = {"quant_method": "gptq", "bits": 4, "group_size": 64}
    about = inspect(write_hf_folder(tmp_path / "m", llama_config(quantization_config=said), PACKED))
    found = look(about)
    stored = 2 * 32 * 64 + 4 * 8 * 128 + 4 * 16 + 2 * 128 + 4 * 64
    assert found.plan.footprint.weight_bytes == stored
    assert found.plan.footprint.mapped_bytes == 0, "packed weights are laid out anew"
    assert found.needs == "vLLM runs it on a GPU, Transformers with GPTQModel also without one"
    assert not found.lacking


def test_every_format_has_figures_and_says_who_runs_it(tmp_path: Path) -> None:
    words = {
        write_hf_folder(tmp_path / "hf"): "Transformers",
        write_genai_folder(tmp_path / "genai"): "ONNX Runtime GenAI",
        write_onnx(tmp_path / "bare.onnx"): "ONNX Runtime",
        write_pytorch(tmp_path / "pytorch_model.bin"): "Transformers",
        write_tensorrt_folder(tmp_path / "engine"): "TensorRT-LLM",
    }
    for path, engine in words.items():
        found = look(inspect(path), on=WITH_GPU)
        footprint = found.plan.footprint
        assert found.needs.startswith(engine)
        assert footprint.weight_bytes > 0 and footprint.method == "header"
        assert footprint.low_bytes <= footprint.total_bytes < footprint.high_bytes
        assert sum(found.plan.placement.device_bytes.values()) >= footprint.total_bytes


@pytest.mark.parametrize("format", [Format.EXL2, Format.EXL3])
def test_what_needs_a_device_that_is_not_here_has_figures_and_no_place(format: Format) -> None:
    about = foreign(format, method=format.value)
    found = look(about)
    assert found.lacking == "an NVIDIA GPU" and not found.plan.placement.device_bytes
    assert found.plan.reason == "ExLlama needs an NVIDIA GPU, and there is none here"
    assert found.plan.footprint.resident is None
    placed = look(about, on=WITH_GPU)
    assert not placed.lacking and placed.plan.placement.device == "cuda:0"
    resident = placed.plan.footprint.resident
    assert resident and resident["used"] == resident["loaded"] == {"own": 440 * MIB, "mapped": 0}


def test_a_quantization_for_gpus_only_has_no_place_on_a_processor() -> None:
    fp8 = foreign(method="fp8", weights={"F8_E4M3": GIB})
    assert look(fp8).lacking == "a GPU"
    assert not look(fp8, on=machine(gpus=(24 * GIB,), kind="rocm")).lacking
    assert not look(foreign()).lacking


def test_pages_of_plain_weights_come_with_use() -> None:
    resident = look(foreign(), LoadOptions(ctx=1024)).plan.footprint.resident
    assert resident is not None
    assert resident["loaded"] == {"own": 425 * MIB, "mapped": 0}
    assert resident["used"]["mapped"] == 2 * GIB
    assert resident["used"]["own"] > resident["loaded"]["own"] + 128 * MIB


def test_keys_and_values_are_in_what_is_computed_with() -> None:
    ctx = {"ctx": 1024}
    row = 32 * 8 * (128 + 128)
    assert weighed(foreign(), **ctx).kv_bytes == 1024 * row * 2
    assert weighed(foreign(weights={"F32": 2 * GIB, "BF16": MIB}), **ctx).kv_bytes == 1024 * row * 4
    assert weighed(foreign(method="awq", weights={"I32": GIB, "F32": MIB}), **ctx).kv_bytes == 1024 * row * 2
    assert weighed(foreign(), parallel=3, **ctx).kv_bytes == 3 * 1024 * row * 2
    onnx = foreign(Format.ONNX_GENAI)
    assert weighed(onnx, **ctx).kv_bytes == 1024 * row * 2
    assert weighed(onnx, device="cpu", **ctx).kv_bytes == 1024 * row * 4


def test_a_type_for_the_cache_is_heeded_where_there_is_one() -> None:
    asked = LoadOptions(ctx=1024, cache_type_k="q8_0", cache_type_v="q8_0")
    exl3 = look(foreign(Format.EXL3), asked, on=WITH_GPU).plan
    assert exl3.footprint.kv_bytes == 1024 * 32 * 8 * 256 * 34 // 32 and not exl3.warnings
    plain = look(foreign(), asked).plan
    assert plain.options.cache_type_k == "f16"
    assert "Transformers does not honour the option cache_type_k" in plain.warnings


def test_layers_with_a_window_keep_no_more_than_it() -> None:
    half = replace(SHAPE, sliding_window=1024, sliding=(True, False) * 16)
    full = weighed(foreign(), ctx=8192).kv_bytes
    assert weighed(foreign(shape=half), ctx=8192).kv_bytes == full // 2 + full // 16
    assert weighed(foreign(shape=half), ctx=512).kv_bytes == weighed(foreign(), ctx=512).kv_bytes


def test_latent_attention_is_expanded_and_may_be_kept_small(tmp_path: Path) -> None:
    latent = {"kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 24, "v_head_dim": 24}
    for config in (llama_config(**latent), {"model_type": "some_vl", "text_config": llama_config(**latent)}):
        found = weighed(inspect(write_hf_folder(tmp_path / str(len(config)), config)), ctx=256)
        assert found.kv_bytes == 2 * 256 * 4 * (32 + 24) * 2
    plain = weighed(inspect(write_hf_folder(tmp_path / "plain")), ctx=256)
    assert found.total_bytes - found.low_bytes > plain.total_bytes - plain.low_bytes


def test_what_keeps_nothing_of_a_text_has_no_cache() -> None:
    assert weighed(foreign(role=Role.EMBEDDING), ctx=512).kv_bytes == 0


def test_without_a_shape_the_range_is_wide() -> None:
    found = weighed(foreign(Format.ONNX, shape=None, weights={}, size_bytes=GIB, context_length=None))
    assert found.low_bytes < found.total_bytes < found.high_bytes
    assert found.high_bytes > 2 * found.low_bytes


def test_no_figures_for_what_an_engine_here_runs_or_nobody_does(tmp_path: Path) -> None:
    for path in (write_tiny_gguf(tmp_path / "m.gguf"), write_adapter_folder(tmp_path / "lora")):
        assert outlook(Model("some", inspect(path)), LoadOptions(), HERE) is None
    assert outlook(registered(foreign(Format.UNKNOWN)), LoadOptions(), HERE) is None


def test_what_is_too_large_or_impossible_is_refused_as_ever() -> None:
    with pytest.raises(DoesNotFit):
        look(foreign(weights={"BF16": 100 * GIB}))
    with pytest.raises(BadOption, match="ctx"):
        look(foreign(context_length=4096), LoadOptions(ctx=8192))
    assert look(foreign(Format.EXL3, weights={"I16": 900 * GIB})).lacking, "figures do not need the room"


def windows(tmp_path: Path, **config: object) -> Shape:
    name = f"{len(list(tmp_path.iterdir()))}"
    about = inspect(write_hf_folder(tmp_path / name, llama_config(num_hidden_layers=4, **config), hf_tensors()))
    assert about.shape is not None
    return about.shape


def test_which_layers_slide_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    said = windows(tmp_path, sliding_window=64, layer_types=["sliding_attention", "full_attention"])
    assert said.sliding == (True, False, False, False)
    assert windows(tmp_path, model_type="gemma2", sliding_window=64).sliding == (True, False, True, False)
    assert windows(tmp_path, model_type="gemma3_text", sliding_window=64, sliding_window_pattern=3).sliding == (
        *(True, True, False, True),
    )
    assert windows(tmp_path, model_type="mistral", sliding_window=64).sliding == (True,) * 4
    assert windows(tmp_path, model_type="qwen2", sliding_window=64).sliding == ()
    late = windows(tmp_path, model_type="qwen2", sliding_window=64, use_sliding_window=True, max_window_layers=3)
    assert late.sliding == (False, False, False, True)
    assert windows(tmp_path).sliding == ()


def test_what_is_no_language_model_is_never_weighed() -> None:
    about = info(role=Role.UNKNOWN, reason="it makes images")
    assert how_to_use(about) == "no language model, and cannot be served: it makes images"
    assert outlook(registered(about), LoadOptions(), HERE) is None


def test_onnx_reads_a_prompt_in_pieces_each_request_in_memory_of_its_own() -> None:
    onnx = foreign(Format.ONNX_GENAI)
    sizes = {"ctx": 1024, "parallel": 1, "device": "cpu"}
    whole, piece = weighed(onnx, batch=1024, **sizes), weighed(onnx, batch=256, **sizes)
    assert 3.5 < whole.compute_bytes / piece.compute_bytes <= 4
    assert weighed(onnx, batch=256, **{**sizes, "parallel": 3}).compute_bytes == 3 * piece.compute_bytes
    # What makes the scores is there twice: as it lies in the file, and as it is computed with.
    assert onnx.shape is not None
    assert 0 < piece.other_bytes - GENAI.base_bytes < piece.weight_bytes
    assert piece.loaded_bytes == piece.weight_bytes - piece.mapped_bytes + piece.other_bytes
