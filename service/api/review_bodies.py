"""The body of `POST /runs/{run}/reviews`: a list of reviews, a file of rows, or an export of Label Studio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from starlette.requests import Request

from service.api.http.encoding import request_coding
from service.api.http.media_types import media_type
from service.api.http.openapi import JSON
from service.api.http.timing import Timing
from service.api.receive import any_json, read_json, run_with_body
from service.api.state import service_of
from service.codecs.base import DecodeOptions
from service.exports.review_files import column_errors, document_rows_of, file_reviews, is_file, row_reader
from service.exports.row_files import Row
from service.mining.file_reviews import FileReviews
from service.mining.reviews import with_defaults
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.tool_reviews.annotation import ToolEvent
from service.tool_reviews.label_studio import is_export, read_export

# A JSON document with all rows of an export or of a labelling tool; other formats have the limit of all bodies.
MAX_DOCUMENT_BYTES = 32 * 1024 * 1024
# A few bytes of Parquet or Arrow can declare any number of rows.
MAX_TABLE_ROWS = 1_000_000


@dataclass(frozen=True)
class ReviewList:
    """A list of reviews that is not yet checked."""

    value: object


@dataclass(frozen=True)
class AnnotationFile:
    """An export of Label Studio.

    Args:
        event: Its annotations.
        left_out: Number of its tasks without annotations.
    """

    event: ToolEvent
    left_out: int


ReviewBody = ReviewList | FileReviews | AnnotationFile


@dataclass(frozen=True)
class _RowsReader:
    """Reads the reviews in the rows of a file for a run; on a worker thread."""

    store: RunStore
    snapshot: Snapshot
    defaults: Mapping[str, object]

    def read(self, rows: Iterator[Row]) -> FileReviews | AnnotationFile:
        with column_errors():
            first = list(islice(rows, 1))
            if is_export(first) and first:
                return _annotation_file([*first, *rows], self.snapshot.name)
        history = self.store.reviews(self.snapshot)
        return file_reviews(chain(first, rows), self.snapshot.description, self.defaults, history)


def _annotation_file(tasks: Sequence[Mapping[str, object]], run: str) -> AnnotationFile:
    return AnnotationFile(read_export(tasks, run), sum(not task["annotations"] for task in tasks))


async def received_reviews(request: Request, run: str, defaults: Mapping[str, object]) -> ReviewBody:
    """The reviews of a request.

    Args:
        request: Its body must be unread.
        run: Name of the run.
        defaults: Members of the reviews that have none of their own; an export of Label Studio has all of them.

    Raises:
        UnsupportedMediaTypeError: The body is neither JSON nor a file of rows.
        UnknownRunError: No run has this name.
        Also the errors of `read_json`, `run_with_body` and `file_reviews`.
    """
    service, headers = service_of(request), request.headers
    store = service.runs.store
    if media_type(headers) == JSON:
        value = await read_json(request, any_json, max_bytes=MAX_DOCUMENT_BYTES)
        if not is_file(value):
            return ReviewList(with_defaults(value, defaults))
        reader = _RowsReader(store, await service.runs.do(lambda: store.snapshot(run), at_once=True), defaults)
        return await service.threads.run(lambda: reader.read(document_rows_of(value)))
    rows_of, coding = row_reader(headers.get("content-type")), request_coding(headers.get("content-encoding"))
    reader = _RowsReader(store, await service.runs.do(lambda: store.snapshot(run), at_once=True), defaults)
    limits = DecodeOptions(max_bytes=service.settings.max_body_bytes, max_rows=MAX_TABLE_ROWS)
    return await run_with_body(request, Timing(), coding, lambda body: reader.read(rows_of(body, limits)))
