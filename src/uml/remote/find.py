"""opened(name, hub) -> Remote: the models behind a name on the net, each inspected when it is asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from uml.core.errors import BadFile, Offline, RemoteFailed, RemoteNotFound, RemoteRefused, UmlError
from uml.core.model import ModelInfo
from uml.formats import inspect
from uml.formats.bounded_json import child, read_object
from uml.formats.gguf.file import MAX_PARTS, PartName
from uml.formats.hf.weights import INDEXES, MAX_INDEX, MAX_SHARDS
from uml.formats.onnx import GENAI_CONFIG
from uml.formats.reader import read_through
from uml.remote.alike import take_over
from uml.remote.choose import Choice, beside, choices
from uml.remote.hub import MAX_FILES, Hub, Listed, denied, listed, next_page
from uml.remote.mirror import Mirror, Source
from uml.remote.names import HubName, UrlName, is_inside
from uml.remote.web import Limits, Place, Web

AT_ONCE: Final = 6
"""Requests under way at the same time."""
_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth")
_KNOWN: Final = (
    "config.json", "adapter_config.json", *INDEXES, "model.safetensors", "adapter_model.safetensors",
    "tokenizer_config.json", "quantize_config.json", "quant_config.json", "hf_quant_config.json",
    "chat_template.jinja", "chat_template.json", GENAI_CONFIG,
)  # fmt: skip
"""What a folder of a web server is asked for: it has no list of its files that could be relied on."""


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model that is not here. id: the name that means it and no other; size_bytes: of its files."""

    id: str
    label: str
    size_bytes: int
    path: Path
    files: tuple[Path, ...]


class Remote:
    """What is behind a name, while it is open. beside: files that go with a model, such as projectors."""

    def __init__(self, name: HubName | UrlName, mirror: Mirror, models: tuple[RemoteModel, ...]) -> None:
        self.name = name
        self.models = models
        self.beside: tuple[str, ...] = ()
        self._mirror = mirror

    def inspect(self, model: RemoteModel) -> ModelInfo:
        """What its headers say. `path` is of a file that has the model's size, its header, and holes for the rest.

        Raises RemoteFailed, and BadFile as `formats.inspect` does.
        """
        sources = [source for path in model.files if (source := self._mirror.sources.get(path))]
        if len(sources) > 1:
            _at_once(source.start for source in sources if source.path.suffix in (".gguf", *_WEIGHTS))
        with read_through(self._mirror.through):
            found = inspect(model.path)
        for source in sources:
            if source.path.suffix.lower() == ".gguf":
                # A reader steps over what it does not need; whoever loads the header whole does not.
                source.complete()
        return found

    def inspect_all(self) -> Iterator[tuple[RemoteModel, ModelInfo | UmlError]]:
        """Every model in its order. What quantizations have in common is fetched once."""
        first, *rest = self.models
        yield first, self._or_error(first)

        def look(model: RemoteModel) -> ModelInfo | UmlError:
            if (source := self._mirror.sources.get(model.path)) and source.path.suffix.lower() == ".gguf":
                with read_through(self._mirror.through):
                    take_over(first.path, model.path, source)
            return self._or_error(model)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from zip(rest, pool.map(look, rest), strict=True)

    def _or_error(self, model: RemoteModel) -> ModelInfo | UmlError:
        """One broken file of a repository does not hide the others."""
        try:
            return self.inspect(model)
        except (BadFile, RemoteFailed) as error:
            self.tell(error)
            return error

    def told(self, value: Any) -> Any:
        """A JSON value with the names that a user knows in place of paths that are ours."""
        match value:
            case str() if str(self._mirror.root) in value:
                for path, shown in self._mirror.shown():
                    value = value.replace(path, shown)
                return _under(value, str(self._mirror.root), self.name.shown)
            case dict():
                return {key: self.told(item) for key, item in value.items()}
            case list() | tuple():
                return [self.told(item) for item in value]
        return value

    def tell(self, error: UmlError) -> None:
        """The same for the sentence and the parts of an error."""
        error.message = self.told(error.message)
        error.args = (error.message,)
        error.details = self.told(error.details)


def _under(text: str, root: str, shown: str) -> str:
    """A folder of ours, and the layers that we put between, as what the user named."""
    before, found, after = text.partition(root)
    if not found:
        return text
    end = next((at for at, letter in enumerate(after) if letter in " :,;'\")"), len(after))
    return before + shown + _under(after[end:], root, shown)


@contextmanager
def opened(name: HubName | UrlName, hub: Hub, limits: Limits | None = None) -> Iterator[Remote]:
    """Find out what is behind a name. All that is fetched lies in a folder of its own, and goes at the end.

    Errors that are raised inside call files by the names that the user knows.
    Raises Offline, RemoteFailed.
    """
    if hub.offline:
        raise Offline(name.shown, hub.offline)
    with tempfile.TemporaryDirectory(prefix="uml-remote-") as folder, Web(hub, limits) as web:
        mirror = Mirror(Path(folder), web)
        try:
            found = _repository(name, hub, mirror) if isinstance(name, HubName) else _url(name, mirror)
            try:
                yield found
            except UmlError as error:
                found.tell(error)
                raise
        finally:
            mirror.close()


def _at_once(work: Iterable[Any]) -> None:
    """Do all of it on a few threads; the first error is raised when all have ended."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()


# --- a repository of a hub ------------------------------------------------------------------------


def _repository(name: HubName, hub: Hub, mirror: Mirror) -> Remote:
    files = _files(name, hub, mirror.web)
    chosen = choices(name, files)
    # The layout of the hub's own cache, from which readers tell the name of a model.
    base = f"models--{name.owner}--{name.name}/snapshots/{name.revision.replace('/', '--')}"
    remote = Remote(name, mirror, tuple(_added(choice, name, hub, mirror, base) for choice in chosen))
    remote.beside = beside(files)
    return remote


def _files(name: HubName, hub: Hub, web: Web) -> list[Listed]:
    """The list of files, page by page."""
    explain = partial(denied, name, hub)
    files: list[Listed] = []
    url: str | None = hub.tree(name)
    seen: set[str] = set()
    while url is not None:
        if url in seen or len(files) > MAX_FILES:
            raise RemoteFailed(name.shown, f"the hub's list of files has no end, or more than {MAX_FILES} files")
        seen.add(url)
        page, at, link = web.page(Place(url, name.shown, explain))
        files += listed(name, page)
        url = next_page(hub, at, link)
    return files


def _added(choice: Choice, name: HubName, hub: Hub, mirror: Mirror, base: str) -> RemoteModel:
    explain = partial(denied, name, hub)
    paths = []
    for file in choice.files:
        place = Place(hub.file(name, file.path), f"{name.shown}:{file.path}", explain)
        paths.append(mirror.add(f"{base}/{file.path}", place, file.size).path)
    return RemoteModel(
        id=f"{name.shown}:{choice.label}" if choice.label else name.shown,
        label=choice.label or name.repository,
        size_bytes=choice.size_bytes,
        path=mirror.root / base / choice.path,
        files=tuple(paths),
    )


# --- any web server -------------------------------------------------------------------------------


def _url(name: UrlName, mirror: Mirror) -> Remote:
    address, mark, query = name.url.partition("?")
    folder, _, quoted_file = address.rpartition("/")
    file = unquote(quoted_file)
    if not is_inside(file or "a"):
        raise RemoteNotFound(name.shown, "the last part of the address cannot be the name of a file")
    # Readers call a model by its folder.
    base = unquote(urlsplit(folder).path.rpartition("/")[2])
    base = base if base and is_inside(base) else "model"

    def source(other: str) -> Source:
        return mirror.add(f"{base}/{other}", Place(f"{folder}/{other}{mark}{query}", f"{folder}/{other}"))

    if file:
        first = mirror.add(f"{base}/{file}", Place(name.url, name.shown))
        first.start()
        sources = [first, *_parts(file, source)]
    else:
        sources = []
    if not file or file.endswith((".json", ".safetensors")):
        sources = _folder(source, sources)
    elif file.endswith(".onnx"):
        data = (f"{file}.data", f"{file}_data", f"{PurePosixPath(file).stem}.data")
        sources += _there([source(other) for other in data])
    there = [one for one in sources if one.size is not None]
    path = mirror.root / base / file if file and not file.endswith(".json") else mirror.root / base
    if not there:
        raise RemoteNotFound(name.shown, "no file of a model is in this folder")
    size = sum(one.size or 0 for one in there)
    label = file or base
    return Remote(name, mirror, (RemoteModel(name.shown, label, size, path, tuple(one.path for one in there)),))


def _parts(file: str, source: Callable[[str], Source]) -> list[Source]:
    """The other parts of a split GGUF, beside it under their own names."""
    part = PartName.of(Path(file))
    if part is None or part.count > MAX_PARTS:
        return []
    names = [part.path(Path(), number).name for number in range(1, part.count + 1)]
    return _there([source(other) for other in names if other != file])


def _folder(source: Callable[[str], Source], have: list[Source]) -> list[Source]:
    """With what is there already, the known files of a model's folder, and the shards that its index names."""
    names = {one.path.name for one in have}
    found = [*have, *_there([source(name) for name in _KNOWN if name not in names])]
    for one in found:
        if one.path.name in INDEXES:
            one.ensure(0, min(one.size or 0, MAX_INDEX))
            named = child(read_object(one.path, MAX_INDEX), "weight_map").values()
            shards = {name for name in named if isinstance(name, str) and "/" not in name and is_inside(name)}
            missing = sorted(shards - {other.path.name for other in found})
            return [*found, *_there([source(name) for name in missing[:MAX_SHARDS]])]
    return found


def _there(sources: list[Source]) -> list[Source]:
    """Those whose beginning could be fetched; one that is not there is for the readers to miss."""

    def start(one: Source) -> None:
        with suppress(RemoteNotFound, RemoteRefused):
            one.start()

    _at_once(partial(start, one) for one in sources)
    return [one for one in sources if one.size is not None]
