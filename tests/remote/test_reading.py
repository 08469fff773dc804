"""What is told of a model on the net is what would be told of its files here, for a fraction of their bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders import (
    hf_tensors,
    llama_config,
    write_genai_folder,
    write_hf_folder,
    write_onnx,
    write_pytorch,
    write_split_gguf,
    write_tiny_gguf,
)
from tests.remote.conftest import write_model
from tests.remote.net import Net, served
from uml.core.errors import MissingShard, RemoteFailed, UmlError
from uml.core.model import Format, ModelInfo, Role
from uml.formats import inspect
from uml.remote.find import opened
from uml.remote.hub import Hub
from uml.remote.names import parse


def look(net: Net, text: str, **hub: Any) -> ModelInfo:
    """The one model behind a name."""
    name = parse(text, net.url)
    assert name is not None
    with opened(name, Hub(net.url, **hub)) as remote:
        (model,) = remote.models
        return remote.inspect(model)


def alike(remote: ModelInfo, local: ModelInfo) -> bool:
    """Whether both say the same, paths aside."""

    def plain(info: ModelInfo) -> ModelInfo:
        return replace(info, path=Path(), files=tuple(Path(path.name) for path in info.files))

    return plain(remote) == plain(local)


def test_a_gguf_behind_an_address_is_told_from_its_header(
    net: Net, tmp_path: Path, leftovers: Callable[[], list[Path]]
) -> None:
    path = write_model(tmp_path / "m-Q8_0.gguf", "Q8_0")
    net.files["/models/m-Q8_0.gguf"] = path
    found = look(net, f"{net.url}/models/m-Q8_0.gguf?key=1")
    assert alike(found, inspect(path))
    assert net.sent < path.stat().st_size / 10
    assert net.ranges_of("/models/m-Q8_0.gguf")[0] == "bytes=0-65535"
    assert not leftovers()


def test_while_it_is_open_a_copy_has_the_whole_header_and_holes_for_weights(net: Net, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", "Q8_0")
    net.files["/m.gguf"] = path
    name = parse(f"{net.url}/m.gguf")
    assert name is not None
    with opened(name, Hub()) as remote:
        (model,) = remote.models
        copy = remote.inspect(model).path
        assert copy.stat().st_size == path.stat().st_size
        assert alike(inspect(copy), inspect(path))
        # The scores and types of tokens, which our reader steps over, are there for an engine's.
        header = net.sent // 2
        assert copy.read_bytes()[:header] == path.read_bytes()[:header]
        assert remote.told({"path": [str(copy)]}) == {"path": [f"{net.url}/m.gguf"]}


def test_a_repository_of_the_hub(net: Net, tmp_path: Path) -> None:
    path = write_model(tmp_path / "repo" / "m-Q4_K.gguf")
    net.repository("Some/Model-GGUF", tmp_path / "repo")
    for name in ("hf:Some/Model-GGUF", f"{net.url}/Some/Model-GGUF", "hf:Some/Model-GGUF:q4_k"):
        assert alike(look(net, name), inspect(path))
    assert net.sent < 3 * path.stat().st_size / 4


def test_a_split_model_has_the_size_of_all_parts_and_the_tensors_of_all(net: Net, tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    folder.mkdir()
    first, *rest = write_split_gguf(folder)
    net.repository("Some/Split", folder)
    whole = inspect(first)
    assert alike(look(net, "hf:Some/Split"), whole)
    net.files |= {f"/f/{path.name}": path for path in (first, *rest)}
    assert alike(look(net, f"{net.url}/f/{rest[0].name}"), whole)


def test_a_part_that_is_not_there_is_named(net: Net, tmp_path: Path) -> None:
    first, second, _ = write_split_gguf(tmp_path)
    net.files |= {f"/f/{path.name}": path for path in (first, second)}
    with pytest.raises(MissingShard, match=r"tiny-00003-of-00003\.gguf") as missing:
        look(net, f"{net.url}/f/{first.name}")
    assert str(missing.value).startswith(f"{net.url}/f/{first.name}: ")
    assert missing.value.details["path"] == f"{net.url}/f/{first.name}"


QUANTIZED: dict[str, dict[str, Any]] = {
    "plain": {},
    "gptq": {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}},
    "awq": {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}},
    "exl2": {"quantization_config": {"quant_method": "exl2", "bits": 4.25}},
    "exl3": {"quantization_config": {"quant_method": "exl3", "bits": 3.5}},
    "fp8": {"quantization_config": {"quant_method": "fp8"}},
}


@pytest.mark.parametrize("kind", QUANTIZED)
@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_of_safetensors_is_told_from_configuration_index_and_headers(
    net: Net, tmp_path: Path, kind: str, shards: int
) -> None:
    folder = write_hf_folder(tmp_path / "Model", llama_config(**QUANTIZED[kind]), hf_tensors(layers=40), shards=shards)
    net.repository("Some/Model", folder)
    local = replace(inspect(folder), name="Some/Model")
    assert alike(look(net, "hf:Some/Model"), local)
    net.files |= {f"/x/y/Model/{path.name}": path for path in folder.iterdir()}
    for address in ("/", "/config.json", f"/{next(folder.glob('*.safetensors')).name}"):
        assert alike(look(net, f"{net.url}/x/y/Model{address}"), inspect(folder))


def test_of_a_shard_nothing_but_its_header_is_asked_for(net: Net, tmp_path: Path) -> None:
    big = {f"model.layers.{number}.mlp.up_proj.weight": ("BF16", (512, 512)) for number in range(20)}
    folder = write_hf_folder(tmp_path / "Model", tensors=big, shards=2)
    net.repository("Some/Model", folder)
    assert look(net, "hf:Some/Model").parameters == 20 * 512 * 512
    assert net.sent < 2 * (64 << 10) + 8192


def test_onnx_is_told_from_its_beginning_and_its_end(net: Net, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", graph_bytes=3 << 20)
    net.files["/m.onnx"] = path
    data = tmp_path / "m.onnx.data"
    data.write_bytes(b"\0" * 1000)
    net.files["/m.onnx.data"] = data
    found = look(net, f"{net.url}/m.onnx")
    assert alike(found, inspect(path))
    assert found.size_bytes == path.stat().st_size + 1000
    assert net.sent < 1 << 18
    folder = write_genai_folder(tmp_path / "repo" / "cpu")
    net.repository("Some/Onnx", tmp_path / "repo")
    assert alike(look(net, "hf:Some/Onnx"), inspect(folder))


def test_pickles_are_told_and_never_opened(net: Net, tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    write_hf_folder(folder)
    (folder / "model.safetensors").unlink()
    write_pytorch(folder / "pytorch_model.bin")
    net.repository("Some/Old", folder)
    assert look(net, "hf:Some/Old").format is Format.PYTORCH


def test_what_is_no_model_is_said_to_be_none(net: Net, tmp_path: Path) -> None:
    page = tmp_path / "login.html"
    page.write_text("<!DOCTYPE html><title>Sign in</title>" + " " * 600)
    net.files["/m.gguf"] = page
    found = look(net, f"{net.url}/m.gguf")
    assert (found.format, found.role) == (Format.UNKNOWN, Role.UNKNOWN)
    assert "a web page" in found.reason


# --- several models in one repository -------------------------------------------------------------


def every(net: Net, text: str) -> dict[str, ModelInfo | UmlError]:
    name = parse(text, net.url)
    assert name is not None
    with opened(name, Hub(net.url)) as remote:
        return {model.label: info for model, info in remote.inspect_all()}


def test_quantizations_of_one_model_share_its_vocabulary_and_are_told_exactly(net: Net, tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    paths = {kind: write_model(folder / f"m-{kind}.gguf", kind) for kind in ("Q4_K", "Q8_0", "F16", "Q2_K")}
    net.repository("Some/Many", folder)
    found = every(net, "hf:Some/Many")
    assert found.keys() == paths.keys()
    for kind, path in paths.items():
        info = found[kind]
        assert isinstance(info, ModelInfo)
        assert alike(info, inspect(path))
    first = sum(
        int(last) - int(begin) + 1
        for begin, last in (asked.removeprefix("bytes=").split("-") for asked in net.ranges_of(_place("Q2_K")))
    )
    # The others cost a fraction of the first.
    assert net.sent - first < 3 * first / 2


def _place(kind: str) -> str:
    return f"/Some/Many/resolve/main/m-{kind}.gguf"


def test_another_vocabulary_is_not_taken_for_the_same(net: Net, tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    words = [f"word-{'x' * (number % 7)}{number}" for number in range(20_000)]
    paths = {
        "Q2_K": write_model(folder / "m-Q2_K.gguf", "Q2_K"),
        "Q8_0": write_model(folder / "m-Q8_0.gguf", "Q8_0", words),
        "F16": write_tiny_gguf(folder / "m-F16.gguf"),
    }
    net.repository("Some/Many", folder)
    found = every(net, "hf:Some/Many")
    for kind, path in paths.items():
        info = found[kind]
        assert isinstance(info, ModelInfo)
        assert alike(info, inspect(path))


def test_a_broken_file_does_not_hide_the_others(net: Net, tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    write_model(folder / "m-Q8_0.gguf", "Q8_0")
    (folder / "m-Q2_K.gguf").write_bytes(b"GGUF" + b"\xff" * 4000)
    (folder / "m-Q4_K.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\x01\0\0\0\0\0\0\0" * 500)
    net.repository("Some/Many", folder)
    found = every(net, "hf:Some/Many")
    assert isinstance(found["Q8_0"], ModelInfo)
    for kind in ("Q2_K", "Q4_K"):
        error = found[kind]
        assert isinstance(error, UmlError)
        assert error.message.startswith(f"hf:Some/Many:m-{kind}.gguf: ")


# --- servers without ranges -----------------------------------------------------------------------


def test_of_a_server_without_ranges_only_the_beginning_is_read(net: Net, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", "F16")
    net.ranges = False
    net.files["/m.gguf"] = path
    assert alike(look(net, f"{net.url}/m.gguf"), inspect(path))
    assert len(net.asked) == 1
    assert net.sent < path.stat().st_size - (1 << 20)
    net.repository("Some/Model", write_hf_folder(tmp_path / "repo", shards=2))
    assert look(net, "hf:Some/Model").size_bytes


def test_without_ranges_a_small_onnx_is_read_to_its_end(net: Net, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", graph_bytes=3 << 20)
    net.ranges = False
    net.files["/m.onnx"] = path
    assert alike(look(net, f"{net.url}/m.onnx"), inspect(path))


# --- who is told what -----------------------------------------------------------------------------


def test_the_token_goes_to_the_hub_alone(net: Net, tmp_path: Path) -> None:
    path = write_model(tmp_path / "repo" / "m-Q8_0.gguf", "Q8_0")
    with served() as store:
        net.repository("Some/Model", path.parent, store=f"http://localhost:{store.port}")
        store.files["/store/Some/Model/m-Q8_0.gguf"] = path
        store.files["/m.gguf"] = path
        assert alike(look(net, "hf:Some/Model", token="hf_sesame"), inspect(path))
        assert {asked.authorization for asked in net.asked} == {"Bearer hf_sesame"}
        # The hub is asked once where the file is, and the store for every piece of it.
        assert len(net.asked) == 2
        assert len(store.asked) > 1
        look(net, f"{store.url}/m.gguf", token="hf_sesame")
        assert {asked.authorization for asked in store.asked} == {""}


def test_an_address_of_the_store_that_ran_out_is_asked_for_anew(net: Net, tmp_path: Path) -> None:
    path = write_model(tmp_path / "repo" / "m-Q8_0.gguf", "Q8_0")
    with served() as store:
        net.repository("Some/Model", path.parent, store=store.url)
        place = "/store/Some/Model/m-Q8_0.gguf"

        def once(handler: Any) -> None:
            if len(store.ranges_of(place)) == 2:
                handler.reply(403, b"<Error>Request has expired</Error>")
            else:
                handler.file(path)

        store.answers[place] = once
        assert alike(look(net, "hf:Some/Model"), inspect(path))
        assert len(net.ranges_of("/Some/Model/resolve/main/m-Q8_0.gguf")) == 2


def test_an_error_names_neither_token_nor_signature(net: Net, tmp_path: Path) -> None:
    path = write_model(tmp_path / "repo" / "m-Q8_0.gguf", "Q8_0")
    with served() as store:
        net.repository("Some/Model", path.parent, store=store.url)
    with pytest.raises(RemoteFailed) as failed:
        look(net, "hf:Some/Model", token="hf_sesame")
    told = repr(failed.value.as_dict()) + repr(failed.value)
    assert "hf:Some/Model:m-Q8_0.gguf: " in told
    assert "sesame" not in told
    assert "secret-of-store" not in told
    assert "sesame" not in repr(Hub(net.url, "hf_sesame"))
