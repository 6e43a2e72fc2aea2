"""A scoring run: chunks in, parts kept, the output assembled, the summary counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from service import __version__
from service.cli.score.columns import ColumnNames
from service.cli.score.errors import DataError, ScoringError
from service.cli.score.inputs import STANDARD_INPUT, Chunk, Reading, Source, read_chunks
from service.cli.score.outputs import STANDARD_OUTPUT, check_output, table_writer
from service.cli.score.scorers import Scorer
from service.cli.score.store import PartStore
from service.cli.score.summary import Summary
from service.client.errors import ClientError
from service.errors import InvalidRequestError, LossServiceError
from service.formats.columns import NO_TARGET
from service.schema.config import LossConfig
from service.schema.request import OnInvalid
from service.schema.result import BatchResult

Progress = Callable[[int], None]


@dataclass(frozen=True)
class ScoringOptions:
    """What a run computes.

    Args:
        config: The configuration.
        outputs: Names of scores; `loss` is always among the columns.
        top_k: Hardest examples in the summary.
        on_invalid: `error` ends the run at a bad row, `exclude` leaves it without scores.
        columns: Which columns to read.
        batch_rows: Rows of one request and of one part.
    """

    config: LossConfig
    outputs: tuple[str, ...]
    top_k: int
    on_invalid: OnInvalid
    columns: ColumnNames
    batch_rows: int

    @property
    def scored(self) -> tuple[str, ...]:
        """What is asked of the scorer: contributions to the whole follow from the losses at the end."""
        return tuple(dict.fromkeys(["loss", *(name for name in self.outputs if name != "contribution")]))


def score_files(
    sources: Sequence[Source],
    output: str,
    options: ScoringOptions,
    scorer: Scorer,
    *,
    restart: bool = False,
    progress: Progress = lambda rows: None,
) -> Summary:
    """Score all rows of all sources into one output.

    Args:
        sources: Read in this order.
        output: A file, or `-`: JSONL on standard output.
        options: What to compute.
        scorer: Who computes it.
        restart: Forget what an interrupted run of the same output has done.
        progress: Told of rows that are done.

    Raises:
        UsageError: The output's ending, a column's name, or parts of another run.
        DataError: A value that cannot be scored.
        ScoringError: The service or the disk failed.
    """
    check_output(output)
    fingerprint = [__version__, [source.fingerprint for source in sources], repr(options)]
    # What came through a pipe cannot be read again, so there is nothing to go on with.
    unrepeatable = any(source.path == STANDARD_INPUT for source in sources)
    with _parts_folder(output) as target:
        store = PartStore(target, fingerprint, restart=restart or unrepeatable)
        return _run(store, sources, output, options, scorer, progress)


@contextmanager
def _parts_folder(output: str) -> Iterator[Path]:
    """The file whose parts are kept; what goes down a pipe is not resumed and leaves nothing behind."""
    if output != STANDARD_OUTPUT:
        yield Path(output)
        return
    with TemporaryDirectory(prefix="focal-loss-") as folder:
        yield Path(folder) / "standard-output"


def _run(
    store: PartStore,
    sources: Sequence[Source],
    output: str,
    options: ScoringOptions,
    scorer: Scorer,
    progress: Progress,
) -> Summary:
    summary = Summary(options.config.reduction, options.top_k, ignore_index=options.config.ignore_index)
    count = 0
    for number, chunk in enumerate(_chunks(sources, options)):
        if not store.has(number):
            store.write(number, _part(chunk, _scored(scorer, chunk), len(sources) > 1))
        summary.add_part(store.read(number))
        count += 1
        progress(len(chunk.logits))
    _assemble(store, count, output, options, summary)
    store.remove()
    return summary


def _chunks(sources: Sequence[Source], options: ScoringOptions) -> Iterator[Chunk]:
    reading = Reading(
        options.columns,
        options.batch_rows,
        whole_targets=options.config.mode == "softmax",
        keep_missing=options.on_invalid == "exclude",
    )
    for source in sources:
        yield from read_chunks(source, reading)


def _scored(scorer: Scorer, chunk: Chunk) -> BatchResult:
    try:
        return scorer.score(chunk)
    except InvalidRequestError as err:
        raise DataError(f"{chunk.source.path}{place_in_file(err, chunk.first_row)}") from err
    except (LossServiceError, ClientError) as err:
        raise ScoringError(f"{err}; the same command goes on where this one stopped") from err


def place_in_file(err: LossServiceError, first_row: int) -> str:
    """Row and column in the file, from those in the batch."""
    if not err.errors:
        return f": {err.detail}"
    loc, msg = err.errors[0]["loc"], err.errors[0]["msg"]
    names = ("row", "column")
    numbers = [part for part in loc[3:] if isinstance(part, int)]
    if loc[:1] != ["batches"] or not numbers:
        return f": {err.detail}"
    numbers[0] += first_row
    return "".join(f", {name} {number}" for name, number in zip(names, numbers, strict=False)) + f": {msg}"


def _part(chunk: Chunk, result: BatchResult, names_file: bool) -> pa.Table:
    rows = len(chunk.logits)
    identity = np.arange(chunk.first_row, chunk.first_row + rows) if chunk.ids is None else chunk.ids
    columns = {"row" if chunk.ids is None else "id": pa.array(identity)}
    if names_file:
        columns["file"] = pa.array([chunk.source.path] * rows)
    missing = chunk.targets == NO_TARGET if chunk.targets.dtype == np.int64 and chunk.targets.ndim == 1 else None
    columns["target"] = _arrow(chunk.targets) if missing is None else pa.array(chunk.targets, mask=missing)
    for name, values in result.per_example.items():
        columns[name] = _arrow(values)
    sums = ("num_examples", "num_ignored", "num_excluded", "loss_sum", "alpha_sum")
    return pa.table(columns).replace_schema_metadata({name: repr(getattr(result, name)) for name in sums})


def _arrow(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _assemble(store: PartStore, count: int, output: str, options: ScoringOptions, summary: Summary) -> None:
    first = store.read(0) if count else pa.table({"row": pa.array([], pa.int64()), "loss": pa.array([], pa.float64())})
    schema = _finished(first, options, summary).schema
    try:
        with table_writer(output, schema, store.folder) as write:
            for number in range(count):
                write(_finished(store.read(number), options, summary).cast(schema))
    except BrokenPipeError:
        raise
    except (OSError, pa.ArrowException) as err:
        raise ScoringError(f"{output}: {err}; the scored parts are in {store.folder}") from err


def _finished(part: pa.Table, options: ScoringOptions, summary: Summary) -> pa.Table:
    """The columns of the output in the order asked for, contributions to the whole among them; NaN and -1 are null."""
    kept = [name for name in ("id", "row", "file", "target") if name in part.column_names]
    table = part.select(kept)
    for name in dict.fromkeys(["loss", *options.outputs]):
        source = "loss" if name == "contribution" else name
        values = part.column(source)
        if name == "contribution":
            divisor = summary.divisor or 1.0
            values = pa.array(np.nan_to_num(values.to_numpy().astype(np.float64), nan=0.0) / divisor)
        elif pa.types.is_floating(values.type):
            floats = values.to_numpy()
            values = pa.array(floats, mask=np.isnan(floats))
        elif pa.types.is_integer(values.type):
            integers = values.to_numpy()
            values = pa.array(integers, mask=integers < 0)
        table = table.append_column(name, values)
    return table.replace_schema_metadata(None)
