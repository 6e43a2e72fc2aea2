"""The interface of a codec."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from service.errors import TooManyBatchesError, TooManyExamplesError
from service.formats.arrays import Body
from service.schema.request import LossRequest
from service.schema.result import LossResult

MIN_INFLATED_BYTES = 1024 * 1024
# Each batch costs a few hundred microseconds, whatever its size.
MAX_BATCHES = 10_000


class DecodeOptions(NamedTuple):
    """Options and limits of decoding.

    Args:
        with_attributes: Accept attributes of the examples, as a batch of a run may have them.
        max_bytes: Limit of the inflated data of a compressed format; None: the size of the body, at least 1 MiB.
        max_rows: Limit of the rows, in formats that can declare more rows than they have bytes; None: no limit.
    """

    with_attributes: bool = False
    max_bytes: int | None = None
    max_rows: int | None = None


DEFAULT_DECODE = DecodeOptions()


class Reader(Protocol):
    """A format of requests.

    Args:
        media_type: Its media type.
        aliases: Other media types of the same format.
    """

    media_type: str
    aliases: tuple[str, ...]

    def decode(self, body: Body, options: DecodeOptions = DEFAULT_DECODE) -> LossRequest:
        """Decode a request; binary tensors are views into the body.

        Args:
            body: The whole body.
            options: Attributes and limits.

        Raises:
            DecodeError: The body is not of this format.
            BodyTooLargeError: The data inflates to more bytes than the limit.
            TooManyExamplesError: The data has more rows than the limit.
            TooManyBatchesError: The data has more than MAX_BATCHES batches.
            InvalidRequestError: The body is of this format, but the request is not valid.
        """


class Codec(Reader, Protocol):
    """A format of requests and of replies."""

    def encode(self, result: LossResult) -> bytes:
        """Encode a reply.

        Raises:
            ShapeError: The format cannot hold batches of such different shapes.
            TooManyRegionsError: The format cannot hold so many regions.
        """


def inflated_bytes(body: Body, max_bytes: int | None) -> int:
    """The limit of the inflated data; see `DecodeOptions`."""
    return max(len(body), MIN_INFLATED_BYTES) if max_bytes is None else max_bytes


def check_batches(count: int) -> None:
    """Check the number of batches of a request.

    Raises:
        TooManyBatchesError: There are more than MAX_BATCHES.
    """
    if count > MAX_BATCHES:
        msg = f"more than {MAX_BATCHES} batches in a request: send fewer, larger ones, or an Arrow stream"
        raise TooManyBatchesError(msg)


def check_rows(rows: int, max_rows: int | None) -> None:
    """Check the number of rows before their columns are read: a few bytes can declare any number.

    Raises:
        TooManyExamplesError: There are more rows than a request may have.
    """
    if max_rows is not None and rows > max_rows:
        raise TooManyExamplesError(f"the request has {rows} rows, the limit is {max_rows} (max_examples)")
