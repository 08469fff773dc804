"""Ollama's store: manifests name blobs by digest, one blob a layer.

`manifests/HOST/NAMESPACE/NAME/TAG` is JSON as container registries have it; the layer of type
`application/vnd.ollama.image.model` is a GGUF file, `blobs/sha256-HEX`. Manifests come from
strangers: a digest is checked before it becomes part of a path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from uml.core.errors import BadFile, CorruptFile, UnsupportedFormat
from uml.core.model import Scalar
from uml.registry.entries import Found
from uml.registry.paths import is_file

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_LAYER: Final = "application/vnd.ollama.image."
_MAX_MANIFEST_BYTES: Final = 1 << 20
_MAX_LAYERS: Final = 1000
_MAX_TEXT_BYTES: Final = 64 << 10
_TEXT_LAYERS: Final = ("template", "system")
_BLOB_LAYERS: Final = {"projector": "a projector for images", "adapter": "an adapter"}


def manifests(folder: Path) -> Iterator[Found | BadFile]:
    """Every name in an Ollama store, those with the same layers together as one."""
    together: dict[tuple[tuple[str, Path], ...], list[tuple[str, ...]]] = {}
    for manifest in sorted((folder / "manifests").glob("*/*/*/*")):
        try:
            layers = _layers(folder, manifest)
        except BadFile as error:
            yield error
            continue
        together.setdefault(layers, []).append(manifest.relative_to(folder / "manifests").parts)
    for layers, places in together.items():
        yield _found(folder, layers, places)


def _layers(folder: Path, manifest: Path) -> tuple[tuple[str, Path], ...]:
    """Kind and blob of every layer that matters here. Raises BadFile."""
    content = _json(manifest)
    layers = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(layers, list) or len(layers) > _MAX_LAYERS:
        raise CorruptFile(manifest, "no list of layers", "a manifest of Ollama")
    kept = []
    for layer in layers:
        kind, digest = (layer.get("mediaType"), layer.get("digest")) if isinstance(layer, dict) else (None, None)
        match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
        if not isinstance(kind, str) or match is None:
            raise CorruptFile(manifest, f"a layer with the digest {digest!r:.80}", "sha256: and 64 hex digits")
        if kind.removeprefix(_LAYER) in ("model", "params", *_TEXT_LAYERS, *_BLOB_LAYERS):
            kept.append((kind.removeprefix(_LAYER), folder / "blobs" / f"sha256-{match[1]}"))
    models = [blob for kind, blob in kept if kind == "model"]
    if len(models) != 1:
        raise UnsupportedFormat(manifest, f"names {len(models)} model files, expected one (is it a cloud model?)")
    if not is_file(models[0]):
        raise BadFile(manifest, f"names {models[0].name}, which is not there; `ollama pull` fetches it again")
    return tuple(kept)


def _found(folder: Path, layers: tuple[tuple[str, Path], ...], places: list[tuple[str, ...]]) -> Found:
    """One model under all its names; the first that is not `latest` is what it is known by."""
    named = sorted((tag == "latest", _name(host, namespace, name), tag) for host, namespace, name, tag in places)
    latest, name, tag = named[0]
    aliases = [alias for late, n, t in named for alias in ((n, f"{n}:{t}") if late else (f"{n}:{t}",))]
    blobs = dict(reversed(layers))
    short = name.rpartition("/")[2]
    return Found(
        key=f"ollama:{folder}:{name}:{tag}",
        path=blobs["model"],
        source="ollama",
        title=short if latest else f"{short}-{tag}",
        names=tuple(aliases),
        metadata={"ollama.name": f"{name}:{tag}", **_metadata(blobs)},
        notes=tuple(
            f"Ollama keeps {what} for this model: {blobs[kind]}" for kind, what in _BLOB_LAYERS.items() if kind in blobs
        ),
    )


def _name(host: str, namespace: str, name: str) -> str:
    """As Ollama says it: `llama3.2`, `USER/MODEL`, `hf.co/USER/MODEL`."""
    if host != "registry.ollama.ai":
        return f"{host}/{namespace}/{name}"
    return name if namespace == "library" else f"{namespace}/{name}"


def _metadata(blobs: Mapping[str, Path]) -> dict[str, Scalar]:
    """Template, system prompt and parameters, as far as they can be read; paths of further files."""
    known: dict[str, Scalar] = {f"ollama.{kind}": str(blobs[kind]) for kind in _BLOB_LAYERS if kind in blobs}
    for kind in _TEXT_LAYERS:
        text = _text(blobs[kind], _MAX_TEXT_BYTES) if kind in blobs else None
        if text:
            known[f"ollama.{kind}"] = text
    try:
        parameters = _json(blobs["params"]) if "params" in blobs else {}
    except BadFile:
        return known  # the model is whole without them
    for name, value in parameters.items() if isinstance(parameters, dict) else ():
        known[f"ollama.params.{name}"] = value if isinstance(value, str | int | float) else json.dumps(value)
    return known


def _json(path: Path) -> Any:
    text = _text(path, _MAX_MANIFEST_BYTES)
    if text is None:
        raise BadFile(path, f"cannot be read as text of at most {_MAX_MANIFEST_BYTES >> 20} MiB")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(path, f"not JSON ({error})") from error


def _text(path: Path, limit: int) -> str | None:
    """A small text file; None where it is not there, too large or not text."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
        return content.decode("utf-8") if len(content) <= limit else None
    except (OSError, UnicodeDecodeError):
        return None
