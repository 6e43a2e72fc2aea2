"""Reviews in the rows of a table: an exported queue or epoch with verdicts filled in, or a table of one's own.

A row has an `id`, a `verdict` (`ok`, `wrong`, `unsure`) and optionally the correct class as `label`, or `verdict_label`
as exports call it, `reviewer`, `queue` and `comment`. In a run of structured examples it may have a `unit`, and the
classes of a label are `absent` and `present`. Other columns are ignored, and so are rows without a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import cast, get_args

import orjson
from typing_extensions import TypedDict

from service.exports.class_texts import ClassTexts
from service.formats.columns import ColumnError
from service.formats.ids import IdError, id_list
from service.formats.part_names import ID_NAMES
from service.runs.units import UnitKey
from service.schema.replies.fields import Verdict
from service.schema.structure import Task, review_classes

Row = Mapping[str, object]

VERDICTS: tuple[str, ...] = get_args(Verdict)
LABEL_COLUMNS, TEXT_COLUMNS = ("label", "verdict_label"), ("reviewer", "queue", "comment")
# Label Studio's tables have ids of its own in `id`, and the verdicts of an earlier export beside the new annotations.
FOREIGN_COLUMN, FOREIGN_ID = "annotation_id", "external_id"
# Each table of reviews has a column of each group.
NEEDED = (ID_NAMES, ("verdict",))
COLUMNS = ("rank", *ID_NAMES, "unit", "verdict", *LABEL_COLUMNS, *TEXT_COLUMNS, FOREIGN_COLUMN, FOREIGN_ID)


class ReviewFields(TypedDict, total=False):
    """A review as a client sends it; a verdict of None withdraws the last one."""

    id: str
    unit: int | str | list[int]
    verdict: Verdict | None
    label: int
    reviewer: str
    queue: str
    comment: str


def read_reviews(
    rows: Iterable[Row], class_names: Sequence[str] | None, task: Task = "classification"
) -> Iterator[tuple[int, ReviewFields]]:
    """Yield the reviews of a table, each with the number of its row.

    Args:
        rows: Rows of a file, in order; a value that is None or an empty text is missing.
        class_names: Names of the classes of the run; None if they have none.
        task: Task of the run.

    Raises:
        ColumnError: A row without an id, an unknown verdict or class, a unit that is none, two rows of different rank
            with the same id and unit, or a table of Label Studio; names row, column and value.
    """
    classes = ClassTexts(review_classes(task, class_names))
    ranks = dict[UnitKey, object]()
    for number, row in enumerate(rows):
        if FOREIGN_COLUMN in row or _text(row.get(FOREIGN_ID, row.get("id"))) != _text(row.get("id")):
            msg = "this is a table of Label Studio, whose ids and verdicts are not those of the run"
            raise ColumnError(msg, number, FOREIGN_COLUMN if FOREIGN_COLUMN in row else FOREIGN_ID)
        review = _review(row, number, classes)
        if review is None:
            continue
        if task != "classification" and (unit := read_unit(row.get("unit"), number)) is not None:
            review["unit"] = unit
        rank = ranks.setdefault(UnitKey.of(review), row.get("rank"))
        if rank != row.get("rank"):
            msg = f"{review['id']!r} is also the id of rank {rank}: a spreadsheet may have changed it"
            raise ColumnError(msg, number, _present(row, ID_NAMES))
        yield number, review


def _review(row: Row, number: int, classes: ClassTexts) -> ReviewFields | None:
    verdict = _text(row.get("verdict")).strip().lower()
    if not verdict:
        return None
    id_column = _present(row, ID_NAMES)
    if id_column is None:
        raise ColumnError("a review needs an id and a verdict", number, None)
    if verdict not in VERDICTS:
        raise ColumnError(f"{verdict[:100]!r} is not one of {', '.join(VERDICTS)}", number, "verdict")
    review: ReviewFields = {
        "id": _identity(row[id_column], number, id_column),
        "verdict": cast("Verdict", verdict),
    }
    label_column = _present(row, LABEL_COLUMNS)
    if label_column is not None:
        try:
            review["label"] = classes.find(row[label_column])
        except ValueError as err:
            raise ColumnError(str(err), number, label_column) from err
    return review | cast("ReviewFields", {name: text for name in TEXT_COLUMNS if (text := _text(row.get(name)))})


def read_unit(value: object, row: int | None) -> int | str | list[int] | None:
    """The unit of a row as a review names it, or the name of a label; None for a whole example.

    Raises:
        ColumnError: The value is no unit of any task.
    """
    text = _text(value).strip()
    if not text:
        return None
    try:
        unit = orjson.loads(text) if isinstance(value, str) else value
    except orjson.JSONDecodeError:
        return text
    numbers = unit if isinstance(unit, list) else [unit]
    whole = [
        int(number)
        for number in numbers
        if isinstance(number, int | float) and not (isinstance(number, bool) or number % 1)
    ]
    if len(whole) < len(numbers) or len(numbers) != (2 if isinstance(unit, list) else 1):
        msg = f"{text[:100]!r} is no label, span [start, stop] or number of a region"
        raise ColumnError(msg, row, "unit")
    return whole if isinstance(unit, list) else whole[0]


def _present(row: Row, names: Sequence[str]) -> str | None:
    """The first of these columns with a value; None if the row has none."""
    return next((name for name in names if _text(row.get(name))), None)


def _text(value: object) -> str:
    """A value as text; empty if it is missing. NaN is a missing number of a table."""
    return "" if value is None or (isinstance(value, float) and isnan(value)) else str(value)


def _identity(value: object, row: int, column: str) -> str:
    try:
        (identity,) = id_list([value])
    except IdError as err:
        raise ColumnError(err.msg, row, column) from err
    return str(identity)
