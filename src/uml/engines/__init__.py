"""Engines: the parent's side by name, and the child's side of those that need our server.

An engine's file is imported when it is asked for; none of them imports its library in the parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from uml.core.install import Installed, nowhere

if TYPE_CHECKING:
    from uml.core.engine import Engine
    from uml.core.host import Host


def builtin(
    llama_server: Path | None = None, installed: Installed = nowhere, programs: Mapping[str, Path | None] | None = None
) -> dict[str, Engine]:
    """The engines of this package by name, the preferred one first.

    llama_server: a `llama-server` program to run instead of the built-in llama.cpp.
    installed: finds the environments of engines; one that has none is not available, unless it comes with this package.
    programs: by engine, a server of the user's to run instead of an install's: `vllm`, `tensorrt-llm`.
    """
    from uml.engines.exllama.engine import version_2, version_3
    from uml.engines.fake import Fake
    from uml.engines.llamacpp.engine import LlamaCpp
    from uml.engines.onnx.engine import Onnx
    from uml.engines.tensorrt.engine import TensorRt
    from uml.engines.transformers.engine import Transformers
    from uml.engines.vllm.engine import Vllm

    given = programs or {}
    engines: tuple[Engine, ...] = (
        LlamaCpp(llama_server, installed),
        Transformers(installed),
        Onnx(installed),
        version_3(installed),
        version_2(installed),
        Vllm(installed, given.get("vllm")),
        TensorRt(installed, given.get("tensorrt-llm")),
        Fake(installed),
    )
    return {engine.spec.name: engine for engine in engines}


def host(name: str) -> Host:
    """The child's side of a hosted engine. Raises KeyError for an engine that has none.

    name: also `package.module:Class`, as engines of plug-ins are named (`handover.launch_host`).
    """
    module, colon, kind = name.partition(":")
    if colon:
        from importlib import import_module

        found: Host = getattr(import_module(module), kind)()
        return found
    if name == "onnx":
        from uml.engines.onnx.host import OnnxHost

        return OnnxHost()
    if name == "transformers":
        from uml.engines.transformers.host import TransformersHost

        return TransformersHost()
    if name == "exllamav3":
        from uml.engines.exllama.host import ExLlamaHost
        from uml.engines.exllama.v3 import Library3

        return ExLlamaHost(Library3)
    if name == "exllamav2":
        from uml.engines.exllama.host import ExLlamaHost
        from uml.engines.exllama.v2 import Library2

        return ExLlamaHost(Library2)
    if name == "fake":
        from uml.engines.fake import FakeHost

        return FakeHost()
    raise KeyError(name)
