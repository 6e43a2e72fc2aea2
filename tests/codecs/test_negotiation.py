"""The choice of codecs by `Content-Type` and `Accept`."""

from __future__ import annotations

import pytest

from service.codecs.json import JsonCodec
from service.codecs.negotiation import CODECS, reader, writer
from service.codecs.safetensors import SafetensorsCodec
from service.errors import NotAcceptableError, UnsupportedMediaTypeError

JSON, SAFETENSORS = reader("application/json"), reader("application/x-safetensors")


def test_codec_of_each_media_type() -> None:
    assert isinstance(JSON, JsonCodec)
    assert isinstance(SAFETENSORS, SafetensorsCodec)
    for codec in CODECS:
        for name in (codec.media_type, *codec.aliases):
            assert reader(name) is codec


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        ("application/json; charset=utf-8", JSON),
        ("Application/JSON", JSON),
        (" application/json ;x=y", JSON),
        ("application/vnd.safetensors", SAFETENSORS),
        ("APPLICATION/X-SAFETENSORS", SAFETENSORS),
    ],
)
def test_case_and_parameters_do_not_matter(content_type: str, codec: object) -> None:
    assert reader(content_type) is codec


@pytest.mark.parametrize(
    "content_type", [None, "", ";", "text/json", "application/octet-stream", "application/json2", "*/*", "x" * 5000]
)
def test_error_for_an_unknown_type_lists_the_known_ones(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaTypeError) as caught:
        reader(content_type)
    for codec in CODECS:
        assert codec.media_type in caught.value.detail
        assert codec.media_type in caught.value.headers["Accept"]
    assert len(caught.value.detail) < 500


@pytest.mark.parametrize(
    ("accept", "codec"),
    [
        (None, SAFETENSORS),
        ("", SAFETENSORS),
        ("*/*", SAFETENSORS),
        ("application/*", SAFETENSORS),
        ("application/json", JSON),
        ("application/json, application/x-safetensors", SAFETENSORS),
        ("application/json;q=0.9, application/x-safetensors;q=0.8", JSON),
        ("application/json; q=0.9, */*; q=0.1", JSON),
        ("application/vnd.safetensors, application/json", SAFETENSORS),
        ("application/x-safetensors;q=0, */*", JSON),
        ("*/*;q=1, application/x-safetensors;q=0.5", JSON),
        ("text/html, application/json;q=0.1", JSON),
        ("application/json;q=1.5, application/x-safetensors", SAFETENSORS),
        ("application/json;q=nan, application/x-safetensors;q=0.1", SAFETENSORS),
        ("application/json;q=x, application/x-safetensors;q=0.1", SAFETENSORS),
        ("APPLICATION/JSON;Q=0.5", JSON),
        (", ,application/json,", JSON),
    ],
)
def test_accept_chooses_and_a_tie_goes_to_the_format_of_the_request(accept: str | None, codec: object) -> None:
    assert writer(accept, SAFETENSORS) is codec


@pytest.mark.parametrize(
    "accept",
    ["text/html", "application/json;q=0", "*/*;q=0", "application/json;q=nan", "application/json;q=-1", "json", ";"],
)
def test_accept_that_allows_no_format(accept: str) -> None:
    with pytest.raises(NotAcceptableError) as caught:
        writer(accept, JSON)
    assert "application/json" in caught.value.detail
