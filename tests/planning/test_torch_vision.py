"""What reading an image takes, of models that PyTorch runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.builders import llama_config, write_hf_folder
from uml.core.options import LoadOptions
from uml.formats import inspect
from uml.planning.libraries import weigh
from uml.planning.torch_vision import vision_compute

MIB = 1 << 20
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "image_size": 896, "patch_size": 14}
QWEN = {"embed_dim": 1280, "hidden_size": 1536, "mlp_ratio": 4, "patch_size": 14, "spatial_merge_size": 2}
SMALL = LoadOptions(ctx=256, parallel=1)


def computed(folder: Path, vision: dict[str, Any] | None, options: LoadOptions = SMALL) -> int:
    more = {"vision_config": vision} if vision else {}
    return vision_compute(inspect(write_hf_folder(folder, llama_config(**more))), options, 4)


def test_it_is_about_what_was_measured(tmp_path: Path) -> None:
    assert 0.9 < computed(tmp_path / "a", SIGLIP) / (380 * MIB) < 1.1
    assert computed(tmp_path / "b", None) == 0
    assert computed(tmp_path / "c", {"hidden_size": 9}) == 0


def test_an_image_of_any_size_is_bound_by_the_context(tmp_path: Path) -> None:
    few, many = (computed(tmp_path / str(ctx), QWEN, LoadOptions(ctx=ctx, parallel=1)) for ctx in (256, 32_768))
    assert few == 256 * 4 * (7 * 1280 + 4 * 5120) * 4
    assert 4 < many / few < 6, "5,349 patches for 1,024"
    absurd = {"hidden_size": 64, "patch_size": 1, "image_size": 1 << 30}
    assert computed(tmp_path / "absurd", absurd) < 1 << 32


def test_the_estimate_counts_it(tmp_path: Path) -> None:
    blind, seeing = (
        inspect(write_hf_folder(tmp_path / name, llama_config(**more)))
        for name, more in (("blind", {}), ("seeing", {"vision_config": SIGLIP}))
    )
    sizes = [weigh(info, SMALL, in_memory=True).compute_bytes for info in (blind, seeing)]
    assert sizes[1] > sizes[0] + 100 * MIB
