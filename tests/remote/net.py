"""A web server on this machine that speaks ranges and the wire of a hub, and misbehaves where it is told to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = Callable[["Handler"], None]


@dataclass
class Asked:
    """A request as it came."""

    path: str
    range: str
    authorization: str


@dataclass
class Net:
    """files: path -> what lies there; answers: path -> what is done instead; asked: every request, in order.

    ranges: whether the server knows them. sent: bytes of bodies.
    """

    files: dict[str, Path] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    ranges: bool = True
    sent: int = 0
    port: int = 0
    going: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def repository(self, name: str, folder: Path, *, store: str = "", revision: str = "main") -> None:
        """A folder as a repository of the hub; with a store, large files are there, and the hub redirects."""
        entries: list[dict[str, Any]] = []
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder).as_posix()
            if path.is_dir():
                entries.append({"type": "directory", "oid": "0" * 40, "size": 0, "path": inside})
                continue
            entries.append(entry(inside, path.stat().st_size))
            place = f"/{name}/resolve/{revision}/{inside}"
            self.files[f"/store/{name}/{inside}"] = path
            if store and path.suffix in (".gguf", ".safetensors"):
                self.answers[place] = redirect(f"{store}/store/{name}/{inside}?X-Signature=secret-of-store")
            else:
                self.files[place] = path
        self.answers[f"/api/models/{name}/tree/{revision}"] = document(entries)

    def ranges_of(self, path: str) -> list[str]:
        return [asked.range for asked in self.asked if asked.path == path]


def entry(path: str, size: int) -> dict[str, Any]:
    """A file as `GET /api/models/OWNER/NAME/tree/main?recursive=true` lists it; weights are in LFS."""
    found: dict[str, Any] = {"type": "file", "oid": "a6344aac8c09253b3b630fb776ae94478aa0275b", "size": size}
    if path.endswith((".gguf", ".safetensors", ".onnx", ".bin")):
        found["lfs"] = {"oid": "fb" * 32, "size": size, "pointerSize": 135}
        found["xetHash"] = "1f" * 32
    return {**found, "path": path}


def document(value: Any, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    return answer


def status(code: int, **headers: str) -> Answer:
    return lambda handler: handler.reply(code, b'{"error":"no"}', {k.replace("_", "-"): v for k, v in headers.items()})


def redirect(to: str, code: int = 302) -> Answer:
    return lambda handler: handler.reply(code, b"", {"Location": to})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    net: Net

    def do_GET(self) -> None:
        # A proxy is asked for the whole address.
        path = unquote(urlsplit(self.path).path)
        self.net.asked.append(Asked(path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if answer := self.net.answers.get(path):
            answer(self)
        elif file := self.net.files.get(path):
            self.file(file)
        else:
            self.reply(404, b"not here")

    def file(self, path: Path) -> None:
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted or not self.net.ranges:
            self.head(200, {"Content-Length": str(size)})
            self.body(path, 0, size)
            return
        begin, end = int(wanted[1]), min(int(wanted[2]) + 1, size)
        if begin >= size:
            self.reply(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        self.head(206, {"Content-Range": f"bytes {begin}-{end - 1}/{size}", "Content-Length": str(end - begin)})
        self.body(path, begin, end)

    def body(self, path: Path, begin: int, end: int) -> None:
        with path.open("rb") as file:
            file.seek(begin)
            while begin < end:
                piece = file.read(min(1 << 16, end - begin))
                if not self.write(piece):
                    return
                begin += len(piece)

    def reply(self, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.head(code, {"Content-Length": str(len(body)), **(headers or {})})
        self.write(body)

    def head(self, code: int, headers: Mapping[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def write(self, data: bytes) -> bool:
        """Whether the client still listens."""
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True
            return False
        self.net.sent += len(data)
        return True

    def end_headers(self) -> None:
        try:
            super().end_headers()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        return  # clients leave in the middle, as they should


@contextmanager
def served() -> Iterator[Net]:
    net = Net()
    with _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"net": net})) as server:
        net.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield net
        finally:
            net.going.set()
            server.shutdown()
            thread.join()
