from __future__ import annotations

import pytest

from uml.core.errors import BadRequest, RemoteNotFound
from uml.remote.choose import beside, choices, label
from uml.remote.hub import Listed
from uml.remote.names import HubName, UrlName, parse


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:Qwen/Qwen3-8B-GGUF", HubName("Qwen", "Qwen3-8B-GGUF")),
        ("hf://Qwen/Qwen3-8B-GGUF", HubName("Qwen", "Qwen3-8B-GGUF")),
        ("hf:a/b:Q4_K_M", HubName("a", "b", pick="Q4_K_M")),
        ("hf:a/b:sub/m-Q4_K.gguf", HubName("a", "b", pick="sub/m-Q4_K.gguf")),
        ("hf:a/b/sub/m.gguf", HubName("a", "b", pick="sub/m.gguf")),
        ("hf:a/b@refs/pr/3:Q8_0", HubName("a", "b", "refs/pr/3", "Q8_0")),
        ("hf.co/a/b:Q8_0", HubName("a", "b", pick="Q8_0", certain=False)),
        ("huggingface.co/a/b", HubName("a", "b", certain=False)),
        ("https://huggingface.co/a/b", HubName("a", "b")),
        ("https://huggingface.co/a/b/", HubName("a", "b")),
        ("https://huggingface.co/a/b/tree/v2", HubName("a", "b", "v2")),
        ("https://huggingface.co/a/b/blob/main/x/m%20y.gguf", HubName("a", "b", pick="x/m y.gguf")),
        ("https://hf.co/a/b/resolve/v1/m.gguf?download=true", HubName("a", "b", "v1", "m.gguf")),
        ("https://mirror.example/a/b/resolve/main/m.gguf", HubName("a", "b", pick="m.gguf")),
        ("https://mirror.example/models/m.gguf", UrlName("https://mirror.example/models/m.gguf")),
        ("https://other.example/a/b/resolve/main/m.gguf", UrlName("https://other.example/a/b/resolve/main/m.gguf")),
        ("http://10.0.0.2:8000/m.gguf#part", UrlName("http://10.0.0.2:8000/m.gguf")),
        ("qwen2.5-0.5b", None),
        ("Qwen/Qwen2.5-0.5B", None),
        ("./hf:a", None),
        ("/models/m.gguf", None),
        ("hf.co", None),
    ],
)
def test_what_a_user_types_is_a_name_on_the_net_or_none(text: str, name: object) -> None:
    assert parse(text, "https://mirror.example") == name


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:alone",
        "hf:a/../b",
        "hf:a/b:../../etc/passwd",
        "hf:a/b@..",
        "hf:a/b:x\ny",
        "hf:-a/b",
        "https://",
        "https://host:0/x.gguf",
        "https://ho st/x.gguf",
        "https://user:secret@host/x.gguf",
        "https://[::1/x.gguf",
        "https://huggingface.co/a/b/resolve/main/../x",
        "ftp://host/m.gguf",
        "file:///models/m.gguf",
        "s3://a/b",
    ],
)
def test_what_can_only_be_meant_as_one_and_is_none_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(text)
    assert "secret" not in str(refused.value)


def test_an_address_is_shown_without_its_signature() -> None:
    assert UrlName("https://h/m.gguf?sig=abc").shown == "https://h/m.gguf"
    assert HubName("a", "b", "v2", "Q8_0").shown == "hf:a/b@v2"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("m.Q8_0.gguf", "Q8_0"),
        ("m-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"),
        ("BF16/m-BF16-00001-of-00002.gguf", "BF16"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("ggml-model-f16.gguf", "F16"),
        ("phi-3.gguf", "phi-3.gguf"),
    ],
)
def test_the_name_of_a_file_tells_its_quantization(path: str, said: str) -> None:
    assert label(path) == said


FILES = [
    Listed(path, size)
    for path, size in [
        (".gitattributes", 1),
        ("m-Q8_0.gguf", 80),
        ("m-Q4_K_M.gguf", 40),
        ("m-UD-Q4_K_XL.gguf", 45),
        ("mmproj-m-F16.gguf", 5),
        ("m.imatrix.gguf", 1),
        ("BF16/m-BF16-00001-of-00002.gguf", 100),
        ("BF16/m-BF16-00002-of-00002.gguf", 60),
        ("config.json", 2),
        ("model.safetensors", 160),
    ]
]


def labels(pick: str) -> list[str]:
    return [choice.label for choice in choices(HubName("a", "b", pick=pick), FILES)]


def test_a_repository_has_each_gguf_model_once_and_nothing_that_goes_with_one() -> None:
    assert labels("") == ["Q4_K_M", "UD-Q4_K_XL", "Q8_0", "BF16"]
    assert beside(FILES) == ("mmproj-m-F16.gguf", "m.imatrix.gguf")
    (split,) = choices(HubName("a", "b", pick="bf16"), FILES)
    assert (split.size_bytes, len(split.files)) == (160, 2)


@pytest.mark.parametrize(
    ("pick", "found"),
    [
        ("q4_k_m", ["Q4_K_M"]),
        ("Q4_K_XL", ["UD-Q4_K_XL"]),
        ("m-Q8_0.gguf", ["Q8_0"]),
        ("BF16/m-BF16-00002-of-00002.gguf", ["BF16"]),
        ("ud", ["UD-Q4_K_XL"]),
        ("config.json", [""]),
        ("model.safetensors", [""]),
    ],
)
def test_one_is_picked_by_quantization_file_or_word(pick: str, found: list[str]) -> None:
    assert labels(pick) == found


def test_what_is_not_there_is_answered_with_what_is() -> None:
    with pytest.raises(RemoteNotFound, match="no 'Q5_K'; there is Q4_K_M, UD-Q4_K_XL, Q8_0, BF16"):
        labels("Q5_K")
    with pytest.raises(RemoteNotFound, match=r"holds no model: readme\.md"):
        choices(HubName("a", "b"), [Listed("readme.md", 3)])
    with pytest.raises(RemoteNotFound, match=r"it has no 'Q4'; it holds readme\.md"):
        choices(HubName("a", "b", pick="Q4"), [Listed("readme.md", 3)])


def test_files_of_one_quantization_are_told_apart_by_their_paths() -> None:
    files = [Listed("a/m-Q4_0.gguf", 1), Listed("b/m-Q4_0.gguf", 2)]
    assert [choice.label for choice in choices(HubName("a", "b"), files)] == ["a/m-Q4_0.gguf", "b/m-Q4_0.gguf"]


def test_folders_and_single_files_are_models_too() -> None:
    genai = [Listed(f"{folder}/{name}", 1) for folder in ("cpu", "cuda") for name in ("genai_config.json", "m.onnx")]
    assert [choice.path for choice in choices(HubName("a", "b"), genai)] == ["cpu", "cuda"]
    assert [choice.path for choice in choices(HubName("a", "b", pick="cuda"), genai)] == ["cuda"]
    bare = [Listed("onnx/model.onnx", 1), Listed("readme.md", 1)]
    assert [choice.path for choice in choices(HubName("a", "b"), bare)] == ["onnx/model.onnx"]
