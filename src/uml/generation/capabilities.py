"""capabilities(info, spec): what this model on this engine can do, found out from what both say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from uml.core.engine import EngineSpec
from uml.core.model import ModelInfo, Role
from uml.core.options import OPTIONS
from uml.generation.kinds import ASKED
from uml.generation.parameter import Endpoint, Parameter
from uml.generation.parameters import PARAMETERS, SAMPLERS
from uml.generation.prepare import Checked, prepare

_SAMPLES: Final[Mapping[str, Any]] = {
    "boolean": True,
    "texts": ["temperature"],
    "object": {},
    "array": [],
    "duration": "1m",
    "any": "auto",
}
"""A value of each kind with which a parameter is tried; those of numbers and texts are made."""
_SEES: Final = ("image_token", "vision_start_token", "img_context_token", "boi_token")
"""How keys of a configuration begin that only models for images have."""


@dataclass(frozen=True, slots=True)
class Ability:
    """Whether something can be done, and what gives it or stands against it."""

    can: bool
    why: str


@dataclass(frozen=True, slots=True)
class Said:
    """A parameter of requests on one engine.

    can: it is honoured; `names` are the engine's for it, empty where the server itself does what it says.
    """

    can: bool
    names: tuple[str, ...]
    sampler: bool


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The matrix: abilities, parameters of requests and load options, each by name."""

    abilities: Mapping[str, Ability]
    parameters: Mapping[str, Said]
    options: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class _Case:
    info: ModelInfo
    spec: EngineSpec
    parameters: Mapping[str, Said]
    sessions: bool

    @property
    def is_text(self) -> bool:
        """It answers with text."""
        return self.info.role in (Role.TEXT, Role.DRAFT, Role.UNKNOWN)

    def takes(self, *names: str) -> bool:
        """Whether one of these parameters is honoured."""
        return any(self.parameters[name].can for name in names)


def capabilities(info: ModelInfo, spec: EngineSpec, *, sessions: bool = False) -> Capabilities:
    """What can be asked of this model on this engine. sessions: its workers save conversations."""
    parameters = {one.name: said(one, spec) for one in PARAMETERS if not one.inert}
    case = _Case(info, spec, parameters, sessions)
    return Capabilities(
        {name: found(case) for name, found in ABILITIES.items()},
        parameters,
        {option.name: option.ours or option.name in spec.options for option in OPTIONS},
    )


def said(parameter: Parameter, spec: EngineSpec) -> Said:
    """What becomes of a parameter: it is put into a request for this engine, and looked for in what goes there."""
    sampler = parameter.name in SAMPLERS
    if parameter.ours or parameter.name == "strict":
        return Said(True, (), sampler)
    endpoint: Endpoint = parameter.endpoints[0]
    prepared = prepare(Checked(endpoint, {parameter.name: _sample(parameter)}, plain=False), spec)
    names = tuple(sorted(prepared.body or ()))
    return Said(not prepared.warnings, names, sampler)


def honours(spec: EngineSpec, name: str) -> bool:
    """Whether requests to this engine may have the parameter, by its own name; for `planning.rank`."""
    return any(said(one, spec).can for one in PARAMETERS if one.name == name)


def _sample(parameter: Parameter) -> Any:
    if parameter.choices:
        return parameter.choices[0]
    if parameter.kind in ("integer", "number"):
        low, high = parameter.low or 0, parameter.high or 1
        return 1 if low <= 1 <= high else high
    return _SAMPLES.get(parameter.kind, "1")


def _chat(case: _Case) -> Ability:
    if not case.is_text:
        return Ability(False, f"it is a model for {case.info.role}")
    if case.info.chat_template:
        return Ability(True, "it brings a chat template")
    return Ability(True, "it brings no chat template: the engine's own is used, or the option chat_template")


def _completion(case: _Case) -> Ability:
    return Ability(case.is_text, "it is a language model" if case.is_text else f"it is a model for {case.info.role}")


def _embeddings(case: _Case) -> Ability:
    if case.info.role is Role.EMBEDDING:
        return Ability(True, "it is made for it")
    if case.is_text and "embeddings" in case.spec.options:
        return Ability(True, "once loaded with the option embeddings")
    return Ability(False, f"{case.spec.title} makes no vectors of a model for {case.info.role}")


def _judges(endpoint: Literal["rerank", "classify"]) -> Callable[[_Case], Ability]:
    """An ability of models that score texts."""
    made = Role.RERANKER if endpoint == "rerank" else Role.CLASSIFIER

    def found(case: _Case) -> Ability:
        role = case.info.role
        if role not in case.spec.roles or role not in ASKED[endpoint]:
            return Ability(False, f"it is a model for {role}")
        if endpoint == "classify" and case.spec.served:
            return Ability(False, f"{case.spec.title} scores documents for a query only")
        return Ability(True, "it is made for it" if role is made else "it is a classifier with one label")

    return found


def _tools(case: _Case) -> Ability:
    if not case.is_text or not case.takes("tools"):
        return _cannot(case, "tools")
    template = case.info.chat_template
    if template is not None and "tools" not in template:
        return Ability(False, "its chat template does not know tools")
    return Ability(bool(template), "its chat template knows tools" if template else "it brings no chat template")


def _vision(case: _Case) -> Ability:
    sees = any(key.startswith(_SEES) for key in case.info.metadata)
    if case.is_text and "image" in case.spec.inputs:
        told = "its configuration speaks of images" if sees else "its configuration does not speak of images"
        return Ability(sees, told)
    if case.is_text and "mmproj" in case.spec.options:
        return Ability(True, "once loaded with a projector made for it: the option mmproj")
    return _cannot(case, "images")


def _lora(case: _Case) -> Ability:
    if "lora" not in case.spec.options:
        return _cannot(case, "adapters")
    each = ", and each request chooses" if case.takes("lora") else ""
    return Ability(True, f"with the option lora{each}")


def _thinking(case: _Case) -> Ability:
    template = case.info.chat_template or ""
    if not case.takes("enable_thinking"):
        return _cannot(case, "a switch for thoughts")
    thinks = "enable_thinking" in template
    return Ability(thinks, f"its chat template has {'a' if thinks else 'no'} switch for thoughts")


def _asked(*names: str) -> Callable[[_Case], Ability]:
    """An ability that one of these parameters asks for."""

    def found(case: _Case) -> Ability:
        honoured = [name for name in names if case.parameters[name].can]
        if case.is_text and honoured:
            return Ability(True, f"with {' or '.join(honoured)} in a request")
        return _cannot(case, " or ".join(names))

    return found


def _told_of_prompt(case: _Case) -> Ability:
    if case.is_text and case.takes("echo") and case.takes("logprobs"):
        return Ability(True, "with echo and logprobs in a completion")
    return _cannot(case, "echo")


def _loaded(*names: str) -> Callable[[_Case], Ability]:
    """An ability that one of these load options gives."""

    def found(case: _Case) -> Ability:
        honoured = [name for name in names if name in case.spec.options]
        return (
            Ability(True, f"with the option {' or '.join(honoured)}") if honoured else _cannot(case, " or ".join(names))
        )

    return found


def _sessions(case: _Case) -> Ability:
    if case.sessions:
        return Ability(True, "conversations are saved when it is unloaded, and read back")
    return _cannot(case, "saved conversations")


def _cannot(case: _Case, what: str) -> Ability:
    reason = f"{case.spec.title} has no {what}" if case.is_text else f"it is a model for {case.info.role}"
    return Ability(False, reason)


ABILITIES: Final[Mapping[str, Callable[[_Case], Ability]]] = {
    "chat": _chat,
    "completion": _completion,
    "embeddings": _embeddings,
    "rerank": _judges("rerank"),
    "classify": _judges("classify"),
    "tools": _tools,
    "vision": _vision,
    "thinking": _thinking,
    "json_schema": _asked("json_schema", "response_format"),
    "grammar": _asked("grammar"),
    "logprobs": _asked("logprobs"),
    "prompt_logprobs": _told_of_prompt,
    "guidance": _asked("guidance_scale"),
    "contrastive_search": _asked("penalty_alpha"),
    "lora": _lora,
    "speculative": _loaded("draft_model", "spec_type"),
    "parallel": _loaded("parallel"),
    "quantized_cache": _loaded("cache_type_k", "cache_type_v"),
    "several_gpus": _loaded("tensor_split", "split_mode"),
    "sessions": _sessions,
}
"""Every ability and what it depends on, in the order in which they are shown."""
