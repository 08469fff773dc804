"""A worker as the parent starts it, and a small client that speaks HTTP over its Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.waiting import PATIENCE_S, eventually
from uml.core.engine import Endpoint, Engine
from uml.core.model import Format, Model, ModelInfo, Role
from uml.core.options import LoadOptions
from uml.core.plan import Footprint, LoadPlan, Placement

DEMO = Path(__file__).parents[2] / "src" / "uml" / "models" / "demo.gguf"
KEY = "test-key"
SERVER = os.environ.get("UML_TEST_LLAMA_SERVER", "")
"""A `llama-server` of the build that `engines/llamacpp` speaks of; without one, only the library is tested."""
LLAMACPP = {"embedded": None, **({"external": Path(SERVER)} if SERVER else {})}
"""The ways to run llama.cpp -> what `LlamaCpp` is made with. Both keep one contract."""
LEFT_S = 1.0
"""Seconds within which a slot is free once its client has gone. The goal is 0.25; a busy machine is given more."""


def plan_for(
    path: Path = DEMO,
    *,
    engine: str = "llamacpp",
    id: str = "demo",
    role: Role = Role.TEXT,
    placement: Placement | None = None,
    **options: Any,
) -> LoadPlan:
    """A plan as planning would make it: small, and without anything left to guess."""
    settled = {"ctx": 512, "parallel": 2, "batch": 512, "ubatch": 512, "threads": 2, "engine": engine, **options}
    return LoadPlan(
        model=Model(id=id, info=ModelInfo(path, Format.GGUF, role, 1.0, "test", 1, (path,), architecture="llama")),
        engine=engine,
        options=LoadOptions.parse(settled),
        asked_options=LoadOptions.parse(options),
        footprint=Footprint(6 << 20, 1 << 20, 1 << 20),
        placement=placement or Placement({"cpu": 8 << 20}),
    )


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float = PATIENCE_S) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Worker:
    """A worker process; ends with the `with` block."""

    def __init__(self, engine: Engine, plan: LoadPlan, folder: Path, **environment: str) -> None:
        self.engine, self.plan = engine, plan
        self.endpoint = Endpoint(key=KEY, socket=folder / "w.sock")
        self.log_path = folder / "worker.log"
        launch = engine.launch(plan, self.endpoint)
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                launch.argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **launch.environment, **environment},
            )
        assert self.process.stdin
        self.process.stdin.write(launch.stdin)
        self.process.stdin.flush()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        assert self.process.stdin
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def request(self, method: str, path: str, body: object = None, key: str | None = KEY) -> tuple[int, Any]:
        connection = self.send(method, path, body, key)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, json.loads(data) if data.startswith((b"{", b"[")) else data.decode()

    def send(self, method: str, path: str, body: object = None, key: str | None = KEY) -> UnixConnection:
        assert self.endpoint.socket
        connection = UnixConnection(self.endpoint.socket)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        connection.request(method, path, data, {**headers, "Content-Type": "application/json"})
        return connection

    def post(self, path: str, body: object) -> Any:
        status, answer = self.request("POST", path, body)
        assert status == 200, answer
        return answer

    def stream(self, path: str, body: dict[str, Any]) -> list[Any]:
        connection = self.send("POST", path, {**body, "stream": True})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        found = list(events(response))
        connection.close()
        return found

    def ready(self, patience_s: float = PATIENCE_S) -> Worker:
        """Wait for /health, or fail with the log."""

        def answers() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            return self.health() == 200

        eventually(answers, lambda: f"not ready:\n{self.log}", patience_s)
        return self

    def health(self) -> int:
        """Status of /health, 0 while nobody listens."""
        try:
            return self.request("GET", "/health", key=None)[0]
        except (FileNotFoundError, ConnectionError):
            return 0

    def busy(self) -> int:
        return sum(slot["is_processing"] for slot in self.request("GET", "/slots")[1])

    def wait_until_busy(self, count: int, limit_s: float = PATIENCE_S) -> float:
        """Seconds until that many slots are at work."""
        start = time.monotonic()
        eventually(lambda: self.busy() == count, lambda: f"{self.busy()} slots are busy, expected {count}", limit_s)
        return time.monotonic() - start

    def end(self, patience_s: float = PATIENCE_S) -> int:
        """Exit code, waited for."""
        return self.process.wait(patience_s)


def events(response: http.client.HTTPResponse) -> Iterator[Any]:
    """Documents of a stream of server-sent events; `[DONE]` as a string."""
    for line in response:
        if line.startswith(b"data: "):
            data = line.removeprefix(b"data: ").strip()
            yield "[DONE]" if data == b"[DONE]" else json.loads(data)


def text_of(chunks: list[Any]) -> str:
    """What a streamed chat or completion said."""
    choices = [choice for chunk in chunks if chunk != "[DONE]" for choice in chunk.get("choices", [])]
    return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)


def question(text: str, **rest: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, **rest}
