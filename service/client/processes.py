"""Values for each process: connections and threads do not survive a fork, a pickle or a copy."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that each process makes for itself. A pickle or a copy contains the factory only.

    Args:
        make: Factory of the value. It can be pickled if its arguments can.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._process = os.getpid()
        self._value = make()
        self._inherited: T | None = None

    def get(self) -> T:
        """Return the value of this process. After a fork the first call makes it."""
        if self._process != os.getpid():
            # Keep the parent's value alive: its destructor could disturb what parent and child share.
            self._inherited, self._value = self._value, self._make()
            self._process = os.getpid()
        return self._value

    def __reduce__(self) -> tuple[type[PerProcess[T]], tuple[Callable[[], T]]]:
        return type(self), (self._make,)
