"""Scores of the examples, elements and regions of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from service.compute.aggregation import Aggregation, ExampleScores, element_scores_for
from service.compute.device import Device
from service.compute.element_outputs import ElementOutputs
from service.compute.elements import EVERY_ROW, Elements, Part, split
from service.compute.invalid import NO_EXAMPLES, InvalidExamples
from service.compute.regions import RegionFinder, may_be_too_many
from service.loss.arrays import Array
from service.loss.focal import FocalLoss
from service.loss.row_state import BAD_TARGET, COUNTED
from service.loss.scores import Scores
from service.loss.statistics_scores import statistics_scores
from service.schema.request import ELEMENT_OUTPUTS, RequestOptions
from service.schema.structure import TopShare

# Scores of elements that are computed at once, of which each element has at least `MIN_SCORES`: few enough that they
# take little memory beside the logits.
PART_SCORES = {"cpu": 2**20, "cuda": 2**23}
MIN_SCORES = 4
SCORES_OF_REGIONS = ("prediction", "p_t")
# Numbers that finding the regions takes for each wrong element.
NUMBERS_OF_WRONG = 24


class BatchScores(NamedTuple):
    """The scores of a batch.

    Args:
        examples: Scores of the examples.
        invalid: Examples with an invalid element.
        elements: Outputs of the elements; None if none is needed.
        regions: Regions of the examples; None unless requested.
    """

    examples: ExampleScores
    invalid: InvalidExamples
    elements: ElementOutputs | None = None
    regions: RegionFinder | None = None


def score_batch(
    device: Device, module: FocalLoss, options: RequestOptions, elements: Elements, *, count_positive: bool
) -> BatchScores:
    """Compute a batch; in parts, unless each of its examples has one element.

    Args:
        device: Device to compute on.
        module: The configured loss, on this device.
        options: Options of the request.
        elements: The batch.
        count_positive: True if the divisor needs the number of positive elements.

    Raises:
        TooManyRegionsError: The batch has more regions than a reply can hold.
        DeviceOutOfMemoryError: Not even one element fits into memory.
    """
    regions = _many_regions(device, module, options, elements)
    with_regions = options.with_regions and regions is None
    needed = _scores_needed(options.outputs, options.elements, regions=with_regions, plain=elements.is_plain)
    details = _Details(options, elements, regions)
    if elements.is_plain:
        return _score_plain(device, module, options, elements, needed, details)
    aggregation = Aggregation(
        elements.num_examples,
        options.outputs,
        options.within,
        log_loss=options.top_k > 0,
        count_positive=count_positive,
    )
    invalid = []

    # A function, so that the scores of a part are freed before the next one is computed.
    def add(part: Part) -> None:
        targets = part.of(elements.targets, by_class=elements.sigmoid or elements.soft)
        scores = _score(device, module, elements, part, targets, needed)
        invalid.append(InvalidExamples.of_part(elements, part, scores.state))
        positive = _classes(elements, targets) > 0 if count_positive else None
        counts = None if elements.counts is None else part.of(elements.counts, by_class=elements.sigmoid).reshape(-1)
        aggregation.add(part.first, part.segments, scores, positive, counts)
        details.add(part, scores, targets)

    scores = MIN_SCORES + len(needed)
    for part in _split(device, elements, scores, whole=isinstance(options.within, TopShare)):
        add(part)
    all_invalid = InvalidExamples.joined(invalid)
    examples = aggregation.examples(
        all_invalid, elements.num_classes or (2 if elements.sigmoid else elements.logits.shape[1])
    )
    return BatchScores(examples, all_invalid, details.outputs, details.regions)


def _split(device: Device, elements: Elements, scores: int, *, whole: bool = False) -> Iterator[Part]:
    """Split a batch into parts that take little memory, with so many scores of each element; see `elements.split`."""
    size = PART_SCORES[device.name.partition(":")[0]] // scores
    return split(elements, max(1, size), whole=whole)


def _many_regions(
    device: Device, module: FocalLoss, options: RequestOptions, elements: Elements
) -> RegionFinder | None:
    """The regions of a batch that may have too many; None for others.

    They are found in a pass of their own, so that the error comes before the outputs of the batch take memory.
    """
    if not options.with_regions or not may_be_too_many(elements, options.num_regions):
        return None
    regions = RegionFinder(elements, options.num_regions)

    def add(part: Part) -> None:
        targets = part.of(elements.targets, by_class=elements.sigmoid or elements.soft)
        scores = _score(device, module, elements, part, targets, SCORES_OF_REGIONS)
        regions.add(part, scores, _classes(elements, targets))

    for part in _split(device, elements, MIN_SCORES + NUMBERS_OF_WRONG):
        add(part)
    return regions


def _score_plain(
    device: Device,
    module: FocalLoss,
    options: RequestOptions,
    elements: Elements,
    needed: Sequence[str],
    details: _Details,
) -> BatchScores:
    """`score_batch` for examples with one element each, whose scores are those of the example."""
    scores = _score(device, module, elements, EVERY_ROW, elements.targets, needed)
    invalid = InvalidExamples.of_part(elements, EVERY_ROW, scores.state)
    examples = _plain_examples(scores, options.outputs, has_invalid=invalid is not NO_EXAMPLES)
    details.add(EVERY_ROW, scores, elements.targets)
    return BatchScores(examples, invalid, details.outputs, details.regions)


class _Details:
    """The outputs of elements and the regions of a batch, where the request asks for them.

    Args:
        options: Options of the request.
        elements: The batch.
        regions: The regions, if they were found already.
    """

    def __init__(self, options: RequestOptions, elements: Elements, regions: RegionFinder | None) -> None:
        self._elements = elements
        stored = list(dict.fromkeys(options.elements))
        if not elements.is_plain and "prediction" in options.outputs and "prediction" not in stored:
            # The prediction of an example is that of each of its labels.
            stored.append("prediction")
        dtype = np.dtype(np.float64 if elements.logits.dtype == np.float64 else np.float32)
        self.outputs = ElementOutputs(elements, stored, dtype) if stored else None
        self._finds_regions = options.with_regions and regions is None
        self.regions = RegionFinder(elements, options.num_regions) if self._finds_regions else regions

    def add(self, part: Part, scores: Scores, targets: Array) -> None:
        """Add the elements of a part."""
        if self.outputs is not None:
            self.outputs.add(part, scores)
        if self._finds_regions and self.regions is not None:
            self.regions.add(part, scores, _classes(self._elements, targets))


def _score(
    device: Device, module: FocalLoss, elements: Elements, part: Part, targets: Array, outputs: Sequence[str]
) -> Scores:
    """The scores of the elements of a part: from its logits, or what the client has reduced them to."""
    if elements.statistics is None:
        return device.score(module, part.of(elements.logits, by_class=True), targets, outputs)
    statistics = {name: part.of(values, by_class=False).reshape(-1) for name, values in elements.statistics.items()}
    return statistics_scores(module, statistics, targets.reshape(-1), outputs, elements.num_classes)


@lru_cache(maxsize=256)
def _scores_needed(
    outputs: tuple[str, ...], elements: tuple[str, ...], *, regions: bool, plain: bool
) -> tuple[str, ...]:
    """Outputs of the device, for those of the request."""
    names = {*elements, *element_scores_for(outputs)}
    if plain or "prediction" in outputs:
        names.update(outputs)
    if regions:
        names.update(SCORES_OF_REGIONS)
    return tuple(name for name in ELEMENT_OUTPUTS if name in names)


def _classes(elements: Elements, targets: Array) -> Array:
    """The classes of the targets of a part, flat; in sigmoid mode 0 or 1."""
    if elements.sigmoid:
        return (targets > 0.5).reshape(-1)
    return (targets.argmax(axis=1) if elements.soft else targets).reshape(-1)


def _plain_examples(scores: Scores, outputs: Sequence[str], *, has_invalid: bool) -> ExampleScores:
    """The scores of examples with one element each."""
    values = {name: scores.outputs[name] for name in outputs if name in scores.outputs}
    counted = scores.state == COUNTED
    if "label_quality" in outputs:
        values["label_quality"] = scores.outputs["p_t"]
    if "max_loss" in outputs:
        values["max_loss"] = np.where(counted, scores.loss, np.nan)
    return ExampleScores(
        num_valid=counted,
        # The loss of an excluded row is unknown and adds nothing to the sum.
        loss=np.where(scores.state >= BAD_TARGET, np.nan, scores.loss) if has_invalid else scores.loss,
        log_loss=scores.log_loss,
        loss_sum=scores.loss,
        alpha_sum=scores.alpha_t,
        num_positive=None,
        outputs=values,
    )
