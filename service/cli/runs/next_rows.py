"""The command `focal-loss next`: the next rows of a queue, leased to a reviewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import QUERY_TIMEOUT_S, call_service, fail, info, output, show_json, write_file
from service.cli.options import DEFAULT_URL, AsJson, RunName, Url
from service.cli.runs.queue_output import EXTENSIONS, queue_bytes, show_rows

if TYPE_CHECKING:
    from service.client import LossClient
    from service.schema.replies.queues import LeasedRows
    from service.schema.replies.runs import Run


def next_rows(
    run: RunName,
    queue: Annotated[str, typer.Argument(help="Name of the queue.", show_default=False)],
    limit: Annotated[int, typer.Option(min=1, max=100, help="Maximum number of rows.")] = 10,
    reviewer: Annotated[
        str | None, typer.Option(help="Name of the reviewer; the name of the key overrides it.", show_default=False)
    ] = None,
    give_back: Annotated[
        bool, typer.Option("--give-back", help="End the leases of the reviewer, so that others get the rows.")
    ] = False,
    path: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=".csv, .jsonl or .json file; default: print a table.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Lease the next rows of a queue to a reviewer: meanwhile others get other rows."""
    if path is not None and path.suffix.lower() not in EXTENSIONS:
        fail(f"{path}: unknown extension: expected one of {', '.join(EXTENSIONS)}")
    if give_back:
        call_service(url, lambda client: client.run(run).give_back(queue, reviewer=reviewer))
        info(f"Gave the rows of queue {queue} of run {run} back.")
        return

    def lease(client: LossClient) -> tuple[LeasedRows, Run]:
        return client.run(run).next(queue, limit, reviewer=reviewer), client.run(run).describe()

    leased, description = call_service(url, lease, QUERY_TIMEOUT_S)
    if path is not None:
        write_file(path, queue_bytes(leased, description, path.suffix.lower()))
        info(f"Wrote {len(leased['rows'])} rows to {path}.")
    elif as_json:
        show_json(leased)
    else:
        show_rows(f"Next rows of queue {queue}", leased["rows"], description, output)
    info(f"{leased['num_left']} rows are left for this reviewer, {leased['num_free']} of them free.")
