"""Ranking over several runs, such as models of the same data set: the mean of the ranks of each example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from service.errors import InvalidRequestError
from service.mining.requests import QueueRequest
from service.mining.strategies import Ranking, ranking
from service.queries.sql import literal
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.store import RunStore
from service.schema.faults import fault
from service.schema.replies.fields import Strategy

# Ranks are integers in these units, so that their sums do not depend on the order of the runs.
UNIT = 2**20


@contextmanager
def other_runs(store: RunStore, view: View, names: Sequence[str] | None) -> Iterator[list[View]]:
    """Open the other runs of a request, on the connection of the first one; its own name is left out.

    Raises:
        UnknownRunError: There is no run of a name.
        InvalidRequestError: A run has another task or another number of classes.
    """
    with ExitStack() as stack:
        others = []
        for number, name in enumerate(names or ()):
            if name != view.snapshot.name:
                others.append(view.of(stack.enter_context(store.reading(name))))
                _check_fits(view, others[-1], number)
        yield others


def _check_fits(view: View, other: View, number: int) -> None:
    run, snapshot = view.snapshot, other.snapshot
    if snapshot.description.task != run.description.task:
        msg = f"run {snapshot.name} has the task {snapshot.description.task}, run {run.name} {run.description.task}"
        raise fault(InvalidRequestError, msg, "runs", number)
    if snapshot.num_classes != run.num_classes:
        msg = f"run {snapshot.name} has {snapshot.num_classes} classes, run {run.name} {run.num_classes}"
        raise fault(InvalidRequestError, msg, "runs", number)


@contextmanager
def mean_ranks(
    strategy: Strategy, first: Ranking, views: Sequence[View], weighting: Weighting, epoch: int, request: QueueRequest
) -> Iterator[Ranking]:
    """Rank the rows of the first run by the mean of their ranks in all runs; the score is this mean.

    The ranks of a run with more or fewer examples are scaled to the number of the first run. The mean is over the runs
    that have the example; one that has it but does not rank it by the strategy gives it the last rank.

    Args:
        strategy: The strategy.
        first: Its ranking of the first run.
        views: All runs, the first one included.
        weighting: Weighting of the losses of all runs.
        epoch: Epoch of the first run; of the others the last one counts.
        request: Parameters of the strategy.

    Raises:
        InvalidRequestError: The rows are units, or the strategy needs logits and a run stores none.
    """
    if first.of_units:
        msg = f"runs need whole examples, but the rows of {strategy} are units, which differ from run to run"
        raise fault(InvalidRequestError, msg, "runs")
    view, table = views[0], f"ranks_of_{strategy}"
    total = view.num_examples(epoch)
    try:
        view.execute(f"CREATE OR REPLACE TEMP TABLE {table} (id VARCHAR, units BIGINT)")
        for of_run in views:
            number = epoch if of_run is view else of_run.snapshot.epoch()
            ranked = first if of_run is view else ranking(strategy, of_run, weighting, number, request)
            view.execute(f"INSERT INTO {table} {_ranks(of_run, ranked, number, total)}")
        means = f"(SELECT id, sum(units)::DOUBLE / count(*) / {UNIT} AS mean_rank FROM {table} GROUP BY id)"
        yield replace(first, source=f"({first.source} JOIN {means} USING (id))", score="mean_rank", order="mean_rank")
    finally:
        view.cursor.execute(f"DROP TABLE IF EXISTS {table}")


def _ranks(view: View, ranked: Ranking, epoch: int, total: int) -> str:
    """Query of the ids of a run and their ranks in units."""
    number = view.num_examples(epoch)
    scale = literal(total / number if number else 1.0)
    places = f"SELECT id, place FROM ({ranked.sql('true', None)})"
    return (
        f"SELECT id, CAST(round(coalesce(place, {literal(number)}) * {scale} * {UNIT}) AS BIGINT) "
        f"FROM {view.stored(epoch)} LEFT JOIN ({places}) USING (id)"
    )
