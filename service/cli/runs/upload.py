"""Upload of chunks as batches of a run.

A batch is named by the path of its file and its number in it, so the same command sends the same batches again. The
service stores the batches that it does not have and accepts the others.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import orjson

from service.cli.errors import CommandError, DataError, UsageError, place_in_file
from service.cli.runs.new_run import NewRun
from service.cli.score.chunks import Chunk, Reading
from service.cli.score.inputs import read_chunks
from service.cli.score.sources import STANDARD_INPUT, Source
from service.client import LossClient, RunClient
from service.client.errors import ClientError
from service.client.retry import NO_RETRIES
from service.client.run_calls import run_batch
from service.errors import (
    BatchConflictError,
    ConflictError,
    InvalidRequestError,
    LossServiceError,
    NotFoundError,
    RunDamagedError,
    UnknownRunError,
)
from service.formats.attributes import is_list_value
from service.schema.replies.runs import Run
from service.schema.request import OnInvalid
from service.schema.result import LossResult

IN_FLIGHT = 2
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, eq=False)
class NamedChunk:
    """A chunk with the name of its batch and one id per row."""

    name: str
    chunk: Chunk
    ids: list[str | int]


@dataclass(frozen=True, eq=False)
class Target:
    """The epoch of a run that gets the rows.

    Args:
        run: The run.
        epoch: The epoch.
        description: Description of the run.
        num_classes: Number of classes of scores in place of logits; None: that of the run.
    """

    run: RunClient
    epoch: int
    description: Run
    num_classes: int | None = None


def describe_run(url: str, name: str, new_run: NewRun | None) -> Run:
    """Describe a run, and create it first if it does not exist.

    Args:
        url: Address of the service.
        name: Name of the run.
        new_run: The run to create; None if the run must exist.

    Raises:
        UsageError: The run does not exist, or its description is invalid.
        CommandError: The service failed.
    """
    # A service that does not reply at the start ends the command; later requests wait for a lost service.
    with LossClient(url, retry=NO_RETRIES) as client:
        try:
            try:
                return client.run(name).describe()
            except UnknownRunError as err:
                if new_run is None:
                    raise UsageError(f"{err}; --create creates it") from err
                return new_run.create(client, name).describe()
        except (InvalidRequestError, ConflictError) as err:
            raise UsageError(str(err)) from err
        except (LossServiceError, ClientError) as err:
            raise CommandError(str(err)) from err


def named_chunks(
    sources: Sequence[Source], reading: Reading, prefix: str | None, *, number_rows: bool
) -> Iterator[NamedChunk]:
    """Read the chunks of all sources, each with the name of its batch and its ids.

    Args:
        sources: Inputs.
        reading: How to cut and convert them.
        prefix: Prefix of the names; None: from the path of each source.
        number_rows: Use the number of each row over all sources as its id.

    Raises:
        UsageError: A source has no ids.
    """
    first_row = 0
    for number, source in enumerate(sources):
        source_prefix = batch_prefix(source) if prefix is None else f"{prefix}-{number}"
        for part, chunk in enumerate(read_chunks(source, reading)):
            rows = chunk.num_rows
            ids: list[str | int] | None = [*range(first_row, first_row + rows)] if number_rows else chunk.ids
            if ids is None:
                raise UsageError(f"{source.path}: no column id: name it with --id, or use --number-rows")
            first_row += rows
            yield NamedChunk(f"{source_prefix}-{part:06}", chunk, ids)


def batch_prefix(source: Source) -> str:
    """The prefix of the batch names of a file: its own name, and digits that stand for its folder."""
    if source.path == STANDARD_INPUT:
        return "standard-input"
    path = Path(source.path).resolve()
    digits = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return f"{NOT_IN_A_NAME.sub('-', path.stem)[:60]}-{digits}"


def push_chunks(
    target: Target, chunks: Iterable[NamedChunk], on_invalid: OnInvalid, *, replace: bool = False
) -> Iterator[LossResult]:
    """Push chunks and yield the replies in their order; reads the next chunk while earlier ones are in flight.

    Args:
        target: Run and epoch of the rows.
        chunks: The chunks.
        on_invalid: Treatment of rows with an invalid logit or target.
        replace: Replace batches of the same names that have other content.

    Raises:
        UsageError: The run has a batch of the same name with other content, or the name is invalid.
        DataError: A value is invalid.
        CommandError: The service failed.
    """
    pending: deque[Future[LossResult]] = deque()
    pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="push")
    try:
        for chunk in chunks:
            pending.append(pool.submit(_push, target, chunk, on_invalid, replace=replace))
            if len(pending) > IN_FLIGHT:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _push(target: Target, named: NamedChunk, on_invalid: OnInvalid, *, replace: bool) -> LossResult:
    chunk = named.chunk
    batch = chunk.parts | {"ids": named.ids}
    attributes = {name: [_attribute(value) for value in values] for name, values in chunk.attributes.items()}
    try:
        return target.run.push(
            target.epoch,
            named.name,
            run_batch(batch, target.description, on_invalid, target.num_classes, reduce=False),
            attributes=attributes,
            outputs=("loss",),
            on_invalid=on_invalid,
            replace=replace,
        )
    except BatchConflictError as err:
        reason = "the file or --batch-rows has changed since; --replace replaces the batch"
        raise UsageError(f"{chunk.source.path}: batch {named.name} has other content: {reason}") from err
    except InvalidRequestError as err:
        raise DataError(f"{chunk.source.path}{place_in_file(err, chunk.first_row)}") from err
    except NotFoundError as err:
        raise UsageError(str(err)) from err
    except RunDamagedError as err:
        raise CommandError(str(err)) from err
    except (LossServiceError, ClientError) as err:
        raise CommandError(f"{err}; run the same command again to send the missing batches") from err


def _attribute(value: object) -> object:
    """Convert a list or a structure that no attribute can be to JSON text."""
    as_text = isinstance(value, list | dict) and not is_list_value(value)
    return orjson.dumps(value, default=str).decode() if as_text else value
