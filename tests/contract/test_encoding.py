"""Compressed bodies in both directions, and decompression bombs."""

from __future__ import annotations

import gzip
import json
import zlib

import httpx
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save

from tests.contract.test_errors import SAFETENSORS, check_problem
from tests.services import SMALL_LIMITS, ServerWith

ROWS = {"logits": [[1.0, 2.0], [3.0, 4.0]] * 100, "targets": [0, 1] * 100}
JSON = {"Content-Type": "application/json"}


def coded(content: bytes, coding: str) -> bytes:
    match coding:
        case "gzip":
            return gzip.compress(content)
        case "deflate":
            return zlib.compress(content)
        case _:
            return pa.compress(content, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


def plain(content: bytes, coding: str) -> bytes:
    match coding:
        case "gzip":
            return gzip.decompress(content)
        case "deflate":
            return zlib.decompress(content)
        case "zstd":
            with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as stream:
                return stream.read()  # type: ignore[no-any-return]
        case _:
            return content


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_compressed_requests_mean_what_they_hold(client: httpx.Client, coding: str) -> None:
    expected = client.post("/loss", json=ROWS).json()
    content = json.dumps(ROWS).encode()
    reply = client.post("/loss", content=coded(content, coding), headers=JSON | {"Content-Encoding": coding.upper()})
    assert reply.json() == expected
    body = save({"logits": np.array(ROWS["logits"]), "targets": np.array(ROWS["targets"])})
    binary = client.post("/loss", content=coded(body, coding), headers=SAFETENSORS | {"Content-Encoding": coding})
    assert binary.status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_what_is_not_of_its_coding_is_400(client: httpx.Client, coding: str) -> None:
    content = coded(json.dumps(ROWS).encode(), coding)
    for broken in (b"nonsense", content[: len(content) // 2], content + b"more"):
        reply = client.post("/loss", content=broken, headers=JSON | {"Content-Encoding": coding})
        check_problem(reply, 400, "malformed_body")


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "lz4"])
def test_unknown_codings_are_415_and_list_the_known(client: httpx.Client, coding: str) -> None:
    reply = client.post("/loss", content=b"x", headers=JSON | {"Content-Encoding": coding})
    check_problem(reply, 415, "unsupported_encoding")
    assert reply.headers["accept-encoding"] == "zstd, gzip, deflate"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_bomb_is_413_and_costs_no_memory(server_with: ServerWith, coding: str) -> None:
    bomb = coded(b" " * 300_000_000, coding)
    assert len(bomb) < 1_000_000
    server = server_with(**SMALL_LIMITS)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.post("/loss", json=ROWS).status_code == 200
        before = server.memory_bytes()
        for headers in (JSON, SAFETENSORS, {"Content-Type": "application/vnd.apache.arrow.stream"}):
            reply = client.post("/loss", content=bomb, headers=headers | {"Content-Encoding": coding})
            # An Arrow stream is read no further than its first wrong byte.
            if headers in (JSON, SAFETENSORS):
                check_problem(reply, 413, "body_too_large")
            else:
                check_problem(reply, 400, "malformed_body")
        assert server.memory_bytes() - before < 30_000_000
        assert client.post("/loss", json=ROWS).status_code == 200


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("zstd;q=0, gzip;q=0.2", "gzip"),
        ("identity;q=1, gzip;q=0.5", None),
        ("*", "zstd"),
        ("*;q=0.1, deflate", "deflate"),
        ("br", None),
        ("gzip;q=0", None),
        ("identity;q=0, *", "zstd"),
        ("GZIP", "gzip"),
    ],
)
def test_replies_follow_accept_encoding(client: httpx.Client, accept: str | None, coding: str | None) -> None:
    request = client.build_request("POST", "/loss", json=ROWS)
    del request.headers["accept-encoding"]
    if accept is not None:
        request.headers["Accept-Encoding"] = accept
    reply = client.send(request, stream=True)
    content = b"".join(reply.iter_raw())
    reply.close()
    assert reply.status_code == 200
    assert reply.headers.get("content-encoding") == coding
    assert json.loads(plain(content, coding or "identity"))["num_examples"] == 200
    assert "Accept-Encoding" in reply.headers["vary"]


@pytest.mark.parametrize("accept", ["identity;q=0", "*;q=0", "br, identity;q=0"])
def test_no_acceptable_coding_is_406(client: httpx.Client, accept: str) -> None:
    check_problem(client.post("/loss", json=ROWS, headers={"Accept-Encoding": accept}), 406, "not_acceptable")


def test_compressed_bodies_of_other_json_routes(client: httpx.Client) -> None:
    def put(content: bytes, coding: str = "gzip") -> httpx.Response:
        return client.put("/configs", content=content, headers=JSON | {"Content-Encoding": coding})

    config = b'{"gamma": 1.25}'
    for coding in ("gzip", "deflate", "zstd", "identity"):
        content = config if coding == "identity" else coded(config, coding)
        assert put(content, coding).json()["config"]["gamma"] == 1.25
    check_problem(put(gzip.compress(b" " * 9_000_000 + config)), 413, "body_too_large")
    check_problem(put(config), 400, "malformed_body")
    check_problem(put(config, "br"), 415, "unsupported_encoding")


def test_a_json_body_with_too_many_values(client: httpx.Client) -> None:
    content = b'{"class_names": [' + b"[]," * 1_000_000 + b"[]]}"
    check_problem(client.put("/runs/many", content=content, headers=JSON), 413, "too_many_values")
