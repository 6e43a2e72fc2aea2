"""The CPU kernel: sums, threads, memory layouts, compilation, and the inputs that it supports.

`tests/loss/properties` tests its numbers, at every size at which its blocks change.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from numba.core import caching
from torch import Tensor
from torch.autograd import forward_ad

from service.loss.arrays import as_array
from service.loss.focal import FocalLoss, focal_loss
from service.loss.kernels import cpu as fused_cpu
from service.loss.kernels import cpu_rows as cpu_kernel
from service.loss.kernels.choose import can_use_cpu_kernel
from service.loss.kernels.cpu import FusedScores, FusedSums, score_rows, sum_rows
from service.loss.kernels.cpu_llvm import LANES
from service.loss.row_state import RowState
from tests.lanes import mostly_slow
from tests.loss.samples import DTYPES, random_rows

INF, NAN = float("inf"), float("nan")


def score_all(logits: Tensor, targets: Tensor, gamma: float = 2.0, weights: Tensor | None = None) -> FusedScores:
    return score_rows(logits, targets, gamma, weights, -100, statistics=True, prediction=True, moments=True)


class TestRows:
    @pytest.mark.parametrize("classes", [7, 333])
    def test_a_row_does_not_depend_on_other_rows(self, classes: int) -> None:
        logits, targets = random_rows(200, classes)
        whole = score_all(logits, targets)
        for start, stop in ((0, 1), (3, 67), (64, 128), (199, 200)):
            part = score_all(logits[start:stop], targets[start:stop])
            assert np.array_equal(part.loss, whole.loss[start:stop])
            assert np.array_equal(part.log_loss, whole.log_loss[start:stop])

    @pytest.mark.parametrize("classes", [7, 333])
    def test_earlier_calls_change_no_bit(self, classes: int) -> None:
        logits, targets = random_rows(70, classes)
        before = score_all(logits, targets)
        score_all(torch.full_like(logits, NAN), torch.full_like(targets, classes + 1))
        after = score_all(logits[:5], targets[:5])
        assert np.array_equal(after.loss, before.loss[:5])
        assert np.array_equal(after.log_loss, before.log_loss[:5])
        assert np.array_equal(after.state, before.state[:5])

    def test_threads_change_no_bit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        logits, targets = random_rows(1000, 7)
        alone = score_all(logits, targets)
        monkeypatch.setattr(fused_cpu, "THREAD_ELEMENTS", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        together = score_all(logits, targets)
        assert np.array_equal(alone.loss, together.loss)
        assert np.array_equal(alone.state, together.state)
        few = score_all(logits[:65], targets[:65])
        assert np.array_equal(few.loss, alone.loss[:65])

    def test_statistics_are_optional(self) -> None:
        logits, targets = random_rows(10, 4)
        loss_only = score_rows(logits, targets, 2.0, None, None)
        assert loss_only.statistics is None
        assert np.array_equal(loss_only.loss, score_all(logits, targets).loss)
        some = score_rows(logits, targets, 2.0, None, None, statistics=True).statistics
        assert some is not None
        assert some.prediction is None
        assert some.moments is None


def sums_of_scores(logits: Tensor, targets: Tensor, weights: Tensor | None) -> FusedSums:
    """The expected result of `sum_rows`: sums over the rows of `score_rows`."""
    scores = score_rows(logits, targets, 2.0, weights, -100)
    counted = scores.state != RowState.IGNORED
    bad = scores.state == RowState.BAD_TARGET
    return FusedSums(
        scores.loss[counted].sum().item(), scores.alpha_t[counted].sum().item(), int(counted.sum()), int(bad.sum())
    )


class TestSums:
    @pytest.mark.parametrize("rows", [0, 1, LANES - 1, LANES, LANES + 1, 5 * LANES + 3])
    @pytest.mark.parametrize("classes", [2, 5, 300])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_sums_equal_the_sums_of_the_scores(self, dtype: torch.dtype, classes: int, rows: int) -> None:
        logits, targets = random_rows(rows, classes, dtype)
        logits[::3] = NAN
        targets[::3] = -100
        weights = torch.linspace(0, 2, classes, dtype=torch.float64)
        for alphas in (None, weights):
            ours = sum_rows(logits, targets, 2.0, alphas, -100)
            assert ours == pytest.approx(sums_of_scores(logits, targets, alphas), rel=1e-14)
            assert ours.num_counted == rows - len(targets[::3])

    @pytest.mark.parametrize("threads", [2, 3])
    @pytest.mark.parametrize("classes", [7, 200])
    def test_threads_change_no_bit(self, classes: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
        logits, targets = random_rows(999, classes)
        alone = sum_rows(logits, targets, 2.0, None, None)
        monkeypatch.setattr(fused_cpu, "THREAD_ELEMENTS", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        assert sum_rows(logits, targets, 2.0, None, None) == alone

    def test_the_sums_of_ignored_rows_are_zero(self) -> None:
        logits, targets = random_rows(100, 4)
        assert sum_rows(logits, torch.full_like(targets, -100), 2.0, None, -100) == (0, 0, 0, 0)

    def test_ignore_index_can_be_a_class(self) -> None:
        logits, targets = random_rows(100, 4)
        counted = targets != 3
        ours = sum_rows(logits, targets, 2.0, None, 3)
        assert ours == pytest.approx(sum_rows(logits[counted], targets[counted], 2.0, None, None), rel=1e-14)

    @pytest.mark.parametrize("classes", [4, 150])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
    def test_the_error_has_the_first_bad_target(self, reduction: Any, classes: int) -> None:
        logits, targets = random_rows(3 * LANES, classes)
        targets[[LANES + 2, 2 * LANES]] = torch.tensor([classes + 7, -1])
        assert sum_rows(logits, targets, 2.0, None, -100).num_bad_targets == 2
        with pytest.raises(ValueError, match=rf"^row {LANES + 2}: target {classes + 7} is outside \[0, {classes}\)$"):
            focal_loss(logits, targets, reduction=reduction)

    @pytest.mark.parametrize("value", [NAN, INF])
    @pytest.mark.parametrize("reduction", mostly_slow(["mean", "sum", "weighted_mean"], quick=1))
    def test_bad_logits_make_the_sum_nan_unless_their_row_is_ignored(self, reduction: Any, value: float) -> None:
        logits, targets = random_rows(100, 4)
        expected = focal_loss(logits[1:], targets[1:], reduction=reduction)
        logits[0] = value
        assert focal_loss(logits, targets, reduction=reduction).isnan()
        targets[0] = -100
        torch.testing.assert_close(focal_loss(logits, targets, reduction=reduction), expected)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_reductions_equal_those_of_the_plain_implementation(self, dtype: torch.dtype, reduction: Any) -> None:
        logits, targets = random_rows(500, 9, dtype)
        targets[::5] = -100
        options: dict[str, Any] = {"alpha": list(range(1, 10)), "reduction": reduction}
        # If a gradient is needed, the plain implementation is used.
        plain = focal_loss(logits.clone().requires_grad_(), targets, **options)
        torch.testing.assert_close(focal_loss(logits, targets, **options), plain.detach(), rtol=2e-6, atol=0)


class TestInputs:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_array_layouts_and_dtypes_share_one_compiled_kernel(self, dtype: torch.dtype) -> None:
        logits, targets = random_rows(40, 6, dtype)
        expected = score_all(logits, targets).loss
        array = as_array(logits)
        read_only = np.frombuffer(array.tobytes(), array.dtype).reshape(40, 6)
        unaligned = np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1).reshape(40, 6)
        assert not read_only.flags.writeable
        assert not unaligned.flags.aligned
        kernels = len(cpu_kernel.score_rows.signatures)
        score_all(logits.reshape(10, 2, 12), torch.zeros(10, 12, dtype=torch.int32))
        for layout in (array, read_only, unaligned, np.asfortranarray(array), array[::-1][::-1]):
            for narrow in (np.int8, np.uint8, np.int64):
                scores = score_rows(layout, as_array(targets).astype(narrow), 2.0, None, None)
                assert np.array_equal(scores.loss, expected)
        assert len(cpu_kernel.score_rows.signatures) == kernels


class TestSupportedInputs:
    def test_tensors_without_a_gradient_are_supported(self) -> None:
        logits, _ = random_rows(3, 4)
        assert can_use_cpu_kernel(logits)
        assert can_use_cpu_kernel(torch.nn.Parameter(logits, requires_grad=False))
        with torch.no_grad():
            assert can_use_cpu_kernel(logits.clone().requires_grad_())

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
    def test_autograd_functorch_and_tracing_are_not_supported(self) -> None:
        logits, targets = random_rows(3, 4)
        assert not can_use_cpu_kernel(logits.clone().requires_grad_())
        assert not can_use_cpu_kernel(logits.to("meta"))
        assert not can_use_cpu_kernel(logits.to(torch.float8_e4m3fn))

        def loss(x: Tensor) -> Tensor:
            return focal_loss(x, targets)

        gradient = torch.func.grad(loss)(logits)
        ours = logits.clone().requires_grad_()
        loss(ours).backward()
        assert ours.grad is not None
        torch.testing.assert_close(gradient, ours.grad)
        direction = torch.ones_like(logits)
        _, tangent = torch.func.jvp(loss, (logits,), (direction,))
        torch.testing.assert_close(tangent, (gradient * direction).sum(), atol=1e-6, rtol=1e-5)
        with forward_ad.dual_level():
            dual = loss(forward_ad.make_dual(logits, direction))
            torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, tangent)

    @pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
    def test_a_traced_module_can_be_called_with_other_inputs(self) -> None:
        logits, targets = random_rows(5, 4)
        with pytest.warns(torch.jit.TracerWarning):
            traced = torch.jit.trace(FocalLoss(device="cpu", ignore_index=None), (logits, targets), check_trace=False)
        torch.testing.assert_close(traced(-logits, targets), focal_loss(-logits, targets))


FORKED = """
import os, torch
from service.loss.kernels import cpu as fused_cpu
logits, targets = torch.zeros(300, 4), torch.zeros(300, dtype=torch.int64)
fused_cpu.THREAD_ELEMENTS, torch.get_num_threads = 1, lambda: 2
fused_cpu.score_rows(logits, targets, 2.0, None, None)
child = os.fork()
if child == 0:
    fused_cpu.score_rows(logits, targets, 2.0, None, None)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

PEAK = """
import re, torch
from service.loss.focal import focal_loss
def memory(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
for shape in ((262144, 10), (40000, 1000), (2, 21, 512, 512)):
    logits, targets = torch.randn(shape), torch.zeros(shape[:1] + shape[2:], dtype=torch.uint8)
    focal_loss(logits[:1], targets[:1])
    open("/proc/self/clear_refs", "w").write("5")
    before = memory("VmRSS")
    focal_loss(logits, targets)
    print((memory("VmHWM") - before) / logits.nbytes)
"""


def run(program: str) -> str:
    """The standard output of a Python program."""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


class TestProcess:
    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
    def test_a_forked_process_starts_its_own_threads(self) -> None:
        assert run(FORKED) == "7"

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_extra_memory_is_a_small_share_of_the_logits(self) -> None:
        assert max(map(float, run(PEAK).split())) < 0.05

    def test_without_a_writable_directory_kernels_are_compiled_in_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        locators = [value for value in vars(caching).values() if isinstance(value, type)]
        for locator in locators:
            if issubclass(locator, caching._CacheLocator):
                monkeypatch.setattr(locator, "from_function", classmethod(lambda cls, *args: None))
        with pytest.raises(RuntimeError, match="no locator"):
            njit(cache=True)(halve)
        assert cpu_kernel.compiled()(halve)(3.0) == 1.5


def halve(x: float) -> float:
    return x / 2
