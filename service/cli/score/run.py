"""A scoring run: store the scores of each chunk as a part, then write the output and count the summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from service import __version__
from service.cli.errors import CommandError, DataError, UsageError, place_in_file
from service.cli.progress import Report
from service.cli.score.assembly import write_output
from service.cli.score.chunks import Chunk, Reading
from service.cli.score.inputs import read_chunks
from service.cli.score.options import ScoringOptions
from service.cli.score.outputs import STANDARD_OUTPUT, check_output
from service.cli.score.parts import scored_part
from service.cli.score.scorers import Scorer
from service.cli.score.sources import STANDARD_INPUT, Source
from service.cli.score.store import PartStore
from service.cli.score.summary import Summary
from service.client.errors import ClientError
from service.errors import InvalidRequestError, LossServiceError, TooManyRegionsError
from service.formats.labels import ClassNames
from service.schema.result import BatchResult


def score_files(
    sources: Sequence[Source],
    output: str,
    options: ScoringOptions,
    scorer: Scorer,
    *,
    restart: bool = False,
    progress: Report = lambda rows: None,
) -> Summary:
    """Score all rows of all sources and write them to one output.

    Args:
        sources: Inputs, in the order of the rows.
        output: A file, or `-` for JSONL on standard output.
        options: Options of the run.
        scorer: Computes the scores.
        restart: Discard the parts of an interrupted run with the same output.
        progress: Called with the number of rows of each scored chunk.

    Raises:
        UsageError: The extension of the output is unknown, a column is missing, or the parts are of another run.
        DataError: A value is invalid.
        CommandError: The service or the disk failed.
    """
    check_output(output)
    fingerprint = [__version__, [source.fingerprint for source in sources], repr(options)]
    # Standard input cannot be read twice, so a run that reads it cannot continue.
    unrepeatable = any(source.path == STANDARD_INPUT for source in sources)
    with _parts_path(output) as path:
        store = PartStore(path, fingerprint, restart=restart or unrepeatable)
        return _run(store, sources, output, options, scorer, progress)


@contextmanager
def _parts_path(output: str) -> Iterator[Path]:
    """Yield the path beside which the parts are stored; parts for standard output are temporary."""
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
    progress: Report,
) -> Summary:
    summary = Summary(options.config.reduction, options.top_k, divisor=options.divisor)
    count = 0
    for number, chunk in enumerate(_chunks(sources, options)):
        if not store.has(number):
            store.write(number, scored_part(chunk, _score(scorer, chunk), options, names_file=len(sources) > 1))
        summary.add_part(store.read(number))
        count += 1
        progress(chunk.num_rows)
    write_output(store, count, output, options, summary)
    store.remove()
    return summary


def _chunks(sources: Sequence[Source], options: ScoringOptions) -> Iterator[Chunk]:
    reading = Reading(
        options.columns,
        options.batch_rows,
        whole_targets=options.config.mode == "softmax",
        keep_missing=options.on_invalid == "exclude",
        class_names=None if options.class_names is None else ClassNames(options.class_names),
        layout=options.layout,
    )
    for source in sources:
        yield from read_chunks(source, reading)


def _score(scorer: Scorer, chunk: Chunk) -> BatchResult:
    try:
        return scorer.score(chunk)
    except TooManyRegionsError as err:
        raise UsageError(f"{err}; or use a smaller --batch-rows") from err
    except InvalidRequestError as err:
        if err.errors and err.errors[0]["loc"][0] != "batches":
            # An option that does not fit the others or the configuration.
            raise UsageError(err.detail) from err
        raise DataError(f"{chunk.source.path}{place_in_file(err, chunk.first_row)}") from err
    except (LossServiceError, ClientError) as err:
        raise CommandError(f"{err}; run the same command again to continue") from err
