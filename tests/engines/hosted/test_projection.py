"""What stands behind the pooling of a folder of sentence-transformers, read from its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml.core.errors import BadFile, CorruptFile, UmlError, UnsupportedArchitecture
from uml.engines.hosted.projection import projection_of

WEIGHT = np.array([[1, 2, -1], [0.5, 0, 3]], np.float32)
BIAS = np.array([0.25, -1], np.float32)
OLD, NEW = "sentence_transformers.models", "sentence_transformers.sentence_transformer.modules.any"


def folder_of(path: Path, *kinds: str, prefix: str = OLD) -> Path:
    """A folder with these modules behind its model, `N_KIND` each."""
    entries = [{"path": "", "type": f"{prefix}.Transformer"}]
    for place, kind in enumerate(kinds, 1):
        (path / f"{place}_{kind}").mkdir(parents=True)
        entries.append({"path": f"{place}_{kind}", "type": f"{prefix}.{kind}"})
    (path / "modules.json").write_text(json.dumps(entries))
    return path


def write_dense(folder: Path, dtype: str = "F32", tensors: dict[str, Any] | None = None, **config: Any) -> None:
    """A layer as sentence-transformers saves it."""
    said = {"in_features": 3, "out_features": 2, "bias": True} | config
    (folder / "config.json").write_text(json.dumps({name: value for name, value in said.items() if value is not None}))
    kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
    header, data = {}, b""
    for name, values in ({"linear.weight": WEIGHT, "linear.bias": BIAS} if tensors is None else tensors).items():
        raw = (values.view(np.uint32) >> 16).astype("<u2") if dtype == "BF16" else values.astype(kinds[dtype])
        header[name] = {
            "dtype": dtype,
            "shape": values.shape,
            "data_offsets": [len(data), len(data) + raw.nbytes],
        }
        data += raw.tobytes()
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


GIVEN = np.array([[1, 2, 3], [-1, 0.5, 0]], np.float32)
SUMS = GIVEN @ WEIGHT.T + BIAS


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
@pytest.mark.parametrize("prefix", [OLD, NEW])
def test_a_matrix_is_multiplied_by(tmp_path: Path, dtype: str, prefix: str) -> None:
    folder = folder_of(tmp_path, "Pooling", "Dense", "Normalize", prefix=prefix)
    write_dense(folder / "2_Dense", dtype, activation_function="torch.nn.modules.linear.Identity")
    found = projection_of("m", folder)(GIVEN)
    assert found == pytest.approx(np.array([unit(row) for row in SUMS]), abs=1e-6)


@pytest.mark.parametrize("name", [None, "torch.nn.modules.activation.Tanh"])
def test_one_that_names_no_activation_has_tanh(tmp_path: Path, name: str | None) -> None:
    folder = folder_of(tmp_path, "Pooling", "Dropout", "Dense")
    write_dense(folder / "3_Dense", activation_function=name)
    assert projection_of("m", folder)(GIVEN)[1] == pytest.approx(unit(np.tanh(SUMS[1])), abs=1e-6)


def test_lengths_are_made_one_where_the_folder_says(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "Pooling", "Normalize", "Dense")
    weight = {"linear.weight": WEIGHT}
    write_dense(folder / "3_Dense", tensors=weight, bias=False, activation_function="torch.nn.Tanh")
    assert projection_of("m", folder)(GIVEN)[0] == pytest.approx(unit(np.tanh(WEIGHT @ unit(GIVEN[0]))), abs=1e-6)


def test_a_folder_without_modules_has_lengths_made_one_alone(tmp_path: Path) -> None:
    for kinds in ((), ("Pooling",), ("Pooling", "Normalize")):
        folder = folder_of(tmp_path / str(len(kinds)), *kinds) if kinds else tmp_path
        assert projection_of("m", folder)(GIVEN)[0] == pytest.approx(unit(GIVEN[0]))
    assert projection_of("m", tmp_path)(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("kinds", "config", "error", "says"),
    [
        (("Pooling", "LSTM"), {}, UnsupportedArchitecture, "modules.json names LSTM in this place"),
        (("Dense", "Pooling"), {}, UnsupportedArchitecture, "names Dense in this place"),
        (("Pooling", "Dense"), {"activation_function": "torch.nn.GELU"}, UnsupportedArchitecture, "activation GELU"),
        (("Pooling", "Dense"), {"module_input_name": "token_embeddings"}, UnsupportedArchitecture, "token_embeddings"),
        (("Pooling", "Dense"), {"in_features": 4}, CorruptFile, "linear.weight of 6 numbers, expected 2 x 4"),
        (("Pooling", "Dense"), {"bias": False}, CorruptFile, "linear.bias of 2 numbers, expected 0"),
        (("Pooling", "Dense"), {"out_features": None}, CorruptFile, "linear.weight of 6 numbers"),
    ],
)
def test_what_has_no_equal_here_is_refused(
    tmp_path: Path, kinds: tuple[str, ...], config: dict[str, Any], error: type[UmlError], says: str
) -> None:
    folder = folder_of(tmp_path, *kinds)
    write_dense(folder / f"2_{kinds[1]}", **config)
    with pytest.raises(error, match=says):
        projection_of("m", folder)


def test_a_layer_without_its_numbers_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "Pooling", "Dense") / "2_Dense"
    write_dense(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadFile, match="safetensors: is not there"):
        projection_of("m", tmp_path)
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(UnsupportedArchitecture, match="a file of PyTorch, which this engine does not read"):
        projection_of("m", tmp_path)
    tensors: dict[str, Any] = {"linear.weight": WEIGHT.astype(np.float16).flatten(), "linear.bias": BIAS}
    found = projection_of("m", tmp_path, lambda path: tensors)(GIVEN)
    assert found[0] == pytest.approx(unit(np.tanh(SUMS[0])), abs=1e-6)


def test_a_matrix_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "Pooling", "Dense")
    write_dense(folder / "2_Dense")
    with pytest.raises(CorruptFile, match="a matrix for vectors of 3 numbers, expected 4, the model's"):
        projection_of("m", folder)(np.ones((1, 4), np.float32))


def test_a_layer_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "Pooling", "Dense")
    write_dense(folder / "2_Dense")
    path = folder / "2_Dense" / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))
    with pytest.raises(CorruptFile, match="a layer of I32"):
        projection_of("m", folder)
