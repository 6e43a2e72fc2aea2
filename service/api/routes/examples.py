"""`/runs/{run}/examples`: the rows of a run, page by page, and one of them with everything."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.http.openapi import PROBLEMS
from service.api.http.query import ATTRIBUTE, MAX_LIMIT, Query
from service.api.http.responses import json_response
from service.api.http.run_openapi import EXAMPLES_QUERY, WHAT_IF_QUERY
from service.api.state import service_of
from service.codecs.negotiation import best_media_type
from service.runs.examples import RANGES, SHOWN, Filter, Order, example, examples_page
from service.runs.queries import View
from service.schema.replies.examples import ExampleDetail, ExampleRow, ExamplesPage

BOUNDS = tuple(f"{side}_{name}" for side in ("min", "max") for name in RANGES)

router = APIRouter(prefix="/runs/{run}/examples", tags=["runs"], responses=PROBLEMS)


@router.get("", summary="Examples of an epoch, filtered and sorted", openapi_extra=EXAMPLES_QUERY)
async def get_examples(request: Request, run: str) -> Response:
    """A page of rows, as JSON, or by `Accept` as CSV, JSONL, Parquet or an Arrow stream. The order is total: the sort
    keys, then the id. `next_cursor`, and the header `Link`, lead to the next page."""
    service = service_of(request)
    named = ("sort", "limit", "cursor", "epoch", "alpha", "gamma", "target", "prediction", "correct", ATTRIBUTE)
    query = Query(request, *named, *BOUNDS)
    media_type = best_media_type(request.headers.get("accept"), dict.fromkeys(_FORMATS, ()))
    limit = query.integer("limit", least=1, most=MAX_LIMIT) or 100
    order, filtered = Order.parse(query.text("sort") or "-loss"), _filter(query)

    def work(view: View) -> ExamplesPage:
        epoch, weighting = query.epoch(view), query.weighting(view)
        verdicts = service.runs.store.reviews(view.snapshot).verdicts
        return examples_page(
            view,
            weighting,
            epoch,
            filtered=filtered,
            order=order,
            limit=limit,
            cursor=query.text("cursor"),
            verdicts=verdicts,
        )

    answer = await service.runs.ask(run, work)
    headers = {"Vary": "Accept"}
    if answer["next_cursor"] is not None:
        # A cursor is one of this epoch, which may not be the last any more when the next page is asked for.
        at = {"epoch": answer["epoch"], "cursor": answer["next_cursor"]}
        following = urlencode({**dict(request.query_params), **at})
        headers["Link"] = f'<{request.url.path}?{following}>; rel="next"'
    if media_type == "application/json":
        return json_response(answer, headers=headers)
    return Response(_FORMATS[media_type](answer["rows"]), headers=headers, media_type=media_type)


def _filter(query: Query) -> Filter:
    bounds = {name: query.number(name) for name in BOUNDS}
    equal = {name: query.integer(name) for name in ("target", "prediction")}
    return Filter(
        equal={name: value for name, value in equal.items() if value is not None},
        at_least={name[4:]: value for name, value in bounds.items() if name.startswith("min_") and value is not None},
        at_most={name[4:]: value for name, value in bounds.items() if name.startswith("max_") and value is not None},
        correct=query.flag("correct"),
        attributes=query.below(ATTRIBUTE),
    )


@router.get("/{example_id:path}", summary="One example with everything", openapi_extra=WHAT_IF_QUERY)
async def get_example(request: Request, run: str, example_id: str) -> Response:
    """Every score with its percentile in the epoch, the probabilities, the course over the epochs, the verdicts."""
    service, query = service_of(request), Query(request, "epoch", "alpha", "gamma")

    def work(view: View) -> ExampleDetail:
        history = service.runs.store.reviews(view.snapshot)
        return example(view, query.weighting(view), query.epoch(view), example_id, history)

    return json_response(await service.runs.ask(run, work))


def _table(rows: Sequence[ExampleRow]) -> pa.Table:
    """The rows with their attributes as JSON texts."""
    members: Sequence[Mapping[str, Any]] = rows
    columns = {name: [row[name] for row in members] for name in SHOWN}
    integers = ("target", "prediction", "epoch", "row")
    kinds = {name: pa.int32() if name in integers else pa.float64() for name in SHOWN} | {
        "id": pa.string(),
        "batch": pa.string(),
    }
    arrays = {name: pa.array(values, kinds[name]) for name, values in columns.items()}
    arrays["attributes"] = pa.array([orjson.dumps(row["attributes"]).decode() for row in rows], pa.string())
    arrays["verdict"] = pa.array([row["verdict"] for row in rows], pa.string())
    return pa.table(arrays)


def _csv(rows: Sequence[ExampleRow]) -> bytes:
    sink = io.BytesIO()
    pyarrow.csv.write_csv(_table(rows), sink)
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


_FORMATS: dict[str, Callable[[Sequence[ExampleRow]], bytes]] = {
    "application/json": orjson.dumps,
    "text/csv": _csv,
    "application/x-ndjson": _jsonl,
    "application/vnd.apache.parquet": _parquet,
    "application/vnd.apache.arrow.stream": _arrow,
}
