"""The implementations of the loss, with a common signature; `tests/loss/properties` tests all of them.

To add an implementation, append it to `IMPLEMENTATIONS`, and declare missing columns and features in `lacks`, with the
reason. Tests that need them are skipped with this reason.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.loss import scores, softmax_scores
from service.loss.arrays import as_array
from service.loss.focal import FocalLoss
from service.loss.kernels.cpu_blocks import STEPS
from service.loss.kernels.cpu_llvm import LANES
from service.loss.kernels.cpu_rows import SHORT_ROW
from service.loss.row_state import BAD_LOGIT, BAD_TARGET, COUNTED, IGNORED
from service.schema.config import LossConfig
from service.schema.request import ELEMENT_OUTPUTS, Batch, LossRequest, RequestOptions

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]
Compute = Callable[[LossConfig, Tensor, Tensor, Sequence[str]], Columns]

# The scores beyond the loss that a request may ask for.
FURTHER = tuple(name for name in ELEMENT_OUTPUTS if name not in ("loss", "contribution"))
# The gradient of the loss of each row with respect to its logits.
COLUMNS = ("state", "loss", "log_loss", "alpha_t", "gradient", *FURTHER)


@dataclass(frozen=True, repr=False)
class Implementation:
    """An implementation of the loss of each row.

    Args:
        name: Used in the ids of tests.
        compute: Function of a configuration, logits (N, C) or (N, L) and targets (N,) or (N, L), both on the CPU, and
            names from `FURTHER`. It returns its columns: state (N,) `RowState`; loss, log_loss and alpha_t (N,);
            gradient (N, C); each further score (N,), prediction (N, L) in sigmoid mode with L > 1. In rows that do
            not count: loss 0, or NaN in bad rows; log_loss -inf, alpha_t 0, prediction -1, other scores NaN.
        lacks: Missing columns and features, with the reason: names of `COLUMNS`, and the features `sigmoid`,
            `several_labels`, `label_smoothing` and `bad_rows`.
        rounds: True if columns are float32 unless the logits are float64; False if they are always float64.
        error: Bound of the absolute error of z = log(p / (1 - p)), from sums in float32.
        widths: Numbers of classes, one for each path through its code.
        shapes: Numbers of rows and classes around which its blocks change.
        slow: True if its tests are marked slow.
        unavailable: Reason why the implementation cannot run on this machine; empty if it can.
    """

    name: str
    compute: Compute
    lacks: Mapping[str, str] = field(default_factory=dict)
    rounds: bool = False
    error: float = 2e-6
    widths: Sequence[int] = (6, 200)
    shapes: Sequence[tuple[int, int]] = ((1, 2), (7, 3), (64, 10), (2, 5001))
    slow: bool = False
    unavailable: str = ""

    def __repr__(self) -> str:
        return self.name

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the name in Hypothesis, which otherwise prints all fields."""
        printer.text(self.name)

    def need(self, *names: str) -> None:
        """Skip the test, with the reason, if the implementation lacks one of these."""
        for name in names:
            if name in self.lacks:
                pytest.skip(f"{self.name} lacks {name}: {self.lacks[name]}")

    def score(self, logits: Tensor, targets: Tensor, outputs: Sequence[str] = FURTHER, **config: Any) -> Columns:
        """The columns of these rows under a configuration of these members."""
        if config.get("mode") == "sigmoid":
            self.need("sigmoid", *(["several_labels"] if logits.shape[1] > 1 else []))
        if config.get("label_smoothing"):
            self.need("label_smoothing")
        return self.compute(LossConfig.parse(config), logits, targets, outputs)


def _by_score(config: LossConfig, logits: Tensor, targets: Tensor, outputs: Sequence[str], device: str) -> Columns:
    module = FocalLoss.from_config(config, device)
    result = scores.score(module, logits.to(device), targets.to(device), outputs)
    columns = {"state": result.state, "loss": result.loss, "log_loss": result.log_loss, "alpha_t": result.alpha_t}
    return columns | result.outputs


def _plain(config: LossConfig, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Columns:
    with patch.object(scores, "is_fused", lambda *_: False):
        return _by_score(config, logits, targets, outputs, "cpu")


def _cpu_kernel(config: LossConfig, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Columns:
    assert scores.is_fused(FocalLoss.from_config(config, "cpu"), logits, targets)
    return _by_score(config, logits, targets, outputs, "cpu")


def _triton(config: LossConfig, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Columns:
    from service.loss.kernels import cuda

    with (
        patch.object(scores, "is_fused", lambda *_: False),
        patch.object(softmax_scores, "softmax_statistics", cuda.softmax_statistics),
        warnings.catch_warnings(),
    ):
        # The interpreter uses numpy, which warns of infinities and NaN; a GPU does not.
        warnings.simplefilter("ignore", RuntimeWarning)
        return _by_score(config, logits, targets, outputs, "cuda" if torch.cuda.is_available() else "cpu")


def _as_dense(compute: Compute) -> Compute:
    """The same implementation for the rows as the elements of one example, with contiguous elements."""

    def compute_dense(config: LossConfig, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Columns:
        if config.mode == "sigmoid":
            targets = targets.T.contiguous()
        return compute(config, logits.T.contiguous().unsqueeze(0), targets.unsqueeze(0), outputs)

    return compute_dense


def _losses(config: LossConfig, logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of each example by the module, which combines several labels to an example only in a reduction."""
    if config.mode == "softmax" or logits.shape[1] == 1:
        module = FocalLoss.from_config(config.model_copy(update={"reduction": "none"}), "cpu")
        return module(logits, targets).reshape(len(logits))  # type: ignore[no-any-return]
    module = FocalLoss.from_config(config.model_copy(update={"reduction": "mean"}), "cpu")
    if not len(logits):
        return module(logits, targets).reshape(1)[:0]  # type: ignore[no-any-return]
    return torch.stack([module(logits[i : i + 1], targets[i : i + 1]) for i in range(len(logits))])


def _module(config: LossConfig, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Columns:
    return {"loss": _losses(config, logits, targets).numpy()}


def _module_autograd(config: LossConfig, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Columns:
    x = logits.detach().requires_grad_()
    loss = _losses(config, x, targets)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return {"loss": loss.detach().numpy(), "gradient": as_array(gradient)}


@cache
def _device() -> Device:
    return Device("cpu")


def _evaluate(config: LossConfig, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Columns:
    """Evaluate a request of three batches, the second of them empty, that excludes bad rows and returns all others."""
    cuts = [0, len(logits) // 3, len(logits) // 3, len(logits)]
    x, y = as_array(logits), as_array(targets)
    batches = tuple(Batch(x[start:stop], y[start:stop]) for start, stop in pairwise(cuts))
    options = RequestOptions.parse({"outputs": ["loss", *outputs], "top_k": len(logits), "on_invalid": "exclude"})
    module = FocalLoss.from_config(config, "cpu")
    result = evaluate(_device(), module, LossRequest(options, batches), Limits(2**40, 2**40))
    columns = {
        name: np.concatenate([batch.per_example[name] for batch in result.batches]) for name in ("loss", *outputs)
    }
    state, log_loss = np.full(len(logits), IGNORED), np.full(len(logits), -np.inf)
    for row in result.hardest:
        position = cuts[row.batch] + row.index
        state[position], log_loss[position] = COUNTED, row.log_loss
    for bad in result.excluded:
        state[cuts[bad.batch] + bad.index] = BAD_TARGET if bad.code == "invalid_target" else BAD_LOGIT
    assert np.count_nonzero(state == IGNORED) == result.num_ignored
    assert np.count_nonzero(state >= BAD_TARGET) == result.num_excluded
    return columns | {"state": state, "log_loss": log_loss}


_NO_AUTOGRAD = {"gradient": "it reports the norm of the gradient only"}
_ONE_LABEL = {"several_labels": "each label is an element; `evaluate` combines those of an example"}
_NOT_OF_THE_MODULE = "the module gives losses only"
_NOT_OF_THE_KERNEL = dict.fromkeys(("sigmoid", "label_smoothing"), "the kernel is for softmax without smoothing")
_MODULE_LACKS = dict.fromkeys(("state", "log_loss", "alpha_t", *FURTHER), _NOT_OF_THE_MODULE) | {
    "bad_rows": "the module raises for a bad target and passes NaN on"
}
_LANE_ROWS = (0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES + 5)
_BLOCK_CLASSES = (2, 3, 10, 63, 64, 65, SHORT_ROW - 1, SHORT_ROW, SHORT_ROW + 1, 1000, LANES * STEPS, LANES * STEPS + 1)

IMPLEMENTATIONS = (
    Implementation("plain", _plain, lacks=_NO_AUTOGRAD | _ONE_LABEL, error=1e-6),
    Implementation(
        "cpu_kernel",
        _cpu_kernel,
        lacks=_NO_AUTOGRAD | _NOT_OF_THE_KERNEL,
        widths=(2, 6, 200, 5001),
        shapes=(
            *((rows, classes) for classes in (5, 300) for rows in _LANE_ROWS),
            *((70, classes) for classes in (*_BLOCK_CLASSES, 5001)),
        ),
    ),
    Implementation(
        "triton",
        _triton,
        lacks=_NO_AUTOGRAD | {"sigmoid": "the kernel is for softmax"},
        error=1e-6,
        # Rows of more than 4096 float32 or 2048 float64 logits are read tile by tile.
        widths=(2, 6, 12_000),
        shapes=(
            *((0, 2), (0, 5000), (1, 2), (7, 3), (33, 10), (1025, 2), (130, 17), (5, 1000), (3, 1024)),
            *((2, 4096), (2, 4097), (2, 8192), (2, 9001), (2, 40_000), (3, 131_072)),
        ),
        # In Triton's interpreter; `tests/loss/kernels/test_cuda.py` has fast tests.
        slow=not torch.cuda.is_available(),
        unavailable="" if importlib.util.find_spec("triton") else "Triton is not installed",
    ),
    Implementation("plain_dense", _as_dense(_plain), lacks=_NO_AUTOGRAD | _ONE_LABEL, error=1e-6, slow=True),
    Implementation(
        "cpu_kernel_dense",
        _as_dense(_cpu_kernel),
        lacks=_NO_AUTOGRAD | _NOT_OF_THE_KERNEL,
        shapes=(
            *((rows, classes) for classes in (5, 300) for rows in _LANE_ROWS),
            *((70, classes) for classes in (2, 10, SHORT_ROW, SHORT_ROW + 1, 1000, 5001)),
        ),
    ),
    Implementation(
        "triton_dense",
        _as_dense(_triton),
        lacks=_NO_AUTOGRAD | {"sigmoid": "the kernel is for softmax"},
        error=1e-6,
        widths=(6,),
        shapes=((0, 2), (1, 2), (33, 7), (128, 8), (129, 17), (1025, 3)),
        slow=True,
        unavailable="" if importlib.util.find_spec("triton") else "Triton is not installed",
    ),
    Implementation(
        "module",
        _module,
        lacks=_MODULE_LACKS | {"gradient": "see module_autograd"},
        rounds=True,
        slow=True,  # `module_autograd` has its losses too.
    ),
    Implementation("module_autograd", _module_autograd, lacks=_MODULE_LACKS, rounds=True, error=1e-6),
    Implementation(
        "evaluate",
        _evaluate,
        lacks=_NO_AUTOGRAD | {"alpha_t": "a result has the sum of alpha_t over a batch"},
        rounds=True,
    ),
)


def _param(implementation: Implementation, *values: Any) -> Any:
    marks = [pytest.mark.slow] if implementation.slow else []
    if implementation.unavailable:
        marks.append(pytest.mark.skip(reason=implementation.unavailable))
    return pytest.param(implementation, *values, id="-".join(map(str, (implementation, *values))), marks=marks)


def every_implementation() -> pytest.MarkDecorator:
    """Run a test for each implementation, as `implementation`."""
    params = [_param(each) for each in IMPLEMENTATIONS]
    return pytest.mark.parametrize("implementation", params)


def every_width() -> pytest.MarkDecorator:
    """Run a test for each of the `widths` of each implementation, as `classes`."""
    params = [_param(each, width) for each in IMPLEMENTATIONS for width in each.widths]
    return pytest.mark.parametrize(("implementation", "classes"), params)


def every_shape() -> pytest.MarkDecorator:
    """Run a test for each of the `shapes` of each implementation, as `rows` and `classes`."""
    params = [_param(each, *shape) for each in IMPLEMENTATIONS for shape in each.shapes]
    return pytest.mark.parametrize(("implementation", "rows", "classes"), params)
