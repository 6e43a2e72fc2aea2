"""Checks of the shapes of a batch, by layout and mode; the result is an `Elements`."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from service.compute.elements import Elements
from service.compute.statistics import checked_statistics, with_statistics
from service.errors import InvalidRequestError, InvalidTargetError, ShapeError, TooManyElementsError
from service.formats.labels import LabelError, class_labels, number_labels
from service.formats.ragged import checked_offsets
from service.formats.targets import numeric_targets
from service.loss.arrays import Array
from service.schema.config import MAX_CLASSES, LossConfig
from service.schema.faults import fault
from service.schema.request import Batch, RequestOptions
from service.schema.structure import MAX_AXES, Layout

SOFTMAX_LOGITS = {"rows": "(N, C)", "dense": "(N, C, d1, ...)", "ragged": "(T, C)"}
SOFTMAX_TARGETS = {"rows": "(N,)", "dense": "(N, d1, ...)", "ragged": "(T,)"}
SIGMOID = {"rows": "(N,) or (N, L)", "dense": "(N, L, d1, ...), (N, H, W) or (N, d1)", "ragged": "(T,) or (T, L)"}


def elements_of(config: LossConfig, options: RequestOptions, number: int, batch: Batch) -> Elements:
    """Check and reshape a batch, and convert its targets to numbers.

    Args:
        config: Configuration of the loss.
        options: Options of the request.
        number: Number of the batch, for messages.
        batch: The batch as received.

    Raises:
        ShapeError: Shapes or lengths do not match each other, the layout or the configuration.
        InvalidTargetError: A target is no number.
        InvalidRequestError: Soft labels together with `label_smoothing`, or invalid statistics.
        TooManyElementsError: Too many classes for soft labels or `label_smoothing`.
        NeedsLogitsError: Something that is asked for does not follow from the statistics.
    """
    layout = options.layout
    offsets = _offsets(layout, number, batch)
    if batch.logits.ndim > MAX_AXES or batch.targets.ndim > MAX_AXES:
        part, values = ("logits", batch.logits) if batch.logits.ndim > MAX_AXES else ("targets", batch.targets)
        raise fault(ShapeError, f"{part} have at most {MAX_AXES} axes, got {values.ndim}", part, batch=number)
    if batch.ids is not None and len(batch.ids) != batch.num_examples:
        what = "rows of logits" if layout == "rows" else "examples"
        raise fault(ShapeError, f"{len(batch.ids)} ids for {batch.num_examples} {what}", "ids", batch=number)
    if batch.statistics is not None:
        return _labels_as_places(config, _of_statistics(config, options, number, batch, offsets))
    logits, targets = batch.logits, batch.targets
    if logits.ndim and targets.ndim and logits.shape[0] != targets.shape[0]:
        raise fault(ShapeError, f"{len(targets)} targets for {len(logits)} rows of logits", "targets", batch=number)
    reshape = _softmax if config.mode == "softmax" else _sigmoid
    elements = reshape(config, layout, number, logits, targets, offsets)
    # The number of classes of an empty batch may be unknown.
    if options.num_classes not in (None, elements.logits.shape[1]) and not elements.sigmoid and len(targets):
        msg = f"num_classes is {options.num_classes}, the logits have {elements.logits.shape[1]} classes"
        raise fault(ShapeError, msg, "logits", batch=number)
    if elements.soft or config.label_smoothing:
        _check_num_classes(number, elements.logits.shape[1])
    if elements.soft and config.label_smoothing:
        msg = "label_smoothing is for targets that are classes, and these are soft labels"
        raise fault(InvalidRequestError, msg, "targets", batch=number)
    elements = _with_numeric_targets(config, number, elements, exclude=options.on_invalid == "exclude")
    return _labels_as_places(config, elements)


def _labels_as_places(config: LossConfig, elements: Elements) -> Elements:
    """The labels of rows as places of one label, so that a row can be split; unless each label has its own alpha."""
    if not elements.sigmoid or elements.layout != "rows" or elements.is_plain or isinstance(config.alpha, tuple):
        return elements
    shape = len(elements.logits), 1, -1 if elements.logits.size else elements.logits.shape[1]
    return replace(elements, logits=elements.logits.reshape(shape), targets=elements.targets.reshape(shape))


def _check_num_classes(number: int, num_classes: int) -> None:
    """Check the number of classes of a loss that takes about a dozen float64 for each class of an element."""
    if num_classes > MAX_CLASSES:
        what = f"soft labels and label_smoothing are for at most {MAX_CLASSES} classes"
        raise TooManyElementsError(f"batch {number}: {what}, the logits have {num_classes}")


def _of_statistics(
    config: LossConfig, options: RequestOptions, number: int, batch: Batch, offsets: Array | None
) -> Elements:
    num_classes = options.num_classes if config.weights is None else len(config.weights)
    if options.num_classes not in (None, num_classes):
        msg = f"alpha has {num_classes} weights, num_classes is {options.num_classes}"
        raise fault(ShapeError, msg, "num_classes", detail=msg)
    layout, statistics = options.layout, checked_statistics(config, options, number, batch, num_classes)
    log_odds, targets = statistics["log_odds"], batch.targets
    if config.mode == "sigmoid":
        elements = _sigmoid(config, layout, number, log_odds, targets, offsets)
    else:
        if targets.ndim < 2 if layout == "dense" else targets.ndim != 1:
            msg = f"softmax mode takes log_odds and targets {SOFTMAX_TARGETS[layout]}, got shape {list(targets.shape)}"
            raise fault(ShapeError, msg, "targets", batch=number)
        rows, places = targets.shape[:1], (prod(targets.shape[1:]),) if layout == "dense" else ()
        logits = log_odds.reshape(*rows, 1, *places)
        axes = targets.shape[1:]
        elements = Elements(
            logits,
            targets.reshape(*rows, *places),
            sigmoid=False,
            soft=False,
            offsets=offsets,
            axes=axes,
            shape=targets.shape,
            layout=layout,
            num_classes=num_classes,
        )
    exclude = options.on_invalid == "exclude"
    return with_statistics(config, number, _with_numeric_targets(config, number, elements, exclude=exclude), statistics)


def _offsets(layout: Layout, number: int, batch: Batch) -> Array | None:
    """The offsets of a batch as int64; None for a layout without."""
    offsets = batch.offsets
    if offsets is None and layout != "ragged":
        return None

    def wrong(msg: str) -> ShapeError:
        return fault(ShapeError, msg, "offsets", batch=number)

    if layout != "ragged":
        raise wrong(f"offsets are for the layout ragged, and this request has the layout {layout}")
    if offsets is None:
        raise wrong("the layout ragged needs offsets (N + 1,), the first element of each example")
    return checked_offsets(offsets, len(batch.targets) if batch.targets.ndim else 0, number)


def _softmax(
    config: LossConfig, layout: Layout, number: int, logits: Array, targets: Array, offsets: Array | None
) -> Elements:
    if logits.shape == (0,) and targets.size == 0:
        # JSON has one empty list for every shape.
        logits, targets = logits.reshape(0, len(config.weights or (1, 1))), targets.reshape(0).astype(np.int64)
        return Elements(logits, targets, sigmoid=False, soft=False, offsets=offsets, axes=(), shape=(0,), layout=layout)

    def wrong(msg: str, part: str = "logits") -> ShapeError:
        return fault(ShapeError, msg, part, batch=number)

    if logits.ndim < 3 if layout == "dense" else logits.ndim != 2:
        raise wrong(f"softmax mode takes logits {SOFTMAX_LOGITS[layout]}, got shape {list(logits.shape)}")
    num_classes, shape = logits.shape[1], (logits.shape[0], *logits.shape[2:])
    soft = targets.ndim == logits.ndim and targets.shape == logits.shape
    if not soft and targets.ndim != len(shape):
        raise wrong(f"softmax mode takes targets {SOFTMAX_TARGETS[layout]}, got shape {list(targets.shape)}", "targets")
    if not soft and targets.shape != shape:
        raise wrong(f"logits {list(logits.shape)} do not fit targets {list(targets.shape)}", "targets")
    if num_classes < 2:
        raise wrong(f"softmax mode needs at least 2 classes, the logits have {num_classes}")
    if config.weights is not None and len(config.weights) != num_classes:
        raise wrong(f"alpha has {len(config.weights)} weights, the logits {num_classes} classes")
    if layout == "dense":
        places = prod(shape[1:])
        logits = logits.reshape(shape[0], num_classes, places)
        targets = targets.reshape(logits.shape if soft else (shape[0], places))
    return Elements(
        logits, targets, sigmoid=False, soft=soft, offsets=offsets, axes=shape[1:], shape=shape, layout=layout
    )


def _sigmoid(
    config: LossConfig, layout: Layout, number: int, logits: Array, targets: Array, offsets: Array | None
) -> Elements:
    def wrong(msg: str, part: str = "logits") -> ShapeError:
        return fault(ShapeError, msg, part, batch=number)

    empty = logits.shape == (0,) and targets.size == 0
    for part, values in (("logits", logits), ("targets", targets)):
        if (values.ndim < 2 and not empty) if layout == "dense" else values.ndim not in (1, 2):
            raise wrong(f"sigmoid mode takes {part} {SIGMOID[layout]}, got shape {list(values.shape)}", part)
    shape = targets.shape
    if logits.ndim == 1:
        # JSON has one empty list for every number of labels.
        labels_of_empty = len(config.alpha) if isinstance(config.alpha, tuple) and empty else 1
        logits = logits.reshape(len(logits), labels_of_empty)
    elif layout == "dense" and _has_no_labels(config, logits, targets):
        logits = logits[:, np.newaxis]
    if logits.shape[1] == 1 or not len(targets):
        # One label needs no axis of labels.
        fits = targets.ndim == logits.ndim - 1 and targets.shape == (len(logits), *logits.shape[2:])
        targets = targets.reshape(logits.shape) if fits or not (targets.size or logits.size) else targets
    if logits.shape != targets.shape:
        raise wrong(f"logits {list(logits.shape)} and targets {list(shape)} differ in sigmoid mode", "targets")
    labels = logits.shape[1]
    if labels < 1:
        raise wrong("sigmoid mode needs at least one label, the logits have none")
    if isinstance(config.alpha, tuple) and len(config.alpha) != labels:
        raise wrong(f"alpha has {len(config.alpha)} values, the logits {labels} labels")
    if layout == "dense":
        flat = (len(logits), labels, prod(logits.shape[2:]))
        logits, targets = logits.reshape(flat), targets.reshape(flat)
    return Elements(
        logits, targets, sigmoid=True, soft=False, offsets=offsets, axes=shape[1:], shape=shape, layout=layout
    )


def _has_no_labels(config: LossConfig, logits: Array, targets: Array) -> bool:
    """True for dense logits without an axis of labels: (N, d1), and three axes, which are binary masks (N, H, W).

    Three axes are (N, L, d1) only if alpha is a list for several labels; four or more always have labels on axis 1.
    """
    has_labels = isinstance(config.alpha, tuple) and len(config.alpha) > 1
    is_mask = logits.ndim == targets.ndim == 3 and not has_labels
    return logits.ndim == 2 or is_mask


def _with_numeric_targets(config: LossConfig, number: int, elements: Elements, *, exclude: bool) -> Elements:
    targets = elements.targets
    if elements.layout == "rows" and not elements.soft:
        numbers = numeric_targets(targets, number, config.mode, exclude=exclude)
    else:
        convert = number_labels if elements.sigmoid or elements.soft else class_labels
        try:
            numbers = convert(targets.reshape(-1), exclude=exclude).reshape(targets.shape)
        except LabelError as err:
            raise _label_fault(err, number, elements) from err
    if elements.soft and numbers.dtype.kind in "iu":
        # One-hot labels.
        numbers = numbers.astype(np.float32)
    return elements if numbers is targets else replace(elements, targets=numbers)


def _label_fault(err: LabelError, number: int, elements: Elements) -> InvalidTargetError:
    """The error that names the element of a target, whose place in the flat targets `err` has."""
    column, element = None, err.row
    if elements.soft:
        rows, columns, *_ = elements.targets.shape
        row, column, place = map(int, np.unravel_index(err.row, (rows, columns, elements.per_row)))
        element = row * elements.per_row + place
    example, index = elements.place(element)
    return fault(InvalidTargetError, err.msg, "targets", batch=number, row=example, element=index, column=column)
