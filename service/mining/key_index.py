"""An index of the rows of a queue by example and unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from service.runs.units import UnitKey

Rows = npt.NDArray[np.int64]
ABSENT = -1


class KeyIndex:
    """Finds the rows of examples and units in a queue: sorted hashes, which take 24 bytes a row.

    Args:
        keys: Key of each row; no two rows have the same key.
        keys_at: Returns the keys of some rows.
    """

    def __init__(self, keys: Sequence[UnitKey], keys_at: Callable[[Rows], list[UnitKey]]) -> None:
        self.hashes = hashes_of(keys)
        self._order = np.argsort(self.hashes, kind="stable")
        self._sorted = self.hashes[self._order]
        self._keys_at = keys_at

    def find(self, keys: Sequence[UnitKey]) -> Rows:
        """The row of each key; `ABSENT` for the keys that no row has."""
        hashes = hashes_of(keys)
        found = np.full(len(keys), ABSENT, np.int64)
        places = np.searchsorted(self._sorted, hashes)
        pending = np.arange(len(keys))
        # Nearly always one round: another round is for different keys with the same hash.
        while len(pending := pending[self._has_hash(places[pending], hashes[pending])]):
            rows = self._order[places[pending]]
            pairs = zip(pending.tolist(), self._keys_at(rows), strict=True)
            is_same = np.array([keys[number] == key for number, key in pairs], np.bool_)
            found[pending[is_same]] = rows[is_same]
            pending = pending[~is_same]
            places[pending] += 1
        return found

    def _has_hash(self, places: Rows, hashes: Rows) -> npt.NDArray[np.bool_]:
        has = places < len(self._sorted)
        has[has] = self._sorted[places[has]] == hashes[has]
        return has


def hashes_of(keys: Sequence[UnitKey]) -> Rows:
    """The hash of each key, the same for equal keys in this process."""
    return np.fromiter(map(hash, keys), np.int64, len(keys))
