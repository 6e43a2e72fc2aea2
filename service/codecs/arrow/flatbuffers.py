"""Members of tables in a flatbuffer (flatbuffers.dev, "Internals"), as far as Arrow's messages need them."""

from __future__ import annotations

import struct


class Flatbuffer:
    """The bytes of a flatbuffer.

    Args:
        content: All of its bytes. Positions are relative to the first one.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content

    @property
    def root(self) -> int:
        """Position of the root table."""
        return self.number("<I", 0)

    def number(self, layout: str, position: int) -> int:
        """The number at a position; raises struct.error beyond the end."""
        value: int = struct.unpack_from(layout, self._content, position)[0]
        return value

    def member(self, table: int, index: int) -> int | None:
        """Position of a member of the table at a position; None if it is absent."""
        vtable = table - self.number("<i", table)
        if 4 + 2 * index >= self.number("<H", vtable):
            return None
        offset = self.number("<H", vtable + 4 + 2 * index)
        return table + offset if offset else None

    def target(self, member: int) -> int:
        """Position of the table or vector to which a member refers."""
        return member + self.number("<I", member)
