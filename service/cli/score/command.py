"""From the options of `focal-loss score` to a run, with its progress on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli.score.columns import ColumnNames
from service.cli.score.errors import ScoringError, UsageError
from service.cli.score.inputs import count_rows, find_sources
from service.cli.score.run import Progress as Report
from service.cli.score.run import ScoringOptions, score_files
from service.cli.score.scorers import LocalScorer, RemoteScorer, Scorer
from service.client import LossClient
from service.client.errors import ClientError
from service.client.retry import ONCE
from service.errors import LossServiceError
from service.schema.config import LossConfig
from service.schema.request import OnInvalid, RequestOptions

PLAIN_LINE_EVERY_S = 5.0


@dataclass(frozen=True)
class ScoreCommand:
    """The options of the command as they were given.

    Args:
        inputs: Files, folders, globs, or `-`.
        output: A file, or `-`.
        input_format: Where the endings do not say.
        columns: Of the inputs.
        config: A configuration as JSON, the path of a file with one, or None.
        changes: Members that go over it.
        outputs: Names, separated by commas.
        top_k: Hardest examples in the summary.
        on_invalid: `error` or `exclude`.
        batch_rows: Rows of one request.
        url: Of the service.
        local: Compute in this process.
        device: For `local`.
        restart: Forget an interrupted run.
    """

    inputs: tuple[str, ...]
    output: str
    input_format: str | None
    columns: ColumnNames
    config: str | None
    changes: dict[str, Any]
    outputs: str
    top_k: int
    on_invalid: OnInvalid
    batch_rows: int
    url: str
    local: bool
    device: str
    restart: bool

    def run(self, console: Console) -> None:
        """Score, showing progress and then the summary on the console.

        Raises:
            ScoringError: See `service.cli.score.errors` for the exit status of each kind.
        """
        sources = find_sources(self.inputs, self.input_format)
        options = self._options()
        with self._scorer(options) as scorer, shown_progress(console, count_rows(sources), "scoring") as report:
            summary = score_files(sources, self.output, options, scorer, restart=self.restart, progress=report)
        summary.show(console)
        if self.output != "-":
            console.print(f"written to {self.output}", highlight=False)

    def _options(self) -> ScoringOptions:
        names = tuple(name.strip() for name in self.outputs.split(",") if name.strip())
        try:
            RequestOptions.parse({"outputs": list(names)})
            config = LossConfig.parse(config_fields(self.config) | self.changes)
        except LossServiceError as err:
            raise UsageError(err.detail) from err
        return ScoringOptions(config, names, self.top_k, self.on_invalid, self.columns, self.batch_rows)

    @contextmanager
    def _scorer(self, options: ScoringOptions) -> Iterator[Scorer]:
        if self.local:
            try:
                scorer = LocalScorer(options.config, options.scored, self.on_invalid, self.device)
            except ModuleNotFoundError as err:
                raise UsageError(f"--local needs {err.name}: pip install 'focal-loss-service[server]'") from err
            except LossServiceError as err:
                raise UsageError(err.detail) from err
            yield scorer
            return
        # A service that is lost on the way is waited for; one that was never there is not.
        with LossClient(self.url, retry=ONCE) as client:
            try:
                client.info()
            except (LossServiceError, ClientError) as err:
                raise ScoringError(f"{err}; 'focal-loss serve' starts a service, --local does without") from err
        with LossClient(self.url) as client:
            yield RemoteScorer(client, options.config, options.scored, self.on_invalid)


def config_fields(text: str | None) -> dict[str, Any]:
    """The members of `--config`.

    Raises:
        UsageError: It is neither a JSON object nor a file with one.
    """
    if text is None:
        return {}
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text).read_text()
        except OSError as err:
            raise UsageError(f"--config is JSON or a file: {err}") from err
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as err:
        raise UsageError(f"--config is not JSON: {err}") from err
    if not isinstance(fields, dict):
        raise UsageError("--config is a JSON object")
    return fields


@contextmanager
def shown_progress(console: Console, total: int | None, doing: str) -> Iterator[Report]:
    """A bar with rate and time left on a terminal, a line every few seconds elsewhere."""
    if not console.is_terminal:
        yield _PlainProgress(console)
        return
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("rows", total=total, rate="")
        started, done = time.monotonic(), 0

        def report(rows: int) -> None:
            nonlocal done
            done += rows
            rate = done / max(time.monotonic() - started, 1e-9)
            bar.update(task, advance=rows, rate=f"{rate:,.0f} rows/s")

        yield report


class _PlainProgress:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = self._shown = time.monotonic()
        self._rows = 0

    def __call__(self, rows: int) -> None:
        self._rows += rows
        now = time.monotonic()
        if now - self._shown >= PLAIN_LINE_EVERY_S:
            self._shown = now
            self._console.print(f"{self._rows} rows, {self._rows / (now - self._started):.0f} rows/s", highlight=False)
