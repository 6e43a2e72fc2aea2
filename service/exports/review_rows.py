"""Reviews in the rows of a table: an exported queue or epoch with verdicts filled in, or a table of one's own.

A row has an `id`, a `verdict` (`ok`, `wrong`, `unsure`, `exclude`) and optionally the correct class as `label`, or
`verdict_label` as exports call it, `reviewer`, `queue` and `comment`. In a run of structured examples it may have a
`unit`, and the classes of a label are `absent` and `present`. In `review` exports write the last review that the
verdict of a row follows from. Other columns are ignored, and so are rows without a verdict or with the verdict
`conflict`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any, get_args

import orjson
from pydantic import ValidationError

from service.exports.class_texts import ClassTexts
from service.exports.row_files import Columns, Row
from service.exports.tool_review_rows import review_rows_of
from service.formats.columns import ColumnError
from service.formats.ids import IdError, id_list
from service.formats.part_names import ID_NAMES
from service.mining.file_reviews import FileReviews, RowReview, is_untouched
from service.runs.review_history import ReviewHistory
from service.runs.units import UnitKey
from service.schema.faults import error_item
from service.schema.replies.fields import Verdict
from service.schema.replies.reviews import MAX_FILE_REVIEWS
from service.schema.structure import Task, review_classes

VERDICTS: tuple[str, ...] = get_args(Verdict)
# Exports write it where reviewers disagree: no reviewer gives it.
CONFLICT = "conflict"
LABEL_COLUMNS, TEXT_COLUMNS = ("label", "verdict_label"), ("reviewer", "queue", "comment")
# Label Studio's tables have ids of its own in `id`, and the verdicts of an earlier export beside the new annotations.
FOREIGN_COLUMN, FOREIGN_ID = "annotation_id", "external_id"
FOREIGN = "this is a table of Label Studio, whose ids and verdicts are not those of the run: export it as JSON"
COLUMNS = Columns(
    known=(
        "rank",
        *ID_NAMES,
        "unit",
        "verdict",
        *LABEL_COLUMNS,
        *TEXT_COLUMNS,
        "review",
        FOREIGN_COLUMN,
        FOREIGN_ID,
    ),
    needed=(ID_NAMES, ("verdict",)),
    decisive="verdict",
    foreign={FOREIGN_COLUMN: FOREIGN},
)


def read_reviews(
    rows: Iterable[Row],
    class_names: Sequence[str] | None,
    task: Task = "classification",
    defaults: Mapping[str, object] | None = None,
    history: ReviewHistory | None = None,
    most: int = MAX_FILE_REVIEWS,
) -> FileReviews:
    """Read the reviews of a table.

    Args:
        rows: Rows of a file, in order; a value that is None or an empty text is missing.
        class_names: Names of the classes of the run; None if they have none.
        task: Task of the run.
        defaults: Members of `RowReview` of the rows that have none of their own.
        history: Reviews of the run, to leave out rows that have their exported verdict.
        most: Largest number of reviews.

    Raises:
        ColumnError: A row without an id, an unknown verdict or class, a unit that is none, two rows of different rank
            with the same id and unit, a text that is too long, a table of Label Studio, or too many reviews; names row,
            column and value.
    """
    classes = ClassTexts(review_classes(task, class_names))
    labels = ClassTexts(class_names) if task == "multi_label" else None
    reviews, ranks = list[RowReview](), dict[UnitKey, object]()
    num_untouched = left_out = 0
    for number, row in enumerate(rows):
        found = [one for one in review_rows_of(row) if has_verdict(one, number)]
        left_out += not found
        for one in found:
            fields = _fields(one, number, classes)
            if task != "classification" and (unit := read_unit(one.get("unit"), number, labels)) is not None:
                fields["unit"] = unit
            key = UnitKey.of(fields)
            _check_rank(one, number, key, ranks.setdefault(key, one.get("rank")))
            review = _row_review({**(defaults or {}), **fields}, number)
            if history is not None and is_untouched(review, history):
                num_untouched += 1
            elif len(reviews) < most:
                reviews.append(review)
            else:
                raise ColumnError(f"more than {most} reviews in a file: send it in parts", number, "verdict")
    return FileReviews(reviews, num_untouched, left_out)


def _row_review(fields: dict[str, Any], row: int) -> RowReview:
    try:
        return RowReview(row, **fields)
    except ValidationError as err:
        item = error_item(err.errors(include_url=False)[0], ())
        raise ColumnError(item["msg"], row, str(item["loc"][0])) from err


def _check_rank(row: Row, number: int, key: UnitKey, rank: object) -> None:
    """Check that a row about an example or unit has the rank of the first row about it.

    Raises:
        ColumnError: It has another rank.
    """
    if rank != row.get("rank"):
        msg = f"{key.id!r} is also the id of rank {rank}: a spreadsheet may have changed it"
        raise ColumnError(msg, number, _present(row, ID_NAMES))


def has_verdict(row: Row, number: int) -> bool:
    """True if a person has filled in the verdict of a row.

    Raises:
        ColumnError: Label Studio has written the row.
    """
    if not row:
        return False
    foreign = FOREIGN_COLUMN in row or _text(row.get(FOREIGN_ID, row.get("id"))) != _text(row.get("id"))
    if foreign or isinstance(row.get("annotations"), list):
        raise ColumnError(FOREIGN, number, FOREIGN_COLUMN if FOREIGN_COLUMN in row else FOREIGN_ID)
    return _verdict(row) not in ("", CONFLICT)


def _verdict(row: Row) -> str:
    return _text(row.get("verdict")).strip().lower()


def _fields(row: Row, number: int, classes: ClassTexts) -> dict[str, object]:
    """The members of a review that a row has."""
    verdict, id_column = _verdict(row), _present(row, ID_NAMES)
    if id_column is None:
        raise ColumnError("a review needs an id and a verdict", number, None)
    if verdict not in VERDICTS:
        raise ColumnError(f"{verdict[:100]!r} is not one of {', '.join(VERDICTS)}", number, "verdict")
    fields: dict[str, object] = {"id": _identity(row[id_column], number, id_column), "verdict": sys.intern(verdict)}
    label_column = _present(row, LABEL_COLUMNS)
    if label_column is not None:
        fields["label"] = _found(classes, row[label_column], number, label_column)
    if seen := _text(row.get("review")):
        fields["seen"] = seen
    return fields | {name: text for name in TEXT_COLUMNS if (text := _text(row.get(name)))}


def _found(classes: ClassTexts, value: object, row: int | None, column: str) -> int:
    try:
        return classes.find(value)
    except ValueError as err:
        raise ColumnError(str(err), row, column) from err


def read_unit(value: object, row: int | None, labels: ClassTexts | None = None) -> int | str | list[int] | None:
    """The unit of a row as a review names it; None for a whole example.

    Args:
        value: The value of the row.
        row: Number of the row, for errors.
        labels: Labels of the run; None to return the name of a label unchanged.

    Raises:
        ColumnError: The value is no unit of any task, or no label of the run.
    """
    text = _text(value).strip()
    if not text:
        return None
    unit = _json(text) if isinstance(value, str) else value
    if isinstance(value, str) and (isinstance(unit, bool) or not isinstance(unit, int | float | list)):
        if labels is not None:
            return _found(labels, text, row, "unit")
        if unit is None:
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


def _json(text: str) -> object:
    """The value of a JSON text; None if it is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


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
