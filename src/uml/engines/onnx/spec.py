"""What ONNX Runtime and ONNX Runtime GenAI are to this program, as data."""

from __future__ import annotations

from typing import Final

from uml.core.engine import EngineSpec
from uml.core.model import READERS, Format, Role
from uml.engines.hosted.dialect import DIALECT

NAME: Final = "onnx"
INSTALL: Final = "uml engine install onnx"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OPTIONS: Final = frozenset(
    _names(
        "engine engine_version device ctx parallel batch threads cache_prompt slot_similarity warmup lora "
        "chat_template chat_template_file reasoning_format pooling"
    )
)

SPEC: Final = EngineSpec(
    name=NAME,
    title="ONNX Runtime",
    formats=frozenset({Format.ONNX_GENAI, Format.ONNX}),
    roles=frozenset({Role.TEXT, *READERS}),
    devices=frozenset({"cpu"}),
    split="whole",
    served=False,
    options=OPTIONS,
    dialect=DIALECT,
    install_command=INSTALL,
)
