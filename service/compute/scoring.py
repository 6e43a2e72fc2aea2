"""Scores of the examples, elements and regions of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.compute.aggregation import Aggregation, ExampleScores, element_scores_for
from service.compute.device import Device
from service.compute.element_outputs import ElementOutputs
from service.compute.elements import ALL, Elements, Part, Segments, split
from service.compute.invalid import InvalidExamples
from service.compute.regions import RegionFinder
from service.loss.arrays import Array
from service.loss.focal import FocalLoss
from service.loss.row_state import BAD_TARGET, COUNTED
from service.loss.scores import Scores
from service.loss.statistics_scores import statistics_scores
from service.schema.request import ELEMENT_OUTPUTS, RequestOptions
from service.schema.structure import TopShare

# Elements that are computed at once: few enough that their scores take little memory beside the logits.
PART_ELEMENTS = {"cpu": 2**18, "cuda": 2**21}


@dataclass(frozen=True, eq=False)
class BatchScores:
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
    scores: Scores | None = None
    needed = _scores_needed(options, elements)
    stored = _stored_elements(options, elements)
    dtype = np.dtype(np.float64 if elements.logits.dtype == np.float64 else np.float32)
    outputs = ElementOutputs(elements, stored, dtype) if stored else None
    finder = RegionFinder(elements, options.num_regions) if options.with_regions else None
    aggregation = None
    if not elements.is_plain:
        log_loss = options.top_k > 0
        aggregation = Aggregation(elements.num_examples, options.outputs, options.within, log_loss=log_loss)
    invalid = []
    for part in _parts(device, options, elements):
        targets = part.of(elements.targets, by_class=elements.sigmoid or elements.soft)
        scores = _score(device, module, elements, part, targets, needed)
        classes = _classes(elements, targets) if count_positive or finder is not None else None
        invalid.append(InvalidExamples.of_part(elements, part, scores.state))
        if aggregation is not None:
            positive = classes > 0 if classes is not None and count_positive else None
            aggregation.add(part.first, part.segments, scores, positive)
        if outputs is not None:
            outputs.add(part, scores)
        if finder is not None and classes is not None:
            finder.add(part, scores, classes, invalid[-1].example)
    all_invalid = InvalidExamples.joined(invalid)
    if aggregation is not None:
        num_classes = 2 if elements.sigmoid else elements.logits.shape[1]
        examples = aggregation.examples(all_invalid, num_classes)
    else:
        assert scores is not None
        examples = _plain_examples(scores, options.outputs)
    return BatchScores(examples, all_invalid, outputs, finder)


def _score(
    device: Device, module: FocalLoss, elements: Elements, part: Part, targets: Array, outputs: Sequence[str]
) -> Scores:
    """The scores of the elements of a part: from its logits, or what the client has reduced them to."""
    if elements.statistics is None:
        return device.score(module, part.of(elements.logits, by_class=True), targets, outputs)
    statistics = {name: part.of(values, by_class=False).reshape(-1) for name, values in elements.statistics.items()}
    return statistics_scores(module, statistics, targets.reshape(-1), outputs)


def _scores_needed(options: RequestOptions, elements: Elements) -> list[str]:
    """Outputs of the device, for those of the request."""
    names = {*options.elements, *element_scores_for(options.outputs)}
    if elements.is_plain or "prediction" in options.outputs:
        names.update(options.outputs)
    if options.with_regions:
        names |= {"prediction", "p_t"}
    return [name for name in ELEMENT_OUTPUTS if name in names]


def _stored_elements(options: RequestOptions, elements: Elements) -> list[str]:
    """Outputs of elements to keep; the prediction of several labels is an output of their example."""
    names = list(dict.fromkeys(options.elements))
    if not elements.is_plain and "prediction" in options.outputs and "prediction" not in names:
        names.append("prediction")
    return names


def _parts(device: Device, options: RequestOptions, elements: Elements) -> Iterable[Part]:
    if elements.is_plain:
        count = elements.num_examples
        return [Part(slice(0, count), ALL, 0, Segments(count, 1))]
    num_elements = PART_ELEMENTS[device.name.partition(":")[0]]
    return split(elements, num_elements, whole=options.with_regions or isinstance(options.within, TopShare))


def _classes(elements: Elements, targets: Array) -> Array:
    """The classes of the targets of a part, flat; in sigmoid mode 0 or 1."""
    if elements.sigmoid:
        return (targets > 0.5).reshape(-1)
    return (targets.argmax(axis=1) if elements.soft else targets).reshape(-1)


def _plain_examples(scores: Scores, outputs: Sequence[str]) -> ExampleScores:
    """The scores of examples with one element each."""
    counted = scores.state == COUNTED
    values = {name: scores.outputs[name] for name in outputs if name in scores.outputs}
    if "label_quality" in outputs:
        values["label_quality"] = scores.outputs["p_t"]
    if "max_loss" in outputs:
        values["max_loss"] = np.where(counted, scores.loss, np.nan)
    invalid = scores.state >= BAD_TARGET
    return ExampleScores(
        state=scores.state,
        num_valid=counted.astype(np.int64),
        # The loss of an excluded row is unknown and adds nothing to the sum.
        loss=np.where(invalid, np.nan, scores.loss) if invalid.any() else scores.loss,
        log_loss=scores.log_loss,
        loss_sum=scores.loss,
        alpha_sum=scores.alpha_t,
        num_positive=counted,
        outputs=values,
    )
