"""What a codec is."""

from __future__ import annotations

from typing import Protocol

from service.formats.arrays import Body
from service.schema.request import LossRequest
from service.schema.result import LossResult

MIN_INFLATED_BYTES = 1024 * 1024


class Reader(Protocol):
    """A format of requests.

    Args:
        media_type: Its name.
        aliases: Further names under which it is accepted.
    """

    media_type: str
    aliases: tuple[str, ...]

    def decode(self, body: Body, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """The request that a body says; binary tensors are views into it.

        Args:
            body: As a whole.
            with_attributes: Whether a batch may carry attributes of its examples, as those of a run may.
            max_bytes: What a compressed format may inflate to; None: as much as the body has, but 1 MiB at least.

        Raises:
            DecodeError: The body is not of this format.
            BodyTooLargeError: It inflates to more.
            InvalidRequestError: It is of this format, and says no valid request.
        """


class Codec(Reader, Protocol):
    """A format of requests and of replies; it answers under its own name."""

    def encode(self, result: LossResult) -> bytes:
        """The body of the reply.

        Raises:
            ShapeError: This format has no room for batches of such different shapes.
        """


def inflated_bytes(body: Body, max_bytes: int | None) -> int:
    """`max_bytes` of `Reader.decode`, with what None means there."""
    return max(len(body), MIN_INFLATED_BYTES) if max_bytes is None else max_bytes
