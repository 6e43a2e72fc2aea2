"""Self-check: a kernel against the plain implementation, on a small fixed batch of every dtype.

Each batch has ordinary rows and the rows on which kernels go wrong: NaN, infinities, masked classes, logits of 1e4,
ties, and targets that do not count. A kernel passes if it agrees with `service.loss.formula` in every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from service.loss import formula
from service.loss.formula import Moments, SoftmaxStatistics

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Largest difference, relative to the value where it exceeds 1, by the dtype that the kernel computes in. Correct
# kernels stay below 3e-6 and 3e-12 (tests/loss); the margin allows for the exponential of a GPU.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
IGNORED_TARGET = -100

Kernel = Callable[..., SoftmaxStatistics]


@dataclass(frozen=True)
class KernelCheck:
    """Result of the self-check of one kernel for one dtype.

    Args:
        kernel: Name of the kernel, e.g. `softmax wide`.
        dtype: Dtype of the logits, e.g. `float16`.
        ok: True if the kernel agrees with the plain implementation.
        largest_error: Largest difference in valid rows, relative where the value exceeds 1; None if the kernel raised.
        message: The first disagreement, or the exception; empty if `ok`.
    """

    kernel: str
    dtype: str
    ok: bool
    largest_error: float | None
    message: str


class Case(NamedTuple):
    """One batch to check a kernel on.

    Args:
        num_classes: C.
        everything: Also compute the prediction and the moments.
        shifted: Begin each row one element into a wider row: it is then not aligned to 16 bytes.
        elements: Size of the examples that the rows are in dense logits (examples, C, elements); None: rows (N, C).
    """

    num_classes: int
    everything: bool = True
    shifted: bool = False
    elements: int | None = None


# Examples whose elements fill most lanes, aligned to 16 bytes or not, and examples of few elements.
DENSE_CASES = (Case(21, elements=480), Case(7, everything=False, elements=477), Case(150, elements=9))


def check_triton(device: str) -> tuple[KernelCheck, ...]:
    """Check every Triton kernel on a device: `cuda:N`, or `cpu` in Triton's interpreter.

    The kernels are compiled for this (36 variants) unless Triton's cache has them.

    Returns:
        One result for each kernel and dtype. If Triton cannot be imported, one failure for all of them.
    """
    try:
        from service.loss.kernels import cuda
    except Exception as err:  # a missing package, or a driver library that does not load
        return (KernelCheck("all Triton kernels", "all dtypes", False, None, _error_text(err)),)
    checks = []
    for dtype in DTYPES:
        block = cuda.wide_block(dtype)
        narrow = [Case(2), Case(7, shifted=True), Case(1000), Case(1000, everything=False)]
        wide = [Case(2 * block + 3), Case(5 * block, everything=False)]
        checks.append(check_kernel(cuda.NARROW, cuda.softmax_statistics, dtype, device, narrow))
        checks.append(check_kernel(cuda.WIDE, cuda.softmax_statistics, dtype, device, wide))
        checks.append(check_kernel(cuda.DENSE, cuda.softmax_statistics, dtype, device, DENSE_CASES))
    return tuple(checks)


def check_cpu() -> tuple[KernelCheck, ...]:
    """Compile the CPU kernel unless it is cached, and check it: one result for each dtype."""
    from service.loss.kernels import cpu

    def statistics(logits: Tensor, targets: Tensor, *, prediction: bool, moments: bool) -> SoftmaxStatistics:
        result = cpu.score_rows(
            logits, targets, 2.0, None, None, statistics=True, prediction=prediction, moments=moments
        ).statistics
        assert result is not None
        return result

    cases = [Case(2), Case(7, shifted=True), Case(1000), Case(5001, everything=False), *DENSE_CASES]
    return tuple(check_kernel("softmax", statistics, dtype, "cpu", cases) for dtype in DTYPES)


def check_kernel(name: str, kernel: Kernel, dtype: torch.dtype, device: str, cases: Sequence[Case]) -> KernelCheck:
    """Run a kernel on a batch for each case and compare it with the plain implementation.

    Args:
        name: Name of the kernel in the result.
        kernel: Has the arguments of `formula.softmax_statistics`.
        dtype: Dtype of the logits.
        device: Device of the logits and targets.
        cases: The batches.
    """
    dtype_name = str(dtype).removeprefix("torch.")
    tolerance = TOLERANCES[torch.float64 if dtype == torch.float64 else torch.float32]
    largest, message = 0.0, ""
    try:
        for case in cases:
            descriptions, logits, targets = _whole_examples(case, *batch(case, dtype))
            result = _run(kernel, case, logits, targets, device)
            for error, row, statistic in _differences(result, logits, targets):
                largest = max(largest, error)
                if error > tolerance and not message:
                    row_text = f"a row with {descriptions[row]} ({case.num_classes} classes)"
                    message = f"{statistic} differs by {error:.3g} in {row_text}"
    except Exception as err:  # Triton has no common class for its exceptions; a wrong kernel can raise anything
        return KernelCheck(name, dtype_name, False, None, _error_text(err))
    return KernelCheck(name, dtype_name, not message, largest, message)


def batch(case: Case, dtype: torch.dtype) -> tuple[list[str], Tensor, Tensor]:
    """The fixed batch of a case.

    Returns:
        A description of each row; logits (N, C) and targets (N,) int64 in [0, C) on the CPU. Targets that
        are ignored or out of range are replaced by 0, as `service.loss.scores` does before it calls a kernel.
    """
    num_classes = case.num_classes
    target, other = num_classes - 1, 0
    special: list[tuple[str, Callable[[Tensor], None], int]] = [
        ("ordinary logits", lambda row: None, 0),
        ("ordinary logits", lambda row: None, num_classes // 2),
        ("ordinary logits", lambda row: None, target),
        ("logits of 1e4", lambda row: _set(row, slice(None), row.sign() * 1e4), target),
        ("an offset of 1e4", lambda row: _set(row, slice(None), row + 1e4), target),
        ("an offset of -1e4", lambda row: _set(row, slice(None), row - 1e4), target),
        ("equal logits", lambda row: _set(row, slice(None), 1.0), target),
        ("NaN at the target", lambda row: _set(row, target, math.nan), target),
        ("NaN off the target", lambda row: _set(row, other, math.nan), target),
        ("+inf at the target", lambda row: _set(row, target, math.inf), target),
        ("+inf off the target", lambda row: _set(row, other, math.inf), target),
        ("-inf at the target", lambda row: _set(row, target, -math.inf), target),
        ("-inf off the target", lambda row: _set(row, other, -math.inf), target),
        ("-inf off the target, in most classes", lambda row: _set(row, slice(0, -2), -math.inf), target),
        ("-inf in all classes but the target", lambda row: _set(row, slice(0, -1), -math.inf), target),
        ("-inf in all classes", lambda row: _set(row, slice(None), -math.inf), target),
        ("an ignored target", lambda row: None, IGNORED_TARGET),
        ("a target out of range", lambda row: None, num_classes),
    ]
    generator = torch.Generator().manual_seed(num_classes)
    logits = torch.randn(len(special), num_classes, generator=generator, dtype=torch.float64) * 5
    for row, (_, change, _) in zip(logits, special, strict=True):
        change(row)
    targets = torch.tensor([target for _, _, target in special])
    valid_targets = targets.masked_fill((targets < 0) | (targets >= num_classes), 0)
    return [name for name, _, _ in special], logits.to(dtype), valid_targets


def _set(row: Tensor, columns: int | slice, value: float | Tensor) -> None:
    row[columns] = value


def _whole_examples(
    case: Case, descriptions: list[str], logits: Tensor, targets: Tensor
) -> tuple[list[str], Tensor, Tensor]:
    """The rows of a batch, repeated until they fill the examples of a case with dense logits."""
    repeats = 1 if case.elements is None else math.lcm(len(logits), case.elements) // len(logits)
    return descriptions * repeats, logits.repeat(repeats, 1), targets.repeat(repeats)


def _run(kernel: Kernel, case: Case, logits: Tensor, targets: Tensor, device: str) -> SoftmaxStatistics:
    """The statistics of the rows, on the host."""
    row = kernel(*_on_device(case, logits, targets, device), prediction=case.everything, moments=case.everything)

    def rows(tensor: Tensor) -> Tensor:
        return tensor.reshape(-1).cpu()

    return SoftmaxStatistics(
        rows(row.logit_margin),
        rows(row.log_others),
        rows(row.valid),
        None if row.prediction is None else rows(row.prediction),
        None if row.moments is None else Moments(*map(rows, row.moments)),
    )


def _on_device(case: Case, logits: Tensor, targets: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """The rows and targets in the layout of the case."""
    if case.elements is not None:
        dense = logits.reshape(-1, case.elements, case.num_classes).transpose(1, 2).contiguous()
        return dense.to(device), targets.reshape(-1, case.elements).to(device)
    if not case.shifted:
        return logits.to(device), targets.to(device)
    wider = torch.zeros(len(logits), case.num_classes + 1, dtype=logits.dtype, device=device)
    wider[:, 1:] = logits.to(device)
    return wider[:, 1:], targets.to(device)


def _differences(result: SoftmaxStatistics, logits: Tensor, targets: Tensor) -> Iterator[tuple[float, int, str]]:
    """The largest difference of each statistic, its row and its name; wrong flags and classes differ by infinity."""
    plain = formula.softmax_statistics(
        logits.double(), targets, prediction=result.prediction is not None, moments=result.moments is not None
    )
    # In float64 the difference of two float32 logits cannot overflow, so validity is checked in the dtype itself.
    valid = formula.softmax_statistics(logits, targets).valid
    yield _largest(torch.where(result.valid == valid, 0.0, math.inf), "the mark of valid rows")
    pairs = [("the logit margin", result.logit_margin, plain.logit_margin)]
    pairs.append(("the log of the sum", result.log_others, plain.log_others))
    if result.prediction is not None and plain.prediction is not None:
        wrong = torch.where(result.prediction == plain.prediction, 0.0, math.inf)
        yield _largest(wrong.masked_fill(~valid, 0), "the predicted class")
    if result.moments is not None and plain.moments is not None:
        pairs.append(("the sum of squares", result.moments.squared, plain.moments.squared))
        pairs.append(("the entropy", result.moments.entropy, plain.moments.entropy))
    for name, ours, theirs in pairs:
        error = (ours - theirs).abs() / theirs.abs().clamp(min=1)
        # inf - inf is NaN where both are the same infinity; any other NaN is an error.
        error = torch.where(ours == theirs, 0.0, error).nan_to_num(math.inf, math.inf)
        yield _largest(error.masked_fill(~valid, 0), name)


def _largest(errors: Tensor, name: str) -> tuple[float, int, str]:
    row = int(errors.argmax())
    return float(errors[row]), row, name


def _error_text(err: Exception) -> str:
    return f"{type(err).__name__}: {' '.join(str(err).split())[:300]}"
