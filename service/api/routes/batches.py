"""`/runs/{run}/epochs/{epoch}/batches/{batch}`: compute a batch and keep it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.http.encoding import compressed
from service.api.http.exchange import Exchange
from service.api.http.openapi import PROBLEMS
from service.api.http.query import LARGEST
from service.api.http.run_openapi import RUN_BATCH_BODY
from service.api.receive import run_with_body
from service.api.state import Service, service_of
from service.compute.evaluation import evaluate
from service.errors import InvalidNameError, InvalidRequestError
from service.runs.incoming import Incoming, incoming
from service.runs.names import check_name
from service.runs.rows import KEPT_OUTPUTS, content_digest, stored_rows
from service.runs.snapshot import Footer, Snapshot
from service.schema.request import LossRequest
from service.schema.result import LossResult

router = APIRouter(prefix="/runs", tags=["runs"], responses=PROBLEMS)


@router.put(
    "/{run}/epochs/{epoch}/batches/{batch}",
    summary="Keep a batch of an epoch, and compute its loss",
    openapi_extra=RUN_BATCH_BODY,
)
async def put_batch(request: Request, run: str, epoch: str, batch: str) -> Response:
    """Any format of `/loss`, ids required; further columns of a file are attributes. Answers what `/loss` answers, once
    the rows are on the disk: 201, or 200 where the same content is there already; 409 with other content."""
    service, exchange = service_of(request), Exchange.of(request)
    check_name("batch", batch)
    if not (epoch.isascii() and epoch.isdigit() and int(epoch[:20]) <= LARGEST):
        msg = f"an epoch is an integer from 0 to {LARGEST}, got {epoch[:50]!r}"
        raise InvalidNameError(msg, errors=[{"loc": ["epoch"], "msg": msg}])
    snapshot = await service.runs.do(lambda: service.runs.store.snapshot(run), at_once=True)
    keep = partial(_keep, service, exchange, snapshot, int(epoch), batch)
    new, content = await run_with_body(request, exchange.timing, exchange.request_coding, keep)
    return Response(
        content,
        status_code=201 if new else 200,
        media_type=exchange.writer.media_type,
        headers=exchange.reply_headers(),
    )


def _keep(
    service: Service, exchange: Exchange, snapshot: Snapshot, epoch: int, batch: str, body: memoryview
) -> tuple[bool, bytes]:
    """An inflated body to rows on the disk and then to its reply, on a worker thread; whether the batch is new."""
    request = exchange.reader.decode(body, with_attributes=True, max_bytes=service.settings.max_body_bytes)
    options = exchange.options(request.options)
    config = snapshot.description.config
    if options.config is not None or options.config_id not in (None, config.config_id):
        raise InvalidRequestError(
            f"a batch of a run has the run's configuration, {config.config_id}",
            errors=[{"loc": ["config"], "msg": "not the run's"}],
        )
    batches = incoming(config, request.batches)
    wanted = options.outputs
    outputs = tuple(dict.fromkeys((*wanted, *KEPT_OUTPUTS)))
    options = options.model_copy(update={"config": config, "config_id": None, "outputs": outputs})
    exchange.timing.end("decode")
    module, request = service.module(options), LossRequest(options, request.batches)
    result = evaluate(service.device, module, request, service.limits, unique_ids=True)
    exchange.timing.end("compute")
    # Other threads have time for these while this one writes rows.
    digest = service.runs.submit(partial(content_digest, batches))
    reply = service.runs.submit(partial(_reply, exchange, result, wanted))
    new = _store(service, snapshot, epoch, batch, batches, result, digest)
    exchange.timing.end("store")
    if new:
        for one in result.batches:
            service.metrics.count(one)
    content = reply.result()
    exchange.timing.end("encode")
    return new, content


def _reply(exchange: Exchange, result: LossResult, wanted: Sequence[str]) -> bytes:
    """The body of the reply, with those outputs that were asked for."""
    batches = (replace(one, per_example={name: one.per_example[name] for name in wanted}) for one in result.batches)
    return compressed(exchange.writer.encode(replace(result, batches=tuple(batches))), exchange.reply_coding)


def _store(
    service: Service,
    snapshot: Snapshot,
    epoch: int,
    batch: str,
    batches: Sequence[Incoming],
    result: LossResult,
    digest: Future[str],
) -> bool:
    rows = stored_rows(epoch, batch, batches, result.batches, store_logits=snapshot.description.store_logits)

    def footer() -> Footer:
        return Footer(
            rows=len(rows),
            batches={batch: digest.result()},
            num_ignored=result.num_ignored,
            num_excluded=result.num_excluded,
            has_attributes=any(one.batch.attributes for one in batches),
        )

    classes = max((one.num_classes for one in batches if len(one.ids)), default=snapshot.num_classes)
    new = service.runs.store.add(snapshot, epoch, batch, rows, footer, classes)
    files = 1 + sum(one.epoch == epoch for one in snapshot.data)
    service.runs.merge_later(service.runs.store.epoch_folder(snapshot.root, epoch), files)
    return new
