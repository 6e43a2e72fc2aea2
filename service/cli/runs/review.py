"""The command `focal-loss review`: verdicts from options and files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import orjson
import typer

from service.cli.console import call_service, fail, output
from service.cli.errors import BAD_DATA
from service.cli.options import DEFAULT_URL, RunName, Url
from service.cli.runs.manage import show_reviews
from service.formats.name_lists import split_names

if TYPE_CHECKING:
    from service.client import RunClient
    from service.schema.replies.reviews import AddedReviews

MEMBERS = ("id", "verdict", "label", "reviewer", "queue", "comment")
# The service accepts at most this number of reviews in a request.
MAX_REVIEWS = 10_000

Review: TypeAlias = dict[str, object]


def review(
    run: RunName,
    file: Annotated[
        Path | None, typer.Argument(help=".csv or .jsonl file with id, verdict, and optionally label.")
    ] = None,
    ok: Annotated[str | None, typer.Option(help="Ids with a correct label, separated by commas.")] = None,
    wrong: Annotated[str | None, typer.Option(help="Ids with a wrong label; id=class names the correct class.")] = None,
    unsure: Annotated[str | None, typer.Option(help="Ids to mark as unsure.")] = None,
    take_back: Annotated[str | None, typer.Option(help="Ids whose verdict to withdraw.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Name of the reviewer.")] = None,
    queue: Annotated[str | None, typer.Option(help="Queue that the reviewer worked through.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Add verdicts on the labels of examples. The last verdict on an example counts."""
    verdicts = ((ok, "ok"), (wrong, "wrong"), (unsure, "unsure"), (take_back, None))
    reviews = [review for ids, verdict in verdicts for review in reviews_of(ids, verdict)]
    reviews += read_reviews(file) if file is not None else []
    if not reviews:
        fail("no reviews: name a file with verdicts, or use --ok, --wrong, --unsure or --take-back")
    merged = [{"reviewer": reviewer, "queue": queue, **review} for review in reviews]
    progress = call_service(url, lambda client: add_in_parts(client.run(run), merged))
    output.print(f"Stored {len(merged)} review{'' if len(merged) == 1 else 's'}.", highlight=False)
    show_reviews(progress)


def reviews_of(ids: str | None, verdict: str | None) -> list[Review]:
    """Reviews from an option: ids separated by commas; `id=class` also names the correct class."""
    reviews = []
    for part in split_names(ids) or []:
        identity, sign, label = part.rpartition("=")
        review: Review = {"id": identity if sign else part, "verdict": verdict}
        reviews.append(review | {"label": _label(label)} if sign else review)
    return reviews


def read_reviews(path: Path) -> list[Review]:
    """Read reviews from a CSV or JSONL file: id, verdict, and optionally label, reviewer, queue, comment.

    Other columns are ignored, so a file of `focal-loss mine` or `export` can be read. So are rows without a verdict.
    """
    try:
        match path.suffix.lower():
            case ".csv":
                with path.open(newline="", encoding="utf-8-sig") as file:
                    rows: list[object] = [_from_csv(row) for row in csv.DictReader(file)]
            case ".jsonl" | ".ndjson":
                rows = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
            case extension:
                fail(f"{path}: unknown extension {extension!r}: expected .csv or .jsonl")
    except OSError as err:
        fail(f"{path}: {err}")
    except (ValueError, csv.Error) as err:
        fail(f"{path}: {err}", BAD_DATA)
    reviews = [_checked(row, path, number) for number, row in enumerate(rows)]
    return [review for review in reviews if review.get("verdict")]


def _from_csv(row: Mapping[str, str]) -> Review:
    return {
        name: _label(value) if name in ("label", "verdict_label") else value for name, value in row.items() if value
    }


def _checked(row: object, path: Path, number: int) -> Review:
    if not isinstance(row, dict) or "id" not in row:
        fail(f"{path}, row {number}: a review needs an id and a verdict", BAD_DATA)
    # Exports call the correct class `verdict_label`.
    row = {"label": row.get("verdict_label")} | row
    return {name: row[name] for name in MEMBERS if row.get(name) is not None}


def _label(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def add_in_parts(run: RunClient, reviews: Sequence[Review]) -> AddedReviews:
    """Add reviews in as many requests as they need; returns the last reply."""
    starts = range(0, len(reviews), MAX_REVIEWS)
    return [run.review(reviews[start : start + MAX_REVIEWS]) for start in starts][-1]
