"""The command `focal-loss review`: verdicts from options and files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from service.cli.console import call_service, fail, output
from service.cli.errors import BAD_DATA, USAGE_ERROR
from service.cli.files import READ_ERRORS, extension_of, open_input
from service.cli.options import DEFAULT_URL, RunName, Url
from service.cli.runs.manage import show_reviews
from service.errors import InvalidRequestError, UnknownExampleError, UnknownQueueError
from service.exports.class_texts import ClassTexts
from service.exports.review_rows import COLUMNS, NEEDED, ReviewFields, Row, read_reviews
from service.formats.columns import ColumnError
from service.formats.name_lists import split_quoted_names
from service.schema.replies.fields import Verdict

if TYPE_CHECKING:
    from service.client import LossClient, RunClient
    from service.schema.replies.reviews import AddedReviews
    from service.schema.replies.runs import Run

# The service accepts at most this number of reviews in a request.
MAX_REVIEWS = 10_000
CHANGED = "; spreadsheets change ids such as 007 and 1e5"
EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")

# A review and its row in the file, None for those of the options.
Review = tuple[int | None, ReviewFields]


def review(
    run: RunName,
    file: Annotated[
        Path | None,
        typer.Argument(help="CSV, JSONL, JSON or Parquet file with id, verdict, and optionally label."),
    ] = None,
    ok: Annotated[
        list[str] | None,
        typer.Option(help='Ids with a correct label, separated by commas; "a,b" in quotes is one id. Can be repeated.'),
    ] = None,
    wrong: Annotated[
        list[str] | None, typer.Option(help="Ids with a wrong label; id=class names the correct class.")
    ] = None,
    unsure: Annotated[list[str] | None, typer.Option(help="Ids to mark as unsure.")] = None,
    take_back: Annotated[list[str] | None, typer.Option(help="Ids whose verdict to withdraw.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Name of the reviewer.")] = None,
    queue: Annotated[str | None, typer.Option(help="Queue that the reviewer worked through.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Add verdicts on the labels of examples. The last verdict on an example counts.

    Exit status: 0 success, 1 the service failed, 2 usage error, 3 invalid data in the file.
    """
    if file is None and not (ok or wrong or unsure or take_back):
        fail("no reviews: name a file with verdicts, or use --ok, --wrong, --unsure or --take-back")

    def add(client: LossClient) -> tuple[int, AddedReviews]:
        description = client.run(run).describe()
        reviews: list[Review] = [
            *((None, review) for review in reviews_of(ok, "ok")),
            *((None, review) for review in wrong_reviews(wrong, description)),
            *((None, review) for review in reviews_of(unsure, "unsure")),
            *((None, review) for review in reviews_of(take_back, None)),
            *(read_file(file, description) if file is not None else ()),
        ]
        if file is not None and queue is not None:
            check_queue(client.run(run), queue, reviews, file)
        if not reviews:
            fail("no reviews: the options have no ids" if file is None else f"{file}: no row has a verdict")
        return len(reviews), add_in_parts(client.run(run), reviews, file, reviewer=reviewer, queue=queue)

    added, progress = call_service(url, add)
    output.print(f"Stored {added} review{'' if added == 1 else 's'}.", highlight=False)
    show_reviews(progress)


def reviews_of(ids: Sequence[str] | None, verdict: Verdict | None) -> list[ReviewFields]:
    """Reviews from the values of an option: ids separated by commas."""
    return [{"id": identity, "verdict": verdict} for identity in split_quoted_names(ids) or ()]


def wrong_reviews(ids: Sequence[str] | None, run: Run) -> Iterator[ReviewFields]:
    """Reviews from the values of `--wrong`: `id`, or `id=class`.

    Ids may hold `=` too: an id ends at the last `=` after which there is a class of the run.
    """
    classes, num_classes = ClassTexts(run["class_names"]), run["num_classes"] or 0
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
        return list(read_reviews(rows, run["class_names"]))
    except ColumnError as err:
        fail(f"{path}{err.place and ', '}{err.place}: {err.msg}", BAD_DATA)
    except READ_ERRORS as err:
        fail(f"{path}: {err}", BAD_DATA if path.is_file() else USAGE_ERROR)


def check_queue(run: RunClient, queue: str, reviews: Sequence[Review], file: Path) -> None:
    """End the command at a row of the file whose id is not in the queue: it may be another example of the run.

    A spreadsheet makes 7 of 007, and the run may have both.
    """
    try:
        ids = {row["id"] for row in run.queue(queue, fields="id")["rows"]}
    except UnknownQueueError:
        return
    for row, review in reviews:
        if row is not None and "queue" not in review and review["id"] not in ids:
            fail(
                f"{file}, row {row}, column 'id': queue {queue} has no example {review['id'][:100]!r}{CHANGED}",
                BAD_DATA,
            )


def file_rows(content: bytes, extension: str) -> Iterator[Row]:
    """The rows of a file with one of the EXTENSIONS."""
    from service.exports.row_files import csv_rows, json_rows, parquet_rows

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
