"""The self-check of the kernels, and that a kernel which fails it is not used; in Triton's interpreter or on a GPU."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from service.compute import device as compute_device
from service.compute.device import Device
from service.compute.transfer import HostTransfer
from service.loss import formula
from service.loss.focal import FocalLoss
from service.loss.formula import Moments, SoftmaxStatistics
from service.loss.kernels import choose, self_check
from service.loss.kernels import cpu as fused_cpu
from service.loss.kernels import cuda as fused_cuda
from service.loss.kernels.self_check import Case, KernelCheck, batch, check_cpu, check_kernel, check_triton
from service.loss.scores import score

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
CASES = [Case(2), Case(7, shifted=True)]
DTYPES = [str(dtype).removeprefix("torch.") for dtype in self_check.DTYPES]

# numpy, which the interpreter computes with, warns of infinities where a GPU does not.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.slow
def test_every_kernel_passes_for_every_dtype() -> None:
    checks = check_triton(DEVICE)
    assert [(check.kernel, check.dtype) for check in checks] == [
        (kernel, dtype) for dtype in DTYPES for kernel in (fused_cuda.NARROW, fused_cuda.WIDE, fused_cuda.DENSE)
    ]
    for check in checks:
        assert check.ok, check
        assert check.message == ""
        assert check.largest_error is not None
        assert check.largest_error < (1e-12 if check.dtype == "float64" else 3e-6)


def test_the_cpu_kernel_passes_for_every_dtype() -> None:
    checks = check_cpu()
    assert [check.dtype for check in checks] == DTYPES
    assert all(check.ok for check in checks), checks


@pytest.mark.parametrize("dtype", self_check.DTYPES)
@pytest.mark.parametrize("num_classes", [2, 7, 5001])
def test_the_batch_has_the_rows_that_go_wrong(num_classes: int, dtype: torch.dtype) -> None:
    descriptions, logits, targets = batch(Case(num_classes), dtype)
    assert logits.dtype == dtype
    assert logits.shape == (len(descriptions), num_classes)
    assert ((targets >= 0) & (targets < num_classes)).all()
    valid = formula.softmax_statistics(logits, targets).valid
    expected = [not name.startswith(("NaN", "+inf", "-inf at", "-inf in all classes")) for name in descriptions]
    expected[descriptions.index("-inf in all classes but the target")] = True
    assert valid.tolist() == expected
    assert logits[descriptions.index("logits of 1e4")].abs().max().item() == pytest.approx(1e4, rel=0.01)


def test_a_shifted_case_is_not_aligned() -> None:
    seen: list[Tensor] = []

    def kernel(logits: Tensor, targets: Tensor, **flags: bool) -> SoftmaxStatistics:
        seen.append(logits)
        return formula.softmax_statistics(logits, targets, **flags)

    check_kernel("plain", kernel, torch.float32, "cpu", [Case(7), Case(7, shifted=True)])
    aligned, shifted = seen
    assert torch.equal(aligned, shifted) or aligned.isnan().any()
    assert (aligned.data_ptr() % 16, shifted.data_ptr() % 16) == (0, 4)


def wrong(change: Callable[[SoftmaxStatistics], SoftmaxStatistics]) -> Callable[..., SoftmaxStatistics]:
    """The plain implementation with a fault."""

    def kernel(logits: Tensor, targets: Tensor, **flags: bool) -> SoftmaxStatistics:
        return change(formula.softmax_statistics(logits, targets, **flags))

    return kernel


def first_row(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    changed[0] = value
    return changed


def changed_moments(row: SoftmaxStatistics) -> SoftmaxStatistics:
    assert row.moments is not None
    return row._replace(moments=Moments(row.moments.squared, row.moments.entropy + 1e-3))


def changed_prediction(row: SoftmaxStatistics) -> SoftmaxStatistics:
    assert row.prediction is not None
    return row._replace(prediction=first_row(row.prediction, -1))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda row: row._replace(logit_margin=row.logit_margin + 1e-3), 1e-3, "the logit margin differs by 0.001"),
        (lambda row: row._replace(log_others=first_row(row.log_others, math.nan)), math.inf, "the log of the sum"),
        (lambda row: row._replace(valid=row.valid | True), math.inf, "valid rows differs by inf in a row with NaN"),
        (lambda row: row._replace(valid=first_row(row.valid, False)), math.inf, "valid rows differs by inf"),
        (changed_prediction, math.inf, "the predicted class differs"),
        (changed_moments, 1e-3, "the entropy differs by 0.001"),
    ],
)
def test_a_wrong_kernel_fails(
    change: Callable[[SoftmaxStatistics], SoftmaxStatistics], error: float, message: str
) -> None:
    check = check_kernel("softmax", wrong(change), torch.float32, "cpu", CASES)
    assert (check.kernel, check.dtype, check.ok) == ("softmax", "float32", False)
    assert check.largest_error == pytest.approx(error, rel=0.01)
    assert message in check.message
    assert "(2 classes)" in check.message


def test_a_kernel_that_raises_fails() -> None:
    def kernel(*_: Any, **__: Any) -> SoftmaxStatistics:
        raise RuntimeError("Failed to find C compiler.\n  Please specify")

    check = check_kernel("softmax", kernel, torch.bfloat16, "cpu", CASES)
    message = "RuntimeError: Failed to find C compiler. Please specify"
    assert check == KernelCheck("softmax", "bfloat16", False, None, message)


def test_without_triton_there_is_one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    import service.loss.kernels

    monkeypatch.delattr(service.loss.kernels, "cuda")
    monkeypatch.setitem(sys.modules, "service.loss.kernels.cuda", None)
    (check,) = check_triton("cpu")
    assert (check.kernel, check.ok) == ("all Triton kernels", False)
    assert "ModuleNotFoundError" in check.message


class TestChoice:
    """A CPU tensor stands in for one on CUDA: `is_cuda` is always True."""

    @pytest.fixture(autouse=True)
    def on_cuda(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(Tensor, "is_cuda", property(lambda tensor: True))
        monkeypatch.setattr(fused_cpu, "supports", lambda logits: False)
        monkeypatch.setattr(choose, "fits_cpu_kernel", lambda logits: False)
        monkeypatch.setattr(choose, "_no_kernel", type(choose._no_kernel)())
        monkeypatch.setattr(choose, "_failed", set())
        choose.check_kernels.cache_clear()
        yield
        choose.check_kernels.cache_clear()

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
        """Replace the kernels by the plain implementation, wrong for float16 and raising for wide bfloat16."""
        calls: list[torch.dtype] = []

        def kernels(logits: Tensor, targets: Tensor, **flags: bool) -> SoftmaxStatistics:
            calls.append(logits.dtype)
            if logits.dtype == torch.bfloat16 and logits.shape[1] > 4096:
                raise RuntimeError("out of resource: shared memory")
            row = formula.softmax_statistics(logits, targets, **flags)
            return row._replace(logit_margin=row.logit_margin + 1) if logits.dtype == torch.float16 else row

        monkeypatch.setattr(fused_cuda, "softmax_statistics", kernels)
        return calls

    def test_kernels_that_fail_are_named_in_one_warning_and_not_used(
        self, calls: list[torch.dtype], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            checks = choose.check_kernels("cpu")
            again = choose.check_kernels("cpu")
        assert again is checks
        failed = [f"{check.kernel} {check.dtype}" for check in checks if not check.ok]
        half = [f"softmax {kind} float16" for kind in ("narrow", "wide", "dense")]
        assert failed == [*half, "softmax wide bfloat16"]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        failures = arguments_of(caplog.records[0])[1]
        assert [line.partition(":")[0] for line in failures] == failed
        assert "the logit margin differs by 1 in a row with " in failures[0]
        assert failures[3].endswith("RuntimeError: out of resource: shared memory")

        calls.clear()
        caplog.clear()
        with caplog.at_level(logging.INFO):
            for dtype, num_classes in [
                (torch.float16, 10),
                (torch.float16, 5000),
                (torch.bfloat16, 5000),
                (torch.bfloat16, 10),
                (torch.float32, 5000),
            ]:
                logits, targets = torch.randn(4, num_classes).to(dtype), torch.tensor([0, 1, -100, num_classes])
                scores = score(FocalLoss(device="cpu"), logits, targets, ["log_odds", "prediction"])
                plain = formula.softmax_statistics(logits[:2], targets[:2], prediction=True)
                assert scores.outputs["log_odds"][:2].tolist() == plain.log_odds.tolist()
                assert plain.prediction is not None
                assert scores.outputs["prediction"].tolist() == [*plain.prediction.tolist(), -1, -1]
        assert calls == [torch.bfloat16, torch.float32]
        assert caplog.records == []

    @pytest.mark.parametrize("missing", [False, True])
    def test_where_no_kernel_works_there_is_still_one_warning(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: bool
    ) -> None:
        def failing(*_: Any, **__: bool) -> None:
            raise RuntimeError("Failed to find C compiler")

        monkeypatch.setattr(fused_cuda, "_launch", failing)
        if missing:
            monkeypatch.delattr(sys.modules["service.loss.kernels"], "cuda")
            monkeypatch.setitem(sys.modules, "service.loss.kernels.cuda", None)
        logits, targets = torch.randn(4, 10), torch.zeros(4, dtype=torch.int64)
        with caplog.at_level(logging.INFO):
            choose.check_kernels("cpu")
            row = choose.softmax_statistics(logits, targets)
        assert torch.equal(row.log_odds, formula.softmax_statistics(logits, targets).log_odds)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert len(arguments_of(caplog.records[0])[1]) == 1

    def test_kernels_that_pass_are_used(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(
            choose, "check_triton", lambda device: (KernelCheck("softmax wide", "float32", True, 0, ""),)
        )
        with caplog.at_level(logging.INFO):
            choose.check_kernels("cpu")
        assert [record.levelname for record in caplog.records] == ["INFO"]
        assert "passed their self-check on cpu" in caplog.text
        assert choose._failed == set()


def arguments_of(record: logging.LogRecord) -> tuple[Any, ...]:
    assert isinstance(record.args, tuple)
    return record.args


def test_a_device_on_cuda_checks_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    monkeypatch.setattr(compute_device, "transfer_factory", lambda device: HostTransfer)
    monkeypatch.setattr(compute_device, "check_kernels", devices.append)
    for device in ("cuda:1", "cpu"):
        Device(device)
    assert devices == ["cuda:1"]
