"""Reviews from the options and the file of `focal-loss review`, and their requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from service.cli.console import fail
from service.cli.errors import BAD_DATA, USAGE_ERROR
from service.cli.files import READ_ERRORS, extension_of, open_input
from service.errors import InvalidRequestError, UnknownExampleError, UnknownQueueError
from service.exports.class_texts import ClassTexts
from service.exports.review_rows import COLUMNS, NEEDED, ReviewFields, Row, read_reviews, read_unit
from service.exports.row_files import csv_rows, json_rows, parquet_rows
from service.formats.columns import ColumnError
from service.formats.name_lists import split_quoted_names
from service.runs.units import UnitKey
from service.schema.replies.fields import Verdict
from service.schema.replies.reviews import MAX_REVIEWS
from service.schema.structure import review_classes

if TYPE_CHECKING:
    from service.client import RunClient
    from service.schema.replies.reviews import AddedReviews
    from service.schema.replies.runs import Run
    from service.schema.structure import Task

CHANGED = "; spreadsheets change ids such as 007 and 1e5"
EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")

# A review and its row in the file, None for those of the options.
Review = tuple[int | None, ReviewFields]


def with_unit(reviews: Iterable[ReviewFields], text: str | None, run: Run) -> Iterator[ReviewFields]:
    """Reviews of the unit in the value of `--unit`; ends the command if it cannot be one of the run."""
    if text is not None and run["task"] == "classification":
        fail(f"--unit {text}: the examples of run {run['run']} have one class, and no units")
    try:
        unit = read_unit(text, None)
    except ColumnError as err:
        fail(f"--unit: {err.msg}")
    for review in reviews:
        yield review if unit is None else {**review, "unit": unit}


def reviews_of(ids: Sequence[str] | None, verdict: Verdict | None) -> list[ReviewFields]:
    """Reviews from the values of an option: ids separated by commas."""
    return [{"id": identity, "verdict": verdict} for identity in split_quoted_names(ids) or ()]


def wrong_reviews(ids: Sequence[str] | None, run: Run) -> Iterator[ReviewFields]:
    """Reviews from the values of `--wrong`: `id`, or `id=class`.

    Ids may hold `=` too: an id ends at the last `=` after which there is a class of the run.
    """
    classes = ClassTexts(review_classes(run["task"], run["class_names"]))
    num_classes = 2 if run["task"] == "multi_label" else run["num_classes"] or 0
    for part in split_quoted_names(ids) or ():
        review: ReviewFields = {"id": part, "verdict": "wrong"}
        for end in (position for position in range(len(part) - 1, 0, -1) if part[position] == "="):
            try:
                label = classes.find(part[end + 1 :])
            except ValueError:
                continue
            if label < num_classes:
                review |= {"id": part[:end], "label": label}
                break
        yield review


def read_file(path: Path, run: Run) -> list[Review]:
    """Read the reviews of a file, each with the number of its row; ends the command if the file is invalid."""
    extension = extension_of(path)
    if extension not in EXTENSIONS:
        fail(f"{path}: unknown extension {extension!r}: expected one of {', '.join(EXTENSIONS)}")
    try:
        with open_input(path) as file:
            rows = file_rows(file.read(), extension)
        return list(_with_label_numbers(read_reviews(rows, run["class_names"], run["task"]), run))
    except ColumnError as err:
        fail(f"{path}{err.place and ', '}{err.place}: {err.msg}", BAD_DATA)
    except READ_ERRORS as err:
        fail(f"{path}: {err}", BAD_DATA if path.is_file() else USAGE_ERROR)


def _with_label_numbers(reviews: Iterable[tuple[int, ReviewFields]], run: Run) -> Iterator[Review]:
    """The reviews with the number of a label in place of its name, as queues have it."""
    labels = ClassTexts(run["class_names"] if run["task"] == "multi_label" else None)
    for row, review in reviews:
        unit = review.get("unit")
        if isinstance(unit, str):
            try:
                review["unit"] = labels.find(unit)
            except ValueError as err:
                raise ColumnError(str(err), row, "unit") from err
        yield row, review


def check_queue(run: RunClient, task: Task, queue: str, reviews: Sequence[Review], file: Path) -> None:
    """End the command at a row of the file that is not in the queue: it may be another example or unit of the run.

    A spreadsheet makes 7 of 007, and the run may have both.
    """
    try:
        rows = run.queue(queue, fields=["id"] if task == "classification" else ["id", "unit"])["rows"]
    except UnknownQueueError:
        return
    keys, ids = {UnitKey.of(row) for row in rows}, {row["id"] for row in rows}
    for number, review in reviews:
        key = UnitKey.of(review)
        if number is None or "queue" in review or key in keys:
            continue
        column, has = ("unit", f"no unit {key.unit} of example") if key.id in ids else ("id", "no example")
        hint = "" if key.id in ids else CHANGED
        fail(f"{file}, row {number}, column {column!r}: queue {queue} has {has} {key.id[:100]!r}{hint}", BAD_DATA)


def file_rows(content: bytes, extension: str) -> Iterator[Row]:
    """The rows of a file with one of the EXTENSIONS."""
    match extension:
        case ".csv" | ".tsv":
            return csv_rows(content, NEEDED)
        case ".parquet":
            return parquet_rows(content, COLUMNS)
        case _:
            return json_rows(content)


def add_in_parts(
    run: RunClient, reviews: Sequence[Review], file: Path | None, *, reviewer: str | None, queue: str | None
) -> AddedReviews:
    """Add reviews in as many requests as they need; returns the last reply.

    Args:
        run: The run.
        reviews: At least one review.
        file: File of the reviews with a row.
        reviewer: Name for the reviews without one.
        queue: Queue for the reviews without one.
    """
    defaults = {"reviewer": reviewer, "queue": queue}
    reply = None
    for start in range(0, len(reviews), MAX_REVIEWS):
        part = reviews[start : start + MAX_REVIEWS]
        try:
            reply = run.review([{**defaults, **review} for _, review in part])
        except (InvalidRequestError, UnknownExampleError) as err:
            _fail_at_row(err, part, file)
    assert reply is not None
    return reply


def _fail_at_row(err: InvalidRequestError | UnknownExampleError, part: Sequence[Review], file: Path | None) -> NoReturn:
    """End the command with the row of the file, if the error is about one; otherwise raise the error."""
    loc = err.errors[0]["loc"] if err.errors else []
    row = part[loc[0]][0] if loc and isinstance(loc[0], int) else None
    if row is None:
        raise err
    hint = CHANGED if isinstance(err, UnknownExampleError) else ""
    fail(f"{file}, row {row}, column {loc[-1]!r}: {err.errors[0]['msg']}{hint}", BAD_DATA)
