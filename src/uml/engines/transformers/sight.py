"""Images that a model reads: decoded here, and made what the model takes beside its tokens by the library's processor.

The library works with Pillow and numpy where there is no torchvision. Processors that also read videos insist on it;
they are made without that part.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import transformers
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from uml.core import image
from uml.core.errors import BadRequest
from uml.engines.hosted.prompt import Language


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a request. where: the path of its field. data: the file."""

    where: str
    data: bytes


def pictures_of(request: Mapping[str, Any]) -> list[Picture]:
    """The images of a chat request, in their order. Raises BadRequest for what is no image, or too large a one."""
    found = []
    for place, message in enumerate(request.get("messages") or ()):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, Mapping) and part.get("type") == "image_url":
                where = f"messages[{place}].content[{index}].image_url.url"
                data = image.data_of(image.url_of(part), where)
                image.check(data, where)
                found.append(Picture(where, data))
    return found


@dataclass(slots=True)
class Seen:
    """The images of one request, on their way into a prompt.

    inputs: what the model takes beside its tokens, once `encode` was asked.
    """

    sight: Sight
    pictures: Sequence[Picture]
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, with as many for each image as the model makes of it. Raises BadRequest."""
        tokens, self.inputs = self.sight.read(text, self.pictures)
        return tokens


@dataclass(frozen=True, slots=True)
class SeeingLanguage(Language):
    """A model's language for one request with images in it."""

    seen: Seen | None = None

    @classmethod
    def of(cls, language: Language, seen: Seen) -> SeeingLanguage:
        """The same language, whose prompts get these images."""
        return cls(**{part.name: getattr(language, part.name) for part in fields(language)}, seen=seen)

    def encode(self, text: str) -> list[int]:
        """As `Language.encode`."""
        assert self.seen is not None
        return self.seen.encode(text)


class Sight:
    """Reads images for one model. begin: the text that every prompt begins with."""

    def __init__(self, processor: Any, model: Any, begin: str = "") -> None:
        self._processor, self._model, self._begin = processor, model, begin
        # Gemma's prompts have another mark than the tokens that it becomes.
        self.mark = str(getattr(processor, "boi_token", None) or getattr(processor, "image_token", ""))

    @property
    def template(self) -> str:
        """The chat template that comes with the processor; empty where none does."""
        found = getattr(self._processor, "chat_template", None)
        return found if isinstance(found, str) else ""

    def read(self, text: str, pictures: Sequence[Picture]) -> tuple[list[int], dict[str, Any]]:
        """Token ids of a prompt with its images in them, and what else the model takes. Raises BadRequest."""
        decoded = [_decoded(picture) for picture in pictures]
        if self._begin and not text.startswith(self._begin):
            text = self._begin + text
        try:
            made = self._processor(text=[text], images=decoded, return_tensors="pt", add_special_tokens=False)
        except (ValueError, TypeError, IndexError, StopIteration) as error:
            # The library counts the marks of images in the text, and some sizes are too extreme for it.
            raise BadRequest(f"the model's processor refuses these images: {error}", param="messages") from error
        made = made.to(device=self._model.device, dtype=self._model.dtype)
        tokens: list[int] = made.pop("input_ids")[0].tolist()
        return tokens, {name: value for name, value in made.items() if name != "attention_mask"}


def _decoded(picture: Picture) -> Any:
    """Red, green and blue of an image, turned as its camera was held. Raises BadRequest with its field."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(picture.data)) as opened:
            # Its size was looked at before, by our own measure.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if opened.width * opened.height > image.MOST_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} pixels")
            return ImageOps.exif_transpose(opened).convert("RGB")
    except UnidentifiedImageError as error:  # it names an object of ours
        raise BadRequest(f"{picture.where} cannot be decoded: its data are no image", param=picture.where) from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadRequest(f"{picture.where} cannot be decoded: {error}", param=picture.where) from error


def sight_of(model: Any, folder: Path, *, code: bool) -> Sight | str:
    """Who reads images for a model; or why nobody does, as half a sentence.

    code: whether code that comes with the model runs.
    """
    if getattr(model.config, "vision_config", None) is None:
        return "this model reads texts only"
    try:
        import PIL  # noqa: F401 - asked whether it is there; the library says it less plainly
    except ImportError:
        return "the engine's environment has no Pillow, which decodes images; uml engine install transformers makes one"
    if not any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")):
        return "there is no preprocessor_config.json beside its weights, so nothing says how it reads images"
    try:
        processor = _processor(model, folder, code=code)
    except Exception as error:
        # The boundary to the library: it raises errors of every kind for files that are not what they should be. The
        # model reads texts all the same.
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        return f"what prepares images for this model cannot be made: {said}"
    tokenizer = processor.tokenizer
    empty, begin = list(tokenizer("", verbose=False)["input_ids"]), tokenizer.bos_token_id
    return Sight(processor, model, str(tokenizer.bos_token) if begin is not None and empty[:1] == [begin] else "")


def _processor(model: Any, folder: Path, *, code: bool) -> Any:
    common = {"trust_remote_code": code, "local_files_only": True}
    kind = PROCESSOR_MAPPING.get(type(model.config), None)
    if kind is None or "video_processor" not in kind.get_attributes() or _has_torchvision():
        return transformers.AutoProcessor.from_pretrained(folder, **common)
    told, _ = kind.get_processor_dict(folder, **common)
    parts = {
        name: _PARTS[name].from_pretrained(folder, **common) if name in _PARTS else None
        for name in kind.get_attributes()
    }
    known = {name: told[name] for name in _parameters(kind) if name in told and name not in parts}
    return _without_videos(kind)(**parts, **known)


_PARTS: Final[Mapping[str, Any]] = {
    "image_processor": transformers.AutoImageProcessor,
    "tokenizer": transformers.AutoTokenizer,
    "feature_extractor": transformers.AutoFeatureExtractor,
}


def _has_torchvision() -> bool:
    return bool(transformers.utils.is_torchvision_available())


def _parameters(kind: Any) -> Sequence[str]:
    return [name for name in kind.__init__.__code__.co_varnames[: kind.__init__.__code__.co_argcount] if name != "self"]


def _without_videos(kind: Any) -> Any:
    """The processor's class, taking nothing for what prepares videos."""

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if argument is None else kind.check_argument_for_proper_class(self, name, argument)

    # By the same name: the library looks some things up by it.
    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})
