"""Reduces logits to the statistics from which the loss follows, on the device that has them. Needs torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.client.arrays import named_array, numbers_of, package_of, tensor
from service.errors import InvalidTargetError, NeedsLogitsError, ShapeError
from service.formats.input_checks import ROWS_CHECKED, input_warning, unlikely_logits
from service.formats.labels import NO_TARGET
from service.formats.places import place_at
from service.formats.safetensors import Tensor
from service.schema.config import LossConfig, Mode
from service.schema.faults import fault
from service.schema.request import FROM_STATISTIC, STATISTICS, Column, OnInvalid
from service.schema.structure import Layout

# Logits that are reduced at a time, by device: few enough for the copies of a chunk to need little memory.
CHUNK_LOGITS = {"cpu": 2**21, "cuda": 2**26}
FLOAT32_MAX = float(np.finfo(np.float32).max)


def needed_statistics(mode: Mode, outputs: Collection[str]) -> tuple[str, ...]:
    """The statistics that outputs of examples and elements follow from: 4 bytes an element, `prediction` 1 to 4."""
    if mode == "sigmoid":
        # The log-odds of a label give its logit, and so everything else.
        return STATISTICS[:1]
    wanted = {"log_odds", *(FROM_STATISTIC.get(name, name) for name in outputs)}
    return tuple(name for name in STATISTICS if name in wanted)


@dataclass(frozen=True)
class Reducer:
    """Reduces the logits of batches, chunk by chunk and without gradients.

    Args:
        config: Configuration of the loss.
        layout: Layout of the batches.
        statistics: See `needed_statistics`.
        on_invalid: `exclude` to mark targets that are no class as ones that the service leaves out.
    """

    config: LossConfig
    layout: Layout
    statistics: tuple[str, ...]
    on_invalid: OnInvalid = "error"

    def reduce(
        self, logits: Any, targets: Tensor, offsets: Tensor | None, number: int
    ) -> tuple[dict[str, Tensor], int | None]:
        """Return the statistics and the targets of a batch, by part, and the number of classes in softmax mode.

        Args:
            logits: Array, tensor or nested list of numbers; softmax (N, C), (N, C, d1, ...) or (T, C); sigmoid the
                shape of the targets. A torch tensor stays on its device.
            targets: The targets as they would be sent.
            offsets: First element of each ragged example, for messages.
            number: Number of the batch, for messages.

        Raises:
            ImportError: torch is not installed.
            ShapeError: The shapes do not fit each other, the layout or the configuration.
            InvalidTargetError: A target is no class; only the client knows their number.
            NeedsLogitsError: The targets are soft labels, whose loss needs the logits.

        Warns:
            UserWarning: The logits of softmax mode look like probabilities or their negative logarithms.
        """
        _import_torch()
        source, labels = _Source(logits, number), numbers_of(targets)
        if self.config.mode == "sigmoid":
            return {"log_odds": tensor(_sigmoid_log_odds(source, labels, number), "log_odds"), "targets": targets}, None
        self._check_shapes(source.shape, labels.shape, number)
        if (code := unlikely_logits(source.sample(), "softmax")) is not None:
            # The service sees no logits, and cannot warn.
            warnings.warn(f"batch {number}: {input_warning(number, code, 'softmax').message}", stacklevel=2)
        classes, bad = self._classes(labels, source.shape[1])
        if bad.any():
            if self.on_invalid == "error":
                raise self._target_error(labels, int(bad.argmax()), source.shape[1], offsets, number)
            targets = tensor(np.where(bad, NO_TARGET, np.where(bad, 0, labels).astype(np.int64)), "targets")
        arrays = self._softmax(source, classes)
        return {name: tensor(array, name) for name, array in arrays.items()} | {"targets": targets}, source.shape[1]

    def _check_shapes(self, logits: tuple[int, ...], targets: tuple[int, ...], number: int) -> None:
        def wrong(msg: str) -> ShapeError:
            return fault(ShapeError, msg, "logits", batch=number)

        if len(logits) < 3 if self.layout == "dense" else len(logits) != 2:
            raise wrong(f"logits of shape {list(logits)} are not of the layout {self.layout} in softmax mode")
        if targets == logits:
            msg = "the loss of soft labels does not follow from statistics: send the logits, without reduce"
            raise fault(NeedsLogitsError, msg, "targets", batch=number)
        if targets != (logits[0], *logits[2:]):
            raise wrong(f"logits {list(logits)} do not fit targets {list(targets)}")
        if logits[1] < 2:
            raise wrong(f"softmax mode needs at least 2 classes, the logits have {logits[1]}")
        weights = self.config.weights
        if weights is not None and len(weights) != logits[1]:
            raise wrong(f"alpha has {len(weights)} weights, the logits {logits[1]} classes")

    def _classes(self, labels: Column, num_classes: int) -> tuple[Column, Column]:
        """The classes as int64, 0 for those that do not count, and True where a target is no class."""
        is_class = (labels >= 0) & (labels < num_classes)
        if labels.dtype.kind == "f":
            is_class &= labels == np.floor(labels)
        ignore_index = self.config.ignore_index
        counts = np.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
        return np.where(is_class & counts, labels, 0).astype(np.int64), ~is_class & counts

    def _target_error(
        self, labels: Column, position: int, num_classes: int, offsets: Tensor | None, number: int
    ) -> InvalidTargetError:
        ignored = "" if self.config.ignore_index is None else f" and is not ignore_index ({self.config.ignore_index})"
        msg = f"target {labels.flat[position]} is outside [0, {num_classes}){ignored}"
        place = place_at(position, labels.shape, None if offsets is None else numbers_of(offsets))
        return fault(InvalidTargetError, msg, "targets", batch=number, **place)

    def _softmax(self, source: _Source, classes: Column) -> dict[str, Column]:
        """The statistics of the elements, of the shape of the targets."""
        import torch

        from service.loss.kernels.choose import softmax_statistics
        from service.loss.softmax_outputs import NEED_MOMENTS, softmax_outputs

        num_classes = source.shape[1]
        dtypes = {"prediction": np.uint8 if num_classes <= 2**8 else np.min_scalar_type(-num_classes)}
        arrays = {name: np.empty(classes.shape, dtypes.get(name, np.float32)) for name in self.statistics}
        flat = {name: array.reshape(_places(classes.shape)) for name, array in arrays.items()}
        labels, one = classes.reshape(_places(classes.shape)), torch.ones(())
        moments = not NEED_MOMENTS.isdisjoint(self.statistics)
        with torch.no_grad():
            for part, logits in source.chunks():
                target = torch.from_numpy(labels[part]).to(logits.device)
                row = softmax_statistics(logits, target, prediction="prediction" in self.statistics, moments=moments)
                values = softmax_outputs(row, one.to(logits.device), 0.0, num_classes, self.statistics)
                values["log_odds"] = values["log_odds"].masked_fill(~row.valid, math.nan)
                for name, value in values.items():
                    flat[name][part] = (value if name == "prediction" else _float32(value)).cpu().numpy()
        return arrays


def _import_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as err:
        raise ImportError("reduce=True computes with torch: install it, or send the logits without reduce") from err


class _Source:
    """Logits to reduce: a torch tensor on its device, or a numpy array.

    Args:
        logits: See `Reducer.reduce`.
        number: Number of the batch, for messages.
    """

    def __init__(self, logits: Any, number: int) -> None:
        self._is_bfloat16 = False
        if package_of(logits) == "torch":
            self._values = logits.detach()
        else:
            name, self._values = named_array(logits, "logits", number)
            self._is_bfloat16 = name == "bfloat16"
        self.shape = tuple(self._values.shape)

    def chunks(self) -> Iterator[tuple[tuple[slice, ...], Any]]:
        """The parts of (N,) or (N, S) elements, and their logits (n, C) or (n, C, s) as torch tensors."""
        rows, num_classes, *axes = self.shape
        values = self._values.reshape(rows, num_classes, math.prod(axes)) if axes else self._values
        device = getattr(values, "device", None)
        budget = max(1, CHUNK_LOGITS["cuda" if getattr(device, "type", "cpu") == "cuda" else "cpu"] // num_classes)
        places = math.prod(axes)
        for row in range(0, rows, step := max(1, budget // max(1, places))):
            of_rows = slice(row, row + step)
            if not axes:
                yield (of_rows,), self._tensor(values[of_rows])
                continue
            for place in range(0, places, budget):
                of_places = slice(place, place + budget)
                yield (of_rows, of_places), self._tensor(values[of_rows, :, of_places])

    def sample(self) -> Column:
        """The logits of the first elements, (n, C) or (1, C, n) float64."""
        first = self._values[: 1 if len(self.shape) > 2 else ROWS_CHECKED]
        if len(self.shape) > 2:
            first = first.reshape(*first.shape[:2], math.prod(first.shape[2:]))[:, :, :ROWS_CHECKED]
        sample: Column = self._tensor(first).double().cpu().numpy()
        return sample

    def whole(self) -> Any:
        """All logits as one torch tensor."""
        return self._tensor(self._values)

    def _tensor(self, values: Any) -> Any:
        import torch

        if isinstance(values, torch.Tensor):
            # MPS has no float64.
            chunk = values.cpu() if values.device.type == "mps" else values
        elif self._is_bfloat16:
            chunk = torch.from_numpy(np.array(values).view(np.int16)).view(torch.bfloat16)
        else:
            # A copy: the array may be read-only, or have the other byte order.
            chunk = torch.from_numpy(np.array(values, values.dtype.newbyteorder("=")))
        return chunk if chunk.is_floating_point() else chunk.double()


def _float32(values: Any) -> Any:
    """Tensor in float32, in which only infinite values become infinite."""
    import torch

    if values.dtype == torch.float64:
        values = values.where(values.isinf(), values.clamp(-FLOAT32_MAX, FLOAT32_MAX))
    return values.float()


def _places(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(N,) or (N, S) for targets (N,) or (N, d1, ...)."""
    return shape if len(shape) == 1 else (shape[0], math.prod(shape[1:]))


def _sigmoid_log_odds(source: _Source, labels: Column, number: int) -> Column:
    """(2 y - 1) x, in the shape of the targets."""
    shapes = {shape[:1] + shape[2:] if shape[1:2] == (1,) else shape for shape in (source.shape, labels.shape)}
    if len(shapes) > 1:
        msg = f"logits {list(source.shape)} and targets {list(labels.shape)} differ in sigmoid mode"
        raise fault(ShapeError, msg, "targets", batch=number)
    logits: Column = _float32(source.whole()).cpu().numpy().reshape(labels.shape)
    return np.where(labels > 0.5, logits, -logits)
