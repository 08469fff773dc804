"""`/v1/models/quantize` and `convert`: models made of others, on the server's machine."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from pydantic import Field

from uml import workbench
from uml.core.model import Model
from uml.gateway.bodies import Strict
from uml.gateway.making import Making, Tell
from uml.house import House, path_in

_EVENTS = "Tell the progress with server-sent events: progress, warning, made, ready, error"


class QuantizeBody(Strict):
    """What to make of a GGUF model. The files go into the data folder, and are known from then on."""

    model: str = Field(description="Id, alias or path")
    to: list[str] = Field(description="Kinds of file: q4_k_m, iq4_xs, ...", min_length=1, max_length=64)
    imatrix: str | None = Field(None, description="Path of an importance matrix; the smallest kinds need one")
    text: str | None = Field(None, description="A text of some pages, for the perplexity of the old and new models")
    threads: int = Field(0, description="Cores to use; 0: all", ge=0, le=1024)
    stream: bool = Field(False, description=_EVENTS)


class ConvertBody(Strict):
    """What to make of a model. It goes into the data folder, and is known from then on."""

    model: str = Field(description="Id, alias or path")
    to: str = Field(description="gguf, safetensors or onnx")
    precision: str = Field("", description="How weights are kept; empty for the usual")
    threads: int = Field(0, description="For gguf: cores to use; 0: all", ge=0, le=1024)
    stream: bool = Field(
        False, description="Tell the progress with server-sent events: progress, warning, ready, error"
    )


def add(app: FastAPI, house: House) -> None:
    """Put the routes into the application."""

    @app.post(
        "/v1/models/quantize", tags=["models"], summary="Make smaller files of a model; closing the connection cancels"
    )
    async def quantize(body: QuantizeBody) -> Response:
        model = await asyncio.to_thread(_fresh, house, body.model)

        def work(tell: Tell, cancelled: Callable[[], bool]) -> dict[str, Any]:
            kinds = workbench.kinds_of(body.to, matrix=body.imatrix is not None)
            matrix = Path(body.imatrix) if body.imatrix else None
            with tempfile.TemporaryDirectory(prefix="uml-text-") as folder:
                text = None
                if body.text:
                    text = Path(folder) / "text"
                    text.write_text(body.text, "utf-8")
                wish = workbench.Quantizing(kinds, None, text, matrix, body.threads)
                return workbench.quantized(house.library, model, wish, tell, cancelled)

        return Making(work, stream=body.stream)

    @app.post(
        "/v1/models/convert",
        tags=["models"],
        summary="Make a model of another format out of one; closing the connection cancels",
    )
    async def convert(body: ConvertBody) -> Response:
        model = await asyncio.to_thread(_fresh, house, body.model)

        def work(tell: Tell, cancelled: Callable[[], bool]) -> dict[str, Any]:
            wish = workbench.Converting(body.to, None, body.precision.lower(), threads=body.threads)
            return workbench.converted(house.library, model, wish, tell, cancelled)

        return Making(work, stream=body.stream)


def _fresh(house: House, name: str) -> Model:
    """The model of this name, its file looked at once more; a path that is not known yet is registered."""
    path, registry = path_in(name), house.library.registry
    return registry.add(path) if path else registry.fresh(registry.resolve(name))
