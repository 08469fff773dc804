"""A server that keeps the gateway's contract and nothing else: a real socket, invented models."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from uml.core.errors import BadFile, ModelNotFound, NotFound, OutOfMemory, UmlError

MODELS = {
    "demo": {"id": "demo", "aliases": ["uml-demo"], "format": "gguf", "quantization": "Q8_0", "size": 5538016,
             "parameters": 5233920, "context_length": 2048, "role": "text", "state": "unloaded"},
    "big": {"id": "big", "aliases": [], "format": "gguf", "quantization": "Q4_K_M", "size": 40 << 30,
            "parameters": 70 * 10**9, "context_length": 131072, "role": "text", "state": "unloaded"},
}  # fmt: skip
WORKER = {
    "model": "demo", "engine": "fake", "state": "ready", "pid": 4711, "device": "cpu", "memory_bytes": 1 << 30,
    "context_length": 2048, "in_flight": 1, "queued": 2, "slots": 4, "idle_s": 0.0, "error": None,
}  # fmt: skip
ESTIMATE = {
    "model": "demo", "engine": "fake", "options": {"ctx": 2048, "parallel": 4}, "fits": True, "method": "header",
    "total": {"low": 9 << 20, "likely": 10 << 20, "high": 11 << 20}, "parts": {"weights": 8 << 20, "kv_cache": 2 << 20},
    "placement": {"device_bytes": {"cpu": 10 << 20}, "gpu_layers": 0, "layers": 6}, "reason": "it fits", "warnings": [],
}  # fmt: skip


@dataclass
class World:
    """What the stand-in was asked, and how it is to behave.

    answer: pieces of every answer; break_after: the connection ends after so many of them.
    error: raised by the next answer, after the first piece.
    gone: set when a client left in the middle of an answer or a load.
    """

    key: str | None = None
    answer: list[str] = field(default_factory=lambda: ["To", "kyo", "."])
    break_after: int | None = None
    error: UmlError | None = None
    endless: bool = False
    requests: list[tuple[str, Any]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=lambda: [f"line {n}" for n in range(1, 6)])
    gone: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def bodies(self, path: str) -> list[Any]:
        return [body for asked, body in self.requests if asked == path]


@contextmanager
def standing_in(world: World | None = None) -> Iterator[World]:
    world = world or World()
    handler = type("Bound", (_Handler,), {"world": world})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    world.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: ClassVar[World]

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.world.requests.append((path, query))
        self._guarded(lambda: self._get(path, query))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"null")
        self.world.requests.append((self.path, body))
        self._guarded(lambda: self._post(self.path, body))

    def _guarded(self, act: Any) -> None:
        try:
            if self.world.key and self.headers.get("authorization") != f"Bearer {self.world.key}":
                error = {"message": "no such key", "type": "x", "param": None, "code": "invalid_api_key"}
                self._json({"error": error}, 401)
            else:
                act()
        except UmlError as error:
            self._json(error.as_dict(), error.status)
        except (BrokenPipeError, ConnectionResetError):
            self.world.gone.set()
            self.close_connection = True

    def _get(self, path: str, query: str) -> None:
        parts = path.strip("/").split("/")
        match parts:
            case ["health", "live" | "ready"]:
                self._json({"status": "ok"})
            case ["version"]:
                self._json({"version": "0.0.0"})
            case ["v1", "models"]:
                self._json({"object": "list", "data": [*MODELS.values()]})
            case ["v1", "models", "status"]:
                queue = [{"model": "big", "position": 1}]
                workers = [{**WORKER, "model": name} for name in self.world.loaded]
                self._json({"workers": workers, "queue": queue if workers else []})
            case ["v1", "models", name]:
                self._json(self._model(name))
            case ["v1", "models", *_, "capabilities"]:
                why = {"engine": "llamacpp", "installed": True, "reason": "llama.cpp runs gguf", "engines": []}
                self._json({"model": "demo", **why, "abilities": {}, "parameters": {}, "options": {}})
            case ["v1", "models", name, "log"]:
                self._model(name)
                count = int(query.removeprefix("lines="))
                self._json({"model": name, "lines": self.world.log[-count:]})
            case ["v1", "system", "resources"]:
                self._json({"memory": {"total_bytes": 1}})
            case ["not", "json"]:
                self._bytes(b"<html>", "text/html")
            case _:
                raise NotFound(f"nothing at {path}")

    def _post(self, path: str, body: Any) -> None:
        match path.removeprefix("/v1/"):
            case "models/load":
                self._load(body)
            case "models/unload":
                gone = [*self.world.loaded] if body.get("all") else [str(self._model(body["model"])["id"])]
                self.world.loaded = [name for name in self.world.loaded if name not in gone]
                self._json({"unloaded": gone})
            case "models/estimate":
                self._model(body["model"])
                self._json({**ESTIMATE, "model": body["model"]})
            case "models/scan":
                report = {"added": ["new-one"], "unchanged": ["demo"], "unreadable": [["/m/x.gguf", "it is empty"]]}
                self._json(report)
            case "models/add":
                if body["path"].endswith("broken.gguf"):
                    from pathlib import Path

                    raise BadFile(Path(body["path"]), "it is empty")
                self._json({**MODELS["demo"], "path": body["path"]})
            case "models/inspect":
                self._json({"path": body["model"], "format": "gguf", "confidence": 1.0, "reason": "magic"})
            case "chat/completions" | "completions":
                self._answer(body, chat=path.endswith("chat/completions"))
            case "embeddings":
                data = [{"index": n, "embedding": [float(n), 0.5]} for n, _ in enumerate(body["input"])]
                self._json({"data": [*reversed(data)]})
            case "tokenize":
                self._json({"tokens": [*body["text"].encode()]})
            case "detokenize":
                self._json({"text": bytes(body["tokens"]).decode()})
            case _:
                raise NotFound(f"nothing at {path}")

    def _model(self, name: str) -> dict[str, Any]:
        if name == "uml-demo":
            name = "demo"
        if name not in MODELS:
            raise ModelNotFound(name, ["demo"])
        return MODELS[name]

    def _load(self, body: Any) -> None:
        name = str(self._model(body["model"])["id"])
        self._begin_events()
        for percent in (0.0, 50.0, 100.0):
            step = {"model": name, "stage": "loading", "bytes": int(percent), "total_bytes": 100, "percent": percent}
            self._event("progress", step)
        if name == "big":
            self._event("error", OutOfMemory("big", "cpu", 40 << 30, 8 << 30).as_dict())
        elif self.world.endless:
            self._until_gone(lambda: self._event("progress", step))
        else:
            self.world.loaded.append(name)
            self._event("ready", {**WORKER, "model": name, "load_s": 0.25})
        self._chunk(b"")

    def _answer(self, body: Any, chat: bool) -> None:
        self._model(body["model"])
        self._begin_events()
        for number, text in enumerate(self.world.answer):
            if number == self.world.break_after:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._data({"choices": [{"index": 0, **({"delta": {"content": text}} if chat else {"text": text})}]})
            if self.world.error:
                self._data(self.world.error.as_dict())
                self.world.error = None
                self._chunk(b"")
                return
        if self.world.endless:
            self._until_gone(lambda: self._data({"choices": [{"index": 0, "delta": {"content": "x"}}]}))
        end: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        self._data(
            {
                "choices": [{"index": 0, **end, "finish_reason": "stop"}],
                "warnings": [{"param": "mirostat", "reason": "not here"}],
            }
        )
        usage = {"prompt_tokens": 7, "completion_tokens": len(self.world.answer)}
        self._data({"choices": [], "usage": usage, "timings": {"predicted_per_second": 123.4}})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _until_gone(self, send: Any) -> None:
        while not self.world.gone.wait(0.01):
            send()

    def _begin_events(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def _event(self, name: str, value: Any) -> None:
        self._chunk(f"event: {name}\ndata: {json.dumps(value)}\n\n".encode())

    def _data(self, value: Any) -> None:
        self._chunk(f"data: {json.dumps(value)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, value: Any, status: int = 200) -> None:
        self._bytes(json.dumps(value).encode(), "application/json", status)

    def _bytes(self, data: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
