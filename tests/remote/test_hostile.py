"""Servers that lie, hang, wander or never end: each gets one sentence, and soon."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders import write_onnx, write_tiny_gguf
from tests.remote.conftest import write_model
from tests.remote.net import Answer, Handler, Net, document, entry, redirect, served, status
from uml.core.errors import (
    BadFile,
    CorruptFile,
    Offline,
    RemoteFailed,
    RemoteNotFound,
    RemoteRefused,
    SetupError,
    UmlError,
)
from uml.core.model import ModelInfo
from uml.remote.find import opened
from uml.remote.hub import Hub
from uml.remote.names import parse
from uml.remote.web import Limits, Place, redirected

PATIENT = Limits(read_s=20, connect_s=20, whole_s=40)
QUICK = Limits(read_s=0.3, connect_s=20, whole_s=40)


def look(net: Net, text: str, limits: Limits = PATIENT, **hub: Any) -> ModelInfo:
    name = parse(text, net.url)
    assert name is not None
    with opened(name, Hub(net.url, **hub), limits) as remote:
        return remote.inspect(remote.models[0])


def sending(head: dict[str, str], body: bytes = b"", code: int = 206, leave: bool = True) -> Answer:
    """A head as it is, and a body that may be anything; then the connection ends, or nothing more comes."""

    def answer(handler: Handler) -> None:
        handler.head(code, {**head, "Connection": "close"})
        handler.write(body)
        if not leave:
            handler.net.going.wait(10)
        handler.close_connection = True

    return answer


def silence(handler: Handler) -> None:
    handler.net.going.wait(10)


def no_http(handler: Handler) -> None:
    handler.write(b"SSH-2.0-OpenSSH\r\n\r\n")


def negative(handler: Handler) -> None:
    handler.write(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")
    handler.close_connection = True


LIES: dict[str, tuple[Answer, str]] = {
    "another range": (
        sending({"Content-Range": "bytes 10-19/1000", "Content-Length": "10"}, b"x" * 10),
        "another range than it was asked for",
    ),
    "no range": (sending({"Content-Length": "10"}, b"x" * 10), "another range than it was asked for"),
    "a range that is none": (
        sending({"Content-Range": "bytes 0-x/9", "Content-Length": "10"}, b"x" * 10),
        "another range",
    ),
    "a range beyond": (
        sending({"Content-Range": "bytes 0-99999999/1000", "Content-Length": "10"}, b"x" * 10),
        "another range",
    ),
    "more than asked": (
        sending({"Content-Range": "bytes 0-9/10", "Content-Length": "1000"}, b"x" * 1000),
        "sends more than it was asked for",
    ),
    "nothing of it": (
        sending({"Content-Range": "bytes 0-9/10", "Content-Length": "0"}),
        "sends nothing of what was asked for",
    ),
    "less than promised": (
        sending({"Content-Range": "bytes 0-9/10", "Content-Length": "10"}),
        "the connection ended before the answer did",
    ),
    "less than promised of a whole": (
        sending({"Content-Length": "100000"}, b"GGUF", code=200),
        "the connection ended before the answer did",
    ),
    "no size": (
        sending({"Content-Range": "bytes 0-9/*", "Content-Length": "10"}, b"x" * 10),
        "does not say how long the file is",
    ),
    "no size of a whole": (sending({}, b"x" * 10, code=200), "does not say how long the file is"),
    "an absurd size": (
        sending({"Content-Range": f"bytes 0-9/{1 << 62}", "Content-Length": "10"}, b"x" * 10),
        "no model has more than",
    ),
    "compressed": (
        sending({"Content-Length": "10", "Content-Encoding": "gzip"}, b"x" * 10, code=200),
        "compressed (gzip)",
    ),
    "nothing at all": (sending({"Content-Length": "9"}, code=200, leave=False), "nothing came for 0.3 s"),
    "no answer": (silence, "nothing came for 0.3 s"),
    "a negative length": (negative, "the connection ended"),
    "no HTTP": (no_http, "the connection ended"),
    "an error of its own": (status(500), "answered with status 500"),
    "too often": (status(429, Retry_After="30"), "asked too often; try again in 30 s"),
    "too often, not saying when": (status(429, Retry_After="x" * 50), "asked too often; try again later"),
    "an empty file": (status(416), "it is empty, or has changed"),
    "itself again": (redirect("/m.gguf"), "redirects more than 5 times"),
    "nowhere": (redirect(""), "something that is no address"),
    "a file of this machine": (redirect("file:///etc/passwd"), "something that is no address"),
    "a broken address": (redirect("http://[::1/x"), "something that is no address"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_gets_one_sentence(net: Net, lie: str, leftovers: Callable[[], list[Path]]) -> None:
    answer, sentence = LIES[lie]
    net.answers["/m.gguf"] = answer
    with pytest.raises(RemoteFailed) as failed:
        look(net, f"{net.url}/m.gguf", QUICK if "0.3 s" in sentence else PATIENT)
    assert sentence in str(failed.value)
    assert str(failed.value).startswith(f"{net.url}/m.gguf: ")
    assert len(net.asked) <= 6
    assert not leftovers()


@pytest.mark.parametrize(
    ("code", "error"),
    [(401, RemoteRefused), (403, RemoteRefused), (404, RemoteNotFound), (410, RemoteNotFound), (503, RemoteFailed)],
)
def test_a_status_says_whose_turn_it_is(net: Net, code: int, error: type[UmlError]) -> None:
    net.answers["/m.gguf"] = status(code)
    with pytest.raises(error):
        look(net, f"{net.url}/m.gguf")


def test_a_server_that_sends_a_byte_now_and_then_is_left_when_time_is_over(net: Net) -> None:
    def drip(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Never: ")
        while not handler.net.going.wait(0.02) and handler.write(b"x"):
            pass
        handler.close_connection = True

    net.answers["/m.gguf"] = drip
    with pytest.raises(RemoteFailed, match=r"longer than 0\.4 s"):
        look(net, f"{net.url}/m.gguf", Limits(read_s=20, whole_s=0.4))


def test_what_breaks_off_is_read_on_from_there(net: Net, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf")
    data = path.read_bytes()

    def breaking(handler: Handler) -> None:
        if len(net.asked) > 1:
            handler.file(path)
            return
        head = {"Content-Range": f"bytes 0-9999/{len(data)}", "Content-Length": "10000"}
        sending(head, data[:100])(handler)

    net.answers["/m.gguf"] = breaking
    assert look(net, f"{net.url}/m.gguf").name == "Tiny Llama"
    assert net.asked[1].range.startswith("bytes=100-")


def test_a_server_may_give_less_than_it_was_asked_for(net: Net, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf")
    data = path.read_bytes()

    def stingy(handler: Handler) -> None:
        begin = int(net.asked[-1].range.removeprefix("bytes=").split("-")[0])
        piece = data[begin : begin + 9000]
        head = {"Content-Range": f"bytes {begin}-{begin + len(piece) - 1}/{len(data)}"}
        handler.reply(206, piece, head)

    net.answers["/m.gguf"] = stingy
    assert look(net, f"{net.url}/m.gguf").name == "Tiny Llama"


def test_a_file_that_changes_while_it_is_read(net: Net, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf")
    net.repository("Some/Model", tmp_path)
    entries = [entry("m.gguf", path.stat().st_size + 1)]
    net.answers["/api/models/Some/Model/tree/main"] = document(entries)
    with pytest.raises(RemoteFailed, match="it changes, or one is a lie"):
        look(net, "hf:Some/Model")


def test_a_header_without_end_is_left(net: Net, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", "F16")
    net.files["/m.gguf"] = path
    small = Limits(file_bytes=300_000)
    with pytest.raises(RemoteFailed, match="its header does not end within 293 KiB"):
        look(net, f"{net.url}/m.gguf", small)
    net.ranges = False
    with pytest.raises(RemoteFailed, match="does not end within 293 KiB"):
        look(net, f"{net.url}/m.gguf", small)
    with pytest.raises(RemoteFailed, match="reading headers took over 293 KiB"):
        look(net, f"{net.url}/m.gguf", Limits(total_bytes=300_000))
    onnx = write_onnx(tmp_path / "m.onnx", graph_bytes=3 << 20)
    net.files["/m.onnx"] = onnx
    with pytest.raises(RemoteFailed, match="of a server that gives no ranges"):
        look(net, f"{net.url}/m.onnx", Limits(file_bytes=2 << 20))
    assert net.sent < 20 << 20


def test_a_file_that_is_cut_short_is_said_to_be(net: Net, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5000)
    net.files["/m.gguf"] = path
    with pytest.raises(CorruptFile, match="it is truncated") as corrupt:
        look(net, f"{net.url}/m.gguf")
    assert str(corrupt.value).startswith(f"{net.url}/m.gguf: ")


@pytest.mark.parametrize("length", [0, 1, (1 << 63) - 1, (1 << 64) - 1])
def test_safetensors_with_an_impossible_header(net: Net, tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b'{"a":1}' * 30_000)
    net.files["/x/y/z/model.safetensors"] = path
    found: ModelInfo | None = None
    try:
        found = look(net, f"{net.url}/x/y/z/model.safetensors")
    except BadFile as error:
        assert str(tmp_path) not in str(error)
    assert found is None or not found.parameters


# --- the network ----------------------------------------------------------------------------------


def test_nobody_listens_there(net: Net) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RemoteFailed, match=r"127\.0\.0\.1 cannot be reached"):
        look(net, f"http://127.0.0.1:{port}/m.gguf")
    with pytest.raises(RemoteFailed, match="cannot be reached"):
        look(net, f"https://127.0.0.1:{net.port}/m.gguf")


@pytest.mark.parametrize(
    ("url", "location", "sentence"),
    [
        ("https://hub.example/a", "http://cdn.example/a", "without encryption"),
        ("https://hub.example/a", "https://127.0.0.1/a", "an address of this network"),
        ("http://hub.example/a", "http://169.254.169.254/latest/meta-data", "an address of this network"),
        ("http://hub.example/a", "http://[::1]/a", "an address of this network"),
        ("http://hub.example/a", "http://localhost:8080/v1/models", "an address of this network"),
        ("http://hub.example/a", "http://10.1.2.3/a", "an address of this network"),
        ("http://hub.example/a", "http://h:0/a", "no address"),
    ],
)
def test_a_redirect_does_not_lead_where_a_public_server_has_no_business(url: str, location: str, sentence: str) -> None:
    with pytest.raises(RemoteFailed, match=sentence):
        redirected(Place(url, "it"), url, location)


def test_a_redirect_may_be_relative_or_stay_in_this_network() -> None:
    place = Place("", "it")
    assert redirected(place, "https://hub.example/a/b", "/c") == "https://hub.example/c"
    assert redirected(place, "http://10.0.0.1/a", "http://10.0.0.2/b") == "http://10.0.0.2/b"


def test_a_proxy_of_the_environment_is_used_for_hosts_elsewhere(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net.files["/m.gguf"] = write_tiny_gguf(tmp_path / "m.gguf")
    monkeypatch.setenv("http_proxy", net.url)
    assert look(net, "http://models.example/m.gguf", token="hf_sesame").name == "Tiny Llama"
    assert {asked.authorization for asked in net.asked} == {""}
    # The hub speaks TLS, and this proxy knows no CONNECT.
    monkeypatch.setenv("https_proxy", net.url)
    with pytest.raises(RemoteFailed, match="the proxy in the environment refused"):
        look(net, "https://models.example/m.gguf")


@pytest.mark.parametrize("proxy", ["socks5://user:hunter2@127.0.0.1:1", "nonsense://hunter2"])
def test_a_proxy_that_cannot_be_used_is_not_quoted(net: Net, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(SetupError) as refused:
        look(net, "http://models.example/m.gguf")
    assert "hunter2" not in str(refused.value)


# --- the hub --------------------------------------------------------------------------------------

TREE = "/api/models/Some/Model/tree/main"


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (status(401, X_Error_Code="RepoNotFound"), RemoteNotFound, "if it is private, set HF_TOKEN"),
        (status(404, X_Error_Code="RevisionNotFound"), RemoteNotFound, "no revision 'main'"),
        (status(403, X_Error_Code="GatedRepo"), RemoteRefused, "is gated; accept its terms at http"),
        (status(404, X_Error_Code="EntryNotFound"), RemoteNotFound, "no such file"),
        (status(500), RemoteFailed, "status 500"),
        (document({"error": "no"}), RemoteFailed, "is HF_ENDPOINT a hub"),
        (document([1, 2]), RemoteFailed, "is HF_ENDPOINT a hub"),
        (lambda handler: handler.reply(200, b"<html>"), RemoteFailed, "not JSON; is HF_ENDPOINT a hub"),
        (lambda handler: handler.reply(200, b"[" * 100_000), RemoteFailed, "not JSON"),
        (document([]), RemoteNotFound, "holds no model: nothing"),
        (document([entry("readme.md", 5)]), RemoteNotFound, "holds no model: readme.md"),
        (document([entry("m.gguf", 5)], Link=f'<{TREE}>; rel="next"'), RemoteFailed, "has no end"),
    ],
)
def test_what_a_hub_says_is_understood(net: Net, answer: Answer, error: type[UmlError], sentence: str) -> None:
    net.answers[TREE] = answer
    with pytest.raises(error) as refused:
        look(net, "hf:Some/Model")
    assert sentence in str(refused.value)
    assert str(refused.value).startswith("hf:Some/Model: ")


def test_with_a_token_the_advice_is_another(net: Net) -> None:
    net.answers[TREE] = status(404)
    with pytest.raises(RemoteNotFound, match="none that HF_TOKEN opens"):
        look(net, "hf:Some/Model", token="hf_sesame")
    net.answers[TREE] = status(403, X_Error_Code="GatedRepo")
    with pytest.raises(RemoteRefused, match="with the account of HF_TOKEN"):
        look(net, "hf:Some/Model", token="hf_sesame")


def test_a_long_list_of_files_comes_in_pages_of_this_hub_only(net: Net, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m-Q8_0.gguf")
    net.repository("Some/Model", tmp_path)
    page = [entry(f"notes/{number}.md", 1) for number in range(50)]
    last = net.answers[TREE]

    def paged(handler: Handler) -> None:
        if "cursor=" in handler.path:
            last(handler)
        else:
            document(page, Link=f'<{net.url}{TREE}?recursive=true&cursor=abc>; rel="next"')(handler)

    net.answers[TREE] = paged
    assert look(net, "hf:Some/Model").size_bytes == path.stat().st_size
    with served() as other:
        net.answers[TREE] = document(page, Link=f'<{other.url}{TREE}>; rel="next"')
        with pytest.raises(RemoteNotFound):
            look(net, "hf:Some/Model", token="hf_sesame")
        assert not other.asked


def test_a_repository_that_was_renamed_is_found(net: Net, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "m.gguf")
    net.repository("New/Model", tmp_path)
    net.answers["/api/models/Old/Model/tree/main"] = redirect("/api/models/New/Model/tree/main?recursive=true", 307)
    net.answers["/Old/Model/resolve/main/m.gguf"] = redirect("/New/Model/resolve/main/m.gguf", 307)
    assert look(net, "hf:Old/Model").name == "Tiny Llama"


def test_a_list_of_files_cannot_reach_out_of_its_folder(net: Net, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "m.gguf")
    net.repository("Some/Model", tmp_path)
    bad = ["../../evil.gguf", "/etc/evil.gguf", "a//b.gguf", "x\\y.gguf", "n\0.gguf", "a/" * 30 + "b.gguf", "x" * 300]
    entries: list[dict[str, Any]] = [entry(path, 10) for path in bad]
    entries += [{**entry("n.gguf", 1), "size": size} for size in (-1, True, "5", 1 << 70)]
    entries += [{"type": "file", "path": 7, "size": 1}, entry("m.gguf", (tmp_path / "m.gguf").stat().st_size)]
    net.answers[TREE] = document(entries)
    name = parse("hf:Some/Model")
    assert name is not None
    with opened(name, Hub(net.url), PATIENT) as remote:
        assert [model.path.name for model in remote.models] == ["m.gguf"]


def test_a_page_without_end_is_left(net: Net) -> None:
    net.answers[TREE] = lambda handler: handler.reply(200, b" " * 200_000)
    with pytest.raises(RemoteFailed, match="over the limit of 98 KiB"):
        look(net, "hf:Some/Model", Limits(page_bytes=100_000))


# --- settings -------------------------------------------------------------------------------------


def test_offline_nothing_is_asked(net: Net) -> None:
    for hub in (Hub.of({"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": net.url}), Hub.of({}, offline=True)):
        name = parse("hf:Some/Model")
        assert name is not None
        with pytest.raises(Offline, match="nothing was asked"), opened(name, hub):
            raise AssertionError
    assert not net.asked
    assert not Hub.of({"HF_HUB_OFFLINE": "0"}).offline


@pytest.mark.parametrize("endpoint", ["hub.example", "ftp://hub", "https://", "https://[::1", "https://h:0"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(SetupError, match="HF_ENDPOINT"):
        Hub.of({"HF_ENDPOINT": endpoint})


@pytest.mark.parametrize("token", ["hf_se same", "hf_se\nsame", "hf_sésame"])
def test_a_token_that_is_none_is_not_quoted(token: str) -> None:
    with pytest.raises(SetupError) as refused:
        Hub.of({"HF_TOKEN": token})
    assert "same" not in str(refused.value)
    assert Hub.of({"HF_TOKEN": " hf_x\n", "HF_ENDPOINT": "https://hub.example/"}) == Hub("https://hub.example", "hf_x")


def test_the_recorded_shape_of_a_listing_is_the_one_that_is_read() -> None:
    recorded = json.loads(
        '[{"type":"directory","oid":"c1","size":0,"path":"sub"},'
        '{"type":"file","oid":"a6","size":1519,"path":".gitattributes"},'
        '{"type":"file","oid":"d5","size":4683073888,"lfs":{"oid":"fb","size":4683073888,"pointerSize":135},'
        '"xetHash":"1f","path":"sub/m-Q4_K_M.gguf"}]'
    )
    assert recorded[2].keys() == entry("sub/m-Q4_K_M.gguf", 1).keys()
