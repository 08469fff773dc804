"""A whole server in a process of its own, with a data folder of its own, and clients towards it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.waiting import PATIENCE_S, eventually
from uml.registry import packaged_model

PROGRAM = """
import json, sys
from uml.config import Settings
from uml.core.errors import UmlError
from uml.gateway.serve import serve

try:
    serve(Settings.load(json.loads(sys.argv[1]), {}))
except UmlError as error:
    sys.stderr.write(json.dumps(error.as_dict()))
    sys.exit(3)
"""


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    url: str
    data: Path
    http: httpx2.Client
    fakes: list[str] = field(default_factory=list)

    def get(self, path: str) -> httpx2.Response:
        return self.http.get(path)

    def post(self, path: str, body: Mapping[str, Any]) -> httpx2.Response:
        return self.http.post(path, json=body)

    def chat(self, model: str, **more: Any) -> httpx2.Response:
        return self.post("/v1/chat/completions", ask(model, **more))

    def worker(self, model: str) -> dict[str, Any]:
        """The status of a model's worker; empty where there is none."""
        found = self.get("/v1/models/status").json()["workers"]
        return next((worker for worker in found if worker["model"] == model), {})

    def stderr(self) -> str:
        return (self.data / "stderr").read_text()

    def add_model(self, name: str) -> str:
        """Register a copy of the demo model; its id."""
        path = self.data / "models" / f"{name}.gguf"
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(packaged_model(), path)
        reply = self.post("/v1/models/add", {"path": str(path)})
        assert reply.status_code == 200, reply.text
        return str(reply.json()["id"])

    def load_fake(self, model: str, *flags: str, **options: Any) -> None:
        """Load a model with the engine that invents tokens."""
        body = {"model": model, "options": {"engine": "fake", "extra_flags": list(flags), **options}}
        reply = self.post("/v1/models/load", body)
        assert reply.status_code == 200, reply.text


def ask(model: str, text: str = "one two three", **more: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def events(text: str) -> list[Any]:
    """The JSON values of a stream; `[DONE]` as it is."""
    data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


def spoken(values: list[Any]) -> str:
    """The text in the events of a chat stream."""
    deltas = [choice["delta"] for value in values if value != "[DONE]" for choice in value.get("choices", ())]
    return "".join(delta.get("content") or "" for delta in deltas)


def launch(folder: Path, **flags: Any) -> subprocess.Popen[bytes]:
    """Start a server process; its home is the folder, so that no model of the user's is found."""
    folder.mkdir(exist_ok=True)
    given = json.dumps({"data": str(folder), "port": 0, **flags})
    environment = {**os.environ, "HOME": str(folder), "UML_CONFIG": ""}
    environment = {name: value for name, value in environment.items() if not name.startswith(("UML_", "HF_", "XDG_"))}
    with (folder / "stderr").open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, given], stdout=subprocess.DEVNULL, stderr=stderr, env=environment
        )


@contextlib.contextmanager
def running(folder: Path, **flags: Any) -> Iterator[Server]:
    """A server until the block ends."""
    process = launch(folder, **flags)
    try:
        announced = folder / "server.json"
        eventually(lambda: announced.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "stderr").read_text()
        url = json.loads(announced.read_text())["url"]
        key = flags.get("api_key")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        with httpx2.Client(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False) as http:
            yield Server(process, url, folder, http)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()


def refused(folder: Path, **flags: Any) -> dict[str, Any]:
    """The error with which a server refuses to start."""
    process = launch(folder, **flags)
    try:
        assert process.wait(PATIENCE_S) == 3, (folder / "stderr").read_text()
    finally:
        process.kill()
        process.wait()
    error: dict[str, Any] = json.loads((folder / "stderr").read_text().splitlines()[-1])["error"]
    return error
