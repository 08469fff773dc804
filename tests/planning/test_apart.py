"""What answers take that run beside the rows of a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import llama_config, write_hf_folder
from tests.planning.things import info
from uml.core.model import Format, ModelInfo
from uml.core.options import LoadOptions
from uml.formats import inspect
from uml.planning.apart import Apart, besides
from uml.planning.libraries import weigh

VISION = {"hidden_size": 64, "intermediate_size": 128, "image_size": 56, "patch_size": 14}
OPTIONS = LoadOptions(ctx=1024, parallel=2, batch=256)


@pytest.fixture
def blind(tmp_path: Path) -> ModelInfo:
    return inspect(write_hf_folder(tmp_path / "blind", llama_config()))


@pytest.fixture
def seeing(tmp_path: Path) -> ModelInfo:
    return inspect(write_hf_folder(tmp_path / "seeing", llama_config(vision_config=VISION)))


def needs(about: ModelInfo, *texts: int, read: int = 256, times: int = 1, images: int = 0, rows: bool = True) -> int:
    return besides(about, OPTIONS, Apart(texts, read, times, images), rows=rows, in_memory=True)


def a_row(about: ModelInfo) -> int:
    one, two = (weigh(about, LoadOptions(ctx=1024, parallel=count), in_memory=True).kv_bytes for count in (2, 3))
    return two - one


def test_every_text_has_keys_and_values_of_its_own(blind: ModelInfo) -> None:
    assert needs(blind, 1024) == a_row(blind)
    assert needs(blind, 512) == a_row(blind) // 2
    assert needs(blind, 1024, 512) == a_row(blind) * 3 // 2, "guided away from another text"
    scores = blind.shape.vocabulary * 16 if blind.shape else 0
    assert 4 * a_row(blind) < needs(blind, 1024, times=4) <= 4 * (a_row(blind) + scores), "by beams"


def test_a_prompt_that_is_read_at_once_is_computed_in_more(blind: ModelInfo) -> None:
    assert needs(blind, 1024, read=1024) > needs(blind, 1024, read=256) == needs(blind, 1024, read=16)


def test_a_model_without_rows_has_what_its_plan_counts_for_them(blind: ModelInfo) -> None:
    assert needs(blind, 1024, rows=False) == needs(blind, 1024, 1024, rows=False) == 0
    assert needs(blind, 1024, 1024, 1024, rows=False) == a_row(blind)


def test_a_model_that_reads_images_has_a_row_more_for_them(blind: ModelInfo, seeing: ModelInfo) -> None:
    plans = [weigh(about, OPTIONS, in_memory=True) for about in (blind, seeing)]
    assert [plan.kv_bytes // a_row(blind) for plan in plans] == [2, 3]
    assert plans[1].low_bytes - plans[0].low_bytes < a_row(blind), "images may never come"
    assert needs(seeing, 1024) == 0
    assert needs(seeing, 1024, 1024) == a_row(blind)
    pixels = 3 * 56 * 56
    assert needs(seeing, 1024, images=pixels) == 0, "it is computed in no more than the plan has"
    many = needs(seeing, 1024, images=100_000 * pixels) - needs(seeing, 1024, images=90_000 * pixels)
    assert many == 10_000 * 16 * (7 * 64 + 4 * 128) * 4


def test_of_an_unknown_shape_what_the_plan_supposes_is_supposed() -> None:
    unknown = info(shape=None, format=Format.SAFETENSORS)
    assert needs(unknown, 100) == weigh(unknown, OPTIONS, in_memory=True).kv_bytes
    assert needs(unknown, 100, rows=False) == 0
