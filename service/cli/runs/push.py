"""`focal-loss push`: files of logits and targets into a run; an interrupted push is simply given again."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from service.cli.score.columns import ColumnNames
from service.cli.score.command import shown_progress
from service.cli.score.errors import DataError, ScoringError, UsageError
from service.cli.score.inputs import STANDARD_INPUT, Chunk, Reading, Source, count_rows, find_sources, read_chunks
from service.cli.score.run import place_in_file
from service.client import LossClient, RunClient
from service.client.errors import ClientError
from service.client.retry import ONCE
from service.errors import BatchConflictError, ConflictError, InvalidRequestError, LossServiceError, UnknownRunError
from service.schema.replies.runs import Run
from service.schema.request import OnInvalid
from service.schema.result import LossResult, Totals

IN_FLIGHT = 2
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class PushCommand:
    """The options of the command as they were given.

    A batch is named by the path of its file and its number in it, so that the same command sends the same batches: the
    service keeps what it has not, and says yes to the rest.

    Args:
        run: Where the rows go.
        inputs: Files, folders, globs, or `-`.
        epoch: Of the rows.
        input_format: Where the endings do not say.
        columns: Of the inputs.
        number_rows: Ids are the positions of the rows, over all inputs.
        on_invalid: `error` or `exclude`.
        batch_rows: Rows of one batch.
        prefix: Of the names of the batches, instead of one from the path.
        create: Make the run with this description if it is not there; None: it has to be.
        url: Of the service.
    """

    run: str
    inputs: tuple[str, ...]
    epoch: int
    input_format: str | None
    columns: ColumnNames
    number_rows: bool
    on_invalid: OnInvalid
    batch_rows: int
    prefix: str | None
    create: dict[str, Any] | None
    url: str

    def execute(self, console: Console) -> None:
        """Push, showing progress and then the totals on the console.

        Raises:
            ScoringError: See `service.cli.score.errors` for the exit status of each kind.
        """
        sources = find_sources(self.inputs, self.input_format)
        # A service that is lost on the way is waited for; one that was never there is not.
        with LossClient(self.url, retry=ONCE) as client:
            config = self._description(client)["config"]
        with LossClient(self.url) as client:
            totals = Totals(config["reduction"], 0)
            reading = Reading(
                self.columns,
                self.batch_rows,
                whole_targets=config["mode"] == "softmax",
                keep_missing=self.on_invalid == "exclude",
            )
            with shown_progress(console, count_rows(sources), "pushing") as report:
                for reply in self._replies(client.run(self.run), self._named(sources, reading)):
                    totals.add_result(reply)
                    report(reply.num_examples)
        done = totals.result()
        loss = "none" if done.loss is None else f"{done.loss:.6f}"
        console.print(
            f"epoch {self.epoch} of {self.run}: loss {loss} ({config['reduction']}), {done.num_examples} rows in "
            f"{totals.num_batches} batches, {done.num_ignored} ignored, {done.num_excluded} excluded",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def _description(self, client: LossClient) -> Run:
        run = client.run(self.run)
        try:
            try:
                return run.describe()
            except UnknownRunError as err:
                if self.create is None:
                    raise UsageError(f"{err}; --create makes it") from err
                return client.put_run(self.run, **self.create).describe()
        except InvalidRequestError as err:
            raise UsageError(str(err)) from err
        except (LossServiceError, ClientError) as err:
            kind = UsageError if isinstance(err, ConflictError) else ScoringError
            raise kind(str(err)) from err

    def _named(self, sources: list[Source], reading: Reading) -> Iterator[tuple[str, Chunk, list[str | int]]]:
        """Each chunk with the name of its batch and its ids."""
        first = 0
        for number, source in enumerate(sources):
            prefix = batch_prefix(source) if self.prefix is None else f"{self.prefix}-{number}"
            for part, chunk in enumerate(read_chunks(source, reading)):
                rows = len(chunk.logits)
                ids: list[str | int] | None = [*range(first, first + rows)] if self.number_rows else chunk.ids
                if ids is None:
                    raise UsageError(f"{source.path}: no column id: name it with --id, or give --number-rows")
                first += rows
                yield f"{prefix}-{part:06}", chunk, ids

    def _replies(self, run: RunClient, named: Iterator[tuple[str, Chunk, list[str | int]]]) -> Iterator[LossResult]:
        """The replies in order; while one batch is on its way the next is read."""
        waiting: deque[Future[LossResult]] = deque()
        pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="push")
        try:
            for name, chunk, ids in named:
                waiting.append(pool.submit(self._push, run, name, chunk, ids))
                if len(waiting) > IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _push(self, run: RunClient, name: str, chunk: Chunk, ids: list[str | int]) -> LossResult:
        try:
            return run.push(
                self.epoch,
                name,
                chunk.logits,
                chunk.targets,
                ids,
                attributes={name: [_scalar(one) for one in values] for name, values in chunk.attributes.items()},
                outputs=("loss",),
                on_invalid=self.on_invalid,
            )
        except BatchConflictError as err:
            reason = "the file or --batch-rows has changed since; push it as another epoch, or into another run"
            raise UsageError(f"{chunk.source.path}: {err}: {reason}") from err
        except InvalidRequestError as err:
            raise DataError(f"{chunk.source.path}{place_in_file(err, chunk.first_row)}") from err
        except (LossServiceError, ClientError) as err:
            raise ScoringError(f"{err}; the same command sends what is missing") from err


def _scalar(value: Any) -> Any:
    """What an attribute may be: of a list or a structure its JSON."""
    return orjson.dumps(value, default=str).decode() if isinstance(value, list | dict) else value


def batch_prefix(source: Source) -> str:
    """What the names of a file's batches begin with: its own name, and a few digits for the folder that it is in."""
    if source.path == STANDARD_INPUT:
        return "standard-input"
    path = Path(source.path).resolve()
    digits = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return f"{NOT_IN_A_NAME.sub('-', path.stem)[:60]}-{digits}"
