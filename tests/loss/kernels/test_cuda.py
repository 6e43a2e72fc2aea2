"""The Triton kernels: their loads, their compilation for GPUs, and the conditions of their use.

`tests/loss/properties` tests their numbers. Without a GPU the kernels run in Triton's interpreter, which shows numbers
and loads, but not speed.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from service.loss import formula
from service.loss.focal import FocalLoss
from service.loss.formula import SoftmaxStatistics
from service.loss.kernels import choose as fused
from service.loss.kernels import cpu as fused_cpu
from service.loss.kernels import cuda as fused_cuda
from service.loss.scores import score
from service.schema.request import ELEMENT_OUTPUTS
from tests.lanes import mostly_slow
from tests.loss.comparison import assert_equals_oracle
from tests.loss.implementations import IMPLEMENTATIONS
from tests.loss.samples import DTYPES, random_rows

INTERPRETED = not torch.cuda.is_available()
DEVICE = "cpu" if INTERPRETED else "cuda"

# numpy, which the interpreter computes with, warns of infinities where a GPU does not.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def compute(logits: Tensor, targets: Tensor, *, prediction: bool = True, moments: bool = True) -> SoftmaxStatistics:
    """The statistics as the kernel computes them, on the host."""
    row = fused_cuda.softmax_statistics(logits.to(DEVICE), targets.to(DEVICE), prediction=prediction, moments=moments)
    return SoftmaxStatistics(
        row.logit_margin.cpu(),
        row.log_others.cpu(),
        row.valid.cpu(),
        None if row.prediction is None else row.prediction.cpu(),
        None if row.moments is None else formula.Moments(row.moments.squared.cpu(), row.moments.entropy.cpu()),
    )


@pytest.mark.parametrize("dtype", mostly_slow(DTYPES, quick=1))
def test_rows_that_begin_at_any_address(dtype: torch.dtype) -> None:
    """A row is loaded in units that divide its length, its stride and 16 bytes."""
    triton = next(choice for choice in IMPLEMENTATIONS if choice.name == "triton")
    narrow, targets = random_rows(12, 64, dtype)
    for view in (narrow[:, 3:20], narrow[:, 4:20], narrow[:, 8:24], narrow[::3, 1:33]):
        assert_equals_oracle(triton, view, targets[: len(view)].remainder(view.shape[1]))
    wide, targets = random_rows(3, 10_001, dtype)
    assert_equals_oracle(triton, wide[:, 1:], targets.remainder(10_000))


@pytest.mark.parametrize(("prediction", "moments"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("classes", [10, 5000])
def test_prediction_and_moments_are_optional(classes: int, prediction: bool, moments: bool) -> None:
    logits, targets = random_rows(3, classes)
    row, complete = compute(logits, targets, prediction=prediction, moments=moments), compute(logits, targets)
    assert (row.prediction is not None, row.moments is not None) == (prediction, moments)
    assert torch.equal(row.logit_margin, complete.logit_margin)
    assert torch.equal(row.log_others, complete.log_others)


@pytest.mark.skipif(not INTERPRETED, reason="only the interpreter can count loads")
@pytest.mark.parametrize(("rows", "classes"), [(3, 10), (70, 16), (2, 1000), (3, 4096), (2, 8192), (2, 9001)])
def test_each_logit_is_loaded_once_and_the_targets_from_the_cache(
    monkeypatch: pytest.MonkeyPatch, rows: int, classes: int
) -> None:
    from triton.runtime.interpreter import InterpreterBuilder

    loaded: Counter[int] = Counter()
    load = InterpreterBuilder.create_masked_load

    def counting(self: Any, pointers: Any, mask: Any, *others: Any) -> Any:
        addresses = np.broadcast_to(pointers.data, mask.data.shape)[mask.data]
        loaded.update(addresses.tolist())
        return load(self, pointers, mask, *others)

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", counting)
    logits, targets = random_rows(rows, classes, torch.bfloat16)
    compute(logits, targets)
    for row, target in enumerate(targets.tolist()):
        start = logits.data_ptr() + 2 * row * classes
        counts = [loaded.pop(start + 2 * column, 0) for column in range(classes)]
        # The logit of the target is loaded again, alone, while its line is in the cache.
        assert counts.pop(target) == 2
        assert set(counts) == {1}
    assert set(loaded) == {targets.data_ptr() + 8 * row for row in range(rows)}


@pytest.mark.parametrize(
    ("dtype", "elements"),
    mostly_slow(
        [*((torch.float32, elements) for elements in (3, 1, 100, 128)), *((dtype, 129) for dtype in DTYPES)], quick=2
    ),
)
def test_dense_logits_have_the_statistics_of_their_rows(dtype: torch.dtype, elements: int) -> None:
    rows, targets = random_rows(4 * elements, 11, dtype)
    rows[1::7, 3], rows[2::7], rows[3::7, 1:] = math.nan, 1, -math.inf
    dense, labels = rows.reshape(4, elements, 11).transpose(1, 2), targets.reshape(4, elements)
    expected = formula.softmax_statistics(rows, targets, prediction=True, moments=True)
    wider = torch.zeros(4, 11, elements + 3, dtype=dtype)
    wider[..., 3:] = dense
    strided = dense.repeat_interleave(2, 2)[..., ::2]
    for layout in (dense.contiguous(), wider[..., 3:], dense, strided, dense.contiguous().unsqueeze(3)):
        shape = labels.shape if layout.dim() == 3 else (*labels.shape, 1)
        ours = compute(layout, labels.reshape(shape))
        for name in ("logit_margin", "log_others", "valid", "prediction"):
            assert getattr(ours, name).shape == shape
        valid = expected.valid
        assert torch.equal(ours.valid.flatten(), valid)
        assert ours.prediction is not None
        assert ours.moments is not None
        assert expected.prediction is not None
        assert expected.moments is not None
        assert torch.equal(ours.prediction.flatten()[valid], expected.prediction[valid])
        pairs = [(ours.log_others, expected.log_others), (ours.logit_margin, expected.logit_margin)]
        for mine, plain in (*pairs, *zip(ours.moments, expected.moments, strict=True)):
            torch.testing.assert_close(mine.flatten()[valid], plain[valid], rtol=2e-6, atol=2e-6)


def test_the_kernel_follows_from_the_layout() -> None:
    dense = torch.zeros(2, 21, 8, 8)
    assert fused_cuda.kernel_for(dense) == fused_cuda.DENSE
    assert fused_cuda.kernel_for(dense.to(memory_format=torch.channels_last)) == fused_cuda.NARROW
    assert fused_cuda.kernel_for(dense[..., 0, 0]) == fused_cuda.NARROW
    assert fused_cuda.kernel_for(torch.zeros(1, 5000)) == fused_cuda.WIDE


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The kernels as compiled for two generations of GPUs; this needs no GPU."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, "-m", "tests.loss.kernels.compile_kernels"]
    root = Path(__file__).parents[3]
    process = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root)
    return json.loads(process.stdout)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "itemsize", "computed"), [("bf16", 2, 4), ("fp16", 2, 4), ("fp32", 4, 4), ("fp64", 8, 8)]
)
@pytest.mark.parametrize("kind", ["narrow", "wide", "dense", "crossing"])
def test_it_compiles_to_16_byte_loads_of_each_logit_once(
    compiled: dict[str, dict[str, Any]], kind: str, dtype: str, itemsize: int, computed: int, capability: int
) -> None:
    kernel = compiled[f"{kind} {dtype} {capability}"]
    loads = Counter(kernel["loads"])
    assert kernel["stack"] == 0
    if kind in ("dense", "crossing"):
        # A vector of elements for each class, their targets, and the logits at the targets.
        elements = 16 // itemsize
        assert loads == {16: fused_cuda.DENSE_CLASSES + elements * 8 // 16, itemsize: elements}
        return
    if kind == "narrow":
        tiles, elements = 1, fused_cuda.TILE_BYTES_PER_WARP // computed
    else:
        # The prefetched tiles, the one that each iteration prefetches, and the remainder.
        tiles = fused_cuda.STAGES - 1 + 1 + 1
        elements = fused_cuda.WIDE_TILE_BYTES // computed // fused_cuda.WIDE_WARPS
    assert loads.pop(16) == tiles * elements * itemsize // 16 // 32
    # The target, in several layouts, and its logit.
    assert loads.total() <= 3
    assert kernel["wide_products"] == 2 + 3


class TestChoice:
    """A CPU tensor stands in for one on CUDA: `is_cuda` is always True."""

    @pytest.fixture
    def on_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Tensor, "is_cuda", property(lambda tensor: True))
        monkeypatch.setattr(fused_cpu, "supports", lambda logits: False)
        monkeypatch.setattr(fused, "fits_cpu_kernel", lambda logits: False)
        monkeypatch.setattr(fused, "_no_kernel", type(fused._no_kernel)())

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        calls: list[int] = []
        compute = fused_cuda.softmax_statistics

        def counting(logits: Tensor, *others: Any, **flags: bool) -> SoftmaxStatistics:
            calls.append(len(logits))
            return compute(logits, *others, **flags)

        monkeypatch.setattr(fused_cuda, "softmax_statistics", counting)
        return calls

    def test_scores_and_the_module_without_gradients_use_the_kernel(self, on_cuda: None, calls: list[int]) -> None:
        module = FocalLoss([1, 2, 3], device="cpu")
        logits, targets = random_rows(8, 3, torch.float32)
        targets[4], logits[4] = -100, math.nan
        scores, loss = score(module, logits, targets, ELEMENT_OUTPUTS), module(logits, targets)
        assert calls == [8, 8]
        module.config = module.config.model_copy(update={"reduction": "none"})
        torch.testing.assert_close(module(logits, targets), torch.from_numpy(scores.loss).float())
        assert torch.isfinite(loss)

    def test_with_a_gradient_the_plain_implementation_computes(self, on_cuda: None, calls: list[int]) -> None:
        logits, targets = random_rows(8, 3, torch.float32)
        FocalLoss(device="cpu")(logits.requires_grad_(), targets).backward()
        assert calls == []
        assert logits.grad is not None
        with torch.no_grad():
            FocalLoss(device="cpu")(logits, targets)
        assert calls == [8]

    def test_cpu_tensors_do_not_use_the_kernel(self, calls: list[int]) -> None:
        score(FocalLoss(device="cpu"), *random_rows(8, 3, torch.float32), ELEMENT_OUTPUTS)
        assert calls == []

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("Failed to find C compiler. Please specify via CC environment variable"),
            subprocess.CalledProcessError(1, ["gcc"]),
            OSError("Read-only file system"),
            ImportError("failed to map segment from shared object"),
            AssertionError("libcuda.so cannot found!"),
        ],
    )
    def test_a_kernel_that_cannot_be_built_is_logged_once_and_not_used(
        self, monkeypatch: pytest.MonkeyPatch, on_cuda: None, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        calls: list[int] = []

        def failing(logits: Tensor, *others: Any, **flags: bool) -> SoftmaxStatistics:
            calls.append(len(logits))
            raise error

        monkeypatch.setattr(fused_cuda, "_launch", failing)
        logits, targets = random_rows(8, 3, torch.float32)
        rows = [fused.softmax_statistics(logits, targets, prediction=True, moments=True) for _ in range(3)]
        plain = formula.softmax_statistics(logits, targets, prediction=True, moments=True)
        assert calls == [8]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert type(error).__name__ in caplog.text
        for row in rows:
            assert torch.equal(row.log_odds, plain.log_odds)

    def test_without_triton_the_plain_implementation_computes(
        self, monkeypatch: pytest.MonkeyPatch, on_cuda: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        import service.loss.kernels

        monkeypatch.delattr(service.loss.kernels, "cuda")
        monkeypatch.setitem(sys.modules, "service.loss.kernels.cuda", None)
        logits, targets = random_rows(8, 3, torch.float32)
        row = fused.softmax_statistics(logits, targets)
        assert torch.equal(row.log_odds, formula.softmax_statistics(logits, targets).log_odds)
        assert len(caplog.records) == 1

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("Triton Error [CUDA]: out of memory"),
            MemoryError(),
        ],
    )
    def test_out_of_memory_does_not_disable_the_kernel(
        self,
        monkeypatch: pytest.MonkeyPatch,
        on_cuda: None,
        calls: list[int],
        caplog: pytest.LogCaptureFixture,
        error: Exception,
    ) -> None:
        launch = fused_cuda._launch

        def failing(*_: Any, **__: bool) -> None:
            monkeypatch.setattr(fused_cuda, "_launch", launch)
            raise error

        monkeypatch.setattr(fused_cuda, "_launch", failing)
        logits, targets = random_rows(8, 3, torch.float32)
        with pytest.raises(type(error)):
            fused.softmax_statistics(logits, targets)
        fused.softmax_statistics(logits, targets)
        assert calls == [8, 8]
        assert caplog.records == []


@pytest.mark.skipif(INTERPRETED, reason="torch finds no CUDA device")
class TestOnTheDevice:
    def test_extra_memory_is_a_small_share_of_the_logits(self) -> None:
        logits = torch.randn(4096, 32_000, device="cuda", dtype=torch.bfloat16)
        targets = torch.zeros(4096, dtype=torch.int64, device="cuda")
        fused_cuda.softmax_statistics(logits, targets)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        fused_cuda.softmax_statistics(logits, targets, prediction=True, moments=True)
        assert torch.cuda.max_memory_allocated() - before < logits.nbytes / 50

    def test_more_than_2_to_the_31_logits(self) -> None:
        logits = torch.zeros(2**16 + 1, 2**15, device="cuda", dtype=torch.bfloat16)
        logits[-1, 5] = 3
        row = fused_cuda.softmax_statistics(
            logits, torch.full((len(logits),), 5, device="cuda"), prediction=True, moments=False
        )
        assert row.logit_margin[-1].item() == 3
        assert row.prediction is not None
        assert row.prediction[-2:].tolist() == [0, 5]
