"""One method an endpoint; streams are iterators, and closing one cancels what it stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlsplit

from uml.client.errors import from_wire
from uml.client.wire import Event, events
from uml.core.errors import BadRequest, ConnectionLost, NoServer

if TYPE_CHECKING:
    import httpx2

_CONNECT_S: Final = 5.0
_LIVE_S: Final = 2.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer, as it came.

    finish: `stop`, `length`, `tool_calls` on the last piece of a choice, else None.
    usage: `prompt_tokens`, `completion_tokens`, ... on the very last piece.
    timings: the engine's own figures on the very last piece, where it gives them.
    warnings: what the engine could not honour: `param` and `reason` of each.
    """

    text: str = ""
    reasoning: str = ""
    index: int = 0
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish: str | None = None
    usage: Mapping[str, Any] | None = None
    timings: Mapping[str, Any] | None = None
    warnings: tuple[Mapping[str, Any], ...] = ()


class Client:
    """A server at an address.

    url: `http://127.0.0.1:8080`, the scheme may be left out; BadRequest for what is no address.
    key: sent as `Authorization: Bearer KEY`.
    timeout_s: for answers that the server has at hand; a load, a scan and an answer may take any time.
    Every method raises NoServer when nothing answers, else the server's own UmlError.
    Used as a context manager it closes its connections.
    """

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 30.0) -> None:
        self.url = _address(url)
        self.key = key
        self._timeout_s = timeout_s
        self._opened: httpx2.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client may be used again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # --- the server -----------------------------------------------------------------------------

    def live(self) -> bool:
        """Whether a server answers at all. Raises nothing."""
        return self._healthy("/health/live")

    def ready(self) -> bool:
        """Whether it takes requests. Raises nothing."""
        return self._healthy("/health/ready")

    def version(self) -> dict[str, Any]:
        """The server's version."""
        return self._object("GET", "/version")

    def resources(self) -> dict[str, Any]:
        """Memory, processor and GPUs of the server's machine."""
        return self._object("GET", "/v1/system/resources")

    # --- models ---------------------------------------------------------------------------------

    def models(self) -> list[dict[str, Any]]:
        """Every registered model: `id`, `aliases`, `path`, `format`, `size`, `state`, ..."""
        return _list(self._object("GET", "/v1/models"), "data")

    def model(self, name: str) -> dict[str, Any]:
        """One model by id or alias."""
        return self._object("GET", f"/v1/models/{quote(name, safe='')}")

    def load(self, name: str, options: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Load a model: objects with `event`: `progress` (`stage`, `bytes`, `total_bytes`, `percent`), last `ready`.

        Closing the iterator before its end cancels the load. The error of a load that failed is raised.
        """
        body = {"model": name, "options": dict(options or {}), "stream": True}
        yield from self._job("/v1/models/load", body, "the load")

    def unload(self, name: str | None = None) -> dict[str, Any]:
        """Unload one model, or all of them for None."""
        return self._object("POST", "/v1/models/unload", {"model": name} if name else {"all": True}, timeout_s=None)

    def pin(self, name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Load a model where it is not, and keep it: its worker's status."""
        return self._object("POST", "/v1/models/pin", {"model": name, "options": dict(options or {})}, timeout_s=None)

    def unpin(self, name: str) -> dict[str, Any]:
        """Let a model go when it is idle or in the way: `was_kept`."""
        return self._object("POST", "/v1/models/unpin", {"model": name})

    def adapters(self, name: str) -> list[dict[str, Any]]:
        """Adapters of a loaded model: `id`, `name`, `path`, `scale`; none of one that is not loaded."""
        return _list(self._object("GET", f"/v1/models/{quote(name, safe='')}/adapters"), "data")

    def load_adapter(self, name: str, adapter: str, scale: float = 1.0) -> dict[str, Any]:
        """Give a model one more adapter, a path of the server's machine or a model's id: `id`, and `data` as above."""
        body = {"model": name, "adapter": adapter, "scale": scale}
        return self._object("POST", "/v1/models/adapters/load", body, timeout_s=None)

    def scale_adapter(self, name: str, id: int, scale: float) -> dict[str, Any]:
        """How strongly an adapter works for requests that do not say: `data` as above."""
        body = {"model": name, "id": id, "scale": scale}
        return self._object("POST", "/v1/models/adapters/scale", body, timeout_s=None)

    def unload_adapter(self, name: str, id: int) -> dict[str, Any]:
        """Take an adapter from a model; answers that have it keep it to their end: `data` as above."""
        return self._object("POST", "/v1/models/adapters/unload", {"model": name, "id": id}, timeout_s=None)

    def status(self) -> dict[str, Any]:
        """`workers` and `queue`, a list each."""
        return self._object("GET", "/v1/models/status")

    def estimate(self, name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Bytes that a load takes, part by part, and whether they fit; nothing is started."""
        body = {"model": name, "options": dict(options or {})}
        return self._object("POST", "/v1/models/estimate", body, timeout_s=None)

    def scan(self, folder: Path | None = None) -> dict[str, Any]:
        """Add a folder of the server's machine and look through it; for None look through all known ones."""
        body = {"folder": str(folder.absolute())} if folder else {}
        return self._object("POST", "/v1/models/scan", body, timeout_s=None)

    def add(self, path: Path) -> dict[str, Any]:
        """Register the model at a path of the server's machine; an already known one is given back."""
        return self._object("POST", "/v1/models/add", {"path": str(path.absolute())}, timeout_s=None)

    def alias(self, name: str, alias: str) -> dict[str, Any]:
        """Give a model one more name: the model."""
        return self._object("POST", "/v1/models/alias", {"model": name, "alias": alias})

    def unalias(self, alias: str) -> dict[str, Any]:
        """Take back a name that was given."""
        return self._object("POST", "/v1/models/unalias", {"alias": alias})

    def forget(self, name: str) -> dict[str, Any]:
        """Forget a model, or a folder of the server's machine; no file is deleted: `folder` and `models`."""
        return self._object("POST", "/v1/models/forget", {"model": name})

    def inspect(self, name: str) -> dict[str, Any]:
        """What a model, by id, alias or path, is."""
        return self._object("POST", "/v1/models/inspect", {"model": name}, timeout_s=None)

    def capabilities(self, name: str, needs: str = "") -> dict[str, Any]:
        """What a model, by id, alias or path, can do on its engine, and why that engine.

        needs: what it should be able to do, with commas: engines are put in order by it.
        """
        query = f"?needs={quote(needs, safe='')}" if needs else ""
        return self._object("GET", f"/v1/models/{quote(name, safe='')}/capabilities{query}", timeout_s=None)

    def plugins(self) -> dict[str, Any]:
        """The server's plug-ins, what they add, and why one is left out."""
        return self._object("GET", "/v1/plugins")

    def log(self, name: str, lines: int = 200) -> list[str]:
        """The last lines that the engine of a model wrote."""
        reply = self._request("GET", f"/v1/models/{quote(name, safe='')}/log?lines={lines}", None, self._timeout_s)
        if reply.headers.get("content-type", "").startswith("application/json"):
            found = self._json(reply)
            log = found.get("lines", found.get("log", "")) if isinstance(found, dict) else found
            return [str(line) for line in log] if isinstance(log, list) else str(log).splitlines()
        return reply.text.splitlines()

    # --- engines --------------------------------------------------------------------------------

    def engines(self) -> list[dict[str, Any]]:
        """Every engine: `name`, `available`, `in_use`, `installs`, `recipe`, ..."""
        return _list(self._object("GET", "/v1/engines"), "data")

    def install_engine(self, name: str, installer: str = "pip", *, again: bool = False) -> Iterator[dict[str, Any]]:
        """Install `NAME` or `NAME==VERSION` on the server: events as of `load`, the last one `ready` with the install.

        Closing the iterator before its end cancels it, and nothing is left of it.
        """
        body = {"engine": name, "installer": installer, "again": again, "stream": True}
        yield from self._job("/v1/engines/install", body, "the install")

    def use_engine(self, name: str) -> dict[str, Any]:
        """Run the install `NAME==VERSION` from the next load on."""
        return self._object("POST", "/v1/engines/use", {"engine": name})

    def test_engine(self, name: str) -> dict[str, Any]:
        """Load a tiny model with an install: the install, with `smoke` and `smoke_says`."""
        return self._object("POST", "/v1/engines/test", {"engine": name}, timeout_s=None)

    def remove_engine(self, name: str) -> dict[str, Any]:
        """Remove the install `NAME==VERSION`: `removed`, `freed_bytes`, `in_use`."""
        engine, _, version = name.partition("==")
        path = f"/v1/engines/{quote(engine, safe='')}/{quote(version, safe='')}"
        return self._object("DELETE", path, timeout_s=None)

    def build_engine(self, name: str = "llamacpp") -> Iterator[dict[str, Any]]:
        """Build an engine for the server's machine: events as of `install_engine`; `ready` has `install` and `speeds`.

        It is not put in use. Closing the iterator before its end cancels it, and nothing is left of it.
        """
        yield from self._job("/v1/engines/build", {"engine": name, "stream": True}, "the build")

    def quantize(
        self,
        model: str,
        kinds: Sequence[str],
        *,
        matrix: str | None = None,
        text: str | None = None,
        threads: int = 0,
    ) -> Iterator[dict[str, Any]]:
        """Make smaller files of a GGUF model on the server: events `progress`, `warning`, `made`, and last `ready`.

        matrix: path of an importance matrix on the server's machine. text: what the old and new models read, for their
        perplexity. threads: 0 for all. `ready` has `from` and `made`. Closing the iterator cancels what is not made.
        """
        body = {"model": model, "to": list(kinds), "imatrix": matrix, "text": text, "threads": threads, "stream": True}
        yield from self._job("/v1/models/quantize", body, "the quantization")

    def convert(self, model: str, to: str, *, precision: str = "", threads: int = 0) -> Iterator[dict[str, Any]]:
        """Make a model of another format on the server: events `progress`, `warning`, and last `ready` with the model.

        to: gguf, safetensors or onnx. precision: empty for the usual. Closing the iterator cancels it.
        """
        body = {"model": model, "to": to, "precision": precision, "threads": threads, "stream": True}
        yield from self._job("/v1/models/convert", body, "the conversion")

    # --- answers --------------------------------------------------------------------------------

    def chat(self, model: str, messages: Sequence[Mapping[str, Any]], **params: Any) -> Iterator[Piece]:
        """The answer to a conversation, as it is made; the last piece has `usage` and `timings`.

        params: any field of `/v1/chat/completions`. Closing the iterator stops the answer.
        """
        yield from self._answer("/v1/chat/completions", {"model": model, "messages": list(messages), **params})

    def complete(self, model: str, prompt: str, **params: Any) -> Iterator[Piece]:
        """As `chat`, for a bare text that the model goes on with."""
        yield from self._answer("/v1/completions", {"model": model, "prompt": prompt, **params})

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text."""
        reply = self._object("POST", "/v1/embeddings", {"model": model, "input": list(texts)}, timeout_s=None)
        return [item["embedding"] for item in sorted(_list(reply, "data"), key=lambda item: item.get("index", 0))]

    def rerank(self, model: str, query: str, documents: Sequence[str], **params: Any) -> list[tuple[int, float]]:
        """Places of the documents and their scores, best first. params: any field of `/v1/rerank`."""
        body = {"model": model, "query": query, "documents": list(documents), **params}
        reply = self._object("POST", "/v1/rerank", body, timeout_s=None)
        return [(int(one["index"]), float(one["relevance_score"])) for one in _list(reply, "results")]

    def classify(self, model: str, texts: Sequence[str]) -> list[dict[str, float]]:
        """Label -> probability, for each text."""
        reply = self._object("POST", "/v1/classify", {"model": model, "input": list(texts)}, timeout_s=None)
        labels = [str(label) for label in reply.get("labels", ())]
        return [dict(zip(labels, one["probs"], strict=True)) for one in _list(reply, "data")]

    def tokenize(self, model: str, text: str) -> list[int]:
        """Token ids of a text."""
        reply = self._object("POST", "/v1/tokenize", {"model": model, "text": text}, timeout_s=None)
        return [int(token) for token in reply.get("tokens", [])]

    def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        reply = self._object("POST", "/v1/detokenize", {"model": model, "tokens": list(tokens)}, timeout_s=None)
        return str(reply.get("text", ""))

    # --- HTTP -----------------------------------------------------------------------------------

    def _job(self, path: str, body: Mapping[str, Any], what: str) -> Iterator[dict[str, Any]]:
        """The events of a work that ends with `ready`; its error is raised. Closing the iterator cancels it."""
        with self._stream(path, body) as found:
            for event in found:
                value = self._value(event)
                if event.name == "error" or isinstance(value.get("error"), Mapping):
                    raise from_wire(500, value)
                yield {"event": event.name, **value}
                if event.name == "ready":
                    return
        raise ConnectionLost(self.url, f"{what} was neither ready nor refused")

    def _answer(self, path: str, body: dict[str, Any]) -> Iterator[Piece]:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with self._stream(path, body) as found:
            usage: Mapping[str, Any] | None = None
            timings: Mapping[str, Any] | None = None
            for event in found:
                if event.data == "[DONE]":
                    yield Piece(usage=usage, timings=timings)
                    return
                value = self._value(event)
                if value.get("error"):
                    raise from_wire(500, value)
                usage, timings = value.get("usage") or usage, value.get("timings") or timings
                yield from _pieces(value)
        raise ConnectionLost(self.url, "the stream ended before the answer did")

    @contextmanager
    def _stream(self, path: str, body: Mapping[str, Any]) -> Iterator[Iterator[Event]]:
        import httpx2

        timeout = httpx2.Timeout(None, connect=_CONNECT_S)
        begun = False
        try:
            with self._http.stream("POST", path, json=body, timeout=timeout) as reply:
                begun = True
                if reply.status_code >= 300:
                    reply.read()
                    raise from_wire(reply.status_code, _maybe_json(reply))
                yield events(reply.iter_lines())
        except httpx2.TransportError as error:
            if begun:
                raise ConnectionLost(self.url, "the connection ended before the answer did") from error
            raise NoServer(self.url) from error

    def _object(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float | None = 0.0
    ) -> dict[str, Any]:
        """A reply that is a JSON object. timeout_s: None waits for ever, 0 is this client's own."""
        reply = self._request(method, path, body, self._timeout_s if timeout_s == 0.0 else timeout_s)
        found = self._json(reply)
        if not isinstance(found, dict):
            raise ConnectionLost(self.url, f"{path} gave no JSON object; it may be another program")
        return found

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float | None
    ) -> httpx2.Response:
        import httpx2

        try:
            timeout = httpx2.Timeout(timeout_s, connect=_CONNECT_S)
            reply = self._http.request(method, path, json=body, timeout=timeout)
        except httpx2.ReadTimeout as error:
            raise ConnectionLost(self.url, f"{path} gave no answer within {timeout_s:g} s") from error
        except httpx2.TransportError as error:
            raise NoServer(self.url) from error
        if reply.status_code >= 300:
            raise from_wire(reply.status_code, _maybe_json(reply))
        return reply

    def _json(self, reply: httpx2.Response) -> Any:
        try:
            return reply.json()
        except ValueError as error:
            raise ConnectionLost(self.url, f"{reply.url.path} gave no JSON; it may be another program") from error

    def _value(self, event: Event) -> dict[str, Any]:
        try:
            value = event.value
        except ValueError as error:
            raise ConnectionLost(self.url, "an event was not JSON") from error
        return value if isinstance(value, dict) else {"value": value}

    def _healthy(self, path: str) -> bool:
        import httpx2

        try:
            return self._http.get(path, timeout=_LIVE_S).status_code == 200
        except httpx2.TransportError:
            return False

    @property
    def _http(self) -> httpx2.Client:
        if self._opened is None:
            # Imported here: most commands never speak to a server, and it takes as long as all the rest.
            import httpx2

            self._opened = httpx2.Client(
                base_url=self.url,
                headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
                # A proxy from the environment must not stand between us and this very machine.
                trust_env=urlsplit(self.url).hostname not in _LOOPBACK,
            )
        return self._opened


def _address(url: str) -> str:
    whole = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(whole)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise BadRequest(f"{url!r} is not the address of a server; expected http://HOST:PORT", param="server")
    return whole


def _list(reply: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = reply.get(name)
    return found if isinstance(found, list) else []


def _maybe_json(reply: httpx2.Response) -> object:
    try:
        return json.loads(reply.content)
    except ValueError:
        return None


def _pieces(value: Mapping[str, Any]) -> Iterator[Piece]:
    """The pieces in one event of a chat or a completion."""
    warnings = tuple(warning for warning in value.get("warnings") or () if isinstance(warning, Mapping))
    for choice in value.get("choices") or ():
        delta = choice.get("delta") or {}
        yield Piece(
            text=delta.get("content") or choice.get("text") or "",
            reasoning=delta.get("reasoning_content") or "",
            index=choice.get("index", 0),
            tool_calls=tuple(delta.get("tool_calls") or ()),
            finish=choice.get("finish_reason"),
            warnings=warnings,
        )
        warnings = ()
    if warnings:
        yield Piece(warnings=warnings)
