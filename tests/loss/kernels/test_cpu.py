"""The fused loss of the CPU against the plain formula, at every size at which its blocks change shape."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from service.loss.arrays import as_array
from service.loss.focal import FocalLoss, focal_loss
from service.loss.formula import focal_from_log_odds, log_focal_from_log_odds, softmax_statistics
from service.loss.kernels import cpu as fused_cpu
from service.loss.kernels import cpu_rows as cpu_kernel
from service.loss.kernels.cpu import FusedScores, FusedSums, applies, score_rows, sum_rows
from service.loss.kernels.cpu_rows import LANES, SHORT_ROW, STEPS
from service.loss.row_state import RowState
from tests.loss.samples import DTYPES

INF, NAN = float("inf"), float("nan")
CLASSES = [2, 3, 10, 63, 64, 65, SHORT_ROW - 1, SHORT_ROW, SHORT_ROW + 1, 1000, LANES * STEPS, LANES * STEPS + 1, 5001]


def batch(rows: int, classes: int, dtype: torch.dtype = torch.float32, scale: float = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * 7919 + classes)
    logits = (torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale).to(dtype)
    return logits, torch.randint(0, classes, (rows,), generator=generator)


def everything(logits: Tensor, targets: Tensor, gamma: float = 2.0, weights: Tensor | None = None) -> FusedScores:
    return score_rows(logits, targets, gamma, weights, -100, statistics=True, prediction=True, moments=True)


def assert_plain(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> None:
    """All that is fused equals the plain formula."""
    fused = everything(logits, targets, gamma)
    plain = softmax_statistics(logits, targets, prediction=True, moments=True)
    # A sum of float32 exponentials has a rounding of its own on either side.
    rtol = 1e-12 if logits.dtype == torch.float64 else 2e-6
    row = fused.statistics
    assert row is not None
    assert row.moments is not None
    assert plain.moments is not None
    assert row.prediction is not None
    assert plain.prediction is not None
    assert torch.equal(row.valid, plain.valid)
    ok = plain.valid
    assert torch.equal(row.prediction[ok], plain.prediction[ok])
    assert torch.equal(row.logit_margin[ok], plain.logit_margin[ok])
    near: dict[str, Any] = {"rtol": rtol, "atol": rtol}
    torch.testing.assert_close(row.log_others[ok], plain.log_others[ok], **near)
    torch.testing.assert_close(row.moments.squared[ok], plain.moments.squared[ok], **near)
    torch.testing.assert_close(row.moments.entropy[ok], plain.moments.entropy[ok], rtol=10 * rtol, atol=10 * rtol)
    # What follows z follows it to the last digits.
    z = row.log_odds[ok]
    loss, log_loss = torch.from_numpy(fused.loss)[ok], torch.from_numpy(fused.log_loss)[ok]
    torch.testing.assert_close(loss, focal_from_log_odds(z, gamma), rtol=1e-13, atol=0)
    torch.testing.assert_close(log_loss, log_focal_from_log_odds(z, gamma), rtol=1e-13, atol=1e-15)


class TestAgainstThePlainFormula:
    @pytest.mark.parametrize("classes", CLASSES)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_classes(self, dtype: torch.dtype, classes: int) -> None:
        assert_plain(*batch(70, classes, dtype))

    @pytest.mark.parametrize("rows", [0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES + 5])
    @pytest.mark.parametrize("classes", [5, 300])
    def test_rows(self, rows: int, classes: int) -> None:
        assert_plain(*batch(rows, classes))

    @pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 30.0])
    @pytest.mark.parametrize("scale", [0.01, 1.0, 100.0, 1e4])
    @pytest.mark.parametrize("classes", [4, 200])
    def test_every_gamma_at_every_scale(self, classes: int, scale: float, gamma: float) -> None:
        assert_plain(*batch(130, classes, torch.float64, scale), gamma)
        assert_plain(*batch(130, classes, torch.float32, scale), gamma)

    @pytest.mark.parametrize("classes", [6, 150])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_masked_and_bad_values(self, dtype: torch.dtype, classes: int) -> None:
        logits, _ = batch(12, classes, dtype)
        targets = torch.full((12,), classes - 2)
        logits[0, :3] = -INF
        logits[1, : classes - 2] = -INF
        logits[1, classes - 1] = -INF
        logits[2] = -INF
        logits[3, 1] = NAN
        logits[4, classes - 2] = NAN
        logits[5, 2] = INF
        logits[6, classes - 2] = INF
        logits[7, classes - 2] = -INF
        logits[8, 0] = NAN
        logits[8, 1:] = -INF
        logits[9] = NAN
        logits[10] = 0
        assert_plain(logits, targets)
        state = everything(logits, targets).state.tolist()
        assert state == [0, 0, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0]

    def test_a_difference_past_float64(self) -> None:
        logits = torch.tensor([[1.7e308, -1.7e308], [-1.7e308, 1.7e308]], dtype=torch.float64)
        assert everything(logits, torch.tensor([0, 0])).state.tolist() == [RowState.BAD_LOGIT, RowState.BAD_LOGIT]

    def test_a_nan_of_any_payload_is_found(self) -> None:
        for bits in (0x7FC00000, 0x7FC00001, 0x7F800001, 0x7FFFFFFF, 0xFFC00000, 0xFFFFFFFF):
            for classes in (5, 500):
                values = np.zeros((1, classes), np.float32)
                values.view(np.uint32)[0, 3] = bits
                assert everything(torch.from_numpy(values), torch.tensor([1])).state.tolist() == [RowState.BAD_LOGIT]

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_ties_between_few_values(self, data: st.DataObject) -> None:
        classes = data.draw(st.sampled_from([2, 3, 9, 129, 140]))
        rows = data.draw(st.integers(1, 5))
        size = rows * classes
        values = data.draw(st.lists(st.sampled_from([-1.0, 0.0, 1.0, -INF]), min_size=size, max_size=size))
        targets = data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
        assert_plain(torch.tensor(values).reshape(rows, classes), torch.tensor(targets))


class TestRows:
    def test_targets_ignored_and_out_of_range(self) -> None:
        logits, _ = batch(6, 4)
        logits[1] = NAN
        found = everything(logits, torch.tensor([0, -100, -1, 4, 3, 2**40]))
        assert found.state.tolist() == [0, 1, 2, 2, 0, 2]

    def test_no_target_is_ignored_without_an_index(self) -> None:
        found = score_rows(*batch(2, 3)[:1], torch.tensor([-100, 0]), 2.0, None, None)
        assert found.state.tolist() == [RowState.BAD_TARGET, RowState.COUNTED]

    def test_class_weights(self) -> None:
        logits, targets = batch(100, 5)
        weights = torch.tensor([0.0, 0.5, 1.0, 2.0, 1e-300], dtype=torch.float64)
        plain, weighted = everything(logits, targets), everything(logits, targets, weights=weights)
        alpha_t = weights[targets].numpy()
        np.testing.assert_array_equal(weighted.alpha_t, alpha_t)
        np.testing.assert_allclose(weighted.loss, plain.loss * alpha_t, rtol=1e-15)
        np.testing.assert_allclose(weighted.log_loss, plain.log_loss + weights.log()[targets].numpy())

    @pytest.mark.parametrize("classes", [7, 333])
    def test_a_row_does_not_depend_on_the_rows_beside_it(self, classes: int) -> None:
        logits, targets = batch(200, classes)
        whole = everything(logits, targets)
        for start, stop in ((0, 1), (3, 67), (64, 128), (199, 200)):
            part = everything(logits[start:stop], targets[start:stop])
            assert np.array_equal(part.loss, whole.loss[start:stop])
            assert np.array_equal(part.log_loss, whole.log_loss[start:stop])

    @pytest.mark.parametrize("classes", [7, 333])
    def test_what_the_last_rows_left_behind_changes_no_bit(self, classes: int) -> None:
        logits, targets = batch(70, classes)
        before = everything(logits, targets)
        everything(torch.full_like(logits, NAN), torch.full_like(targets, classes + 1))
        after = everything(logits[:5], targets[:5])
        assert np.array_equal(after.loss, before.loss[:5])
        assert np.array_equal(after.log_loss, before.log_loss[:5])
        assert np.array_equal(after.state, before.state[:5])

    def test_threads_change_no_bit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        logits, targets = batch(1000, 7)
        alone = everything(logits, targets)
        monkeypatch.setattr(fused_cpu, "THREAD_ELEMENTS", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        together = everything(logits, targets)
        assert np.array_equal(alone.loss, together.loss)
        assert np.array_equal(alone.state, together.state)
        few = everything(logits[:65], targets[:65])
        assert np.array_equal(few.loss, alone.loss[:65])

    def test_less_is_computed_where_less_is_asked_for(self) -> None:
        logits, targets = batch(10, 4)
        loss_only = score_rows(logits, targets, 2.0, None, None)
        assert loss_only.statistics is None
        assert np.array_equal(loss_only.loss, everything(logits, targets).loss)
        some = score_rows(logits, targets, 2.0, None, None, statistics=True).statistics
        assert some is not None
        assert some.prediction is None
        assert some.moments is None


def of_rows(logits: Tensor, targets: Tensor, weights: Tensor | None) -> FusedSums:
    """What `sum_rows` is to find, from what `score_rows` says of each row."""
    found = score_rows(logits, targets, 2.0, weights, -100)
    counts = found.state != RowState.IGNORED
    bad = found.state == RowState.BAD_TARGET
    return FusedSums(
        found.loss[counts].sum().item(), found.alpha_t[counts].sum().item(), int(counts.sum()), int(bad.sum())
    )


class TestSums:
    @pytest.mark.parametrize("rows", [0, 1, LANES - 1, LANES, LANES + 1, 5 * LANES + 3])
    @pytest.mark.parametrize("classes", [2, 5, 300])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_they_are_those_of_the_rows(self, dtype: torch.dtype, classes: int, rows: int) -> None:
        logits, targets = batch(rows, classes, dtype)
        logits[::3] = NAN
        targets[::3] = -100
        weights = torch.linspace(0, 2, classes, dtype=torch.float64)
        for alphas in (None, weights):
            ours = sum_rows(logits, targets, 2.0, alphas, -100)
            assert ours == pytest.approx(of_rows(logits, targets, alphas), rel=1e-14)
            assert ours.num_counted == rows - len(targets[::3])

    @pytest.mark.parametrize("threads", [2, 3])
    @pytest.mark.parametrize("classes", [7, 200])
    def test_threads_change_no_bit(self, classes: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
        logits, targets = batch(999, classes)
        alone = sum_rows(logits, targets, 2.0, None, None)
        monkeypatch.setattr(fused_cpu, "THREAD_ELEMENTS", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        assert sum_rows(logits, targets, 2.0, None, None) == alone

    def test_nothing_counts(self) -> None:
        logits, targets = batch(100, 4)
        assert sum_rows(logits, torch.full_like(targets, -100), 2.0, None, -100) == (0, 0, 0, 0)

    def test_an_index_of_a_class_can_be_ignored(self) -> None:
        logits, targets = batch(100, 4)
        kept = targets != 3
        ours = sum_rows(logits, targets, 2.0, None, 3)
        assert ours == pytest.approx(sum_rows(logits[kept], targets[kept], 2.0, None, None), rel=1e-14)

    @pytest.mark.parametrize("classes", [4, 150])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
    def test_the_first_bad_target_is_named(self, reduction: Any, classes: int) -> None:
        logits, targets = batch(3 * LANES, classes)
        targets[[LANES + 2, 2 * LANES]] = torch.tensor([classes + 7, -1])
        assert sum_rows(logits, targets, 2.0, None, -100).num_bad_targets == 2
        with pytest.raises(ValueError, match=rf"^target {classes + 7} is outside \[0, {classes}\)$"):
            focal_loss(logits, targets, reduction=reduction)

    @pytest.mark.parametrize("value", [NAN, INF])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
    def test_bad_logits_reach_the_sum_unless_they_are_ignored(self, reduction: Any, value: float) -> None:
        logits, targets = batch(100, 4)
        expected = focal_loss(logits[1:], targets[1:], reduction=reduction)
        logits[0] = value
        assert focal_loss(logits, targets, reduction=reduction).isnan()
        targets[0] = -100
        torch.testing.assert_close(focal_loss(logits, targets, reduction=reduction), expected)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_reduction_as_the_plain_way_does_it(self, dtype: torch.dtype, reduction: Any) -> None:
        logits, targets = batch(500, 9, dtype)
        targets[::5] = -100
        options: dict[str, Any] = {"alpha": list(range(1, 10)), "reduction": reduction}
        # What needs a gradient is not fused.
        plain = focal_loss(logits.clone().requires_grad_(), targets, **options)
        torch.testing.assert_close(focal_loss(logits, targets, **options), plain.detach(), rtol=2e-6, atol=0)


class TestInputs:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_strides_and_places_of_any_kind(self, dtype: torch.dtype) -> None:
        logits, targets = batch(40, 6, dtype)
        expected = everything(logits, targets).loss
        wide = torch.zeros(40, 12, dtype=dtype)
        wide[:, ::2] = logits
        raw = torch.empty(logits.numel() * logits.itemsize + 1, dtype=torch.uint8).numpy()
        raw[1:] = logits.contiguous().view(torch.uint8).flatten().numpy()
        unaligned = np.frombuffer(raw[1:], dtype=np.uint8)
        assert np.array_equal(everything(wide[:, ::2], targets).loss, expected)
        assert np.array_equal(everything(logits.t().contiguous().t(), targets).loss, expected)
        kernels = len(cpu_kernel.score_rows.signatures)
        misplaced = torch.from_numpy(unaligned.copy()).view(dtype).reshape(40, 6)
        assert np.array_equal(everything(misplaced, targets).loss, expected)
        assert len(cpu_kernel.score_rows.signatures) == kernels

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_arrays_of_any_kind(self, dtype: torch.dtype) -> None:
        logits, targets = batch(40, 6, dtype)
        expected = everything(logits, targets).loss
        array = as_array(logits)
        read_only = np.frombuffer(array.tobytes(), array.dtype).reshape(40, 6)
        unaligned = np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1).reshape(40, 6)
        assert not read_only.flags.writeable
        assert not unaligned.flags.aligned
        kernels = len(cpu_kernel.score_rows.signatures)
        for kind in (array, read_only, unaligned, np.asfortranarray(array), array[::-1][::-1]):
            for narrow in (np.int8, np.uint8, np.int64):
                found = score_rows(kind, as_array(targets).astype(narrow), 2.0, None, None)
                assert np.array_equal(found.loss, expected)
        assert len(cpu_kernel.score_rows.signatures) == kernels

    def test_logits_are_read_only(self) -> None:
        logits, targets = batch(100, 200)
        before = logits.clone()
        everything(logits, targets)
        assert torch.equal(logits, before)


class TestWhereItApplies:
    def test_values_without_a_derivative(self) -> None:
        logits, _ = batch(3, 4)
        assert applies(logits)
        assert applies(torch.nn.Parameter(logits, requires_grad=False))
        with torch.no_grad():
            assert applies(logits.clone().requires_grad_())

    @pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
    def test_nothing_that_someone_differentiates_or_traces(self) -> None:
        logits, targets = batch(3, 4)
        assert not applies(logits.clone().requires_grad_())
        assert not applies(logits.to("meta"))
        assert not applies(logits.to(torch.float8_e4m3fn))

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
    def test_a_traced_module_computes_for_other_inputs(self) -> None:
        logits, targets = batch(5, 4)
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

UNWRITABLE = """
import numba.core.caching as caching
for locator in vars(caching).values():
    if isinstance(locator, type) and issubclass(locator, caching._CacheLocator):
        locator.from_function = classmethod(lambda cls, *args: None)
import torch
from service.loss.focal import focal_loss
print(f"{focal_loss(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)).item():.6f}")
"""

PEAK = """
import re, sys, torch
from service.loss.focal import focal_loss
rows, classes = int(sys.argv[1]), int(sys.argv[2])
logits, targets = torch.randn(rows, classes), torch.zeros(rows, dtype=torch.int64)
focal_loss(logits[:100], targets[:100])
def memory(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
focal_loss(logits, targets)
print((memory("VmHWM") - before) / logits.nbytes)
"""


def printed(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


class TestProcess:
    @pytest.mark.skipif(sys.platform == "win32", reason="no fork here")
    def test_a_forked_process_has_threads_of_its_own(self) -> None:
        assert printed(FORKED) == "7"

    def test_nowhere_to_keep_what_is_compiled(self) -> None:
        assert printed(UNWRITABLE) == "0.173287"

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    @pytest.mark.parametrize("shape", [("40000", "1000"), ("65536", "10")])
    def test_memory_beside_the_logits(self, shape: tuple[str, str]) -> None:
        assert float(printed(PEAK, *shape)) < 0.05
