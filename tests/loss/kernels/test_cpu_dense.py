"""The CPU kernel on dense logits (N, C, S): equal to that on their rows, and without a copy of the logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from service.loss.focal import focal_loss
from service.loss.kernels import cpu as fused_cpu
from service.loss.kernels.cpu import FusedScores, FusedSums, score_rows, sum_rows
from service.loss.kernels.cpu_llvm import LANES
from service.loss.kernels.cpu_rows import SHORT_ROW
from service.loss.row_state import RowState
from tests.loss.samples import DTYPES, random_batch, random_rows

INF, NAN = float("inf"), float("nan")


def score_elements(logits: Tensor, targets: Tensor, gamma: float = 2.0, weights: Tensor | None = None) -> FusedScores:
    return score_rows(logits, targets, gamma, weights, -100, statistics=True, prediction=True, moments=True)


@pytest.mark.parametrize(
    "shape",
    [(1, 2, 64), (2, 5, 7), (3, 21, 64), (1, 4, 200), (70, 3, 1), (5, 128, 33), (3, 129, 70), (1, 1000, 65)],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_equal_those_of_rows(dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    examples, classes, elements = shape
    rows, targets = random_rows(examples * elements, classes, dtype)
    rows[3, 1], rows[4], rows[5, :-1], targets[6], targets[-1] = NAN, 2, -INF, -100, classes
    dense = rows.reshape(examples, elements, classes).transpose(1, 2).contiguous()
    weights = torch.linspace(0.5, 2, classes, dtype=torch.float64)
    ours = score_elements(dense, targets.reshape(examples, elements), 2.0, weights)
    expected = score_elements(rows, targets, 2.0, weights)
    # The classes of a wide element are added in another order than those of a long row.
    rtol = 0 if classes <= SHORT_ROW else 1e-12 if dtype == torch.float64 else 3e-6
    counted = expected.state == RowState.COUNTED
    assert np.array_equal(ours.state, expected.state)
    for name in ("loss", "alpha_t", "log_loss"):
        pair = getattr(ours, name)[counted], getattr(expected, name)[counted]
        np.testing.assert_allclose(*pair, rtol=rtol, atol=rtol, err_msg=name)
    assert ours.statistics is not None
    assert expected.statistics is not None
    assert torch.equal(ours.statistics.prediction[counted], expected.statistics.prediction[counted])  # type: ignore[index]
    for name in ("logit_margin", "log_others"):
        pair = getattr(ours.statistics, name)[counted], getattr(expected.statistics, name)[counted]
        torch.testing.assert_close(*pair, rtol=rtol, atol=rtol)
    torch.testing.assert_close(
        torch.stack(ours.statistics.moments)[:, counted],  # type: ignore[arg-type]
        torch.stack(expected.statistics.moments)[:, counted],  # type: ignore[arg-type]
        rtol=4 * rtol,
        atol=4 * rtol,
    )


@pytest.mark.parametrize("classes", [7, 200])
def test_neither_threads_nor_the_dtype_of_targets_change_a_bit(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, targets = random_rows(3 * 333, classes)
    dense, labels = rows.reshape(3, classes, 333), targets.reshape(3, 333)
    alone, scores = sum_rows(dense, labels, 2.0, None, None), score_elements(dense, labels)
    monkeypatch.setattr(fused_cpu, "THREAD_ELEMENTS", 1)
    monkeypatch.setattr(fused_cpu, "CONVERTED_TARGETS", LANES)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for narrow in (torch.uint8, torch.int16, torch.int32, torch.int64):
        assert sum_rows(dense, labels.to(narrow), 2.0, None, None) == alone
        assert np.array_equal(score_elements(dense, labels.to(narrow)).loss, scores.loss)


@pytest.mark.parametrize("classes", [5, 150])
def test_a_part_of_each_class(classes: int) -> None:
    rows, targets = random_rows(3 * 300, classes)
    dense, labels = rows.reshape(3, 300, classes).transpose(1, 2).contiguous(), targets.reshape(3, 300)
    whole = score_elements(dense, labels).loss.reshape(3, 300)
    for examples, elements in (
        (slice(0, 3), slice(7, 300)),
        (slice(2, 3), slice(0, 299)),
        (slice(0, 3, 2), slice(1, 9)),
        (slice(1, 3), slice(298, 300)),
    ):
        part = score_elements(dense[examples, :, elements], labels[examples, elements])
        assert np.array_equal(part.loss, whole[examples, elements].reshape(-1))


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 3, 0)])
def test_no_elements(shape: tuple[int, int, int]) -> None:
    logits, targets = torch.zeros(shape), torch.zeros(shape[0], shape[2], dtype=torch.int64)
    assert sum_rows(logits, targets, 2.0, None, None) == (0, 0, 0, 0)
    assert len(score_elements(logits, targets).loss) == 0


def test_logits_with_contiguous_elements_or_classes_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = torch.randn(2, 5, 8, 16), torch.zeros(2, 8, 16, dtype=torch.int64)
    read: list[tuple[int, int]] = []

    def kernel(matrix: Any, classes: int, per_example: int, *_: Any) -> None:
        read.append((matrix.ctypes.data, per_example))

    monkeypatch.setattr(fused_cpu.cpu_kernel, "score_rows", kernel)
    monkeypatch.setattr(fused_cpu, "FusedSums", lambda *_: FusedSums(0, 0, 0, 0))
    last = logits.to(memory_format=torch.channels_last)
    for x in (logits, last, logits.transpose(2, 3).contiguous().transpose(2, 3)):
        focal_loss(x, targets)
    assert read[:2] == [(logits.data_ptr(), 128), (last.data_ptr(), 0)]
    parts = [logits.flatten(2)[:, :, 3:70], logits.flatten(2)[1:, :, 64:], last.flatten(2)[1:, :, 5:]]
    for x in parts:
        sum_rows(x, torch.zeros(len(x), x.shape[2], dtype=torch.int64), 2.0, None, None)
    assert read[3:] == [(parts[0].data_ptr(), 67), (parts[1].data_ptr(), 64), (parts[2].data_ptr(), 0)]


@pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 5, 4, 6), (1, 3, 2, 3, 4)])
def test_the_module_equals_the_plain_implementation(shape: tuple[int, ...], reduction: Any) -> None:
    logits, targets = random_batch(*shape)
    targets[0, 0] = -100
    options: dict[str, Any] = {"alpha": list(range(1, shape[1] + 1)), "reduction": reduction}
    # If a gradient is needed, the plain implementation is used.
    plain = focal_loss(logits.clone().requires_grad_(), targets, **options).detach()
    channels_last = logits.movedim(1, -1).contiguous().movedim(-1, 1)
    strided = logits.repeat_interleave(2, -1)[..., ::2]
    for layout in (logits, channels_last, strided):
        torch.testing.assert_close(focal_loss(layout, targets, **options), plain, rtol=1e-9, atol=0)


def test_a_bad_target_is_named_by_its_position() -> None:
    targets = torch.zeros(2, 4, 5, dtype=torch.uint8)
    targets[1, 2, 3] = 255
    with pytest.raises(ValueError, match=r"position \(1, 2, 3\): target 255 is outside \[0, 3\)"):
        focal_loss(torch.zeros(2, 3, 4, 5), targets)
    assert focal_loss(torch.zeros(2, 3, 4, 5), targets, ignore_index=255).isfinite()
