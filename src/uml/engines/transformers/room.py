"""Whether there is room for an answer that runs beside the rows: what it needs, against what is free when it begins."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from uml.core.errors import AnswerDoesNotFit
from uml.core.model import ModelInfo
from uml.core.plan import LoadPlan
from uml.engines.transformers.answer import Answer
from uml.engines.transformers.reading import resident_bytes
from uml.formats import inspect
from uml.hardware import memory
from uml.planning.apart import Apart, besides
from uml.planning.budget import room


class Room:
    """The memory of one model's answers that have no row.

    rows: whether its other answers have. batch: tokens that a step of such an answer reads, of all its texts together;
    0: the whole prompt.
    """

    def __init__(self, plan: LoadPlan, model: Any, *, rows: bool, batch: int) -> None:
        self._plan, self._model, self._batch = plan, model, batch
        self.rows = rows

    def check(self, answer: Answer) -> None:
        """Raises AnswerDoesNotFit."""
        texts, beams = texts_of(answer), answer.beams.count if answer.beams else 1
        read = len(answer.prompt) * beams
        inputs = [value for value in answer.inputs.values() if isinstance(value, torch.Tensor)]
        images = [value for value in inputs if value.is_floating_point()]
        apart = Apart(
            texts,
            min(read, max(self._batch, beams) if self._batch else read),
            beams,
            sum(value.numel() for value in images),
            max((value.element_size() for value in images), default=4),
        )
        needed = besides(self._info, self._plan.options, apart, rows=self.rows, in_memory=self._in_memory)
        if needed and needed > (free := self._free()):
            raise AnswerDoesNotFit(self._plan.model.id, _what(answer, texts), needed, free, _less(answer))

    @cached_property
    def _info(self) -> ModelInfo:
        # A worker is not handed the shape that this is reckoned from.
        return inspect(self._plan.model.info.path)

    @property
    def _in_memory(self) -> bool:
        return set(self._plan.placement.device_bytes) <= {"cpu"}

    def _free(self) -> int:
        """Bytes that nobody has and that are not promised to this worker's rows, less what is always left free."""
        device = self._model.device
        if device.type == "cuda":
            # What PyTorch holds and does not use is as good as free; what rows will take is made at their first step.
            held = int(torch.cuda.memory_reserved(device)) - int(torch.cuda.memory_allocated(device))
            return int(torch.cuda.mem_get_info(device)[0]) + held
        promised = max(0, self._plan.footprint.total_bytes - resident_bytes())
        return max(0, room(memory()) - promised)


def texts_of(answer: Answer) -> tuple[int, ...]:
    """Tokens at most of each text that keys and values are kept of; of a search by beams, one for all."""
    whole = len(answer.prompt) + answer.most
    return (whole, len(answer.guidance.tokens) + answer.most) if answer.guidance else (whole,)


def _what(answer: Answer, texts: tuple[int, ...]) -> str:
    if answer.beams:
        return f"num_beams {answer.beams.count}, each with up to {texts[0]} tokens"
    if answer.guidance:
        return f"guidance_scale, by which it reads two texts of up to {max(texts)} tokens"
    return f"a prompt of {len(answer.prompt)} tokens" + (" with the images in it" if answer.inputs else "")


def _less(answer: Answer) -> str:
    kind = "fewer num_beams, " if answer.beams else "smaller or fewer images, " if answer.inputs else ""
    return f"{kind}a shorter prompt and a smaller max_tokens"
