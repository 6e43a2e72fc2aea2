"""Choose codecs by `Content-Type` and `Accept`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.message import Message

from service.codecs.arrow.codec import ArrowCodec
from service.codecs.base import Codec, Reader
from service.codecs.json import JsonCodec
from service.codecs.safetensors import SafetensorsCodec
from service.codecs.tables.arrow_file import ArrowFileReader
from service.codecs.tables.batch import TableReader
from service.codecs.tables.csv import CsvReader
from service.codecs.tables.parquet import ParquetReader
from service.errors import NotAcceptableError, UnsupportedMediaTypeError
from service.formats.csv_dialect import DialectError, encoding_of, separator_of
from service.formats.quality import qualities

# The first is the default of replies to requests in a format without replies.
CODECS: tuple[Codec, ...] = (JsonCodec(), SafetensorsCodec(), ArrowCodec())
CSV, TSV = CsvReader(), CsvReader("text/tab-separated-values", separator="\t")
PARQUET, ARROW_FILE = ParquetReader(), ArrowFileReader()
READERS: tuple[Reader, ...] = (*CODECS, ARROW_FILE, PARQUET, CSV, TSV)
# A reader of Arrow files reads streams too.
TABLES: Mapping[str, TableReader] = {
    **{known.media_type: known for known in (CSV, TSV, PARQUET, ARROW_FILE)},
    ArrowCodec.media_type: ARROW_FILE,
}
BY_MEDIA_TYPE = {name: known for known in READERS for name in (known.media_type, *known.aliases)}
KNOWN = ", ".join(known.media_type for known in READERS)


def reader(content_type: str | None) -> Reader:
    """The reader for a `Content-Type`; of its parameters, `charset` and `delimiter` of text count.

    Raises:
        UnsupportedMediaTypeError: The type is unknown or missing, or a parameter is not supported; lists the known.
    """
    name = _media_type(content_type)
    if name not in BY_MEDIA_TYPE:
        raise _unsupported(name, KNOWN)
    known = BY_MEDIA_TYPE[name]
    return known if known not in (CSV, TSV) or ";" not in str(content_type) else _csv_reader(name, str(content_type))


def _media_type(content_type: str | None) -> str:
    """The media type of a `Content-Type` in lower case, without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def _unsupported(name: str, known: str) -> UnsupportedMediaTypeError:
    problem = f"Content-Type {name[:100]!r} is not known" if name else "Content-Type is missing"
    return UnsupportedMediaTypeError(f"{problem}; known are {known}", headers={"Accept": known})


def table_reader(content_type: str | None, *others: str) -> TableReader:
    """The reader of the rows of a table for a `Content-Type`, an Arrow stream included.

    Args:
        content_type: The header.
        others: Further media types that the caller reads, for the message.

    Raises:
        UnsupportedMediaTypeError: It is no table, or a parameter is not supported; lists the tables and the others.
    """
    name = _media_type(content_type)
    if name not in TABLES:
        raise _unsupported(name, ", ".join((*others, *TABLES)))
    known = TABLES[name]
    return known if known not in (CSV, TSV) or ";" not in str(content_type) else _csv_reader(name, str(content_type))


def _csv_reader(name: str, content_type: str) -> CsvReader:
    header = Message()
    header["Content-Type"] = content_type
    charset, delimiter = header.get_param("charset"), header.get_param("delimiter")
    separator = "\t" if name == TSV.media_type else None
    try:
        return CsvReader(
            name,
            encoding=None if charset is None else encoding_of(str(charset)),
            separator=separator if delimiter is None else separator_of(str(delimiter)),
        )
    except DialectError as err:
        raise UnsupportedMediaTypeError(f"Content-Type {content_type[:100]!r}: {err}") from err


def writer(accept: str | None, request_reader: Reader) -> Codec:
    """The codec for a reply: the one that `Accept` prefers; among equals, that of the request.

    Raises:
        NotAcceptableError: `Accept` allows none; lists the known types.
    """
    offered = {codec.media_type: codec for codec in sorted(CODECS, key=lambda codec: codec is not request_reader)}
    return offered[best_media_type(accept, {name: codec.aliases for name, codec in offered.items()})]


def best_media_type(accept: str | None, offered: Mapping[str, Sequence[str]]) -> str:
    """The media type of a reply: the one that `Accept` prefers (RFC 9110, 12.5.1); among equals, the first.

    Args:
        accept: The header.
        offered: The available media types with their aliases; the default first.

    Raises:
        NotAcceptableError: `Accept` allows none of them; lists them.
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
