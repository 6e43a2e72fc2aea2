"""Classes of a run in requests: by number or by name."""

from __future__ import annotations

from functools import cached_property

from service.formats.labels import ClassNames, label_of_text
from service.runs.snapshot import Snapshot

# Class numbers are stored as int32.
MAX_CLASS = 2**31


class RunClasses:
    """Finds the classes of a run.

    Args:
        snapshot: The run.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def find(self, label: int | str) -> int:
        """The number of a class; the run may have fewer classes if it has no class names.

        Args:
            label: A number; or a text, which is a class name if the run has one that equals it, and else a number.

        Raises:
            ValueError: The label is no class; the message names it and, in a run with class names, the closest ones.
        """
        if isinstance(label, int):
            return label
        names = self._names
        found = label_of_text(label) if names is None else names.find(label)
        if isinstance(found, int) and 0 <= found < MAX_CLASS:
            return found
        if names is not None:
            raise ValueError(names.unknown(label))
        raise ValueError(f"{label[:100]!r} is not the number of a class, and the run has no class names")

    @cached_property
    def _names(self) -> ClassNames | None:
        names = self._snapshot.description.class_names
        return None if names is None else ClassNames(names)
