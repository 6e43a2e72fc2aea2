"""What a codec is."""

from __future__ import annotations

from typing import Protocol

from service.messages import LossRequest, LossResult


class Codec(Protocol):
    """One wire format of `POST /loss`.

    Args:
        media_type: The name it answers with.
        aliases: Further names under which it is accepted.
    """

    media_type: str
    aliases: tuple[str, ...]

    def decode(self, body: bytearray, *, with_attributes: bool = False) -> LossRequest:
        """The request that a body says; binary tensors are views into it.

        Args:
            body: As a whole.
            with_attributes: Whether a batch may carry attributes of its examples, as those of a run may.

        Raises:
            DecodeError: The body is not of this format.
            InvalidRequestError: It is, and says no valid request.
        """

    def encode(self, result: LossResult) -> bytes:
        """The body of the reply.

        Raises:
            ShapeError: This format has no room for batches of such different shapes.
        """
