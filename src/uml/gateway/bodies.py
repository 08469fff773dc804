"""What the bodies of our own endpoints have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A body of ours: nothing is converted, and a field that we do not know is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)
