"""Images of requests: what their headers say, and what is refused before anything is decoded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import pictures
from uml.core import image
from uml.core.errors import BadRequest
from uml.core.image import Header

EMPTY_SEGMENT = b"\xff\xe0\x00\x02"


def fault(url: object) -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        image.check(image.data_of(url, "here"), "here")
    assert refused.value.param == "here"
    return refused.value


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (pictures.png(70, 30), "PNG"),
        (pictures.bmp(70, 30), "BMP"),
        (pictures.bmp(70, -30)[:26], "BMP"),
        (pictures.gif(70, 30), "GIF"),
        (pictures.jpeg(70, 30), "JPEG"),
        (pictures.jpeg(70, 30, EMPTY_SEGMENT + b"\xff\xff\xd8"[:2] + b"\xff\x01"), "JPEG"),
        (pictures.webp(70, 30, b"VP8 "), "WebP"),
        (pictures.webp(70, 30, b"VP8L"), "WebP"),
        (pictures.webp(70, 30, b"VP8X"), "WebP"),
    ],
)
def test_a_header_says_how_large_it_is(data: bytes, kind: str) -> None:
    assert image.check(data, "here") == Header(kind, 70, 30)
    assert image.check(data, "here").pixels == 2100


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "is no text; expected the image itself"),
        ("https://example.org/a.png", "'https://example.org/a.png'; expected the image itself"),
        ("data:image/png,abc", "expected the image itself"),
        ("data:image/png;base64", "expected the image itself"),
        ("data:image/png;base64,!!!!", "no base64"),
        ("data:image/png;base64,\u00e4", "no base64"),
        ("data:image/png;base64,", "is an empty image"),
        ("data:image/png;base64,AAAA", "3 bytes that are no image"),
        (pictures.url(pictures.png()[:18]), "18 bytes that are no image"),
        (pictures.url(b"\x89PNG\r\n\x1a\n" + bytes(40)), "no image"),
        (pictures.url(b"RIFF0000WAVE" + bytes(40)), "no image"),
        (pictures.url(b"RIFF0000WEBPABCD" + bytes(40)), "no image"),
        (pictures.url(pictures.webp(9, 9, b"VP8X")[:28]), "no image"),
        (pictures.url(b"\xff\xd8" + bytes(40)), "no image"),
        (pictures.url(pictures.jpeg(9, 9, EMPTY_SEGMENT * 5000)), "no image"),
        (pictures.url(pictures.png()[:-12]), "is a PNG image that is cut short, after"),
        (pictures.url(pictures.jpeg(9, 9)[:-2]), "is a JPEG image that is cut short, after"),
        (
            pictures.url(pictures.webp(9, 9, b"VP8X").replace(b"RIFF\x16", b"RIFF\x99")),
            "is a WebP image that is cut short",
        ),
        (pictures.url(pictures.bmp(0, 5)), "BMP image of 0 x 5 pixels"),
        (pictures.url(pictures.gif(1, 201)), "1 x 201 pixels; expected sides of which one is at most 200 times"),
        (pictures.url(pictures.huge_png()), "PNG image of 100000 x 100000 pixels; expected 67108864 pixels at most"),
    ],
)
def test_what_is_no_image_is_refused_and_so_is_a_bomb(url: object, says: str) -> None:
    assert says in fault(url).message


@given(st.sampled_from([start for start, _, _ in image._KINDS]), st.binary(max_size=200))
def test_bytes_of_strangers_are_an_image_or_none(start: bytes, rest: bytes) -> None:
    try:
        found = image.check(start + rest, "here")
    except BadRequest as refused:
        assert refused.param == "here"
    else:
        assert 0 < found.pixels <= image.MOST_PIXELS
