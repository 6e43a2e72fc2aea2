"""Batches of structured examples for a run: checks of their elements, losses, and the rows to store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from service.api.state import Service
from service.compute.elements import Elements
from service.compute.evaluation import Evaluation
from service.compute.invalid import element_fault
from service.compute.run_elements import element_columns
from service.errors import InvalidRequestError, InvalidTargetError, LayoutNotStoredError, ShapeError
from service.loss.statistics_scores import follows
from service.runs.element_rows import STORED_SCORES, stored_element_rows
from service.runs.ingest import RunBatch
from service.runs.snapshot import Snapshot
from service.schema.config import LossConfig
from service.schema.faults import fault
from service.schema.request import ELEMENT_COUNT, ELEMENT_OUTPUTS, Batch, RequestOptions
from service.schema.result import LossResult
from service.schema.structure import LAYOUT_OF, Lists, Task


class ElementBatches:
    """The batches of a request for a run of structured examples, computed.

    Args:
        service: The service.
        snapshot: The run.
        options: Options of the request, with the configuration and the number of classes of the run.
        batches: The checked batches.

    Attributes:
        result: Result of the request, with more outputs than it asks for.
        num_classes: Number of classes, of the task `multi_label` of labels; None without elements.

    Raises:
        InvalidRequestError: `within` is not the run's.
        ShapeError: An element has several labels, or the batches have different numbers of labels.
        InvalidTargetError: A label is soft; names batch, example and element.
        Also the errors of `Evaluation.add`.
    """

    def __init__(
        self, service: Service, snapshot: Snapshot, options: RequestOptions, batches: Sequence[RunBatch]
    ) -> None:
        description = snapshot.description
        self._batches = batches
        options = _stored_options(description.config, options, batches)
        if "within" in options.model_fields_set and options.within != description.within:
            msg = "the losses of a run's examples are made of those of their elements as its description says"
            raise fault(InvalidRequestError, msg, "within")
        options = options.model_copy(update={"within": description.within})
        sources = [batch.source for batch in batches]
        evaluation = Evaluation(service.device, service.module(options), options, service.limits)
        elements = evaluation.elements_of_all(sources)
        for number, of_batch in enumerate(elements):
            _check(description.task, description.config, number, of_batch)
        self.num_classes = _num_classes(description.task, elements)
        self.result: LossResult = evaluation.result_of_all(sources, elements)
        self._lists: list[dict[str, Lists]] = [
            element_columns(
                of_batch,
                batch.per_element,
                description.config.ignore_index,
                with_logits=description.store_logits and description.config.mode == "softmax" and not source.statistics,
            )
            for of_batch, batch, source in zip(elements, self.result.batches, sources, strict=True)
        ]

    def rows(self, epoch: int, name: str) -> pa.Table:
        """The rows to store; see `stored_element_rows`."""
        return stored_element_rows(epoch, name, self._batches, self.result.batches, self._lists)


def check_layout(snapshot: Snapshot, options: RequestOptions, batches: Sequence[Batch]) -> None:
    """Check the layout of the batches for a run.

    Masks whose elements stand for several, which have no place, have the layout `ragged`.

    Raises:
        LayoutNotStoredError: It is not that of the run's task.
        InvalidRequestError: Elements that stand for several, for another task than `masks`.
    """
    task = snapshot.description.task
    layout = LAYOUT_OF[task]
    if any(ELEMENT_COUNT in (batch.statistics or {}) for batch in batches) and task != "masks":
        msg = f"{ELEMENT_COUNT} is for runs of the task masks, run {snapshot.name} has the task {task}"
        raise fault(InvalidRequestError, msg, ELEMENT_COUNT)
    if options.layout == ("ragged" if _have_counts(batches) else layout):
        return
    msg = f"run {snapshot.name} has the task {task}, whose batches have the layout {layout}, not {options.layout}"
    raise fault(LayoutNotStoredError, msg, "layout")


def _have_counts(batches: Sequence[Batch]) -> bool:
    """True if the elements of all batches stand for several, so that they have no place in a mask."""
    return bool(batches) and all(ELEMENT_COUNT in (batch.statistics or {}) for batch in batches)


def requested(result: LossResult, options: RequestOptions) -> LossResult:
    """The result with the outputs that the request asks for, and no others."""
    batches = tuple(
        replace(
            batch,
            per_example={name: column for name, column in batch.per_example.items() if name in options.outputs},
            per_element={name: column for name, column in batch.per_element.items() if name in options.elements},
        )
        for batch in result.batches
    )
    return replace(result, batches=batches)


def _stored_options(config: LossConfig, options: RequestOptions, batches: Sequence[RunBatch]) -> RequestOptions:
    """The options with all outputs that are stored, as far as they follow from what was sent."""

    def known(name: str) -> bool:
        if config.mode == "sigmoid" or name not in ELEMENT_OUTPUTS:
            return True
        return all(
            batch.source.statistics is None or follows(name, batch.source.statistics, options.num_classes)
            for batch in batches
        )

    outputs = (*options.outputs, "num_valid", *filter(known, STORED_SCORES))
    predictions = () if _have_counts([batch.source for batch in batches]) else ("prediction",)
    # In sigmoid mode the probability of the prediction follows from the log-odds.
    margins = filter(known, () if config.mode == "sigmoid" else ("normalized_margin",))
    elements = (*options.elements, "log_odds", "loss", *predictions, *margins)
    return options.model_copy(
        update={"outputs": tuple(dict.fromkeys(outputs)), "elements": tuple(dict.fromkeys(elements))}
    )


def _check(task: Task, config: LossConfig, number: int, elements: Elements) -> None:
    """Raise for elements that a run of this task does not store."""
    # An empty list in JSON has no second axis.
    if task == "multi_label" and len(elements.shape) != 2 and elements.num_examples:
        msg = f"the task multi_label takes logits and targets (N, L), got shape {list(elements.shape)}"
        raise fault(ShapeError, msg, "targets", batch=number)
    if task != "multi_label" and elements.grid[1] > 1:
        msg = f"the task {task} takes one label of each element, these have {elements.grid[1]}"
        raise fault(ShapeError, msg, "targets", batch=number)
    targets = elements.targets
    if elements.soft:
        raise fault(InvalidTargetError, "a run stores hard labels, and these are soft", "targets", batch=number)
    if elements.sigmoid:
        soft = (targets > 0) & (targets < 1)
        if config.ignore_index is not None:
            soft &= targets != config.ignore_index
        if soft.any():
            first = int(soft.argmax())
            msg = f"a run stores hard labels, but {targets.reshape(-1)[first].item()} is neither 0 nor 1"
            raise element_fault(elements, InvalidTargetError, msg, "targets", number, *elements.place(first))


def _num_classes(task: Task, elements: Sequence[Elements]) -> int | None:
    """The number of classes of the elements, or of labels.

    Raises:
        ShapeError: The batches have different ones.
    """
    numbers = {
        of_batch.per_row if task == "multi_label" else _classes(of_batch)
        for of_batch in elements
        if of_batch.num_examples
    }
    if len(numbers) > 1:
        raise ShapeError(f"the batches of the request have different numbers of classes: {sorted(numbers)}")
    return next(iter(numbers), None)


def _classes(elements: Elements) -> int:
    if elements.sigmoid:
        return 2
    return elements.num_classes or int(elements.logits.shape[1])
