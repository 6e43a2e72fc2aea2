"""Classes of a run in requests, and labels of a multi-label run: by number or by name."""

from __future__ import annotations

from functools import cached_property

from service.formats.labels import ClassNames, label_of_text
from service.runs.snapshot import Snapshot

# Class numbers are stored as int32.
MAX_CLASS = 2**31


class RunClasses:
    """Finds the classes that a target can have.

    Args:
        snapshot: The run.
        labels: True to find the labels of a run of the task `multi_label` in place of the classes 0 and 1 of each; in a
            run of another task it changes nothing.
    """

    def __init__(self, snapshot: Snapshot, *, labels: bool = False) -> None:
        self._snapshot = snapshot
        self._is_binary = snapshot.description.task == "multi_label" and not labels

    @property
    def number(self) -> int:
        """Number of classes; 0 if the run has none yet."""
        return 2 if self._is_binary else self._snapshot.num_classes or 0

    def find(self, label: int | str) -> int:
        """The number of a class; it may be `number` or more if the run has no class names.

        Args:
            label: A number; or a text, which is a class name if the run has one that equals it, and else a number.

        Raises:
            ValueError: The label is no class; the message names it and, in a run with class names, the closest ones.
        """
        if self._is_binary and str(label) not in ("0", "1"):
            raise ValueError(f"{str(label)[:100]!r} is neither 0 (absent) nor 1 (present), the classes of a label")
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
        names = None if self._is_binary else self._snapshot.description.class_names
        return None if names is None else ClassNames(names)
