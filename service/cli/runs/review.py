"""The command `focal-loss review`: verdicts from options and files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import QUERY_TIMEOUT_S, call_service, fail, output, show_error
from service.cli.options import DEFAULT_URL, RunName, Url
from service.cli.runs.manage import show_reviews

if TYPE_CHECKING:
    from service.client import LossClient
    from service.schema.replies.exports import AnnotationsReply
    from service.schema.replies.reviews import AddedReviews, Reviews

SHOWN_REFUSALS = 10


def review(
    run: RunName,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV, TSV, JSONL, JSON, Parquet or Arrow file with id, verdict, and optionally unit, label, comment."
        ),
    ] = None,
    ok: Annotated[
        list[str] | None,
        typer.Option(help='Ids with a correct label, separated by commas; "a,b" in quotes is one id. Can be repeated.'),
    ] = None,
    wrong: Annotated[
        list[str] | None, typer.Option(help="Ids with a wrong label; id=class names the correct class.")
    ] = None,
    unsure: Annotated[list[str] | None, typer.Option(help="Ids to mark as unsure.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Ids to leave out of the data set.")] = None,
    take_back: Annotated[list[str] | None, typer.Option(help="Ids whose verdict to withdraw.")] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Part of the examples of the options above, in runs of labels, tokens or masks: a label by number or "
            "name, a span [start, stop], or the number of a region."
        ),
    ] = None,
    comment: Annotated[str | None, typer.Option(help="Comment on the ids of the options above.")] = None,
    label_studio: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address of Label Studio, to add the annotations of a project; its access token is in "
            "LABEL_STUDIO_API_KEY.",
        ),
    ] = None,
    project: Annotated[int | None, typer.Option(help="Number of the project of Label Studio.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Name of the reviewer.")] = None,
    queue: Annotated[str | None, typer.Option(help="Queue that the reviewer worked through.")] = None,
    adjudicate: Annotated[
        bool, typer.Option("--adjudicate", help="Settle what reviewers disagree about; for owners.")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Add verdicts on the labels of examples. The last verdict of a reviewer on an example counts.

    Exit status: 0 success, 1 the service failed, 2 usage error, 3 invalid data in the file.
    """
    from service.cli.runs.verdicts import Members, add_file, reviews_of, with_unit, wrong_reviews

    if label_studio is not None or project is not None:
        others = file is not None or ok or wrong or unsure or exclude or take_back
        if label_studio is None or project is None or others:
            fail("--label-studio URL and --project N go together, and with no other verdicts")
        return _pull(run, label_studio, project, url)
    if file is None and not (ok or wrong or unsure or exclude or take_back):
        options = "--ok, --wrong, --unsure, --exclude or --take-back"
        fail(f"no reviews: name a file with verdicts, or use {options}")
    members: Members = {"reviewer": reviewer, "queue": queue, "adjudicate": adjudicate or None}

    def add(client: LossClient) -> list[AddedReviews]:
        description = client.run(run).describe()
        by_options = (
            *reviews_of(ok, "ok"),
            *wrong_reviews(wrong, description),
            *reviews_of(unsure, "unsure"),
            *reviews_of(exclude, "exclude"),
            *reviews_of(take_back, None),
        )
        reviews = list(with_unit(by_options, unit, comment, description))
        if file is None and not reviews:
            fail("no reviews: the options have no ids")
        replies = [] if file is None else [add_file(client, run, file, members)]
        return [*replies, *([client.run(run).review(reviews, **members)] if reviews else [])]

    replies = call_service(url, add, QUERY_TIMEOUT_S)
    added, unchanged, left_out = (sum(reply[name] for reply in replies) for name in ("added", "unchanged", "left_out"))
    output.print(f"Stored {added} review{'' if added == 1 else 's'}.", highlight=False)
    if unchanged or left_out:
        output.print(f"Rows that change nothing: {unchanged}; without a verdict: {left_out}.", highlight=False)
    show_reviews(replies[-1])


def _pull(run: str, label_studio: str, project: int, url: str) -> None:
    """Add the annotations of a project of Label Studio."""
    from service.cli.runs.label_studio import pull_annotations

    def pull(client: LossClient) -> tuple[list[AnnotationsReply], Reviews]:
        replies = list(pull_annotations(client.run(run), label_studio, project))
        return replies, client.run(run).reviews()

    replies, progress = call_service(url, pull, QUERY_TIMEOUT_S)
    added, num_refused = (sum(reply[name] for reply in replies) for name in ("added", "num_refused"))
    for refused in [one for reply in replies for one in reply["refused"]][:SHOWN_REFUSALS]:
        show_error(f"annotation {refused['annotation']}: {refused['detail']}")
    refusals = f", refused {num_refused} annotations" if num_refused else ""
    output.print(f"Stored {added} review{'' if added == 1 else 's'}{refusals}.", highlight=False)
    show_reviews(progress)
