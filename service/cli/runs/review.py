"""`focal-loss review`: verdicts from options and files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from service.cli.console import BAD_DATA, fail, listed

if TYPE_CHECKING:
    from service.client import RunClient
    from service.schema.replies.reviews import AddedReviews

MEMBERS = ("id", "verdict", "label", "reviewer", "queue", "comment")
# The service takes no more at once.
AT_ONCE = 10_000


def given(ids: str | None, verdict: str | None) -> list[dict[str, Any]]:
    """Reviews from an option: ids with commas, of which `id=class` names the right class."""
    reviews = []
    for part in listed(ids) or []:
        identity, sign, label = part.rpartition("=")
        review: dict[str, Any] = {"id": identity if sign else part, "verdict": verdict}
        reviews.append(review | {"label": _label(label)} if sign else review)
    return reviews


def read_file(path: Path) -> list[dict[str, Any]]:
    """Reviews from a CSV or JSONL file: id, verdict, and perhaps label, reviewer, queue, comment.

    Further columns, as a mined queue has them, are left out, and so are rows without a verdict: nobody has looked yet.
    """
    try:
        match path.suffix.lower():
            case ".csv":
                with path.open(newline="", encoding="utf-8-sig") as file:
                    rows = [_from_csv(row) for row in csv.DictReader(file)]
            case ".jsonl" | ".ndjson":
                rows = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
            case ending:
                fail(f"{path}: ending {ending!r} is none of .csv, .jsonl")
    except OSError as err:
        fail(f"{path}: {err}")
    except (ValueError, csv.Error) as err:
        fail(f"{path}: {err}", BAD_DATA)
    reviews = [_checked(row, path, number) for number, row in enumerate(rows)]
    return [review for review in reviews if review.get("verdict")]


def _from_csv(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _label(value) if name in ("label", "verdict_label") else value for name, value in row.items() if value
    }


def _checked(row: Any, path: Path, number: int) -> dict[str, Any]:
    if not isinstance(row, dict) or "id" not in row:
        fail(f"{path}, row {number}: a review has an id and a verdict", BAD_DATA)
    # An exported queue calls the right class so, beside the given one.
    row = {"label": row.get("verdict_label")} | row
    return {name: row[name] for name in MEMBERS if row.get(name) is not None}


def _label(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def add_in_parts(run: RunClient, reviews: Sequence[dict[str, Any]]) -> AddedReviews:
    """Send them in as many requests as they need; what the last one says."""
    answer = run.review(reviews[:AT_ONCE])
    for start in range(AT_ONCE, len(reviews), AT_ONCE):
        answer = run.review(reviews[start : start + AT_ONCE])
    return answer
