"""The interface of a codec."""

from __future__ import annotations

from typing import Protocol

from service.formats.arrays import Body
from service.schema.request import LossRequest
from service.schema.result import LossResult

MIN_INFLATED_BYTES = 1024 * 1024


class Reader(Protocol):
    """A format of requests.

    Args:
        media_type: Its media type.
        aliases: Other media types of the same format.
    """

    media_type: str
    aliases: tuple[str, ...]

    def decode(self, body: Body, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """Decode a request; binary tensors are views into the body.

        Args:
            body: The whole body.
            with_attributes: Accept attributes of the examples, as a batch of a run may have them.
            max_bytes: Limit of the inflated data of a compressed format; None: the size of the body, at least 1 MiB.

        Raises:
            DecodeError: The body is not of this format.
            BodyTooLargeError: The data inflates to more bytes than the limit.
            InvalidRequestError: The body is of this format, but the request is not valid.
        """


class Codec(Reader, Protocol):
    """A format of requests and of replies."""

    def encode(self, result: LossResult) -> bytes:
        """Encode a reply.

        Raises:
            ShapeError: The format cannot hold batches of such different shapes.
        """


def inflated_bytes(body: Body, max_bytes: int | None) -> int:
    """The limit of the inflated data; see `max_bytes` of `Reader.decode`."""
    return max(len(body), MIN_INFLATED_BYTES) if max_bytes is None else max_bytes
