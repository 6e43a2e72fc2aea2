"""From `Content-Type` and `Accept` to a codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.codecs.arrow.codec import ArrowCodec
from service.codecs.base import Codec, Reader
from service.codecs.json import JsonCodec
from service.codecs.safetensors import SafetensorsCodec
from service.codecs.tables.arrow_file import ArrowFileReader
from service.codecs.tables.csv import CsvReader
from service.codecs.tables.parquet import ParquetReader
from service.errors import NotAcceptableError, UnsupportedMediaTypeError
from service.formats.quality import qualities

# The first is the answer where the request's own format is for requests only.
CODECS: tuple[Codec, ...] = (JsonCodec(), SafetensorsCodec(), ArrowCodec())
READERS: tuple[Reader, ...] = (*CODECS, ArrowFileReader(), ParquetReader(), CsvReader())
BY_MEDIA_TYPE = {name: known for known in READERS for name in (known.media_type, *known.aliases)}
KNOWN = ", ".join(known.media_type for known in READERS)


def reader(content_type: str | None) -> Reader:
    """What reads a request's `Content-Type`; parameters are ignored.

    Raises:
        UnsupportedMediaTypeError: Nothing does, or no type is given; lists the known.
    """
    name = (content_type or "").partition(";")[0].strip().lower()
    if name not in BY_MEDIA_TYPE:
        given = f"Content-Type {name[:100]!r} is not known" if name else "Content-Type is missing"
        raise UnsupportedMediaTypeError(f"{given}; known are {KNOWN}", headers={"Accept": KNOWN})
    return BY_MEDIA_TYPE[name]


def writer(accept: str | None, asked: Reader) -> Codec:
    """The codec for a reply: the best that `Accept` allows, the request's own among equals.

    Raises:
        NotAcceptableError: It allows none; lists the known.
    """
    offered = {codec.media_type: codec for codec in sorted(CODECS, key=lambda codec: codec is not asked)}
    return offered[best_media_type(accept, {name: codec.aliases for name, codec in offered.items()})]


def best_media_type(accept: str | None, offered: Mapping[str, Sequence[str]]) -> str:
    """The media type of a reply: the best that `Accept` allows (RFC 9110, 12.5.1), the first among equals.

    Args:
        accept: The header.
        offered: What there is, each with its other names; the default first.

    Raises:
        NotAcceptableError: None is allowed; lists what is offered.
    """
    if accept is None or not accept.strip():
        return next(iter(offered))
    ranges = qualities(accept)
    allowed = {name: _quality((name, *aliases), ranges) for name, aliases in offered.items()}
    best = max(offered, key=allowed.__getitem__)
    if allowed[best] <= 0:
        raise NotAcceptableError(f"Accept {accept[:200]!r} allows none of {', '.join(sorted(offered))}")
    return best


def _quality(names: Sequence[str], ranges: Mapping[str, float]) -> float:
    """The quality of the most specific media range that includes one of the names; 0 if none does."""
    candidates = (*names, f"{names[0].partition('/')[0]}/*", "*/*")
    return next((ranges[name] for name in candidates if name in ranges), 0.0)
