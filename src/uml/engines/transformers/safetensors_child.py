"""The child's side of a conversion to safetensors: checkpoints are read without running them, written, and compared.

Run as a file by the interpreter of a Transformers install: `python -I safetensors_child.py JOB.json`. Tensors alone
are unpickled (`weights_only`). One line a percent on stdout; it ends with a sentence and code 1 where it cannot be.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

NESTS: Final = ("state_dict", "model_state_dict", "model", "module")
"""Where training programs put the weights beside their own things."""
OUTPUTS: Final = ("lm_head.weight", "embed_out.weight", "predictions.decoder.weight", "embed_tokens.weight")
"""Names that loaders tie to the embedding again."""


class Refused(Exception):
    """It cannot be converted, and why."""


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, by name. Raises Refused, OSError."""
    try:
        # Mapped, a shard need not fit into memory; pickles of before 2020 cannot be.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise Refused(
            f"{path.name} holds more than tensors, and what is more might run as a program: {_first_line(error)}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise Refused(f"{path.name} cannot be read: {_first_line(error)}") from error
    return _named(path, found)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next(
        (line for line in lines if line.startswith(("Unsupported", "WeightsUnpickler"))), lines[0] if lines else ""
    )
    return told or type(error).__name__


def _named(path: Path, found: Any) -> dict[str, torch.Tensor]:
    for key in (None, *NESTS):
        inside = found if key is None else found.get(key) if isinstance(found, Mapping) else None
        if isinstance(inside, Mapping) and inside and all(isinstance(value, torch.Tensor) for value in inside.values()):
            return {str(name): value for name, value in inside.items()}
    raise Refused(f"{path.name} holds no tensors by name")


def whole(tensors: Mapping[str, torch.Tensor], tied: bool) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors of their own memory each, as safetensors wants them, and those left out, with what they are.

    tied: whether loaders tie the output to the embedding. Then that is written once; all others that share memory are
    written each.
    """
    kept: dict[str, torch.Tensor] = {}
    twins: dict[str, str] = {}
    places: dict[tuple[Any, ...], str] = {}
    for name in sorted(tensors, key=lambda name: name.endswith(OUTPUTS[:3])):
        tensor = tensors[name]
        place = (
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
        )
        if tied and tensor.numel() and place in places and name.endswith(OUTPUTS):
            twins[name] = places[place]
            continue
        places.setdefault(place, name)
        shared = tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
        kept[name] = tensor.contiguous().clone() if shared or name != places[place] else tensor.contiguous()
    return {name: kept[name] for name in tensors if name in kept}, twins


def compare(path: Path, expected: Mapping[str, torch.Tensor]) -> None:
    """Raises Refused where a tensor of the new file is not, bit for bit, what it was made of."""
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        if names != expected.keys():
            raise Refused(f"{path.name} has other tensors than what it was made of")
        for name, tensor in expected.items():
            made = file.get_tensor(name)
            same = made.dtype == tensor.dtype and made.shape == tensor.shape
            if not same or not torch.equal(_bytes(made), _bytes(tensor)):
                raise Refused(f"{name} in {path.name} is not what it was made of")


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    # Numbers that are none are unequal to themselves; their bytes are not.
    return (
        tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor.new_empty(0, dtype=torch.uint8)
    )


def written(job: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Each new file, when it is written and compared."""
    taken: dict[str, str] = {}
    for pair in job["files"]:
        tensors, twins = whole(tensors_of(Path(pair["from"])), job["tied"])
        if twice := sorted(tensors.keys() & taken.keys()):
            raise Refused(f"{twice[0]} is in {taken[twice[0]]} and in {Path(pair['from']).name}")
        taken |= dict.fromkeys(tensors, Path(pair["from"]).name)
        to = Path(pair["to"])
        try:
            save_file(tensors, to, metadata={"format": "pt", **twins})
            compare(to, tensors)
        except (SafetensorError, ValueError, RuntimeError) as error:
            raise Refused(f"{to.name} cannot be written: {_first_line(error)}") from error
        yield to.name, tensors


def main(path: str) -> None:
    """Do what the job says: `files` from and to, `index` to write or none, `tied`."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # killed with its parent, it would work on for nobody: PR_SET_PDEATHSIG
    job: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
    total = sum(pair["size"] for pair in job["files"]) or 1
    places: dict[str, str] = {}
    done = size = 0
    try:
        for pair, (name, tensors) in zip(job["files"], written(job), strict=True):
            places |= dict.fromkeys(tensors, name)
            size += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
            done += pair["size"]
            print(f"{100 * done // total}% {name}", flush=True)  # noqa: T201  # the parent reads it
    except Refused as error:
        sys.exit(f"Refused: {error}")
    except OSError as error:
        sys.exit(f"Refused: {error.strerror or error}")
    if job["index"]:
        index = {"metadata": {"total_size": size}, "weight_map": places}
        Path(job["index"]).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
