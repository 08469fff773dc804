"""Who is let in."""

from __future__ import annotations

import pytest

from uml.access import Guard, check_bind
from uml.core.errors import BadKey, NotAllowed, SetupError, UmlError


def verdict(
    guard: Guard, host: str = "localhost:8080", origin: str = "", key: str = "", path: str = "/v1/models"
) -> str:
    try:
        guard.check(path, host.encode(), origin.encode(), f"Bearer {key}".encode() if key else b"", b"")
    except UmlError as error:
        return error.code
    return "in"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", "in"),
        ("LOCALHOST:99", "in"),
        ("127.0.0.1:8080", "in"),
        ("[::1]:8080", "in"),
        ("192.168.1.5:8080", "in"),  # a number cannot be rebound
        ("box.lan:8080", "in"),
        ("evil.example", "not_allowed"),
        ("localhost.evil.example", "not_allowed"),
        ("127.0.0.1.evil.example", "not_allowed"),
        ("", "not_allowed"),
        ("[", "not_allowed"),
    ],
)
def test_names_of_this_server(host: str, expected: str) -> None:
    guard = Guard("127.0.0.1", hosts=["Box.lan"])
    assert [verdict(guard, host), verdict(guard, host)] == [expected] * 2


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("", "in"),
        ("http://localhost:8080", "in"),
        ("https://app.example", "in"),
        ("http://localhost:3000", "not_allowed"),
        ("http://app.example", "not_allowed"),
        ("https://evil.example", "not_allowed"),
        ("null", "not_allowed"),
    ],
)
def test_pages_of_this_server(origin: str, expected: str) -> None:
    assert verdict(Guard("127.0.0.1", origins=["https://App.example/"]), origin=origin) == expected


def test_stars_open_the_door() -> None:
    guard = Guard("127.0.0.1", hosts=["*"], origins=["*"])
    assert verdict(guard, "any.example", "https://any.example") == "in"


def test_keys() -> None:
    guard = Guard("127.0.0.1", key="s3cret")
    assert verdict(guard) == verdict(guard, key="wrong") == "invalid_api_key"
    assert verdict(guard, key="s3cret") == "in"
    assert verdict(guard, path="/health/live") == "in"
    guard.check("/", b"localhost", b"", b"", b"s3cret")
    guard.check("/", b"localhost", b"", b"bearer  s3cret", b"")
    with pytest.raises(BadKey, match="needs an API key"):
        guard.check("/", b"localhost", b"", b"Basic abc", b"")
    with pytest.raises(BadKey, match="not known"):
        guard.check("/", b"localhost", b"", b"Bearer \xff", b"")
    # Who comes from a wrong place is not told whether the key was right.
    with pytest.raises(NotAllowed):
        guard.check("/", b"evil.example", b"", b"Bearer s3cret", b"")


def test_many_strangers_are_not_remembered() -> None:
    guard = Guard("127.0.0.1")
    for number in range(1000):
        assert verdict(guard, f"10.0.{number // 250}.{number % 250}") == "in"
    assert len(guard._decided) <= 256


def test_an_open_door_needs_a_key() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        check_bind(host, None)
    check_bind("0.0.0.0", "key")
    for host in ("0.0.0.0", "::", "192.168.1.5", "box.lan", ""):
        for key in (None, ""):
            with pytest.raises(SetupError, match="UML_API_KEY"):
                check_bind(host, key)
