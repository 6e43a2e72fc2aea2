"""`PUT /runs/{run}/epochs/{epoch}/batches/{batch}`: compute a batch and store it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.element_batches import ElementBatches, check_layout, requested
from service.api.http.encoding import compressed
from service.api.http.negotiation import Negotiation
from service.api.http.openapi import LOSS, RUN, problems
from service.api.http.path_types import BatchName, EpochNumber, RunName, epoch_number
from service.api.http.tensor_docs import RUN_BATCH_BODY, RUN_BATCH_REPLY
from service.api.receive import run_with_body
from service.api.state import Service, service_of
from service.codecs.base import DecodeOptions
from service.compute.evaluation import evaluate
from service.errors import (
    BatchConflictError,
    InvalidRequestError,
    LayoutNotStoredError,
    RunFullError,
    ShapeError,
    StorageFullError,
    UnknownBatchError,
    UnknownEpochError,
)
from service.formats.labels import ClassNames
from service.runs.data_files import Footer
from service.runs.element_rows import element_digest
from service.runs.epoch_writer import Stored
from service.runs.ingest import RunBatch, check_batches, check_structured_batches
from service.runs.names import check_name
from service.runs.rows import STORED_OUTPUTS, content_digest, stored_rows
from service.runs.snapshot import Snapshot
from service.schema.faults import fault
from service.schema.request import LossRequest, RequestOptions
from service.schema.result import LossResult

REPLACE = "replace"

router = APIRouter(prefix="/runs", tags=["runs"])


@router.put(
    "/{run}/epochs/{epoch}/batches/{batch}",
    summary="Store a batch of an epoch and compute its loss",
    status_code=201,
    responses={
        **RUN_BATCH_REPLY,
        **problems(*LOSS, *RUN, BatchConflictError, LayoutNotStoredError, RunFullError, StorageFullError),
    },
    openapi_extra=RUN_BATCH_BODY,
)
async def put_batch(request: Request, run: RunName, epoch: EpochNumber, batch: BatchName) -> Response:
    """Any format of `/loss`; ids are required, and further columns of a file are attributes. The rows are durable
    before the reply. Other content for the name of a stored batch is a conflict, unless `replace=true`: then its rows
    count instead of the stored ones, in one step."""
    service, negotiation = service_of(request), Negotiation.of(request, REPLACE)
    target = _Target(epoch_number(epoch), check_name("batch", batch), over=_replaces(request))
    snapshot = await service.runs.do(lambda: service.runs.store.snapshot(run), at_once=True)
    work = partial(_compute_and_store, service, negotiation, snapshot, target)
    stored, content = await run_with_body(request, negotiation.timing, negotiation.request_coding, work)
    return Response(
        content,
        status_code=201 if stored is Stored.NEW else 200,
        media_type=negotiation.writer.media_type,
        headers=negotiation.reply_headers(),
    )


@router.delete(
    "/{run}/epochs/{epoch}",
    summary="Delete an epoch",
    status_code=204,
    response_description="The epoch is deleted.",
    responses=problems(*RUN, UnknownEpochError, StorageFullError),
)
async def delete_epoch(request: Request, run: RunName, epoch: EpochNumber) -> Response:
    """All batches of the epoch. Queues and reviews of the run stay."""
    return await _delete(request, run, epoch_number(epoch))


@router.delete(
    "/{run}/epochs/{epoch}/batches/{batch}",
    summary="Delete a batch",
    status_code=204,
    response_description="The batch is deleted.",
    responses=problems(*RUN, UnknownEpochError, UnknownBatchError, StorageFullError),
)
async def delete_batch(request: Request, run: RunName, epoch: EpochNumber, batch: BatchName) -> Response:
    """The rows of the batch. Queues and reviews of the run stay."""
    return await _delete(request, run, epoch_number(epoch), check_name("batch", batch))


async def _delete(request: Request, run: str, epoch: int, batch: str | None = None) -> Response:
    runs = service_of(request).runs

    def work() -> None:
        snapshot = runs.store.snapshot(run)
        runs.store.delete_batches(snapshot, epoch, batch)
        runs.merge_later(runs.store.epoch_folder(snapshot.root, epoch))

    await runs.do(work)
    return Response(status_code=204)


def _replaces(request: Request) -> bool:
    text = request.query_params.get(REPLACE, "false")
    if text not in ("true", "false"):
        raise fault(InvalidRequestError, f"should be true or false, got {text[:100]!r}", "query", REPLACE)
    return text == "true"


@dataclass(frozen=True)
class _Target:
    """The place of a batch; `over` is True to replace a batch of the same name."""

    epoch: int
    batch: str
    over: bool


def _compute_and_store(
    service: Service, negotiation: Negotiation, snapshot: Snapshot, target: _Target, body: memoryview
) -> tuple[Stored, bytes]:
    """Decode an inflated body, compute and store its rows; on a worker thread.

    Returns:
        The result of storing, and the body of the reply.
    """
    settings = service.settings
    request = negotiation.reader.decode(
        body, DecodeOptions(with_attributes=True, max_bytes=settings.max_body_bytes, max_rows=settings.max_examples)
    )
    options = negotiation.options(request.options)
    check_layout(snapshot, options, request.batches)
    config = snapshot.description.config
    if options.config is not None or options.config_id not in (None, config.config_id):
        raise fault(
            InvalidRequestError,
            "not the run's",
            "config",
            detail=f"a batch of a run has the run's configuration, {config.config_id}",
        )
    description, timing = snapshot.description, negotiation.timing
    check, compute = (
        (check_structured_batches, _structured) if description.is_structured else (check_batches, _classified)
    )
    names = None if description.class_names is None else ClassNames(description.class_names)
    batches = check(config, request.batches, names, exclude=options.on_invalid == "exclude")
    # In sigmoid mode the number of classes follows from the labels.
    of_labels = description.is_structured and config.mode == "sigmoid"
    num_classes = None if of_labels else _num_classes(snapshot, options, batches)
    options = options.model_copy(update={"config": config, "config_id": None, "num_classes": num_classes})
    timing.end("decode")
    computed = compute(service, snapshot, target, options, batches)
    timing.end("compute")
    # Other threads compute the digest and the reply while this one writes the rows.
    reply = service.runs.submit(partial(_encode, negotiation, computed.result, options))
    stored = _store(service, snapshot, target, computed)
    timing.end("store")
    if stored:
        for batch_result in computed.result.batches:
            service.metrics.count(batch_result)
    content = reply.result()
    timing.end("encode")
    return stored, content


@dataclass(frozen=True, eq=False)
class _Computed:
    """A computed request.

    Args:
        batches: Its batches.
        result: Its result, with more outputs than it asks for.
        rows: Returns the rows to store, and their digest, which another thread computes.
        num_classes: Number of classes of the batches; None if they have no rows.
    """

    batches: Sequence[RunBatch]
    result: LossResult
    rows: Callable[[], tuple[pa.Table, Future[str]]]
    num_classes: int | None


def _classified(
    service: Service, snapshot: Snapshot, target: _Target, options: RequestOptions, batches: Sequence[RunBatch]
) -> _Computed:
    """Compute batches with one class of each example."""
    outputs = tuple(dict.fromkeys((*options.outputs, *STORED_OUTPUTS)))
    options = options.model_copy(update={"outputs": outputs})
    request = LossRequest(options, tuple(batch.source for batch in batches))
    result = evaluate(service.device, service.module(options), request, service.limits, unique_ids=True)
    digest = service.runs.submit(partial(content_digest, batches))

    def rows() -> tuple[pa.Table, Future[str]]:
        store_logits = snapshot.description.store_logits
        return stored_rows(target.epoch, target.batch, batches, result.batches, store_logits=store_logits), digest

    counts = [batch.num_classes or options.num_classes or 0 for batch in batches if len(batch.ids)]
    return _Computed(batches, result, rows, max(counts, default=None))


def _structured(
    service: Service, snapshot: Snapshot, target: _Target, options: RequestOptions, batches: Sequence[RunBatch]
) -> _Computed:
    """Compute batches of structured examples."""
    computed = ElementBatches(service, snapshot, options, batches)

    def rows() -> tuple[pa.Table, Future[str]]:
        table = computed.rows(target.epoch, target.batch)
        return table, service.runs.submit(partial(element_digest, table.to_batches()))

    return _Computed(batches, computed.result, rows, computed.num_classes)


def _num_classes(snapshot: Snapshot, options: RequestOptions, batches: Sequence[RunBatch]) -> int | None:
    """The number of classes of batches with statistics: that of the run, else of the request; as given for logits.

    Raises:
        ShapeError: The two are different.
        InvalidRequestError: Neither is known.
    """
    known, given = snapshot.num_classes, options.num_classes
    if not any(batch.is_reduced for batch in batches):
        return given
    if given is None and known is None:
        msg = "the run does not know its number of classes yet: give num_classes, or send its first batch as logits"
        raise fault(InvalidRequestError, msg, "num_classes")
    if known is not None and given not in (None, known):
        msg = f"num_classes is {given}, run {snapshot.name} has {known} classes"
        raise fault(ShapeError, msg, "num_classes", detail=msg)
    return known or given


def _encode(negotiation: Negotiation, result: LossResult, options: RequestOptions) -> bytes:
    """The body of the reply, with the requested outputs only."""
    return compressed(negotiation.writer.encode(requested(result, options)), negotiation.reply_coding)


def _store(service: Service, snapshot: Snapshot, target: _Target, computed: _Computed) -> Stored:
    """Store the rows of a batch."""
    epoch, name, batches, result = target.epoch, target.batch, computed.batches, computed.result
    rows, digest = computed.rows()

    def footer() -> Footer:
        return Footer(
            rows=len(rows),
            batches={name: digest.result()},
            num_ignored=result.num_ignored,
            num_excluded=result.num_excluded,
            has_attributes=any(batch.source.attributes for batch in batches),
            like_probabilities=(name,) if result.warns("probabilities_as_logits") else (),
            like_log_probabilities=(name,) if result.warns("log_probabilities_as_logits") else (),
            without_logits=(name,) if any(batch.is_reduced for batch in batches) else (),
        )

    num_classes = snapshot.num_classes if computed.num_classes is None else computed.num_classes
    stored = service.runs.store.add(snapshot, epoch, name, rows, footer, num_classes, over=target.over)
    folder = service.runs.store.epoch_folder(snapshot.root, epoch)
    if stored is Stored.REPLACED:
        service.runs.merge_later(folder)
    else:
        service.runs.merge_later(folder, 1 + len(snapshot.data_of(epoch)))
    return stored
