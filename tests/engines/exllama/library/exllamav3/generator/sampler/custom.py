"""exllamav3.generator.sampler.custom, as far as it is called: what steps do, by other means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from words import record


class SS(Enum):
    INIT = 0
    DONE = 1
    LOGITS = 2
    PROBS_S = 5  # truncated: here, with minus infinity for the logits that were left out


@dataclass
class SamplingState:
    rand_u32: int
    bsz: int
    dim: int
    in_logits: torch.Tensor
    past_ids: torch.Tensor | None
    tokenizer: Any
    logits: Any = None
    sample: torch.Tensor | None = None
    state: SS = SS.INIT

    def changed(self) -> Any:
        if self.state is SS.INIT:
            self.logits, self.state = self.in_logits[0].float().copy(), SS.LOGITS
        return self.logits

    def chosen(self, token: int) -> None:
        self.sample, self.state = torch.tensor([token], dtype=torch.long), SS.DONE


class SS_Base:  # noqa: N801
    def run(self, state: SamplingState) -> None:
        raise NotImplementedError

    def prep(self, in_state: SS) -> None:
        return None

    def alt(self) -> None:
        return None

    def reqs_past_ids(self) -> bool:
        return False

    def reqs_torch_seed(self) -> bool:
        return False


class Named(SS_Base):
    def __init__(self, *values: Any) -> None:
        self.values = values


class Early(Named):
    """Must come before anything is left out."""

    def run(self, state: SamplingState) -> None:
        if state.state not in (SS.INIT, SS.LOGITS):
            raise ValueError("Sampling logic error")
        self.act(state.changed(), state.past_ids)

    def act(self, logits: Any, past: Any) -> None:
        raise NotImplementedError


class SS_LogitBias(Early):  # noqa: N801
    def act(self, logits: Any, past: Any) -> None:
        for token, amount in self.values[0].items():
            if token < len(logits):
                logits[token] += amount


class Penalty(Early):
    def reqs_past_ids(self) -> bool:
        return True


class SS_RepP(Penalty):  # noqa: N801
    def act(self, logits: Any, past: Any) -> None:
        penalty, reach, decay = self.values
        assert decay == 0
        for token in set(past[0, -reach:].tolist()):
            logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty


class SS_PresFreqP(Penalty):  # noqa: N801
    def act(self, logits: Any, past: Any) -> None:
        presence, frequency, reach, decay = self.values
        assert decay == 0
        for token in past[0, -reach:].tolist():
            logits[token] -= frequency
        for token in set(past[0, -reach:].tolist()):
            logits[token] -= presence


class SS_Temperature(Named):  # noqa: N801
    def run(self, state: SamplingState) -> None:
        logits = state.changed()
        logits /= self.values[0]


class Cut(Named):
    def run(self, state: SamplingState) -> None:
        logits = state.changed()
        powers = np.exp(logits - logits.max())
        logits[~self.kept(powers / powers.sum())] = -np.inf
        state.state = SS.PROBS_S

    def kept(self, probs: Any) -> Any:
        raise NotImplementedError


class SS_MinP(Cut):  # noqa: N801
    def kept(self, probs: Any) -> Any:
        return probs >= probs.max() * self.values[0]


class SS_TopK(Cut):  # noqa: N801
    def kept(self, probs: Any) -> Any:
        return probs >= np.sort(probs)[-min(self.values[0], len(probs))]


class SS_TopP(Cut):  # noqa: N801
    def kept(self, probs: Any) -> Any:
        order, kept = np.argsort(-probs), np.zeros(len(probs), bool)
        before = np.cumsum(probs[order]) - probs[order]
        kept[order] = before < self.values[0]
        kept[order[0]] = True
        return kept


class SS_Argmax(Named):  # noqa: N801
    def run(self, state: SamplingState) -> None:
        state.chosen(int(state.changed().argmax()))


class SS_Sample(Named):  # noqa: N801
    def run(self, state: SamplingState) -> None:
        noise = np.random.default_rng(state.rand_u32).gumbel(size=state.dim)
        state.chosen(int((state.changed() + noise).argmax()))


class CustomSampler:
    def __init__(self, steps: list[Any]) -> None:
        record("CustomSampler", steps=[[type(step).__name__, *getattr(step, "values", ())] for step in steps])
        assert all(step.alt() is None and step.prep(SS.INIT) is None for step in steps)
        self.steps = steps
        self.reqs_past_ids = any(step.reqs_past_ids() for step in steps)
        self.reqs_torch_seed = any(step.reqs_torch_seed() for step in steps)

    def forward(
        self,
        logits: torch.Tensor,
        sequence_ids: torch.Tensor | None = None,
        rand_u32: int | None = None,
        tokenizer: Any = None,
        logit_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        assert rand_u32 is not None
        out_shape, dim = logits.shape[:-1], logits.shape[-1]
        logits[..., tokenizer.actual_vocab_size :] = -np.inf
        if logit_mask is not None:
            logits = logits + logit_mask
        rows = logits.reshape(-1, dim)
        state = SamplingState(rand_u32, len(rows), dim, rows, sequence_ids, tokenizer)
        for step in self.steps:
            assert state.state is not SS.DONE, "Sampling logic error"
            step.run(state)
        assert state.state is SS.DONE, "Sampling logic error"
        assert state.sample is not None
        return state.sample.reshape(out_shape)
