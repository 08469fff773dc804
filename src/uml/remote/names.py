"""What a user may call a model that is not on this machine: a URL, or a repository of a hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from uml.core.errors import BadRequest
from uml.core.quote import quoted

HUGGING_FACE = "https://huggingface.co"
_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_WEIGHTS = (".gguf", ".safetensors", ".onnx")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_FILES = frozenset({"blob", "resolve", "raw", "tree"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}://")
MAIN = "main"
_FORM = "hf:OWNER/NAME, with @REVISION and :QUANTIZATION or :FILE where they are needed"


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository of a hub.

    pick: a quantization, a file or a folder in it; empty where the user named none.
    certain: no model on this machine may have this name; `hf.co/...` is how Ollama calls what it downloaded.
    """

    owner: str
    name: str
    revision: str = MAIN
    pick: str = ""
    certain: bool = True

    @property
    def repository(self) -> str:
        """`OWNER/NAME`."""
        return f"{self.owner}/{self.name}"

    @property
    def shown(self) -> str:
        """As a user would type it, without what was picked."""
        return f"hf:{self.repository}" + (f"@{self.revision}" if self.revision != MAIN else "")


@dataclass(frozen=True, slots=True)
class UrlName:
    """A file, or a folder with a model, at any web server."""

    url: str

    @property
    def shown(self) -> str:
        """Without its query, which may hold a signature."""
        return self.url.partition("?")[0]


def parse(text: str, endpoint: str = HUGGING_FACE) -> HubName | UrlName | None:
    """What a name on the net means; None for every other name.

    endpoint: the address of the hub in use; its pages are repositories too, as those of Hugging Face are.
    Raises BadRequest for what can only be meant as a name on the net, and is none.
    """
    if text.startswith("hf:"):
        return _repository(text.removeprefix("hf:").removeprefix("//"), text)
    host, _, rest = text.partition("/")
    if host.lower() in _HOSTS and rest:
        return _repository(rest, text, certain=False)
    if text.lower().startswith(("http://", "https://")):
        return _url(text, endpoint)
    if scheme := _SCHEME.match(text):
        expected = f"https://HOST/PATH, {_FORM}; or a path"
        raise BadRequest(
            f"{quoted(text)} begins with {scheme[0]}, which is not read; expected {expected}", param="model"
        )
    return None


def _repository(rest: str, text: str, certain: bool = True) -> HubName:
    whole, _, pick = rest.partition(":")
    owner, _, tail = whole.partition("/")
    head, _, path = tail.partition("/")
    name, _, revision = head.partition("@")
    # A revision may have slashes (refs/pr/3); a path behind one is given with a colon.
    if revision and path:
        revision, path = f"{revision}/{path}", ""
    if path.partition("/")[0] in _FILES:
        _, revision, path = (*path.split("/", 2), "", "")[:3]
    found = HubName(owner, name, revision or MAIN, pick or path, certain)
    return _checked(found, text)


def _checked(found: HubName, text: str) -> HubName:
    good = _PART.fullmatch(found.owner) and _PART.fullmatch(found.name) and _REVISION.fullmatch(found.revision)
    if not good or ".." in found.revision or not is_inside(found.pick or "a"):
        raise BadRequest(f"{quoted(text)} is no name of a model on a hub; expected {_FORM}", param="model")
    return found


def is_inside(path: str) -> bool:
    """Whether a path stays in its folder, and every part of it can be the name of a file."""
    parts = path.split("/")
    return len(parts) <= 16 and all(
        part not in ("", ".", "..") and len(part.encode("utf-8", "replace")) <= 255 and part.isprintable()
        and "\\" not in part
        for part in parts
    )  # fmt: skip


def _url(text: str, endpoint: str) -> HubName | UrlName:
    try:
        parts = urlsplit(text)
        good = bool(parts.hostname) and parts.port != 0 and text.isprintable() and " " not in text
    except ValueError:
        good = False
    if not good:
        raise BadRequest(f"{quoted(text)} is not the address of a file; expected https://HOST/PATH", param="model")
    if parts.username is not None:
        # It would stand in the shell's history and in the list of processes.
        raise BadRequest(f"the address of {parts.hostname} has a password in it, which is not used", param="model")
    if parts.netloc.lower() in _HOSTS or parts.netloc == urlsplit(endpoint).netloc:
        segments = [unquote(segment) for segment in parts.path.strip("/").split("/")]
        page = len(segments) == 2 and not segments[1].lower().endswith(_WEIGHTS)
        if page or (len(segments) > 3 and segments[2] in _FILES):
            revision = segments[3] if len(segments) > 3 else MAIN
            return _checked(HubName(segments[0], segments[1], revision, "/".join(segments[4:])), text)
    return UrlName(text.partition("#")[0])
