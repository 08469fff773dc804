"""What every error is."""

from __future__ import annotations

from typing import Any, ClassVar


def gib(count: int) -> str:
    """A number of bytes as people read it: `512 MiB`, `4.66 GiB`."""
    if count < 1 << 20:
        return f"{count / (1 << 10):.0f} KiB"
    if count < 1 << 30:
        return f"{count / (1 << 20):.0f} MiB"
    if count < 1 << 60:
        return f"{count / (1 << 30):.2f} GiB"
    return "more than an exabyte"


class UmlError(Exception):
    """The root: `str()` is one sentence, `details` its parts as JSON values."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, param: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of every reply outside 2xx, in OpenAI's shape with `code`."""
        kind = "invalid_request_error" if 400 <= self.status < 500 else "server_error"
        body: dict[str, Any] = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        if self.details:
            body["details"] = self.details
        return {"error": body}
