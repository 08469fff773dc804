"""What can be told about models without starting anything."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders import llama_config, write_adapter_folder, write_hf_folder, write_tiny_gguf
from tests.installed import without_transformers
from uml.config import Settings
from uml.core.errors import (
    BadOption,
    BadRequest,
    BadSetting,
    CorruptFile,
    DoesNotFit,
    ModelNotFound,
    UnknownField,
    UnsupportedFormat,
)
from uml.hardware import snapshot
from uml.house import House, Library, path_in
from uml.planning.budget import margin


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # Sockets want short paths, so the runtime folder is the system's.
    return Settings.load({"data": str(tmp_path / "data")}, {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})


@pytest.fixture
def library(settings: Settings) -> Iterator[Library]:
    opened = Library.open(settings)
    yield opened
    opened.registry.close()


@pytest.mark.parametrize(
    ("name", "is_path"),
    [
        ("demo", False),
        ("Qwen/Qwen2.5-0.5B", False),
        ("llama3.2:1b", False),
        ("/models/x", True),
        ("./x", True),
        ("x.gguf", True),
        ("~/x", True),
        ("~nobody-of-that-name/x.gguf", True),
        ("x/" * 3000, False),
    ],
)
def test_paths_are_told_from_names(name: str, is_path: bool) -> None:
    assert (path_in(name) is not None) == is_path


def test_a_path_that_exists_is_one_without_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "llama").mkdir(parents=True)
    assert path_in("models/llama") == tmp_path / "models" / "llama"


def test_an_estimate_says_how_much_and_where_and_starts_nothing(library: Library) -> None:
    found = library.estimate("demo", {"ctx": 1024, "parallel": 2})
    assert found["total"]["low"] <= found["total"]["likely"] <= found["total"]["high"]
    assert sum(found["parts"].values()) == found["total"]["likely"]
    assert found["engine"] == "llamacpp"
    more = library.estimate("demo", {"ctx": 2048, "parallel": 2})
    assert more["parts"]["kv_cache"] == 2 * found["parts"]["kv_cache"]


def test_an_estimate_of_a_file_leaves_the_registry_alone(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "stranger.gguf"
    write_tiny_gguf(path)
    assert library.estimate(str(path), {})["model"] == "stranger"
    with pytest.raises(ModelNotFound):
        library.find("stranger")
    assert library.find(str(path)).id == "stranger"
    assert library.find("stranger").info.path == path


def test_bad_options_and_bad_files_are_told_apart(library: Library, tmp_path: Path) -> None:
    with pytest.raises(UnknownField, match="ctx"):
        library.estimate("demo", {"ctxx": 1})
    with pytest.raises(BadOption, match="2048"):
        library.estimate("demo", {"ctx": 100_000})
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\0\0\0garbage")
    with pytest.raises(CorruptFile, match=r"broken\.gguf"):
        library.inspect(str(broken))


def test_what_an_engine_would_refuse_is_refused_by_the_estimate(library: Library) -> None:
    with pytest.raises(BadOption, match="while mlock is on"):
        library.estimate("demo", {"direct_io": True, "mlock": True})


def test_a_model_is_described_with_its_age_and_who_runs_it(library: Library, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "old.gguf")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    described = library.describe(library.find(str(path)))
    assert (described["created"], described["engine"]) == (1_700_000_000, "llamacpp")
    assert described["needs"] is None


@pytest.mark.parametrize(
    ("quantization", "needs"),
    [
        pytest.param(
            *(None, "Transformers runs safetensors on the processor; not installed: uml engine install transformers"),
            marks=without_transformers,
        ),
        ({"quant_method": "gptq", "bits": 4}, "Transformers runs safetensors (GPTQ 4-bit) on the processor; not inst"),
        ({"quant_method": "exl3", "bits": 4.0}, "no engine here runs exl3 (EXL3 4.00 bpw); ExLlamaV3 runs it"),
        ({"quant_method": "new"}, "no engine here runs safetensors (new); an engine that knows new does"),
    ],
)
def test_what_nothing_here_runs_says_what_would(
    library: Library, tmp_path: Path, quantization: dict[str, object] | None, needs: str
) -> None:
    folder = write_hf_folder(tmp_path / "model", llama_config(quantization_config=quantization))
    os.utime(folder / "model.safetensors", (1_700_000_000, 1_700_000_000))
    described = library.describe(library.find(str(folder)))
    assert described["engine"] is None
    assert described["needs"].startswith(needs)
    assert library.inspect(str(folder)).notes[-1] == described["needs"]
    assert described["created"] > 1_700_000_000, "its configuration is newer"


def test_adapters_say_what_they_are_laid_over(library: Library, tmp_path: Path) -> None:
    peft = library.describe(library.find(str(write_adapter_folder(tmp_path / "peft"))))
    assert (peft["engine"], "convert_lora_to_gguf.py" in peft["needs"]) == (None, True)
    lora = library.describe(library.find(str(write_tiny_gguf(tmp_path / "lora.gguf", general__type="adapter"))))
    assert (lora["engine"], lora["needs"].endswith("lora.gguf")) == (None, True)


def test_a_gguf_file_that_is_no_language_model_is_not_loaded(library: Library, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "imatrix.gguf", general__type="imatrix")
    with pytest.raises(UnsupportedFormat, match="it holds an importance matrix"):
        library.estimate(str(path), {})
    assert library.describe(library.find(str(path)))["engine"] is None


def test_a_thousand_models_are_described_at_once(library: Library) -> None:
    model = library.find("demo")
    library.describe(model)
    start_s = time.process_time()
    for _ in range(1000):
        library.describe(model)
    assert time.process_time() - start_s < 0.5, "2 ms on an idle machine; engines are asked for each no more"


def test_an_engine_that_is_not_there_is_told_at_the_start(settings: Settings) -> None:
    with pytest.raises(BadSetting, match=r"engine is .nope. \(flag --engine\); expected auto or one of llamacpp, "):
        Library.open(replace(settings, engine="nope", sources={"engine": "flag --engine"}))


def test_what_goes_with_a_model_is_counted(library: Library) -> None:
    path = str(library.find("demo").info.path)
    alone = library.estimate("demo", {"ctx": 512})
    guessing = library.estimate("demo", {"ctx": 512, "draft_model": path})
    assert guessing["parts"]["other"] > alone["parts"]["other"]
    assert not guessing["warnings"]


async def test_a_house_describes_a_model_with_the_state_of_its_worker(settings: Settings) -> None:
    async with House.open(settings) as house:
        model = house.library.find("demo")
        assert house.describe(model)["state"] == "unloaded"
        status = await house.supervisor.load(model)
        described = house.describe(model)
        assert (described["state"], described["engine"]) == ("ready", "llamacpp")
        assert described["context_length"] == status.context_length


def test_an_estimate_is_made_by_a_dry_run_and_one_of_what_cannot_be_asked_by_the_header(library: Library) -> None:
    found = library.estimate("demo", {"ctx": 1024, "parallel": 2})
    assert found["method"] == "dry run"
    assert library.estimate("demo", {"ctx": 1024, "parallel": 2, "spec_type": "mtp"})["method"] == "header"


def test_a_load_that_is_tight_is_foretold_and_one_that_fits_twice_starts_at_once(library: Library) -> None:
    demo, options, roomy = library.find("demo"), library.defaults, snapshot()
    library.prepare(demo, options, roomy)
    assert library.plan(demo, options, roomy).footprint.method == "header"
    high = library.plan(demo, options, roomy).footprint.high_bytes
    tight = replace(roomy, memory=replace(roomy.memory, free_bytes=margin(roomy.memory) + 2 * high - 1))
    library.prepare(demo, options, tight)
    assert library.plan(demo, options, tight).footprint.method == "dry run"


def test_what_never_fits_is_said_by_the_plan_and_not_by_its_preparation(library: Library) -> None:
    demo, machine = library.find("demo"), snapshot()
    full = replace(machine, memory=replace(machine.memory, free_bytes=1), gpus=())
    library.prepare(demo, library.defaults, full)
    with pytest.raises(DoesNotFit):
        library.plan(demo, library.defaults, full)


def test_companions_are_named_as_models_are(library: Library, tmp_path: Path) -> None:
    model = library.registry.resolve("demo")
    demo = str(model.info.path)
    options = library.options(model, {"draft_model": "demo", "lora": ["demo=0.5", "/adapters/own.gguf=2"]})
    assert options.draft_model == demo
    assert options.lora == (f"{demo}=0.5", "/adapters/own.gguf=2")
    # What nobody knows stays as it was written, for the check of files to refuse.
    assert library.options(model, {"mmproj": "nobody.gguf"}).mmproj == "nobody.gguf"


def test_a_profile_is_of_a_model_and_not_of_its_name(library: Library, tmp_path: Path) -> None:
    demo = library.find("demo")
    library.save_profile(demo, {"ctx": 640})
    assert library.usual(demo).ctx == library.options(demo, {"parallel": 1}).ctx == 640
    other = tmp_path / "demo.gguf"
    shutil.copyfile(demo.info.path, other)
    assert library.look(str(other)).id == "demo"
    assert library.usual(library.look(str(other))).ctx == 0


def test_a_profile_of_before_whose_engine_or_option_is_gone_says_so(library: Library) -> None:
    demo = library.find("demo")
    library.registry.profiles.keep("demo", {"engine": "steam", "cylinders": 4})
    with pytest.raises(BadRequest, match=r"profile of demo .*cylinders.*uml profile demo"):
        library.usual(demo)
    described = library.describe(demo)
    assert described["engine"] is None and "steam" in described["needs"]
    assert library.save_profile(demo, {"cylinders": None, "engine": None, "ctx": 512}) == {"ctx": 512}


@pytest.mark.parametrize(
    ("given", "option", "words"),
    [
        ({"lora": ["dmeo=0.5"]}, "lora", "close names: demo"),
        ({"draft_model": "dmeo"}, "draft_model", "close names: demo"),
        ({"draft_model": "/nowhere/dmeo.gguf"}, "draft_model", "close names: demo"),
        ({"mmproj": "zzzz"}, "mmproj", "`uml ls`"),
        ({"lora": ["folder/two"]}, "lora", "`uml ls`"),
    ],
)
def test_a_companion_that_is_not_there_is_named_with_its_option(
    library: Library, given: dict[str, object], option: str, words: str
) -> None:
    with pytest.raises(BadOption, match=f"option {option} is .*expected the path of a file that is there") as caught:
        library.estimate("demo", given)
    assert caught.value.param == f"options.{option}" and words in caught.value.message


def test_a_companion_whose_name_several_models_share_is_refused_with_their_ids(
    library: Library, tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        path = write_tiny_gguf(tmp_path / folder / f"{folder}.gguf", general__name="Shared Name")
        library.registry.add(path)
    with pytest.raises(BadOption, match="several are called so: one, two"):
        library.estimate("demo", {"draft_model": "shared-name"})
