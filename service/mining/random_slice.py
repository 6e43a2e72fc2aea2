"""The random slice of a run: the random rows of its queues as a sample of its examples, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from service.diagnostics.remaining import WINDOW, Evidence, num_set_apart
from service.mining.queue_table import QueueTable
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from service.runs.units import WHOLE
from service.schema.replies.remaining import RandomSlice

JUDGED = ("ok", "wrong")
# Smallest number of judged examples that are no random rows from which suspicious examples are set apart.
LEAST_OTHERS = 10


@dataclass(frozen=True)
class ExampleVerdicts:
    """Verdicts on whole examples.

    Args:
        judged: Ids of the examples that are judged: ok, or wrong in a unit or as a whole.
        wrong: Ids of those that are wrong.
        undecided: Ids of the examples whose reviews as a whole are unsure, exclude or a conflict.
    """

    judged: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    undecided: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, view: View, epoch: int, history: ReviewHistory) -> ExampleVerdicts:
        """The verdicts on the examples of an epoch. An example with a wrong unit is wrong."""
        verdicts, standings = cls(), history.verdicts_of(epoch)
        known = ids_of_epoch(view, epoch, {key.id for key in standings})
        for key, standing in standings.items():
            if key.id not in known:
                continue
            if standing.verdict == "wrong":
                verdicts.wrong.add(key.id)
            if key.unit == WHOLE:
                (verdicts.judged if standing.verdict in JUDGED else verdicts.undecided).add(key.id)
        verdicts.judged.update(verdicts.wrong)
        verdicts.undecided.difference_update(verdicts.judged)
        return verdicts


def ids_of_epoch(view: View, epoch: int, ids: Collection[str]) -> set[str]:
    """Those of the ids that an epoch has."""
    if not ids:
        return set()
    view.cursor.register("asked_ids", pa.table({"id": pa.array(list(ids), pa.string())}))
    found: list[str] = view.table(f"SELECT id FROM {view.stored(epoch)} SEMI JOIN asked_ids USING (id)")[
        "id"
    ].to_pylist()
    return set(found)


def control_queues(queues: Iterable[QueueTable], num_examples: int, name: str | None) -> list[QueueTable]:
    """Queues whose random rows are a sample of all examples.

    Args:
        queues: Outlines of the queues of a run.
        num_examples: Number of examples of the epoch; queues of another number were drawn from other examples.
        name: Name of the only queue to use; None for all.
    """
    return [
        queue
        for queue in queues
        if queue.head["is_control"]
        and queue.head["num_examples"] == num_examples
        and name in (None, queue.head["name"])
    ]


def random_slice(
    view: View, epoch: int, drawn_queues: Sequence[QueueTable], queues: Sequence[QueueTable], history: ReviewHistory
) -> tuple[Evidence, RandomSlice]:
    """The evidence of the random rows of some queues.

    The rows of a queue are reviewed by rank, which is a random order. The sample ends at the last row that was reviewed
    for the queue: later rows with a verdict were reviewed since another queue ranks them high.

    Args:
        view: The run.
        epoch: Epoch of the examples.
        drawn_queues: Result of `control_queues`.
        queues: All queues of the run.
        history: The reviews of the run.
    """
    verdicts = ExampleVerdicts.of(view, epoch, history)
    drawn_at = min((queue.head["created_at"] for queue in drawn_queues), default="")
    names = {str(queue.head["name"]) for queue in drawn_queues}
    others = {str(queue.head["name"]) for queue in queues} - names
    before, reviewed_for = _reviewed(history, drawn_at, names, others)
    rows, sample = set[str](), set[str]()
    for queue in drawn_queues:
        drawn: list[str] = queue.rows.filter(queue.rows["control"])["id"].to_pylist()
        rows.update(drawn)
        reviewed = reviewed_for[str(queue.head["name"])]
        last = max((place for place, identity in enumerate(drawn) if identity in reviewed), default=-1)
        sample.update(drawn[: last + 1])
    early, suspicious = before & (verdicts.judged | verdicts.undecided), list[str]()
    if len(verdicts.judged - rows) >= LEAST_OTHERS:
        suspicious = _most_suspicious(view, epoch, verdicts.judged)
    apart = early.union(suspicious)
    # Open examples among the suspicious ones are the last of them.
    like_open = (set(suspicious[-2 * WINDOW :]) or early) & verdicts.judged
    num_drawn, judged = len(sample), (sample - apart) & verdicts.judged
    evidence = Evidence(
        apart=len(apart),
        apart_judged=len(apart & verdicts.judged),
        apart_wrong=len(apart & verdicts.wrong),
        population=view.num_examples(epoch) - len(apart),
        population_judged=len(verdicts.judged - apart),
        population_wrong=len(verdicts.wrong - apart),
        sample=len(judged),
        wrong=len(judged & verdicts.wrong),
        undecided=len((sample - apart) & verdicts.undecided),
        open_share=len(like_open & verdicts.wrong) / len(like_open) if like_open else 0.0,
    )
    return evidence, {
        "queues": sorted(names),
        "rows": len(rows),
        "judged": evidence.sample,
        "wrong": evidence.wrong,
        "undecided": evidence.undecided,
        "set_apart": num_drawn - len(sample - apart),
    }


def _most_suspicious(view: View, epoch: int, judged: set[str]) -> list[str]:
    """The most suspicious examples, by a fixed ranking, that are set apart (`num_set_apart`); in their order."""
    score = "label_quality" if view.is_structured else "logit_margin"
    # At least half of these are not judged, unless they are all examples.
    limit = 2 * len(judged) + 100
    sql = f"SELECT id FROM {view.stored(epoch)} ORDER BY {score}, id LIMIT {limit}"
    ranked: list[str] = view.table(sql)["id"].to_pylist()
    return ranked[: num_set_apart(np.array([identity in judged for identity in ranked], dtype=bool))]


def _reviewed(
    history: ReviewHistory, drawn_at: str, names: set[str], others: set[str]
) -> tuple[set[str], dict[str, set[str]]]:
    """Ids of the examples that were reviewed before a time, and those reviewed for each queue of `names`.

    A review counts for all of these queues if it names none of them and none of `others`.
    """
    before = set[str]()
    reviewed_for: dict[str, set[str]] = {name: set() for name in names}
    for review in history.reviews:
        if review.get("unit") is not None:
            continue
        # Times are in UTC and ISO 8601, so their order is that of the texts.
        if review["at"] < drawn_at:
            before.add(review["id"])
        if review["queue"] in names:
            reviewed_for[str(review["queue"])].add(review["id"])
        elif review["queue"] not in others:
            for ids in reviewed_for.values():
                ids.add(review["id"])
    return before, reviewed_for
