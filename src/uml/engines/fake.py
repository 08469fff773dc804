"""An engine that invents tokens: for tests, and to see how everything around an engine behaves.

It runs as a real worker process and takes any format. It is never chosen by itself, only by
`options.engine = "fake"`. What it answers is the last user message, word by word, and then `1 2 3 ...`; in capitals
while an adapter works.
Speeds and faults come as `NAME=VALUE` in `options.extra_flags`; `Faults` lists them.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

from uml.core.engine import Availability, Endpoint, EngineSpec, Launch
from uml.core.errors import BadOption, BadRequest, ContextLengthExceeded, OutOfMemory, UmlError
from uml.core.host import Classes, Delta
from uml.core.install import Installed, nowhere
from uml.core.model import Format, Role
from uml.core.options import LoadOptions
from uml.core.plan import LoadPlan
from uml.engines import handover

NAME: Final = "fake"
DEFAULT_TOKENS: Final = 32
DEFAULT_CONTEXT: Final = 2048
EMBEDDING_LENGTH: Final = 8


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DEAF: Final = _names(
    "ignore_eos min_tokens t_max_predict_ms temperature top_k top_p min_p top_a typical_p tfs top_h top_n_sigma "
    "epsilon_cutoff eta_cutoff xtc_probability xtc_threshold min_keep dynamic_temperature dynatemp_low dynatemp_high "
    "dynatemp_range dynatemp_exponent smoothing_factor smoothing_curve adaptive_target adaptive_decay mirostat_mode "
    "mirostat_tau mirostat_eta repetition_penalty repetition_penalty_range presence_penalty frequency_penalty "
    "encoder_repetition_penalty no_repeat_ngram_size dry_multiplier dry_base dry_allowed_length dry_penalty_last_n "
    "dry_sequence_breakers penalty_alpha guidance_scale negative_prompt do_sample sampler_priority temperature_last "
    "plugin_samplers logit_bias custom_token_bans banned_strings num_beams length_penalty early_stopping grammar "
    "json_schema regex choice response_format tools tool_choice parallel_tool_calls chat_template_kwargs "
    "enable_thinking reasoning_effort reasoning_format reasoning_budget_tokens add_generation_prompt "
    "continue_final_message logprobs top_logprobs n_probs post_sampling_probs return_tokens return_progress "
    "timings_per_token echo suffix best_of cache_prompt n_keep n_discard n_indent dimensions"
)
"""Parameters of requests that change nothing here: whoever gives one is told so, as with every engine."""

SPEC: Final = EngineSpec(
    name=NAME,
    title="Invented tokens, for tests",
    formats=frozenset(Format),
    roles=frozenset(Role),
    devices=frozenset({"cpu", "cuda", "rocm", "metal", "vulkan"}),
    split="devices",
    served=False,
    options=frozenset({"engine", "ctx", "parallel", "extra_flags"}),
    dialect=dict.fromkeys(DEAF),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What to do otherwise than a healthy engine. Counts of tokens run over one answer; 0 means never.

    load_s: how long the load takes; tokens_per_s: how fast an answer comes, 0 for as fast as it goes.
    memory_mib: memory to hold while loaded.
    crash_on_load, hang_on_load, oom_on_load, illegal_instruction: what the load ends in.
    oom_above_ctx: as oom_on_load, but only with a larger context than this.
    crash_after_tokens, hang_after_tokens: where an answer ends.
    crash_once_after_tokens: as crash_after_tokens, but only while the file `marker` does not exist.
    ignore_sigterm: hang when asked to end.
    """

    load_s: float = 0.0
    tokens_per_s: float = 0.0
    memory_mib: int = 0
    crash_on_load: int = 0
    hang_on_load: int = 0
    oom_on_load: int = 0
    oom_above_ctx: int = 0
    illegal_instruction: int = 0
    crash_after_tokens: int = 0
    crash_once_after_tokens: int = 0
    hang_after_tokens: int = 0
    ignore_sigterm: int = 0
    marker: str = ""

    @classmethod
    def parse(cls, options: LoadOptions) -> Faults:
        """Read from `extra_flags`. Raises BadOption for a name or value that is none of these."""
        values: dict[str, Any] = {}
        for flag in options.extra_flags:
            name, equals, text = flag.partition("=")
            read = READERS.get(name)
            if read is None or not equals:
                raise BadOption("extra_flags", flag, f"NAME=VALUE with a name of {', '.join(READERS)}")
            try:
                values[name] = read(text)
            except ValueError as error:
                raise BadOption("extra_flags", flag, f"a value that {read.__name__} reads") from error
        faults = cls(**values)
        if faults.crash_once_after_tokens and not faults.marker:
            raise BadOption("extra_flags", "crash_once_after_tokens", "marker=PATH beside it, to remember the crash")
        return faults


READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    field.name: {float: float, int: int, str: str}[type(field.default)] for field in fields(Faults)
}


class Fake:
    """The parent's side. It needs no install, and runs in one where there is one: to see how that goes."""

    def __init__(self, installed: Installed = nowhere) -> None:
        self.spec = SPEC
        self._installed = installed

    def available(self) -> Availability:
        """Always."""
        return Availability(True, "1", "hosted", "comes with this package")

    def launch(self, plan: LoadPlan, endpoint: Endpoint) -> Launch:
        """The command for a worker. Raises BadOption for a fault it does not know."""
        faults = Faults.parse(plan.options)
        launch = handover.launch(NAME, plan, endpoint, {}, self._installed(NAME, plan.options.engine_version))
        return replace(launch, writes=(*launch.writes, Path(faults.marker).parent)) if faults.marker else launch

    def cause(self, plan: LoadPlan, log: str, exit_code: int | None) -> UmlError | None:
        """What the worker wrote last, else what its signal says."""
        return handover.failure_in(log) or handover.cause_of_exit(plan, exit_code)


class FakeHost:
    """The child's side."""

    def __init__(self) -> None:
        self._faults = Faults()
        self._context = DEFAULT_CONTEXT
        self._role = Role.TEXT
        self._held = bytearray()
        self._pieces: list[str] = []
        self._ids: dict[str, int] = {}
        self._adapters: dict[int, dict[str, Any]] = {}
        self._loaded = count()

    def load(self, plan: LoadPlan) -> None:
        """Take the time and the memory that were asked for, or fail as asked."""
        self._faults = faults = Faults.parse(plan.options)
        self._role = plan.model.info.role
        self._context = plan.options.ctx or plan.model.info.context_length or DEFAULT_CONTEXT
        # Written through, so that the memory is resident and not merely promised.
        self._held = bytearray(b"\1") * (faults.memory_mib << 20)
        time.sleep(faults.load_s)
        if faults.hang_on_load:
            while True:
                time.sleep(3600)
        if faults.illegal_instruction:
            os.kill(os.getpid(), signal.SIGILL)
        if faults.oom_on_load or 0 < faults.oom_above_ctx < self._context:
            raise OutOfMemory(plan.model.id, "cpu", plan.footprint.total_bytes or 1 << 30, 1 << 20)
        if faults.crash_on_load:
            _crash()

    async def generate(self, request: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """The last user message again, word by word, then numbers, until `max_tokens`."""
        words = split(last_words(request))
        prompt = sum(len(split(text)) for text in texts(request))
        if prompt > self._context:
            raise ContextLengthExceeded(prompt, self._context)
        limit = min(request.get("max_tokens") or DEFAULT_TOKENS, max(1, self._context - prompt))
        numbers, loud = count(1), self._is_loud(request)
        for index in range(limit):
            text = words[index] if index < len(words) else f" {next(numbers)}"
            text = text.upper() if loud else text
            await self._pause(index)
            yield Delta(text, finish="length" if index + 1 == limit else None, prompt_tokens=0 if index else prompt)

    async def _pause(self, made: int) -> None:
        faults = self._faults
        await asyncio.sleep(1 / faults.tokens_per_s if faults.tokens_per_s else 0)
        if faults.crash_after_tokens and made == faults.crash_after_tokens:
            _crash()
        if faults.crash_once_after_tokens and made == faults.crash_once_after_tokens and _first_time(faults.marker):
            _crash()
        if faults.hang_after_tokens and made == faults.hang_after_tokens:
            await asyncio.Event().wait()

    def tokenize(self, text: str) -> list[int]:
        """One token a word with the blanks before it. Ids are given out in the order in which words are first seen."""
        found = []
        for piece in split(text):
            if piece not in self._ids:
                self._ids[piece] = len(self._pieces)
                self._pieces.append(piece)
            found.append(self._ids[piece])
        return found

    def detokenize(self, tokens: list[int]) -> str:
        """The words of ids that `tokenize` gave out. Raises BadRequest for others."""
        try:
            return "".join(self._pieces[token] for token in tokens if token >= 0)
        except IndexError as error:
            raise BadRequest(f"a token is not one of the {len(self._pieces)} known so far", param="tokens") from error

    def embed(self, texts: list[str]) -> list[list[float]]:
        """Unit vectors that depend on the bytes of the text."""
        vectors = []
        for text in texts:
            sums = [1.0] * EMBEDDING_LENGTH
            for index, byte in enumerate(text.encode()):
                sums[index % EMBEDDING_LENGTH] += byte
            length = sum(value * value for value in sums) ** 0.5
            vectors.append([value / length for value in sums])
        return vectors

    def adapters(self) -> list[dict[str, Any]]:
        """What is loaded."""
        return list(self._adapters.values())

    def load_adapter(self, path: str, scale: float) -> int:
        """Any folder with the file of PEFT is one. Raises BadOption."""
        if not (Path(path) / "adapter_config.json").is_file():
            raise BadOption("lora", path, "a folder with adapter_config.json")
        id = next(self._loaded)
        self._adapters[id] = {"id": id, "path": path, "scale": scale}
        return id

    def unload_adapter(self, id: int) -> None:
        """Take one out. Raises BadRequest."""
        self._known(id)
        del self._adapters[id]

    def scale_adapters(self, scales: Mapping[int, float]) -> None:
        """What requests get that do not say. Raises BadRequest."""
        for id, scale in scales.items():
            self._known(id)["scale"] = scale

    def _known(self, id: int) -> dict[str, Any]:
        if id not in self._adapters:
            raise BadRequest(f"lora: there is no adapter {id}", param="lora")
        return self._adapters[id]

    def _is_loud(self, request: Mapping[str, Any]) -> bool:
        given = request.get("lora")
        if given is None:
            return any(one["scale"] for one in self._adapters.values())
        scales = [one.get("scale", 1) for one in given if self._known(one["id"])]
        return any(scales)

    def classes(self) -> Classes | None:
        """One label for a reranker; the length of a text for a classifier."""
        if self._role is Role.RERANKER:
            return Classes(("relevant",), "sigmoid")
        return Classes(("short", "long"), "softmax") if self._role is Role.CLASSIFIER else None

    def score(self, texts: Sequence[str | tuple[str, str]]) -> tuple[list[list[float]], int]:
        """How many words query and document share; how many words a text has, for a classifier against five."""
        words = [tuple(map(split, (text,) if isinstance(text, str) else text)) for text in texts]
        rows = []
        for parts in words:
            shared = set.intersection(*({word.strip() for word in part} for part in parts))
            against = [5.0] if self._role is Role.CLASSIFIER else []
            rows.append([*against, float(len(shared) if len(parts) > 1 else len(parts[0]))])
        return rows, sum(len(part) for parts in words for part in parts)

    def close(self) -> None:
        """Give the memory back; never return when asked to ignore the end."""
        self._held = bytearray()
        while self._faults.ignore_sigterm:
            time.sleep(3600)


def split(text: str) -> list[str]:
    """Words with the blanks before them; blanks at the end are a piece of their own."""
    return re.findall(r"\s*\S+|\s+\Z", text)


def texts(request: Mapping[str, Any]) -> list[str]:
    """Everything that counts as prompt: `prompt`, or what the messages say."""
    if "prompt" in request:
        return [request["prompt"]]
    found = []
    for place, message in enumerate(request["messages"]):
        content = message.get("content") or ""
        parts = content if isinstance(content, list) else [{"text": content}]
        for index, part in enumerate(parts):
            if "text" not in part:
                where = f"messages[{place}].content[{index}]"
                raise BadRequest(f"{where} is of type {part.get('type')}; this engine reads texts only", param=where)
            found.append(part["text"])
    return found


def last_words(request: Mapping[str, Any]) -> str:
    """The prompt, or the last message of the user."""
    if "prompt" in request:
        return str(request["prompt"])
    asked = [message for message in request["messages"] if message.get("role") == "user"]
    return " ".join(text for text in texts({"messages": asked[-1:]}) if text)


def _first_time(marker: str) -> bool:
    path = Path(marker)
    if path.exists():
        return False
    path.touch()
    return True


def _crash() -> None:
    sys.stderr.write("fake: crashing as asked\n")
    sys.stderr.flush()
    os.abort()
