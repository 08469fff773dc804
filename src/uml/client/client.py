"""One method an endpoint; streams are iterators, and closing one cancels what it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from uml.client.connection import Connection
from uml.client.piece import Piece, pieces
from uml.core.errors import ConnectionLost


class Client:
    """A server at an address.

    url: `http://127.0.0.1:8080`, the scheme may be left out; BadRequest for what is no address.
    key: sent as `Authorization: Bearer KEY`.
    timeout_s: for answers that the server has at hand; a load, a scan and an answer may take any time.
    Every method raises NoServer when nothing answers, else the server's own UmlError.
    Used as a context manager it closes its connections.
    """

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 30.0) -> None:
        self._server = Connection(url, key, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client may be used again."""
        self._server.close()

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._server.url

    @property
    def key(self) -> str | None:
        """What it is asked with."""
        return self._server.key

    # --- the server -----------------------------------------------------------------------------

    def live(self) -> bool:
        """Whether a server answers at all. Raises nothing."""
        return self._server.healthy("/health/live")

    def ready(self) -> bool:
        """Whether it takes requests. Raises nothing."""
        return self._server.healthy("/health/ready")

    def version(self) -> dict[str, Any]:
        """The server's version."""
        return self._server.ask("GET", "/version")

    def resources(self) -> dict[str, Any]:
        """Memory, processor and GPUs of the server's machine."""
        return self._server.ask("GET", "/v1/system/resources")

    # --- models ---------------------------------------------------------------------------------

    def models(self) -> list[dict[str, Any]]:
        """Every registered model: `id`, `aliases`, `path`, `format`, `size`, `state`, ..."""
        return _list(self._server.ask("GET", "/v1/models"), "data")

    def model(self, name: str) -> dict[str, Any]:
        """One model by id or alias."""
        return self._server.ask("GET", f"/v1/models/{quote(name, safe='')}")

    def load(self, name: str, options: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Load a model: objects with `event`: `progress` (`stage`, `bytes`, `total_bytes`, `percent`), last `ready`.

        Closing the iterator before its end cancels the load. The error of a load that failed is raised.
        """
        body = {"model": name, "options": dict(options or {}), "stream": True}
        yield from self._server.job("/v1/models/load", body, "the load")

    def unload(self, name: str | None = None) -> dict[str, Any]:
        """Unload one model, or all of them for None."""
        return self._server.ask("POST", "/v1/models/unload", {"model": name} if name else {"all": True}, patient=True)

    def pin(self, name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Load a model where it is not, and keep it: its worker's status."""
        return self._server.ask("POST", "/v1/models/pin", {"model": name, "options": dict(options or {})}, patient=True)

    def unpin(self, name: str) -> dict[str, Any]:
        """Let a model go when it is idle or in the way: `was_kept`."""
        return self._server.ask("POST", "/v1/models/unpin", {"model": name})

    def adapters(self, name: str) -> list[dict[str, Any]]:
        """Adapters of a loaded model: `id`, `name`, `path`, `scale`; none of one that is not loaded."""
        return _list(self._server.ask("GET", f"/v1/models/{quote(name, safe='')}/adapters"), "data")

    def load_adapter(self, name: str, adapter: str, scale: float = 1.0) -> dict[str, Any]:
        """Give a model one more adapter, a path of the server's machine or a model's id: `id`, and `data` as above."""
        body = {"model": name, "adapter": adapter, "scale": scale}
        return self._server.ask("POST", "/v1/models/adapters/load", body, patient=True)

    def scale_adapter(self, name: str, id: int, scale: float) -> dict[str, Any]:
        """How strongly an adapter works for requests that do not say: `data` as above."""
        body = {"model": name, "id": id, "scale": scale}
        return self._server.ask("POST", "/v1/models/adapters/scale", body, patient=True)

    def unload_adapter(self, name: str, id: int) -> dict[str, Any]:
        """Take an adapter from a model; answers that have it keep it to their end: `data` as above."""
        return self._server.ask("POST", "/v1/models/adapters/unload", {"model": name, "id": id}, patient=True)

    def status(self) -> dict[str, Any]:
        """`workers` and `queue`, a list each."""
        return self._server.ask("GET", "/v1/models/status")

    def estimate(self, name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Bytes that a load takes, part by part, and whether they fit; nothing is started."""
        body = {"model": name, "options": dict(options or {})}
        return self._server.ask("POST", "/v1/models/estimate", body, patient=True)

    def scan(self, folder: Path | None = None) -> dict[str, Any]:
        """Add a folder of the server's machine and look through it; for None look through all known ones."""
        body = {"folder": str(folder.absolute())} if folder else {}
        return self._server.ask("POST", "/v1/models/scan", body, patient=True)

    def add(self, path: Path) -> dict[str, Any]:
        """Register the model at a path of the server's machine; an already known one is given back."""
        return self._server.ask("POST", "/v1/models/add", {"path": str(path.absolute())}, patient=True)

    def alias(self, name: str, alias: str) -> dict[str, Any]:
        """Give a model one more name: the model."""
        return self._server.ask("POST", "/v1/models/alias", {"model": name, "alias": alias})

    def unalias(self, alias: str) -> dict[str, Any]:
        """Take back a name that was given."""
        return self._server.ask("POST", "/v1/models/unalias", {"alias": alias})

    def profile(self, name: str) -> dict[str, Any]:
        """The load options that are saved for a model: `model` and `options`."""
        return self._server.ask("GET", f"/v1/models/{quote(name, safe='')}/profile")

    def save_profile(self, name: str, options: Mapping[str, Any], *, clear: bool = False) -> dict[str, Any]:
        """Save load options for every load of a model, over those of before, or in place of all: what there is now."""
        body = {"model": name, "options": dict(options), "clear": clear}
        return self._server.ask("POST", "/v1/models/profile", body)

    def forget(self, name: str) -> dict[str, Any]:
        """Forget a model, or a folder of the server's machine; no file is deleted: `folder` and `models`."""
        return self._server.ask("POST", "/v1/models/forget", {"model": name})

    def inspect(self, name: str) -> dict[str, Any]:
        """What a model, by id, alias or path, is."""
        return self._server.ask("POST", "/v1/models/inspect", {"model": name}, patient=True)

    def capabilities(self, name: str, needs: str = "") -> dict[str, Any]:
        """What a model, by id, alias or path, can do on its engine, and why that engine.

        needs: what it should be able to do, with commas: engines are put in order by it.
        """
        query = f"?needs={quote(needs, safe='')}" if needs else ""
        return self._server.ask("GET", f"/v1/models/{quote(name, safe='')}/capabilities{query}", patient=True)

    def plugins(self) -> dict[str, Any]:
        """The server's plug-ins, what they add, and why one is left out."""
        return self._server.ask("GET", "/v1/plugins")

    def log(self, name: str, lines: int = 200) -> list[str]:
        """The last lines that the engine of a model wrote."""
        reply = self._server.request("GET", f"/v1/models/{quote(name, safe='')}/log?lines={lines}")
        if reply.headers.get("content-type", "").startswith("application/json"):
            found = self._server.json(reply)
            log = found.get("lines", found.get("log", "")) if isinstance(found, dict) else found
            return [str(line) for line in log] if isinstance(log, list) else str(log).splitlines()
        return reply.text.splitlines()

    # --- engines --------------------------------------------------------------------------------

    def engines(self) -> list[dict[str, Any]]:
        """Every engine: `name`, `available`, `in_use`, `installs`, `recipe`, ..."""
        return _list(self._server.ask("GET", "/v1/engines"), "data")

    def install_engine(self, name: str, installer: str = "pip", *, again: bool = False) -> Iterator[dict[str, Any]]:
        """Install `NAME` or `NAME==VERSION` on the server: events as of `load`, the last one `ready` with the install.

        Closing the iterator before its end cancels it, and nothing is left of it.
        """
        body = {"engine": name, "installer": installer, "again": again, "stream": True}
        yield from self._server.job("/v1/engines/install", body, "the install")

    def use_engine(self, name: str) -> dict[str, Any]:
        """Run the install `NAME==VERSION` from the next load on."""
        return self._server.ask("POST", "/v1/engines/use", {"engine": name})

    def test_engine(self, name: str) -> dict[str, Any]:
        """Load a tiny model with an install: the install, with `smoke` and `smoke_says`."""
        return self._server.ask("POST", "/v1/engines/test", {"engine": name}, patient=True)

    def remove_engine(self, name: str) -> dict[str, Any]:
        """Remove the install `NAME==VERSION`, or `NAME` where it has one only.

        `removed`, `freed_bytes`, `in_use`, and `pinned_by`: models whose profiles name it.
        """
        path = "/".join(quote(part, safe="") for part in name.split("==", 1) if part)
        return self._server.ask("DELETE", f"/v1/engines/{path}", patient=True)

    def build_engine(self, name: str = "llamacpp") -> Iterator[dict[str, Any]]:
        """Build an engine for the server's machine: events as of `install_engine`; `ready` has `install` and `speeds`.

        It is not put in use. Closing the iterator before its end cancels it, and nothing is left of it.
        """
        yield from self._server.job("/v1/engines/build", {"engine": name, "stream": True}, "the build")

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
        yield from self._server.job("/v1/models/quantize", body, "the quantization")

    def convert(self, model: str, to: str, *, precision: str = "", threads: int = 0) -> Iterator[dict[str, Any]]:
        """Make a model of another format on the server: events `progress`, `warning`, and last `ready` with the model.

        to: gguf, safetensors or onnx. precision: empty for the usual. Closing the iterator cancels it.
        """
        body = {"model": model, "to": to, "precision": precision, "threads": threads, "stream": True}
        yield from self._server.job("/v1/models/convert", body, "the conversion")

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
        reply = self._server.ask("POST", "/v1/embeddings", {"model": model, "input": list(texts)}, patient=True)
        return [item["embedding"] for item in sorted(_list(reply, "data"), key=lambda item: item.get("index", 0))]

    def rerank(self, model: str, query: str, documents: Sequence[str], **params: Any) -> list[tuple[int, float]]:
        """Places of the documents and their scores, best first. params: any field of `/v1/rerank`."""
        body = {"model": model, "query": query, "documents": list(documents), **params}
        reply = self._server.ask("POST", "/v1/rerank", body, patient=True)
        return [(int(one["index"]), float(one["relevance_score"])) for one in _list(reply, "results")]

    def classify(self, model: str, texts: Sequence[str]) -> list[dict[str, float]]:
        """Label -> probability, for each text."""
        reply = self._server.ask("POST", "/v1/classify", {"model": model, "input": list(texts)}, patient=True)
        labels = [str(label) for label in reply.get("labels", ())]
        return [dict(zip(labels, one["probs"], strict=True)) for one in _list(reply, "data")]

    def tokenize(self, model: str, text: str) -> list[int]:
        """Token ids of a text."""
        reply = self._server.ask("POST", "/v1/tokenize", {"model": model, "text": text}, patient=True)
        return [int(token) for token in reply.get("tokens", [])]

    def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        reply = self._server.ask("POST", "/v1/detokenize", {"model": model, "tokens": list(tokens)}, patient=True)
        return str(reply.get("text", ""))

    def _answer(self, path: str, body: dict[str, Any]) -> Iterator[Piece]:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with self._server.events(path, body) as found:
            usage: Mapping[str, Any] | None = None
            timings: Mapping[str, Any] | None = None
            for event in found:
                if event.data == "[DONE]":
                    yield Piece(usage=usage, timings=timings)
                    return
                value = self._server.value(event)
                usage, timings = value.get("usage") or usage, value.get("timings") or timings
                yield from pieces(value)
        raise ConnectionLost(self._server.url, "the stream ended before the answer did")


def _list(reply: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = reply.get(name)
    return found if isinstance(found, list) else []
