"""Vectors and labels from a bare .onnx file, by ONNX Runtime and the tokenizer beside it: the child's side."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uml.core.errors import BadFile, BadRequest, ContextLengthExceeded, MissingShard, UnsupportedArchitecture
from uml.core.host import Classes, Delta
from uml.core.model import Role
from uml.core.plan import LoadPlan
from uml.engines.hosted.classes import classes_of
from uml.engines.hosted.projection import Dense, Projection, projection_of
from uml.engines.onnx.causes import cause, failure
from uml.engines.onnx.language import TOKENIZER, check_ids, read_tokenizer
from uml.engines.onnx.native import TELEMETRY
from uml.formats.sentence import pooled_by

AT_ONCE: Final = 32
"""Texts that are computed together; shorter ones are filled up to the longest."""
INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
POOLED: Final = ("sentence_embedding", "pooler_output", "embeddings")
"""Outputs that are one vector a text already. A model's `pooler_output` is used only where it has nothing else."""
STATES: Final = ("last_hidden_state", "token_embeddings", "hidden_states")
SCORES: Final = ("logits", "scores", "output")
"""Outputs with a number for each label of a text."""
POOLINGS: Final = ("mean", "cls", "last")

Floats = NDArray[np.float32]


class Encoder:
    """A loaded model that reads texts. Raises an UmlError where it cannot be loaded."""

    def __init__(self, plan: LoadPlan) -> None:
        # Read when the library is initialized, so before it is.
        os.environ.update(TELEMETRY)
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        self._plan, path = plan, plan.model.info.path
        self._folder = folder_of(path)
        _, self._tokenizer = read_tokenizer(self._folder)
        # What does not fit is refused, never cut; and we fill up ourselves.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pad = _padding(self._folder, self._tokenizer)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = plan.options.threads or len(os.sched_getaffinity(0))
        try:
            self._session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            # Its errors have no common class of their own.
            raise cause(plan, str(error)) from error
        self._inputs = {one.name: one.type for one in self._session.get_inputs()}
        outputs = {one.name: len(one.shape) for one in self._session.get_outputs()}
        self._judges = plan.model.info.role in (Role.RERANKER, Role.CLASSIFIER)
        self._output = _scoring(outputs) if self._judges else _chosen(outputs)
        if strange := [name for name in self._inputs if name not in INPUTS]:
            told = f"it wants {', '.join(strange)}; of a text there are {', '.join(INPUTS)}"
            raise UnsupportedArchitecture(plan.model.id, told)
        if not self._output:
            expected = ", ".join(SCORES if self._judges else (*POOLED, *STATES))
            told = f"its outputs are {', '.join(outputs)}; expected one of {expected}"
            raise UnsupportedArchitecture(plan.model.id, told)
        self._pooling = self._pooling_of(outputs[self._output], plan.options.pooling)
        self._limit = plan.options.ctx or plan.model.info.context_length or 0
        # A graph with its own `sentence_embedding` has all of that in it; whose vectors others are, nothing says.
        whole = self._judges or self._output == POOLED[0]
        self._project = Projection() if whole else projection_of(plan.model.id, self._folder)
        if not self._pooling and any(isinstance(layer, Dense) for layer in self._project.layers):
            told = f"its folder has a matrix behind the pooling, and {self._output} may be before or behind them"
            raise UnsupportedArchitecture(plan.model.id, told)
        config = _read(self._folder / "config.json")
        self._classes = classes_of(config, self._labels(config)) if self._judges else None

    def _labels(self, config: Mapping[str, Any]) -> int:
        """How many labels the output has, or the configuration names. Raises BadFile where they differ."""
        (shape,) = (one.shape for one in self._session.get_outputs() if one.name == self._output)
        named = config.get("id2label")
        said = len(named) if isinstance(named, dict) else 0
        count = shape[-1] if isinstance(shape[-1], int) else said or 2
        if said and said != count:
            path = self._plan.model.info.path
            raise BadFile(path, f"its output has {count} labels, and config.json beside it names {said}")
        return count

    def _pooling_of(self, rank: int, asked: str) -> str:
        """How the states of all tokens become one vector; empty where they are one already."""
        if rank == 2:
            return ""  # ready vectors, or scores
        if asked not in ("auto", "none", "rank"):
            return asked
        said = pooled_by(self._folder) or "mean"
        if said not in POOLINGS:
            told = (
                f"it makes one vector of many by {said!r}, which is not had here; the option pooling takes another way"
            )
            raise UnsupportedArchitecture(self._plan.model.id, told)
        return said

    def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector a text, of length 1. Raises BadRequest, ContextLengthExceeded, EngineError."""
        if self._judges:
            raise BadRequest(f"{self._plan.model.id} makes no vectors of texts; use {self._route()}", param="model")
        rows = self._tokenizer.encode_batch(texts)
        self._check(rows, "input")
        vectors: list[list[float]] = []
        for start in range(0, len(rows), AT_ONCE):
            vectors += self._vectors(rows[start : start + AT_ONCE]).tolist()
        return vectors

    def classes(self) -> Classes | None:
        """As `Classifies.classes`."""
        return self._classes

    def score(self, texts: Sequence[str | tuple[str, str]]) -> tuple[list[list[float]], int]:
        """As `Classifies.score`. Raises ContextLengthExceeded, EngineError."""
        rows = self._tokenizer.encode_batch(list(texts))
        self._check(rows, "input" if isinstance(texts[0], str) else "documents")
        scores: list[list[float]] = []
        for start in range(0, len(rows), AT_ONCE):
            scores += self._run(rows[start : start + AT_ONCE])[0].tolist()
        return scores, sum(len(row.ids) for row in rows)

    def _check(self, rows: Sequence[Any], param: str) -> None:
        longest = max(len(row.ids) for row in rows)
        if self._limit and longest > self._limit:
            raise ContextLengthExceeded(longest, self._limit, param)

    def _vectors(self, rows: Sequence[Any]) -> Floats:
        found, mask = self._run(rows)
        return self._project(pool(found, mask, self._pooling) if self._pooling else found)

    def _run(self, rows: Sequence[Any]) -> tuple[Floats, NDArray[np.int64]]:
        """The output for tokenized texts, filled up to the longest, and which of their tokens are there."""
        width = max(1, *(len(row.ids) for row in rows))
        ids = np.full((len(rows), width), self._pad, np.int64)
        mask, kinds = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row.ids)] = row.ids
            kinds[index, : len(row.ids)] = row.type_ids
            mask[index, : len(row.ids)] = 1
        positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
        fed = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": kinds,
            "position_ids": positions,
        }
        inputs = {
            name: fed[name].astype(np.int32) if kind == "tensor(int32)" else fed[name]
            for name, kind in self._inputs.items()
        }
        try:
            (found,) = self._session.run([self._output], inputs)
        except Exception as error:
            # As above: the library's errors have no common class.
            raise failure(self._plan, str(error)) from error
        return found.astype(np.float32), mask

    def tokenize(self, text: str) -> list[int]:
        """As `Host.tokenize`."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def detokenize(self, tokens: list[int]) -> str:
        """As `Host.detokenize`."""
        check_ids(tokens, self._tokenizer.get_vocab_size())
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))

    def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """It writes nothing. Raises BadRequest."""
        raise self._mute()

    def prompt(self, request: Mapping[str, Any]) -> str:
        """It has no chat template. Raises BadRequest."""
        raise self._mute()

    def _mute(self) -> BadRequest:
        return BadRequest(f"{self._plan.model.id} reads texts, and writes none; use {self._route()}", param="model")

    def _route(self) -> str:
        if self._classes is None:
            return "/v1/embeddings"
        return "/v1/rerank" if len(self._classes.labels) == 1 else "/v1/classify"

    def adapters(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def load_adapter(self, path: str, scale: float) -> int:
        """It takes none. Raises BadRequest."""
        raise BadRequest("adapters are for models that generate text", param="lora")

    def unload_adapter(self, id: int) -> None:
        """There is none. Raises BadRequest."""
        raise BadRequest(f"there is no adapter {id}", param="id")

    def scale_adapters(self, scales: Mapping[int, float]) -> None:
        """There is none. Raises BadRequest."""
        raise BadRequest("there are no adapters", param="lora")

    def close(self) -> None:
        """Give the model back."""
        del self._session


def pool(states: Floats, mask: NDArray[np.int64], way: str) -> Floats:
    """States `[texts, tokens, size]` as one vector a text, over the tokens of which `mask` is 1: mean, cls or last."""
    if way == "cls":
        return states[:, 0]
    if way == "last":
        last = np.maximum(mask.sum(axis=1) - 1, 0)
        lasts: Floats = states[np.arange(len(states)), last]
        return lasts
    kept = mask[:, :, None].astype(np.float32)
    total: Floats = (states * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
    return total


def folder_of(path: Path) -> Path:
    """Where the tokenizer lies: beside the graph, or above a folder `onnx`. Raises MissingShard."""
    for folder in (path.parent, path.parent.parent):
        if (folder / TOKENIZER).is_file():
            return folder
        if path.parent.name != "onnx":
            break
    raise MissingShard(path.parent, [f"{TOKENIZER}, without which no text can be read"])


def _chosen(outputs: Mapping[str, int]) -> str:
    """The output to use, by its name and how many dimensions it has; empty where none is known."""
    return next((name for name in (POOLED[0], *STATES, *POOLED[1:]) if outputs.get(name) in (2, 3)), "")


def _scoring(outputs: Mapping[str, int]) -> str:
    """The output with the labels' scores, `[texts, labels]`; empty where there is none."""
    return next((name for name in SCORES if outputs.get(name) == 2), "")


def _padding(folder: Path, tokenizer: Any) -> int:
    settings = _read(folder / "config.json")
    found = settings.get("pad_token_id")
    if isinstance(found, int):
        return found
    named = tokenizer.token_to_id("[PAD]")
    return named if named is not None else tokenizer.token_to_id("<pad>") or 0


def _read(path: Path) -> Mapping[str, Any]:
    """A small JSON object beside the model; empty where there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
