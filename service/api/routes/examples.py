"""`/runs/{run}/examples`: pages of the rows of a run, and single examples."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.http.openapi import ROWS, problems
from service.api.http.path_types import ExampleId, RunName
from service.api.http.query_types import ATTRIBUTE_PARAMETERS, refuse_repeated_parameters
from service.api.http.responses import json_bytes
from service.api.principals import principal_of
from service.api.queries import ExampleQuery, ExamplesQuery
from service.api.state import service_of
from service.codecs.negotiation import best_media_type
from service.errors import InvalidConfigError, NotAcceptableError, UnknownEpochError, UnknownExampleError
from service.formats.spreadsheets import guard_table
from service.mining.visibility import seen_history
from service.queries.examples import SHOWN, SHOWN_OF_ELEMENTS, example, examples_page
from service.queries.order import INTEGERS, Order
from service.queries.view import View
from service.runs.run_classes import RunClasses
from service.schema.replies.examples import ExampleDetail, ExampleRow, ExamplesPage

Write = Callable[[Sequence[ExampleRow]], bytes]

router = APIRouter(prefix="/runs/{run}/examples", tags=["runs"], dependencies=[Depends(refuse_repeated_parameters)])


def _table(rows: Sequence[ExampleRow]) -> pa.Table:
    """The rows as a table; attributes are JSON texts."""
    columns: Sequence[Mapping[str, Any]] = rows
    integers, texts = (*INTEGERS, "epoch"), ("id", "batch")
    names = [name for name in SHOWN_OF_ELEMENTS if name in SHOWN or (columns and name in columns[0])]
    types = {name: pa.int32() if name in integers else pa.string() if name in texts else pa.float64() for name in names}
    arrays = {name: pa.array([row[name] for row in columns], kind) for name, kind in types.items()}
    arrays["attributes"] = pa.array([orjson.dumps(row["attributes"]).decode() for row in rows], pa.string())
    arrays["verdict"] = pa.array([row["verdict"] for row in rows], pa.string())
    return pa.table(arrays)


def _csv(rows: Sequence[ExampleRow]) -> bytes:
    sink = io.BytesIO()
    pyarrow.csv.write_csv(guard_table(_table(rows)), sink)
    return sink.getvalue()


def _jsonl(rows: Sequence[ExampleRow]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _parquet(rows: Sequence[ExampleRow]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(rows), sink)
    return sink.getvalue()


def _arrow(rows: Sequence[ExampleRow]) -> bytes:
    sink, table = io.BytesIO(), _table(rows)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


JSON = "application/json"
# Formats of a page other than JSON, in which a reply holds the rows only.
FORMATS: dict[str, Write] = {
    "text/csv": _csv,
    "application/x-ndjson": _jsonl,
    "application/vnd.apache.parquet": _parquet,
    "application/vnd.apache.arrow.stream": _arrow,
}
LINK = {"description": "The next page, with rel=next", "required": False, "schema": {"type": "string"}}


@router.get(
    "",
    summary="List examples of an epoch",
    response_model=ExamplesPage,
    responses={
        200: {"headers": {"Link": LINK}, "content": {kind: {"schema": {"type": "string"}} for kind in FORMATS}},
        **problems(*ROWS, UnknownEpochError, InvalidConfigError, NotAcceptableError),
    },
    openapi_extra=ATTRIBUTE_PARAMETERS,
)
async def get_examples(request: Request, run: RunName, query: Annotated[ExamplesQuery, Query()]) -> Response:
    """A page of rows, as JSON, or by `Accept` as CSV, JSONL, Parquet or an Arrow stream. The order is total: the sort
    keys, then the id. `next_cursor` and the header `Link` lead to the next page. Filters: `min_` and `max_` with the
    name of a score, and `attribute.NAME=text`."""
    service = service_of(request)
    media_type = best_media_type(request.headers.get("accept"), dict.fromkeys((JSON, *FORMATS), ()))
    order = Order.parse(query.sort)

    def work(view: View) -> tuple[int, str | None, bytes]:
        page = examples_page(
            view,
            view.weighting(query.weights, query.gamma),
            view.snapshot.epoch(query.epoch),
            where=query.filter(RunClasses(view.snapshot)),
            order=order,
            limit=query.limit,
            cursor=query.cursor,
            verdicts=seen_history(service.runs.store, view.snapshot, principal_of(request)).verdicts,
        )
        content = json_bytes(page) if media_type == JSON else FORMATS[media_type](page["rows"])
        return page["epoch"], page["next_cursor"], content

    epoch, next_cursor, content = await service.runs.ask(run, work)
    headers = {"Vary": "Accept"}
    if next_cursor is not None:
        # The cursor belongs to this epoch, which may not be the last one any more when the next page is requested.
        position = {"epoch": epoch, "cursor": next_cursor}
        others = [(name, value) for name, value in request.query_params.multi_items() if name not in position]
        next_query = urlencode([*others, *position.items()])
        headers["Link"] = f'<{request.url.path}?{next_query}>; rel="next"'
    return Response(content, headers=headers, media_type=media_type)


@router.get(
    "/{example_id:text}",
    summary="Get an example",
    response_model=ExampleDetail,
    responses=problems(*ROWS, UnknownEpochError, UnknownExampleError, InvalidConfigError),
)
async def get_example(
    request: Request, run: RunName, example_id: ExampleId, query: Annotated[ExampleQuery, Query()]
) -> Response:
    """Each score with its percentile in the epoch, the probabilities, the course over the epochs, and the reviews."""
    service = service_of(request)

    def work(view: View) -> ExampleDetail:
        epoch, weighting = view.snapshot.epoch(query.epoch), view.weighting(query.weights, query.gamma)
        history = seen_history(service.runs.store, view.snapshot, principal_of(request))
        return example(view, weighting, epoch, example_id, history, with_elements=query.elements is not False)

    return await service.runs.reply(run, work)
