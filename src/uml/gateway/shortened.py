"""`dimensions`: vectors cut to a length, and made of length 1 again.

That is how models with vectors inside their vectors are used (Kusupati et al. 2022, Matryoshka Representation
Learning); those of others lose more by it.
"""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

from uml.core.errors import BadRequest
from uml.generation import Checked


class Shortened:
    """Cuts the vectors of one reply, written as numbers or as base64 of 32-bit floats."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions

    def apply(self, value: dict[str, Any]) -> None:
        """Rewrite a reply in place. Raises BadRequest for more than the vectors have."""
        for item in value.get("data") or ():
            found = item["embedding"]
            if isinstance(found, str):
                packed = base64.b64decode(found)
                numbers = self._cut(list(struct.unpack(f"<{len(packed) // 4}f", packed)))
                item["embedding"] = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
            else:
                item["embedding"] = self._cut(found)

    def _cut(self, vector: list[float]) -> list[float]:
        if self._dimensions > len(vector):
            expected = f"1 to {len(vector)}, which the model's vectors have"
            raise BadRequest(f"dimensions is {self._dimensions}; expected {expected}", param="dimensions")
        cut = vector[: self._dimensions]
        length = math.sqrt(sum(number * number for number in cut))
        return [number / length for number in cut] if length else cut


def shortened(checked: Checked) -> Shortened | None:
    """What a request wants of its vectors; None where it takes them as they are."""
    wanted = checked.body.get("dimensions")
    return Shortened(int(wanted)) if checked.endpoint == "embedding" and wanted is not None else None
