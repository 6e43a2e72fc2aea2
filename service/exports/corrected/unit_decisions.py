"""Decisions on the labels of structured examples, from the reviews of the examples and of their units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.exports.corrected.decisions import Decision, all_reviews, decide
from service.queries.view import View
from service.runs.review_history import ReviewHistory, Standing
from service.runs.units import UnitKey, unit_json
from service.schema.replies.corrected import CorrectedStatus
from service.schema.replies.reviews import Review
from service.schema.structure import Task

Places = NDArray[np.int64] | slice
Labels = NDArray[np.int32]
# Target of an element without a label to use.
NO_LABEL = -1
# Of several statuses the first one is that of the example.
ORDER: Sequence[CorrectedStatus] = ("excluded", "conflict", "unsure", "corrected", "kept", "unreviewed")
WITHOUT_LABEL: Sequence[CorrectedStatus] = ("excluded", "conflict", "unsure")


@dataclass(frozen=True, eq=False)
class UnitDecision:
    """The decision on a unit of an example.

    Args:
        places: Its elements in the flat targets.
        decision: The decision.
    """

    places: Places
    decision: Decision


@dataclass(frozen=True, eq=False)
class ExampleDecisions:
    """The decisions on an example.

    Args:
        whole: That on the whole example; None without a review of it.
        units: Those on its units, in the order of their last reviews.
        reviews: All reviews that count.
    """

    whole: Decision | None
    units: Sequence[UnitDecision]
    reviews: Sequence[Review]

    def apply(self, targets: Labels, class_names: Sequence[str] | None) -> tuple[CorrectedStatus, Labels | None]:
        """The status of the example, and its labels to use; None if the whole example has none.

        Elements of a unit that is excluded, unsure or in conflict have NO_LABEL. Ignored elements stay ignored.

        Args:
            targets: (T,) given labels; negative if they are ignored.
            class_names: Names of the classes that an element may have, for the tokens of an entity.
        """
        used, statuses = targets.copy(), set[CorrectedStatus]()
        for unit in self.units:
            statuses.add(unit.decision.status)
            places = unit.places
            if not isinstance(places, slice):
                # The mask may have been replaced by a smaller one.
                places = places[places < len(used)]
            if unit.decision.status in WITHOUT_LABEL:
                used[places] = NO_LABEL
            elif unit.decision.label is not None:
                used[places] = _labels(unit.decision.label, len(used[places]), class_names)
        used[targets < 0] = targets[targets < 0]
        if "corrected" in statuses and (used == targets).all():
            statuses = statuses - {"corrected"} | {"kept"}
        # A wrong example whose wrong units are corrected has a right label.
        if self.whole is not None and not (self.whole.status == "unsure" and "corrected" in statuses):
            statuses.add(self.whole.status)
            if self.whole.status in WITHOUT_LABEL:
                return min(statuses, key=ORDER.index), None
        return min(statuses, key=ORDER.index, default="unreviewed"), used


def _labels(label: int, number: int, class_names: Sequence[str] | None) -> Labels:
    """The classes of the tokens of a span: after the first token of an entity `B-X` come tokens of `I-X`."""
    labels = np.full(number, label, np.int32)
    if class_names is not None and class_names[label].startswith("B-"):
        inside = f"I-{class_names[label].removeprefix('B-')}"
        if inside in class_names:
            labels[1:] = class_names.index(inside)
    return labels


def unit_decisions(view: View, history: ReviewHistory) -> Mapping[str, ExampleDecisions]:
    """The decisions on the reviewed examples, by id."""
    task = view.snapshot.description.task
    standings: defaultdict[str, list[Standing]] = defaultdict(list)
    # Of units that share elements the decision with the last review counts.
    for standing in sorted(history.current, key=lambda standing: all_reviews(standing)[-1]["review"]):
        standings[standing.counting[0]["id"]].append(standing)
    regions = _regions(view, history.current) if task == "masks" else {}
    return {
        identity: ExampleDecisions(
            next((decide(standing) for standing in listed if standing.counting[0].get("unit") is None), None),
            list(_units(identity, listed, task, regions)),
            [review for standing in listed for review in all_reviews(standing)],
        )
        for identity, listed in standings.items()
    }


_Region = tuple[str, int, int]


def _units(
    identity: str, standings: Iterable[Standing], task: Task, regions: Mapping[_Region, Places]
) -> Iterator[UnitDecision]:
    for standing in standings:
        unit: Any = standing.counting[0].get("unit")
        if unit is None:
            continue
        if task == "tokens":
            places: Places | None = slice(*unit)
        elif task == "multi_label":
            places = slice(unit, unit + 1)
        else:
            places = regions.get((identity, standing.epoch or 0, unit))
        # The batch of a region may be deleted.
        if places is not None:
            yield UnitDecision(places, decide(standing))


def _regions(view: View, standings: Iterable[Standing]) -> dict[_Region, Places]:
    """The pixels of the reviewed regions, by example, epoch and number."""
    wanted: defaultdict[int, set[UnitKey]] = defaultdict(set)
    for standing in standings:
        if standing.epoch is not None:
            wanted[standing.epoch].add(UnitKey.of(standing.counting[0]))
    found: dict[_Region, Places] = {}
    for epoch, keys in wanted.items():
        sql = f"""SELECT id, unit_offsets, unit_elements FROM {view.stored(epoch)}
            WHERE id IN (SELECT unnest(?::VARCHAR[]))"""
        for batch in view.batches(sql, [sorted({key.id for key in keys})], rows=64):
            for row in batch.to_pylist():
                offsets = row["unit_offsets"]
                for number in range(len(offsets) - 1):
                    if UnitKey(row["id"], unit_json(number)) in keys:
                        places = row["unit_elements"][offsets[number] : offsets[number + 1]]
                        found[row["id"], epoch, number] = np.array(places, np.int64)
    return found
