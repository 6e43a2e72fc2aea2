"""Reviews from the options and the file of `focal-loss review`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from service.cli.console import fail
from service.cli.errors import BAD_DATA, USAGE_ERROR
from service.cli.files import READ_ERRORS, extension_of, open_input
from service.client.run_calls import REVIEW_FILES, review_file_call
from service.errors import DecodeError, InvalidRequestError, UnknownExampleError
from service.exports.class_texts import ClassTexts
from service.exports.review_rows import read_unit
from service.formats.columns import ColumnError
from service.formats.name_lists import split_quoted_names
from service.schema.replies.fields import Verdict
from service.schema.structure import review_classes

if TYPE_CHECKING:
    from service.client import LossClient
    from service.schema.replies.reviews import AddedReviews
    from service.schema.replies.runs import Run

# A review as the service takes it.
Review = dict[str, object]


def with_unit(reviews: Iterable[Review], text: str | None, comment: str | None, run: Run) -> Iterator[Review]:
    """Reviews of the unit in the value of `--unit`, with a comment; ends the command if the run has no such units."""
    if text is not None and run["task"] == "classification":
        fail(f"--unit {text}: the examples of run {run['run']} have one class, and no units")
    try:
        unit = read_unit(text, None)
    except ColumnError as err:
        fail(f"--unit: {err.msg}")
    members = {name: value for name, value in (("unit", unit), ("comment", comment)) if value is not None}
    for review in reviews:
        yield {**review, **members}


def reviews_of(ids: Sequence[str] | None, verdict: Verdict | None) -> list[Review]:
    """Reviews from the values of an option: ids separated by commas."""
    return [{"id": identity, "verdict": verdict} for identity in split_quoted_names(ids) or ()]


def wrong_reviews(ids: Sequence[str] | None, run: Run) -> Iterator[Review]:
    """Reviews from the values of `--wrong`: `id`, or `id=class`.

    Ids may hold `=` too: an id ends at the last `=` after which there is a class of the run.
    """
    classes = ClassTexts(review_classes(run["task"], run["class_names"]))
    num_classes = 2 if run["task"] == "multi_label" else run["num_classes"] or 0
    for part in split_quoted_names(ids) or ():
        review: Review = {"id": part, "verdict": "wrong"}
        for end in (position for position in range(len(part) - 1, 0, -1) if part[position] == "="):
            try:
                label = classes.find(part[end + 1 :])
            except ValueError:
                continue
            if label < num_classes:
                review |= {"id": part[:end], "label": label}
                break
        yield review


class Members(TypedDict):
    """Members of the reviews that have none of their own."""

    reviewer: str | None
    queue: str | None
    adjudicate: bool | None


def add_file(client: LossClient, run: str, path: Path, members: Members) -> AddedReviews:
    """Send a file of reviews; ends the command at an error in the file, which names file, row and column."""
    extension = extension_of(path)
    if extension not in REVIEW_FILES:
        fail(f"{path}: unknown extension {extension!r}: expected one of {', '.join(REVIEW_FILES)}")
    try:
        with open_input(path) as file:
            content = file.read()
    except READ_ERRORS as err:
        fail(f"{path}: {err}", BAD_DATA if path.is_file() else USAGE_ERROR)
    try:
        reply = client.send(review_file_call(run, content, extension, **members))
    except DecodeError as err:
        fail(f"{path}: {err}", BAD_DATA)
    except (InvalidRequestError, UnknownExampleError) as err:
        place = err.errors[0]["loc"] if err.errors else []
        if not place or place[0] == "query":
            raise
        fail(f"{path}, {err}", BAD_DATA)
    if not reply["added"] + reply["unchanged"]:
        fail(f"{path}: no row has a verdict")
    return reply
