"""Stories of a user with models on disk."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import write_split_gguf
from tests.registry.conftest import ONE, Shelfless, gguf
from uml.core.errors import (
    AmbiguousModel,
    BadFile,
    BadRequest,
    CorruptFile,
    MissingShard,
    ModelNotFound,
    UnsupportedFormat,
)
from uml.core.model import Format, Model, ModelInfo
from uml.formats import inspect
from uml.registry import Registry, ScanReport, packaged_model


def ids(models: tuple[Model, ...]) -> list[str]:
    return [model.id for model in models if model.id != "demo"]


def test_the_demo_model_is_always_there(registry: Registry) -> None:
    (demo,) = registry.models()
    assert (demo.id, demo.source, demo.present, demo.info.format) == ("demo", "package", True, Format.GGUF)
    assert registry.resolve("demo") == registry.resolve(str(demo.info.path)) == registry.fresh(demo) == demo
    assert registry.add(demo.info.path) == demo
    assert "demo" in registry.scan(demo.info.path.parent).unchanged
    with pytest.raises(BadRequest, match="always there"):
        registry.remove("demo")


def test_a_missing_demo_model_is_no_disaster(tmp_path: Path) -> None:
    with Registry(tmp_path / "r.sqlite", shelves=tuple, package={"demo": tmp_path / "no.gguf"}) as registry:
        assert registry.models() == ()


def test_a_scan_finds_what_is_in_a_folder_and_remembers_it(registry: Registry, folder: Path) -> None:
    gguf(folder / "Qwen2.5-0.5B-Instruct-Q8_0.gguf", name="Qwen2.5 0.5B Instruct")
    gguf(folder / "deep" / "er" / "Llama-3.2-1B-Q4_K_M.gguf")
    seen: list[tuple[int, int, str]] = []
    report = registry.scan(folder, lambda done, total, path: seen.append((done, total, path.name)))
    assert report.added == ("qwen2.5-0.5b-instruct-q8_0", "llama-3.2-1b-q4_k_m")
    assert seen == [(0, 2, "Qwen2.5-0.5B-Instruct-Q8_0.gguf"), (1, 2, "Llama-3.2-1B-Q4_K_M.gguf")]
    assert registry.roots() == (folder,)
    assert ids(registry.models()) == ["llama-3.2-1b-q4_k_m", "qwen2.5-0.5b-instruct-q8_0"]
    assert registry.scan(folder) == registry.rescan() == ScanReport(unchanged=report.added)


def test_a_model_answers_to_id_alias_and_path(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gguf(folder / "Qwen2.5-0.5B-Q8_0.gguf", name="Qwen 2.5 (half)")
    registry.scan(folder)
    model = registry.resolve("qwen2.5-0.5b-q8_0")
    assert model.aliases == ("qwen-2.5-half", "qwen2.5-0.5b")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    for name in (
        "qwen2.5-0.5b",
        "QWEN2.5-0.5B-Q8_0",
        str(path),
        "~/Qwen2.5-0.5B-Q8_0.gguf",
        "./Qwen2.5-0.5B-Q8_0.gguf",
    ):
        assert registry.resolve(name) is model


def test_an_unknown_name_is_never_another_model(registry: Registry, folder: Path) -> None:
    gguf(folder / "mistral-7b-q8_0.gguf")
    registry.scan(folder)
    with pytest.raises(ModelNotFound) as caught:
        registry.resolve("mistrl-7b")
    assert caught.value.details["close"] == ["mistral-7b", "mistral-7b-q8_0"]
    with pytest.raises(ModelNotFound, match="no model is called '/no/such"):
        registry.resolve("/no/such.gguf")
    with pytest.raises(ModelNotFound):
        registry.resolve("x" * 100_000)


def test_a_name_with_a_tag_of_another_program_is_close_to_the_one_without(registry: Registry, folder: Path) -> None:
    for name in ("yi", "yi-pirate", "yi-6b"):
        gguf(folder / f"{name}.gguf")
    registry.scan(folder)
    for typed, close in (("yi:latest", "yi"), ("yi-6b:q4_0", "yi-6b"), ("yi.gguf", "yi")):
        with pytest.raises(ModelNotFound) as caught:
            registry.resolve(typed)
        assert caught.value.details["close"][0] == close
    with pytest.raises(ModelNotFound, match="no model is called ''; `uml ls`"):
        registry.resolve("")


def test_names_that_two_models_claim_are_nobodys(registry: Registry, folder: Path) -> None:
    gguf(folder / "yi-q4_0.gguf", name="Yi")
    eight = gguf(folder / "yi-q8_0.gguf", name="Yi", context=128)
    registry.scan(folder)
    assert [model.aliases for model in registry.models() if model.id != "demo"] == [(), ()]
    with pytest.raises(AmbiguousModel, match="'Yi' is the name of several models; choose one: yi-q4_0, yi-q8_0"):
        registry.resolve("Yi")
    eight.unlink()
    assert registry.rescan().vanished == ("yi-q8_0",)
    assert registry.resolve("yi").id == "yi-q4_0"


def test_a_name_may_be_typed_as_the_file_is_called(registry: Registry, folder: Path) -> None:
    gguf(folder / "My Model (v2).gguf", name="Mine")
    registry.scan(folder)
    assert registry.resolve("My Model (v2)").id == "my-model-v2"
    with pytest.raises(ModelNotFound):
        registry.resolve("My Model/(v2)")


def test_models_know_when_they_were_written(registry: Registry, folder: Path) -> None:
    path = gguf(folder / "x.gguf", name="x")
    os.utime(path, (1_700_000_000, 1_700_000_000.9))
    registry.scan(folder)
    assert registry.resolve("x").created == 1_700_000_000
    path.unlink()
    registry.rescan()
    assert registry.resolve("x").created == 1_700_000_000


def test_a_projector_does_not_make_names_ambiguous(registry: Registry, folder: Path) -> None:
    gguf(folder / "yi-q4_0.gguf", name="Yi")
    gguf(folder / "mmproj-yi-f16.gguf", name="Yi", architecture="clip", general__type="mmproj")
    registry.scan(folder)
    assert registry.resolve("yi").id == "yi-q4_0"
    assert registry.resolve("mmproj-yi-f16").aliases == ()


def test_two_files_of_one_name_get_two_ids(registry: Registry, folder: Path) -> None:
    gguf(folder / "a" / "x.gguf", name="one")
    gguf(folder / "b" / "x.gguf", name="two")
    gguf(folder / "demo.gguf", name="three")
    first, second, third = registry.scan(folder).added
    assert first.startswith("demo-")
    assert second == "x"
    assert third.startswith("x-")
    assert registry.resolve("two").id == third


def test_a_new_model_does_not_take_a_name_that_means_another(registry: Registry, folder: Path) -> None:
    gguf(folder / "yi-q8_0.gguf")
    registry.scan(folder)
    assert registry.resolve("yi").id == "yi-q8_0"
    gguf(folder / "yi.gguf")
    (new,) = registry.scan(folder).added
    assert new.startswith("yi-")
    with pytest.raises(ModelNotFound):  # now it could be either
        registry.resolve("yi")


def test_a_moved_file_keeps_its_id(registry: Registry, folder: Path, tmp_path: Path) -> None:
    old = gguf(folder / "yi.gguf")
    registry.scan(folder)
    registry.alias("yi", "mine")
    new = tmp_path / "elsewhere" / "renamed.gguf"
    new.parent.mkdir()
    old.rename(new)
    assert registry.scan(new.parent).moved == ("yi",)
    assert registry.resolve("mine").info.path == registry.resolve("yi").info.path == new
    assert registry.rescan() == ScanReport(unchanged=("yi",))


def test_a_copy_is_another_model(registry: Registry, folder: Path) -> None:
    old = gguf(folder / "yi.gguf")
    registry.scan(folder)
    (folder / "copy.gguf").write_bytes(old.read_bytes())
    report = registry.scan(folder)
    assert (report.added, report.unchanged) == (("copy",), ("yi",))


def test_of_several_that_have_gone_the_one_of_the_same_name_has_moved(registry: Registry, folder: Path) -> None:
    for name in ("a", "b"):
        gguf(folder / name / f"{name}.gguf", name="same")
    registry.scan(folder)
    (folder / "c").mkdir()
    (folder / "b" / "b.gguf").rename(folder / "c" / "b.gguf")
    (folder / "a" / "a.gguf").unlink()
    report = registry.rescan()
    assert (report.moved, report.vanished) == (("b",), ("a",))


def test_a_changed_file_keeps_its_id_and_is_read_again(registry: Registry, folder: Path) -> None:
    path = gguf(folder / "yi.gguf", context=256)
    registry.scan(folder)
    gguf(path, context=512)
    assert registry.scan(folder).changed == ("yi",)
    assert registry.resolve("yi").info.context_length == 512


def test_a_touched_file_is_read_again_and_has_not_changed(registry: Registry, folder: Path) -> None:
    path = gguf(folder / "yi.gguf")
    registry.scan(folder)
    model = registry.resolve("yi")
    os.utime(path, ns=(1, 1))
    assert registry.fresh(model).info == model.info


def test_a_vanished_file_is_remembered_and_welcomed_back(registry: Registry, folder: Path) -> None:
    path = gguf(folder / "yi-q8_0.gguf")
    registry.scan(folder)
    content = path.read_bytes()
    path.unlink()
    assert registry.rescan().vanished == ("yi-q8_0",)
    assert registry.rescan() == ScanReport()
    gone = registry.resolve("yi")
    assert not gone.present
    with pytest.raises(BadFile, match="it is gone since it was found"):
        registry.fresh(gone)
    path.write_bytes(content)
    assert registry.fresh(gone).present
    path.unlink()
    registry.rescan()
    path.write_bytes(content)
    assert registry.rescan().added == ("yi-q8_0",)
    assert registry.resolve("yi-q8_0").present


def test_a_folder_that_is_not_there_is_told(registry: Registry, folder: Path, tmp_path: Path) -> None:
    gguf(folder / "yi.gguf")
    registry.scan(folder)
    folder.rename(tmp_path / "away")
    report = registry.rescan()
    assert report.vanished == ("yi",)
    assert report.unreadable == ((str(folder), f"{folder}: this model folder is not there"),)
    (tmp_path / "away").rename(folder)
    assert registry.rescan().added == ("yi",)


def test_folders_of_the_settings_are_looked_through_and_do_not_become_roots(registry: Registry, folder: Path) -> None:
    gguf(folder / "yi.gguf")
    assert registry.rescan([folder, folder]).added == ("yi",)
    assert registry.roots() == ()
    assert registry.rescan() == ScanReport(unchanged=("yi",))


def test_a_file_is_looked_at_just_before_it_is_loaded(registry: Registry, folder: Path) -> None:
    path = gguf(folder / "yi.gguf", context=256)
    registry.scan(folder)
    model = registry.resolve("yi")
    assert registry.fresh(model) is model
    gguf(path, context=512)
    assert registry.fresh(model).info.context_length == 512
    assert registry.resolve("yi").info.context_length == 512
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptFile):
        registry.fresh(model)
    path.unlink()
    with pytest.raises(BadFile, match="it is gone"):
        registry.fresh(model)
    assert not registry.resolve("yi").present
    registry.remove("yi")
    with pytest.raises(ModelNotFound):
        registry.fresh(model)


def test_a_lost_part_is_named_and_a_found_one_heals(registry: Registry, folder: Path) -> None:
    parts = write_split_gguf(folder, "big", 3)
    assert registry.scan(folder).added == ("big",)
    assert len(registry.resolve("big").info.files) == 3
    parts[2].rename(folder / "away.bak")
    with pytest.raises(MissingShard, match="big-00003-of-00003"):
        registry.fresh(registry.resolve("big"))
    report = registry.scan(folder)
    assert [Path(path).name for path, _ in report.unreadable] == ["big-00001-of-00003.gguf"]
    assert report.vanished == ()
    (folder / "away.bak").rename(parts[2])
    assert registry.scan(folder).unchanged == ("big",)


def test_what_cannot_be_read_is_told_with_its_path(registry: Registry, folder: Path) -> None:
    (folder / "broken.gguf").write_bytes(b"GGUF\x03")
    (folder / "text.gguf").write_text("hello")
    good = gguf(folder / "yi.gguf")
    report = registry.scan(folder)
    assert report.added == ("yi",)
    assert [Path(path).name for path, _ in report.unreadable] == ["broken.gguf", "text.gguf"]
    assert all(path in message for path, message in report.unreadable)
    assert ids(registry.models()) == ["yi"]
    gguf(folder / "broken.gguf")
    good.write_bytes(b"GGUF\x03")
    report = registry.scan(folder)
    assert report.added == ("broken",)
    assert [Path(path).name for path, _ in report.unreadable] == ["text.gguf", "yi.gguf"]
    assert registry.resolve("yi").present  # it is there, and says what is wrong when it is loaded


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 only")
def test_a_name_that_is_no_text_is_refused(registry: Registry, folder: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff.gguf"))
    gguf(odd, name="odd")
    assert registry.scan(folder).unreadable == (
        (f"{folder}/\\udcff.gguf", f"{folder}/\\udcff.gguf: the name is not valid UTF-8; rename it"),
    )
    with pytest.raises(BadFile, match="not valid UTF-8"):
        registry.add(odd)


def test_a_path_never_seen_is_added_without_its_surroundings(registry: Registry, folder: Path) -> None:
    path, other = gguf(folder / "yi.gguf"), gguf(folder / "other.gguf")
    model = registry.add(path)
    assert registry.add(path) is model
    assert ids(registry.models()) == ["yi"]
    assert registry.roots() == ()
    gguf(path, context=512)
    assert registry.rescan().changed == ("yi",)
    assert registry.add(path).info.context_length == 512
    path.unlink()
    assert registry.rescan().vanished == ("yi",)
    assert other.exists()


def test_a_later_part_stands_for_the_whole(registry: Registry, folder: Path) -> None:
    parts = write_split_gguf(folder, "big", 3)
    assert registry.add(parts[1]).info.path == parts[0]
    assert registry.add(parts[2]).id == registry.add(parts[0]).id == "big"


def test_a_folder_stands_for_the_one_model_in_it(registry: Registry, folder: Path) -> None:
    with pytest.raises(UnsupportedFormat):
        registry.add(folder)
    path = gguf(folder / "deep" / "yi.gguf")
    assert registry.add(folder).info.path == path
    gguf(folder / "deep" / "er" / "other.gguf")
    with pytest.raises(BadFile, match="it holds 2 models"):
        registry.add(folder)


def test_a_path_without_a_model_is_one_sentence(registry: Registry, folder: Path) -> None:
    (folder / "text.txt").write_text("hello")
    (folder / "link.gguf").symlink_to("/nowhere/x.gguf")
    for path, sentence in (
        (folder / "link.gguf", "it is a link to /nowhere/x.gguf, and nothing is there"),
        (folder / "no.gguf", "there is no such file or folder"),
        (folder / ("x" * 300), "there is no such file or folder"),
        (folder / "\0", "not valid UTF-8"),
        (folder / "text.txt", "not a model that can be told"),
    ):
        with pytest.raises(BadFile, match=sentence):
            registry.add(path)
    with pytest.raises(BadFile, match="there is no such folder"):
        registry.scan(folder / "no")
    with pytest.raises(BadFile, match="not valid UTF-8"):
        registry.scan(folder / "\0")
    with pytest.raises(BadFile, match="it is a file"):
        registry.scan(folder / "text.txt")


def test_a_folder_that_cannot_be_entered_is_told(tmp_path: Path, folder: Path) -> None:
    def forbidden(root: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(root))

    def refused(root: Path) -> Iterator[Path]:
        raise BadFile(root, "no")

    for candidates, sentence in ((forbidden, "Permission denied"), (refused, "no")):
        with Registry(tmp_path / "r.sqlite", candidates=candidates, shelves=tuple, package=ONE) as registry:
            assert registry.scan(folder).unreadable == ((str(folder), f"{folder}: {sentence}"),)


def test_a_file_that_goes_while_it_is_looked_at_is_told(tmp_path: Path, folder: Path) -> None:
    def slow(path: Path) -> ModelInfo:
        info = inspect(path)
        if path.name == "yi.gguf":
            path.unlink()
        return info

    path = gguf(folder / "yi.gguf")
    with Registry(tmp_path / "r.sqlite", inspect=slow, shelves=tuple, package=ONE) as registry:
        assert registry.scan(folder).unreadable == ((str(path), f"{path}: No such file or directory"),)


def test_one_file_reached_two_ways_is_one_model(registry: Registry, folder: Path, tmp_path: Path) -> None:
    path = gguf(folder / "yi.gguf")
    (tmp_path / "link").symlink_to(folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "linked.gguf").symlink_to(path)
    assert registry.scan(tmp_path / "link").added == ("yi",)
    assert registry.roots() == (folder,)
    assert registry.scan(other).unchanged == ("yi",)
    assert registry.add(other / "linked.gguf").id == "yi"
    gguf(path, context=512)
    assert registry.scan(other).changed == ("yi",)
    assert registry.resolve("yi").info.path == path


def test_a_hugging_face_folder_is_a_model(registry: Registry, folder: Path) -> None:
    source = packaged_model("demo-safetensors")
    copy = folder / "Tiny-HF"
    copy.mkdir()
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert registry.scan(folder).added == ("tiny-hf",)
    model = registry.resolve("tiny-hf")
    assert (model.info.format, model.info.path) == (Format.SAFETENSORS, copy)
    (copy / "generation_config.json").write_text("{}")
    assert registry.scan(folder).unreadable == ()
    weights = next(copy.glob("*.safetensors"))
    assert registry.add(weights).id == model.id
    copy.rename(folder / "renamed")
    assert registry.scan(folder).moved == ("tiny-hf",)


def test_a_removed_model_stays_away_until_it_is_asked_for(registry: Registry, folder: Path) -> None:
    path = gguf(folder / "yi-q8_0.gguf")
    registry.scan(folder)
    registry.alias("yi", "mine")
    registry.remove("yi")
    assert path.exists()
    assert ids(registry.models()) == []
    with pytest.raises(ModelNotFound):
        registry.resolve("mine")
    with pytest.raises(ModelNotFound):
        registry.remove("yi")
    assert registry.rescan() == ScanReport()
    assert registry.scan(folder).added == ("yi-q8_0",)
    registry.remove("yi")
    assert registry.add(path).id == "yi-q8_0"
    assert registry.rescan().unchanged == ("yi-q8_0",)


def test_a_folder_can_be_taken_back(registry: Registry, folder: Path, tmp_path: Path) -> None:
    gguf(folder / "yi.gguf")
    gguf(tmp_path / "kept" / "kept.gguf")
    registry.scan(folder)
    registry.scan(tmp_path / "kept")
    assert registry.remove_root(folder) == ("yi",)
    assert registry.roots() == (tmp_path / "kept",)
    assert ids(registry.models()) == ["kept"]
    with pytest.raises(BadRequest, match="known are: /"):
        registry.remove_root(folder)
    assert registry.scan(folder).added == ("yi",)


def test_a_user_gives_names(registry: Registry, folder: Path) -> None:
    gguf(folder / "yi-q8_0.gguf")
    gguf(folder / "other.gguf")
    registry.scan(folder)
    assert registry.alias("yi-q8_0", "Best Model").aliases == ("Best Model", "yi")
    assert registry.resolve("best model").id == "yi-q8_0"
    assert registry.alias("other", "best model").aliases == ("best model",)
    assert registry.resolve("Best Model").id == "other"
    assert registry.alias("demo", "yi").id == "demo"  # a given name beats an automatic one
    assert registry.resolve("yi").id == "demo"
    with pytest.raises(BadRequest, match="is the id of a model"):
        registry.alias("demo", "Other")
    with pytest.raises(BadRequest, match="is not a name"):
        registry.alias("demo", " ")
    registry.unalias("yi")
    assert registry.resolve("yi").id == "yi-q8_0"
    for own in ("yi", "yi-q8_0"):
        with pytest.raises(BadRequest, match="is a name that yi-q8_0 has of itself"):
            registry.unalias(own)
    with pytest.raises(ModelNotFound):
        registry.unalias("nobody")


def test_an_id_avoids_the_names_that_a_user_gave(registry: Registry, folder: Path) -> None:
    registry.alias("demo", "Yi")
    gguf(folder / "yi.gguf")
    (new,) = registry.scan(folder).added
    assert new.startswith("yi-")
    assert registry.resolve("yi").id == "demo"


async def test_threads_may_ask_while_a_scan_runs(registry: Registry, folder: Path) -> None:
    for number in range(20):
        gguf(folder / f"m{number}.gguf")
    begun, go_on = threading.Event(), threading.Event()

    def progress(done: int, total: int, path: Path) -> None:
        if done == 10:
            begun.set()
            assert go_on.wait(10)

    scan = asyncio.create_task(asyncio.to_thread(registry.scan, folder, progress))
    await asyncio.to_thread(begun.wait, 10)
    seen = await asyncio.gather(*(asyncio.to_thread(registry.models) for _ in range(8)))
    assert {len(ids(models)) for models in seen} == {10}
    assert registry.resolve("m0").present
    added = await asyncio.to_thread(registry.add, folder / "m19.gguf")
    go_on.set()
    assert len((await scan).added) == 20
    assert registry.resolve(added.id) == added
    assert len(ids(registry.models())) == 20
    reports = await asyncio.gather(*(asyncio.to_thread(registry.rescan) for _ in range(4)))
    assert all(len(report.unchanged) == 20 for report in reports)


def test_a_thousand_models_that_have_not_changed_are_not_read_again(tmp_path: Path, folder: Path) -> None:
    first = gguf(folder / "m0.gguf").read_bytes()
    for number in range(1, 1000):
        (folder / f"m{number}.gguf").write_bytes(first)
    with Shelfless(tmp_path / "r.sqlite") as registry:
        assert len(registry.scan(folder).added) == 1000
    with Registry(tmp_path / "r.sqlite", inspect=_only_demo, shelves=tuple, package=ONE) as registry:
        assert len(registry.scan(folder).unchanged) == 1000
        assert len(registry.models()) == 1001


def _only_demo(path: Path) -> ModelInfo:
    assert path.name == "demo.gguf", f"{path} was read again"
    return inspect(path)
