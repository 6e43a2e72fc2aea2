"""Requests below `/runs`: batches, examples, diagnostics, queues, reviews and exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote, urlencode

import orjson

from service.client.arrays import as_plain
from service.client.batches import SentBatch, sent_batch
from service.client.calls import (
    JSON_HEADERS,
    Call,
    ConfigFields,
    Structure,
    WithinLike,
    output_fields,
    parse_config,
    reply_reader,
)
from service.client.calls import (
    json_object as _object,
)
from service.client.histograms import Reduce, as_histograms
from service.client.reduction import Reducer, needed_statistics
from service.client.wire import HEADERS, loss_body
from service.errors import InvalidIdsError, InvalidNameError, InvalidRequestError
from service.schema.config import LossConfig
from service.schema.replies.comparison import Comparison
from service.schema.replies.diagnostics import Diagnostics
from service.schema.replies.dynamics import Dynamics
from service.schema.replies.examples import ExampleDetail, ExamplesPage
from service.schema.replies.queues import LeasedRows, Queue, QueuePage
from service.schema.replies.reviews import AddedReviews, Reviews
from service.schema.replies.runs import CreatedRun, DamagedRun, Run
from service.schema.request import STATISTICS, OnInvalid
from service.schema.result import LossResult
from service.schema.structure import LAYOUT_OF, Task

# Rows per request when all rows of a queue or an epoch are read.
PAGE_ROWS = 5_000

# Media types of files of reviews, by extension. The rows of a JSON document are read as those of JSON lines.
REVIEW_FILES = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".json": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".arrow": "application/vnd.apache.arrow.file",
    ".feather": "application/vnd.apache.arrow.file",
}
FILE_CODINGS = {".gz": "gzip", ".zst": "zstd"}

# Parameters that are classes, by number or name.
CLASSES = ("target", "prediction", "suggested")


class Array(Protocol):
    """A numpy array, a torch tensor, or anything else with `tolist`."""

    def tolist(self) -> Any:
        """Return the values as nested lists."""


QueryValue: TypeAlias = str | float | Sequence[str | float] | Array | None
"""A query parameter: a sequence is joined with commas, an empty one is `none`, None leaves the parameter out."""


def put_run_call(
    name: str,
    config: ConfigFields | None,
    class_names: Sequence[str] | None,
    display: Mapping[str, object] | None,
    *,
    store_logits: bool,
    task: Task,
    within: WithinLike,
) -> Call[CreatedRun]:
    """`PUT /runs/{run}`. Repeatable: the same run again changes nothing."""
    body: dict[str, object] = {"config": parse_config(config).model_dump(mode="json"), "store_logits": store_logits}
    if class_names is not None:
        body["class_names"] = list(class_names)
    if display is not None:
        body["display"] = dict(display)
    if task != "classification":
        body["task"] = task
    if within != "mean":
        body["within"] = within if isinstance(within, str) else dict(within)
    return Call("PUT", run_path(name), _object, orjson.dumps(body), JSON_HEADERS)


def runs_call() -> Call[list[Run | DamagedRun]]:
    """`GET /runs`."""
    return Call("GET", "/runs", lambda response: list(response.json()["runs"]))


def get_run_call(name: str) -> Call[Run]:
    """`GET /runs/{run}`."""
    return Call("GET", run_path(name), _object)


def delete_run_call(name: str) -> Call[None]:
    """`DELETE /runs/{run}`. Not repeatable: the second request would be a 404."""
    return Call("DELETE", run_path(name), lambda response: None, repeatable=False)


def delete_epoch_call(name: str, epoch: int) -> Call[None]:
    """`DELETE /runs/{run}/epochs/{epoch}`. Not repeatable: the second request would be a 404."""
    return Call("DELETE", run_path(name, "epochs", str(epoch)), lambda response: None, repeatable=False)


def delete_batch_call(name: str, epoch: int, batch: str) -> Call[None]:
    """`DELETE /runs/{run}/epochs/{epoch}/batches/{batch}`. Not repeatable: the second request would be a 404."""
    path = run_path(name, "epochs", str(epoch), "batches", batch)
    return Call("DELETE", path, lambda response: None, repeatable=False)


def run_batch(
    batch: Any, run: Run | None, on_invalid: OnInvalid, num_classes: int | None, *, reduce: Reduce
) -> SentBatch:
    """Convert a batch for sending to a run.

    Args:
        batch: A batch as `sent_batch` takes it.
        run: The run; None if it is not needed, since each example has the number of a class.
        on_invalid: Treatment of examples with an invalid element.
        num_classes: Number of classes, for statistics in place of logits; None: unknown.
        reduce: Reduce logits to statistics, or masks to histograms; needs `run`.

    Raises:
        InvalidRequestError: The batch is invalid. A subclass names the fault.
    """
    if run is None:
        return sent_batch(batch, on_invalid=on_invalid, num_classes=num_classes)
    # The class names of a run with several labels are names of labels.
    names = None if run["task"] == "multi_label" else run["class_names"]
    reducer = run_reducer(run, on_invalid) if reduce else None
    sent = sent_batch(batch, 0, names, on_invalid, reducer, LAYOUT_OF[run["task"]], num_classes)
    return as_histograms(sent, LossConfig.parse(run["config"])) if reduce == "histogram" else sent


def run_reducer(run: Run, on_invalid: OnInvalid) -> Reducer:
    """The reducer of the logits of a run, for all scores that it stores."""
    config = LossConfig.parse(run["config"])
    return Reducer(config, LAYOUT_OF[run["task"]], needed_statistics(config.mode, STATISTICS), on_invalid)


def put_batch_call(
    name: str,
    epoch: int,
    batch_name: str,
    batch: SentBatch,
    attributes: Mapping[str, Iterable[object]] | None,
    outputs: Iterable[str] | str,
    top_k: int,
    on_invalid: OnInvalid,
    *,
    replace: bool = False,
) -> Call[LossResult]:
    """`PUT /runs/{run}/epochs/{epoch}/batches/{batch}`. Repeatable: the same batch again changes nothing.

    Args:
        name: Name of the run.
        epoch: Number of the epoch, >= 0.
        batch_name: Name of the batch, unique in the epoch.
        batch: A batch with ids.
        attributes: One value per example under each name.
        outputs: Names of the scores to return.
        top_k: Number of hardest examples to return.
        on_invalid: Treatment of rows with an invalid logit or target.
        replace: Replace a batch of this name with other content.

    Raises:
        InvalidIdsError: The batch has no ids.
        InvalidRequestError: The batch or an option is invalid. A subclass names the fault.
    """
    if batch.ids is None:
        raise InvalidIdsError("batch 0: ids missing; a run identifies its examples by them")
    layout: Structure = {} if batch.layout == "rows" else {"layout": batch.layout}
    fields = output_fields(outputs, top_k, on_invalid, **layout) | {"ids": batch.ids}
    if attributes:
        fields["attributes"] = _attributes_json(attributes)
    path = run_path(name, "epochs", str(epoch), "batches", batch_name) + ("?replace=true" if replace else "")
    return Call("PUT", path, reply_reader([batch]), loss_body([batch], fields), HEADERS)


def _attributes_json(attributes: Mapping[str, Iterable[object]]) -> orjson.Fragment:
    """Write attributes as JSON: arrays and tensors as lists, dates and other objects as text."""
    lists = {name: list(as_plain(values)) for name, values in attributes.items()}
    return orjson.Fragment(orjson.dumps(lists, default=str, option=orjson.OPT_SERIALIZE_NUMPY))


def examples_call(name: str, attributes: Mapping[str, str] | None = None, **query: QueryValue) -> Call[ExamplesPage]:
    """`GET /runs/{run}/examples`: one page."""
    return Call("GET", run_path(name, "examples") + query_text(**query, **_attribute_query(attributes)), _object)


def _attribute_query(attributes: Mapping[str, str] | None) -> dict[str, str]:
    return {f"attribute.{name}": value for name, value in (attributes or {}).items()}


def example_call(name: str, example_id: str | int, **query: QueryValue) -> Call[ExampleDetail]:
    """`GET /runs/{run}/examples/{id}`."""
    return Call("GET", run_path(name, "examples", str(example_id)) + query_text(**query), _object)


def diagnostics_call(name: str, **query: QueryValue) -> Call[Diagnostics]:
    """`GET /runs/{run}/diagnostics`."""
    return Call("GET", run_path(name, "diagnostics") + query_text(**query), _object)


def dynamics_call(name: str, **query: QueryValue) -> Call[Dynamics]:
    """`GET /runs/{run}/dynamics`."""
    return Call("GET", run_path(name, "dynamics") + query_text(**query), _object)


def compare_call(name: str, other: str, **query: QueryValue) -> Call[Comparison]:
    """`GET /runs/{run}/compare/{other}`."""
    return Call("GET", run_path(name, "compare", other) + query_text(**query), _object)


def create_queue_call(
    name: str, body: Mapping[str, object], *, alpha: QueryValue, gamma: float | None
) -> Call[QueuePage]:
    """`POST /runs/{run}/queues`. Repeatable only with a `name`, since that returns the existing queue."""
    body = {member: value for member, value in body.items() if value is not None}
    path = run_path(name, "queues") + query_text(alpha=alpha, gamma=gamma)
    return Call("POST", path, _object, _json(body), JSON_HEADERS, repeatable="name" in body)


def queues_call(name: str) -> Call[list[Queue]]:
    """`GET /runs/{run}/queues`: all queues without their rows."""
    return Call("GET", run_path(name, "queues"), lambda response: list(response.json()["queues"]))


def queue_call(
    name: str,
    queue: str,
    offset: int,
    limit: int | None = None,
    attributes: Mapping[str, str] | None = None,
    **query: QueryValue,
) -> Call[QueuePage]:
    """`GET /runs/{run}/queues/{queue}`: a page of `limit` rows, by default PAGE_ROWS, after the first `offset`."""
    page = {"limit": PAGE_ROWS if limit is None else limit, "offset": offset}
    text = query_text(**query, **_attribute_query(attributes), **page)
    return Call("GET", run_path(name, "queues", queue) + text, _object)


def next_call(name: str, queue: str, limit: int, reviewer: str | None) -> Call[LeasedRows]:
    """`POST /runs/{run}/queues/{queue}/next`; repeating it returns the same rows."""
    path = run_path(name, "queues", queue, "next") + query_text(limit=limit, reviewer=reviewer)
    return Call("POST", path, _object)


def give_back_call(name: str, queue: str, reviewer: str | None) -> Call[None]:
    """`DELETE /runs/{run}/queues/{queue}/next`."""
    return Call(
        "DELETE", run_path(name, "queues", queue, "next") + query_text(reviewer=reviewer), lambda response: None
    )


def delete_queue_call(name: str, queue: str) -> Call[None]:
    """`DELETE /runs/{run}/queues/{queue}`. Not repeatable: the second request would be a 404."""
    return Call("DELETE", run_path(name, "queues", queue), lambda response: None, repeatable=False)


def rename_queue_call(name: str, queue: str, new_name: str) -> Call[Queue]:
    """`PATCH /runs/{run}/queues/{queue}`. Not repeatable: the second one would find no queue of the old name."""
    path = run_path(name, "queues", queue)
    return Call("PATCH", path, _object, _json({"name": new_name}), JSON_HEADERS, repeatable=False)


def add_reviews_call(
    name: str, reviews: Iterable[Mapping[str, object]] | str | Path, **query: QueryValue
) -> Call[AddedReviews]:
    """`POST /runs/{run}/reviews` with reviews, or with the file of a path.

    Reviews are not repeatable: the history would contain them twice.
    """
    if isinstance(reviews, str | Path):
        return _review_path_call(name, Path(reviews), query)
    body = _json([dict(review) for review in reviews])
    path_and_query = run_path(name, "reviews") + query_text(**query)
    return Call("POST", path_and_query, _object, body, JSON_HEADERS, repeatable=False)


def _review_path_call(name: str, path: Path, query: Mapping[str, QueryValue]) -> Call[AddedReviews]:
    coding = FILE_CODINGS.get(path.suffix.lower())
    extension = path.suffix if coding is None else Path(path.stem).suffix
    # Before a large file is read.
    media_type_of(extension)
    return review_file_call(name, path.read_bytes(), extension, coding=coding, **query)


def review_file_call(
    name: str, content: bytes, extension: str, *, coding: str | None = None, **query: QueryValue
) -> Call[AddedReviews]:
    """`POST /runs/{run}/reviews` with a file. Repeatable: the same file again changes nothing.

    Args:
        name: Name of the run.
        content: The file.
        extension: Its extension, one of REVIEW_FILES.
        coding: Its `Content-Encoding`, if it is compressed.
        query: `reviewer`, `queue`, `adjudicate`.

    Raises:
        InvalidRequestError: Files with this extension have no reviews.
    """
    headers = {"Content-Type": media_type_of(extension)} | ({} if coding is None else {"Content-Encoding": coding})
    return Call("POST", run_path(name, "reviews") + query_text(**query), _object, content, headers)


def media_type_of(extension: str) -> str:
    """The media type of a file of reviews, by its extension.

    Raises:
        InvalidRequestError: Files with this extension have no reviews.
    """
    media_type = REVIEW_FILES.get(extension.lower())
    if media_type is None:
        raise InvalidRequestError(f"unknown extension {extension!r}: expected one of {', '.join(REVIEW_FILES)}")
    return media_type


def reviews_call(name: str, *, history: bool) -> Call[Reviews]:
    """`GET /runs/{run}/reviews`."""
    return Call("GET", run_path(name, "reviews") + query_text(history=history or None), _object)


def export_call(name: str, format_name: str, **query: QueryValue) -> Call[bytes]:
    """`GET /runs/{run}/export`: the bytes of a file."""
    path = run_path(name, "export") + query_text(format=format_name, **query)
    return Call("GET", path, lambda response: response.content)


def corrected_call(name: str, format_name: str, **query: QueryValue) -> Call[bytes]:
    """`GET /runs/{run}/corrected`: the bytes of a file."""
    path = run_path(name, "corrected") + query_text(format=format_name, **query)
    return Call("GET", path, lambda response: response.content)


def run_path(*parts: str) -> str:
    """Return a path below `/runs` with each part escaped.

    Raises:
        InvalidNameError: A part is empty, `.` or `..` and would lead to another path.
    """
    for part in parts:
        if part in ("", ".", ".."):
            raise InvalidNameError(f"{part!r} is not a name")
    return "/runs/" + "/".join(quote(part, safe="") for part in parts)


def query_text(**parameters: QueryValue) -> str:
    """Return the query of a URL with its question mark; empty without parameters."""
    given = {name: value for name, value in parameters.items() if value is not None}
    texts = {name: _classes(value) if name in CLASSES else _parameter(value) for name, value in given.items()}
    return f"?{urlencode(texts, doseq=True)}" if texts else ""


def _classes(value: QueryValue) -> list[str]:
    """The values of a repeated parameter: a class name may have a comma."""
    plain = as_plain(value)
    return [str(label) for label in (plain if isinstance(plain, list | tuple) else [plain])]


def _parameter(value: QueryValue) -> str:
    plain = as_plain(value)
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, Sequence) and not isinstance(plain, str):
        return ",".join(map(str, plain)) or "none"
    return str(plain)


def _json(body: object) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError as err:
        raise InvalidRequestError(f"JSON cannot express this value: {err}") from err
