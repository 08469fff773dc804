from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from uml.core import errors
from uml.core.errors import UmlError, gib

EXAMPLES = [
    errors.UmlError("it broke"),
    errors.BadRequest("no", param="messages[0]"),
    errors.UnknownField("options.x", ["ctx"]),
    errors.BadOption("ctx", object(), "a number"),
    errors.UnsupportedParameter("top_a", "llama.cpp has no such sampler"),
    errors.ContextLengthExceeded(900, 512),
    errors.NotAllowed("no"),
    errors.BadKey("no"),
    errors.NotFound("no such route"),
    errors.ModelNotFound("qwn", ["qwen"]),
    errors.BodyTooLarge(1 << 20),
    errors.BadFile(Path("/m.gguf"), "is a folder"),
    errors.CorruptFile(Path("/m.gguf"), "claims 9 tensors", "at most 4", 16),
    errors.MissingShard(Path("/m.gguf"), [f"m-0000{n}-of-00009.gguf" for n in range(1, 9)]),
    errors.UnsupportedFormat(Path("/m.bin"), "is GGJT v1"),
    errors.Cancelled("stopped"),
    errors.LoadFailed("m", "no such tensor"),
    errors.UnsupportedArchitecture("m", "unknown architecture x"),
    errors.IllegalInstruction("m", "SIGILL"),
    errors.OutOfMemory("m", "cuda:0", 8 << 30, 1 << 30),
    errors.OutOfMemory("m", "cpu"),
    errors.LoadTimeout("m", "no progress"),
    errors.EngineNotInstalled("exllama", "m", "uml engine install exllama"),
    errors.InstallRefused("transformers==5.23.0 is installed already"),
    errors.NoRoom("transformers==5.23.0", 3 << 30, 1 << 30, Path("/data")),
    errors.InstallFailed("transformers==5.23.0", "the package index cannot be reached", ["ERROR: no"]),
    errors.InstallNotFound("transformers==4", ["transformers==5.23.0"]),
    errors.WorkerDied("m", "SIGSEGV"),
    errors.RemoteFailed("hf:a/b", "answered 500"),
    errors.RemoteNotFound("hf:a/b", "there is no such repository"),
    errors.RemoteRefused("hf:a/b", "is gated"),
    errors.Offline("hf:a/b", "HF_HUB_OFFLINE is set"),
    errors.Overloaded("full"),
    errors.DoesNotFit("m", 8 << 30, 1 << 30),
    errors.SetupError("no"),
    errors.BadSetting("port is 'x'; expected a port from 0 to 65535"),
    errors.PortTaken("127.0.0.1", 8080),
    errors.FolderNotWritable(Path("/x"), "read-only"),
    errors.AlreadyRunning("http://127.0.0.1:8080", 7),
    errors.NoServer(),
    errors.NoServer("http://127.0.0.1:8080"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_one_json_object_with_a_code_and_a_sentence(error: UmlError) -> None:
    body = json.loads(json.dumps(error.as_dict()))["error"]
    assert body["message"] == str(error)
    assert body["code"] == error.code
    assert body["type"] == ("invalid_request_error" if 400 <= error.status < 500 else "server_error")
    assert "\n" not in body["message"]


def kinds(root: type[UmlError]) -> Iterator[type[UmlError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def ours() -> list[type[UmlError]]:
    """Those of the tree itself; the tests have kinds of their own."""
    return [kind for kind in kinds(UmlError) if kind.__module__.startswith(errors.__name__)]


def test_the_drawing_of_the_tree_has_every_class_in_it() -> None:
    drawn = errors.__doc__ or ""
    missing = [kind.__name__ for kind in ours() if kind.__name__ not in drawn]
    assert not missing


def test_codes_are_told_apart() -> None:
    codes = [kind.code for kind in ours()]
    assert len(codes) == len(set(codes))


def test_sentences_hold_the_parts_that_help() -> None:
    assert "900 tokens" in str(errors.ContextLengthExceeded(900, 512))
    assert "close names: qwen" in str(errors.ModelNotFound("qwn", ["qwen"]))
    assert "claims 9 tensors at byte 16, expected at most 4" in str(
        errors.CorruptFile(Path("/m.gguf"), "claims 9 tensors", "at most 4", 16)
    )
    assert "and 3 more" in str(errors.MissingShard(Path("/m"), [str(n) for n in range(8)]))
    assert errors.DoesNotFit("m", 1 << 90, 0).details["needed"] < 1 << 63
    assert "8081" in str(errors.PortTaken("127.0.0.1", 8080))


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 KiB"), (2048, "2 KiB"), (5 << 20, "5 MiB"), (3 << 29, "1.50 GiB"), (1 << 90, "more than an exabyte")],
)
def test_bytes_in_words(count: int, words: str) -> None:
    assert gib(count) == words
