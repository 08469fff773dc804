"""A small model that guesses for a large one, and which guesser the load options ask for."""

from __future__ import annotations

from pathlib import Path

from uml.core.errors import BadOption
from uml.core.model import Format, Model, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement
from uml.engines.transformers import loading
from uml.engines.transformers.guess import Guesser, Lookup
from uml.engines.transformers.rows import common
from uml.engines.transformers.step import Stepper, can_step


class Draft:
    """Guesses by a small model of the same vocabulary.

    least, most: tokens guessed at once; it guesses one more after a guess that was right in all, one less after others.
    sure: it goes on only while its own choice has at least this probability.
    """

    def __init__(self, stepper: Stepper, least: int, most: int, sure: float) -> None:
        self._stepper, self._least, self._most, self._sure = stepper, max(1, least), most, sure
        self._now = most
        self._held: list[int] = []

    def guess(self, tokens: list[int], room: int) -> list[int]:
        """What the small model would say."""
        most = min(self._now, room, self._stepper.context - len(tokens))
        if most < self._least:
            return []
        keep = common(self._held, tokens, self._stepper.slots.ring)
        self._held = self._held[:keep]
        guessed: list[int] = []
        new = tokens[keep:]
        while len(guessed) < most:
            scores = self._stepper(0, [len(self._held)], [new], 1, _never)[0, -1].float()
            self._held += new
            token = int(scores.argmax())
            if self._sure and float(scores.softmax(-1)[token]) < self._sure:
                break
            guessed.append(token)
            new = [token]
        return guessed

    def learn(self, guessed: int, right: int) -> None:
        """Guess more where it goes well, and less where it does not."""
        if guessed:
            self._now = min(self._most, self._now + 1) if right == guessed else max(self._least, self._now - 1)


def _never() -> bool:
    return False


def guesser_of(plan: LoadPlan, vocabulary: int, context: int) -> Guesser | None:
    """The guesser that the load options ask for. Raises BadOption, and what a draft model's load raises."""
    options = plan.options
    if options.draft_model and options.spec_type in ("auto", "draft"):
        return _draft(plan, vocabulary, context)
    if options.spec_type in ("auto", "none"):
        return None
    if options.spec_type.startswith("ngram"):
        return Lookup(options.spec_ngram_size_n, options.spec_ngram_size_m)
    raise BadOption("spec_type", options.spec_type, "auto, none, draft with a draft_model, or ngram-simple")


def no_guesser(options: LoadOptions) -> None:
    """See that nobody is to guess for a model whose rows cannot go back. Raises BadOption."""
    expected = "nothing: this model is recurrent, or has an encoder, and cannot go back before a wrong guess"
    if options.draft_model:
        raise BadOption("draft_model", options.draft_model, expected)
    if options.spec_type not in ("auto", "none"):
        raise BadOption("spec_type", options.spec_type, expected)


def _draft(plan: LoadPlan, vocabulary: int, context: int) -> Draft:
    options = plan.options
    path = Path(options.draft_model).expanduser()
    info = ModelInfo(path, Format.SAFETENSORS, Role.DRAFT, 1.0, "named by draft_model", 0)
    wanted = LoadPlan(
        model=Model(f"{plan.model.id} (draft)", info),
        engine=plan.engine,
        options=LoadOptions(dtype=options.dtype, mmap=options.mmap),
        footprint=Footprint(0, 0, 0),
        placement=Placement(dict.fromkeys(plan.placement.device_bytes, 0)),
    )
    model = loading.load(wanted).model
    size = int(model.config.get_text_config().vocab_size)
    if size != vocabulary or not can_step(model):
        raise BadOption(
            "draft_model", options.draft_model, f"a small text model with the same {vocabulary} tokens (it has {size})"
        )
    return Draft(Stepper(model, 1, context), options.draft_min, options.draft_max, options.draft_p_min)
