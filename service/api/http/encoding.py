"""`Content-Encoding` of requests and `Accept-Encoding` of replies: gzip, deflate (RFC 9110: zlib's format) and zstd."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from typing import BinaryIO, cast

import pyarrow as pa

from service.errors import BodyTooLargeError, DecodeError, NotAcceptableError, UnsupportedEncodingError
from service.formats.quality import qualities

# In the order of preference at equal q-values.
CODINGS = ("zstd", "gzip", "deflate")
# Compression is for slow networks: speed matters more than size.
FAST_LEVEL = 1
GZIP_WINDOW = 31
CHUNK_BYTES = 1024 * 1024


def request_coding(content_encoding: str | None) -> str:
    """The one coding of a request's body, or `identity`.

    Raises:
        UnsupportedEncodingError: The coding is unknown, or there are several.
    """
    coding = (content_encoding or "identity").strip().lower().removeprefix("x-")
    if coding not in (*CODINGS, "identity"):
        known = ", ".join(CODINGS)
        raise UnsupportedEncodingError(
            f"Content-Encoding {coding[:100]!r} is not known; known are {known}", headers={"Accept-Encoding": known}
        )
    return coding


def inflating(source: BinaryIO, coding: str) -> BinaryIO:
    """A file that inflates a coded source as it is read; `read(n)` returns at most n bytes.

    Raises (on read):
        OSError: The source does not have this coding, or ends too early.
    """
    if coding == "identity":
        return source
    if coding == "deflate":
        return cast(BinaryIO, _DeflateReader(source))
    return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(source, mode="r"), coding))


def inflated(body: memoryview, coding: str, max_bytes: int, hold: Callable[[int], None]) -> memoryview:
    """The inflated body; inflating stops at the limit.

    Args:
        body: The body as received.
        coding: See `request_coding`.
        max_bytes: Limit of the inflated body.
        hold: Called with the number of bytes about to be held; may refuse them by raising.

    Raises:
        BodyTooLargeError: The body inflates to more bytes than the limit.
        DecodeError: The body does not have this coding.
    """
    if coding == "identity":
        return body
    reader = inflating(io.BytesIO(body), coding)
    plain = bytearray()
    try:
        while chunk := reader.read(min(CHUNK_BYTES, max_bytes - len(plain) + 1)):
            if len(plain) + len(chunk) > max_bytes:
                raise BodyTooLargeError(f"the body inflates to more than {max_bytes} bytes (max_body_bytes)")
            hold(len(chunk))
            plain += chunk
    except OSError as err:
        raise DecodeError(f"the body is not {coding}: {err}") from err
    return memoryview(plain)


class _DeflateReader(io.RawIOBase):
    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._inflate = zlib.decompressobj()
        self._pending = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        while True:
            self._pending = self._pending or self._source.read(CHUNK_BYTES)
            if self._inflate.eof:
                if self._pending:
                    raise OSError("bytes follow the end of the zlib stream")
                return b""
            if not self._pending:
                raise OSError("the zlib stream ends too early")
            try:
                plain = self._inflate.decompress(self._pending, max(size, 0))
            except zlib.error as err:
                raise OSError(str(err)) from err
            self._pending = self._inflate.unconsumed_tail or self._inflate.unused_data
            if plain:
                return plain


def reply_coding(accept_encoding: str | None, codings: Sequence[str] = CODINGS) -> str:
    """The coding of a reply: the best that `Accept-Encoding` allows (RFC 9110, 12.5.3), or `identity`.

    Args:
        accept_encoding: Value of the header; None and the empty value mean `identity`.
        codings: Codings to choose from, in the order of preference.

    Raises:
        NotAcceptableError: The header allows neither one of the codings nor `identity`.
    """
    quality = qualities(accept_encoding or "")
    anything_else = quality.get("*", 0.0)
    # Identity is acceptable unless the header excludes it, by name or by `*`.
    offered = {coding: quality.get(coding, anything_else) for coding in codings}
    offered["identity"] = quality.get("identity", anything_else if "*" in quality else 1e-9)
    best = max(offered, key=lambda coding: offered[coding])
    if offered[best] <= 0:
        raise NotAcceptableError(f"Accept-Encoding {accept_encoding!r} allows none of {', '.join(offered)}")
    return best


def compressed(content: bytes, coding: str) -> bytes:
    """The content, compressed by a coding."""
    match coding:
        case "zstd":
            return cast(bytes, pa.Codec("zstd", compression_level=FAST_LEVEL).compress(content, asbytes=True))
        case "gzip":
            return zlib.compress(content, FAST_LEVEL, wbits=GZIP_WINDOW)
        case "deflate":
            return zlib.compress(content, FAST_LEVEL)
        case _:
            return content
