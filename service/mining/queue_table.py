"""The rows of a queue as Arrow columns, which take a third of the memory of Python objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b, sha256
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from service.mining.key_index import KeyIndex
from service.mining.row_states import StateTracker
from service.queries.view import SCORE_NAMES
from service.runs.units import WHOLE, UnitKey, unit_json
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import QueueHead, QueueRow

ROWS_AT_ONCE = 2_000
# Members of every row, with the types of their columns, also for a queue without rows and for a column of nulls.
TYPES = {
    **dict.fromkeys(("id", "batch"), pa.string()),
    **dict.fromkeys(("row", "epoch", "target", "prediction"), pa.int64()),
    **dict.fromkeys((*SCORE_NAMES, "score"), pa.float64()),
    "suggested": pa.int64(),
    "suggested_p": pa.float64(),
    "strategy": pa.string(),
    "rank": pa.int64(),
    "control": pa.bool_(),
    "share": pa.float64(),
    "reason": pa.string(),
}
# Members of every row of a structured run; units are compact JSON in the column.
UNIT_TYPES = {"unit": pa.string(), "num_elements": pa.int64(), "box": pa.list_(pa.list_(pa.int64()))}
# Members that statistics of all queues of a run need, if the rows have them.
OUTLINE = ("id", "target", "strategy", "control", "suggested", "unit", "gold", "without_suggestion")
# Members that only rows of some strategies have, both or neither.
EPOCH_TYPES = {"suggested_epochs": pa.int64(), "num_epochs": pa.int64()}
# Members of every row of a queue with gold rows, and with rows without a suggestion; replies do not have them.
GOLD, WITHOUT_SUGGESTION = "gold", "without_suggestion"
HIDDEN_TYPES = {GOLD: pa.bool_(), WITHOUT_SUGGESTION: pa.bool_()}
ALL_TYPES = TYPES | UNIT_TYPES | EPOCH_TYPES | HIDDEN_TYPES


class ExpectedErrors(NamedTuple):
    """Number of rows of a strategy, and of wrong labels among them as the model's own probabilities estimate it."""

    num_rows: int
    wrong_labels: float


@dataclass(frozen=True, eq=False)
class QueueTable:
    """A queue.

    Args:
        head: The queue without its rows.
        rows: A column for each member of a row, sorted by rank.
        expected_errors: Result of `expected_errors` for the rows.
        followed: Outline of the queue that follows the verdicts, so that this is done once; None: the queue itself.
    """

    head: QueueHead
    rows: pa.Table
    expected_errors: dict[Strategy, ExpectedErrors]
    followed: QueueTable | None = None

    @classmethod
    def of(cls, head: QueueHead, rows: pa.Table) -> QueueTable:
        """The queue of a head and rows, whose columns may have any order."""
        rows = rows.select([*TYPES, *(name for name in rows.column_names if name not in TYPES)])
        # Gold rows are not chosen as probable errors.
        chosen = rows.filter(pc.invert(rows[GOLD])) if GOLD in rows.column_names else rows
        return cls(head, rows, expected_errors(chosen))

    @property
    def nbytes(self) -> int:
        """Bytes of the rows, and about those of their index and states."""
        return int(self.rows.nbytes) + 48 * len(self)

    @cached_property
    def identity(self) -> str:
        """Digest of the queue except its name, which may change."""
        head = {name: value for name, value in self.head.items() if name != "name"}
        return sha256(orjson.dumps(head, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    @cached_property
    def index(self) -> KeyIndex:
        """Finds the rows of examples and units."""
        return KeyIndex(self.unit_keys(), self.keys_at)

    @property
    def tracker(self) -> StateTracker:
        """Follows the verdicts on the rows."""
        return self._tracker if self.followed is None else self.followed.tracker

    @cached_property
    def _tracker(self) -> StateTracker:
        return StateTracker(self.index, self.head["epoch"], self.marks(GOLD), self.head["created_at"])

    def marks(self, name: str) -> npt.NDArray[np.bool_] | None:
        """The column `gold` or `without_suggestion`; None if no row is marked."""
        if name not in self.rows.column_names:
            return None
        marks = self.rows[name].to_numpy()
        return marks if marks.any() else None

    def num_per(self, name: str) -> dict[str, int]:
        """Number of rows with each class or label; a whole structured example has no one class."""
        values, counts = pc.value_counts(self.rows[name]).flatten()
        pairs = zip(values.to_pylist(), counts.to_pylist(), strict=True)
        return {str(value): count for value, count in pairs if value not in (None, WHOLE)}

    def keys_at(self, rows: npt.NDArray[np.int64]) -> list[UnitKey]:
        """Keys of some rows."""
        some = self.rows.select(self.key_names).take(pa.array(rows))
        return [UnitKey(*values) for values in zip(*(column.to_pylist() for column in some.columns), strict=True)]

    @property
    def overlap(self) -> int:
        """Number of reviewers of each row."""
        return self.head["request"].get("overlap", 1)

    @property
    def is_blind(self) -> bool:
        """True if the verdicts on a row are hidden from a reviewer who has not judged it."""
        return self.head["request"].get("blind", False)

    @property
    def ids(self) -> list[str]:
        """Ids of the rows."""
        ids: list[str] = self.rows["id"].to_pylist()
        return ids

    @property
    def key_names(self) -> list[str]:
        """Names of the columns that identify a row: `id`, and `unit` in a structured run."""
        return [name for name in UnitKey._fields if name in self.rows.column_names]

    def unit_keys(self) -> list[UnitKey]:
        """Keys of the rows."""
        columns = (self.rows[name].to_pylist() for name in self.key_names)
        return [UnitKey(*values) for values in zip(*columns, strict=True)]

    def with_rows(self, rows: pa.Table) -> QueueTable:
        """The queue with other rows, whose verdicts it follows itself."""
        return replace(self, rows=rows, followed=None)

    def of_ids(self, ids: pa.Array) -> QueueTable:
        """The queue with the rows of these examples only."""
        return self.with_rows(self.rows.filter(pc.is_in(self.rows["id"], ids)))

    def outline(self) -> QueueTable:
        """The queue with the columns of `OUTLINE` and `p_wrong` only, which take a tenth of the memory."""
        columns = {name: self.rows[name] for name in OUTLINE if name in self.rows.column_names}
        computed = {
            "strategy": self.rows["strategy"].dictionary_encode(),
            "p_wrong": pa.array(p_wrong(self.rows), pa.float32()),
        }
        return self.with_rows(pa.table(columns | computed))

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def dicts(self, first: int = 0, number: int | None = None) -> list[QueueRow]:
        """Some rows as Python objects: `number` of them, default all, from index `first` on."""
        return dicts_of(self.rows.slice(first, number))

    def dicts_at(self, indices: Sequence[int], names: Sequence[str]) -> list[QueueRow]:
        """Selected members of selected rows.

        Args:
            indices: Ranks of the rows minus 1.
            names: Names of the members; a row lacks a member that its strategy does not have.
        """
        columns = [name for name in names if name in self.rows.column_names]
        return dicts_of(self.rows.select(columns).take(pa.array(indices, pa.int64())))


def dicts_of(rows: pa.Table) -> list[QueueRow]:
    """The rows as Python objects, without members that their strategy does not have."""
    always = TYPES | UNIT_TYPES | HIDDEN_TYPES
    optional = [name for name in rows.column_names if name not in always and rows[name].null_count]
    objects = [
        cast(QueueRow, {name: value for name, value in row.items() if value is not None or name not in optional})
        for row in rows.to_pylist()
    ]
    if "unit" in rows.column_names:
        for row, text in zip(objects, rows["unit"].to_pylist(), strict=True):
            row["unit"] = orjson.loads(text)
    return objects


def table_of(rows: Sequence[QueueRow]) -> pa.Table:
    """The columns of rows; members of later versions get the type that fits their values."""
    objects = cast(Sequence[dict[str, Any]], rows)
    names = dict.fromkeys([*TYPES, *(name for row in objects for name in row)])
    columns = {name: [row.get(name) for row in objects] for name in names}
    if "unit" in columns:
        columns["unit"] = [unit_json(unit) for unit in columns["unit"]]
    return pa.table({name: pa.array(values, ALL_TYPES.get(name)) for name, values in columns.items()})


def p_wrong(rows: pa.Table) -> np.ndarray:
    """Probability of each row, by the model's own probabilities, that its label is wrong.

    It is 1 - p_t; for `area_under_margin` the share of epochs that predicted the suggested class.
    """
    result: np.ndarray = 1 - rows["p_t"].to_numpy()
    if "suggested_epochs" in rows.column_names:
        shares = pc.divide(rows["suggested_epochs"].cast(pa.float64()), rows["num_epochs"].cast(pa.float64()))
        result = np.where(rows["suggested_epochs"].is_valid(), shares.to_numpy(), result)
    return result


def without_suggestion(rows: pa.Table, share: float, seed: int) -> pa.Table:
    """The rows with the column `without_suggestion`; a digest of seed, id and unit decides."""
    units = rows["unit"].to_pylist() if "unit" in rows.column_names else [""] * len(rows)
    keys = zip(rows["id"].to_pylist(), units, strict=True)
    digests = (blake2b(f"{seed}:{identity}:{unit}".encode(), digest_size=8).digest() for identity, unit in keys)
    hidden = [int.from_bytes(digest) < share * 2**64 for digest in digests]
    return rows.append_column(WITHOUT_SUGGESTION, pa.array(hidden, pa.bool_()))


def expected_errors(rows: pa.Table) -> dict[Strategy, ExpectedErrors]:
    """Estimate the wrong labels among the rows of each strategy by `p_wrong`."""
    expected = p_wrong(rows)
    result: dict[Strategy, ExpectedErrors] = {}
    for strategy in rows["strategy"].unique().to_pylist():
        of_strategy = pc.equal(rows["strategy"], strategy).to_numpy()
        result[strategy] = ExpectedErrors(int(of_strategy.sum()), float(expected[of_strategy].sum()))
    return result
