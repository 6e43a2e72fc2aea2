"""The Triton kernels against the plain implementation and 40-digit arithmetic.

On a machine with a GPU they run there, on others in Triton's interpreter, which shows their numbers and what they read,
but nothing of speed; that the compiler takes them for GPUs, and how they load, is shown without one.
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

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from torch import Tensor

from service.loss import formula
from service.loss.focal import FocalLoss
from service.loss.formula import SoftmaxStatistics
from service.loss.kernels import choose as fused
from service.loss.kernels import cpu as fused_cpu
from service.loss.kernels import cuda as fused_cuda
from service.loss.scores import score
from service.schema.request import OUTPUTS
from tests.loss.samples import DTYPES, all_difficult_rows

INTERPRETED = not torch.cuda.is_available()
DEVICE = "cpu" if INTERPRETED else "cuda"
NARROW_MOST, WIDE_LEAST = 4096, 4097
SHAPES = (
    (1, 2),
    (7, 3),
    (33, 10),
    (1025, 2),
    (130, 17),
    (5, 1000),
    (3, 1024),
    (2, 4096),
    (2, 4097),
    (2, 8192),
    (2, 40_000),
    (3, 131_072),
)

# numpy, which the interpreter computes with, warns of infinities where a GPU does not.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def compute(logits: Tensor, targets: Tensor, *, prediction: bool = True, moments: bool = True) -> SoftmaxStatistics:
    """By the kernel, back on the host."""
    row = fused_cuda.softmax_statistics(logits.to(DEVICE), targets.to(DEVICE), prediction=prediction, moments=moments)
    return SoftmaxStatistics(
        row.logit_margin.cpu(),
        row.log_others.cpu(),
        row.valid.cpu(),
        None if row.prediction is None else row.prediction.cpu(),
        None if row.moments is None else formula.Moments(row.moments.squared.cpu(), row.moments.entropy.cpu()),
    )


def assert_plain(logits: Tensor, targets: Tensor) -> None:
    """Equal to the plain implementation in float64 on the same stored logits, in every row that is valid."""
    row = compute(logits, targets)
    plain = formula.softmax_statistics(logits.double(), targets, prediction=True, moments=True)
    # In float64 no difference of float32 logits overflows; whether it does is the plain implementation's in float32.
    valid = formula.softmax_statistics(logits, targets).valid
    assert torch.equal(row.valid, valid)
    tolerance = 1e-12 if logits.dtype == torch.float64 else 1e-6
    assert plain.prediction is not None
    assert row.prediction is not None
    assert plain.moments is not None
    assert row.moments is not None
    assert row.logit_margin.dtype == row.log_others.dtype == torch.float64
    assert row.prediction.dtype == torch.int64
    assert torch.equal(row.prediction[valid], plain.prediction[valid])
    torch.testing.assert_close(row.logit_margin[valid], plain.logit_margin[valid], rtol=0, atol=0)
    torch.testing.assert_close(row.log_others[valid], plain.log_others[valid], rtol=0, atol=tolerance)
    torch.testing.assert_close(row.moments.squared[valid], plain.moments.squared[valid], rtol=3 * tolerance, atol=0)
    torch.testing.assert_close(row.moments.entropy[valid], plain.moments.entropy[valid], rtol=0, atol=3 * tolerance)


def random_rows(
    rows: int, classes: int, dtype: torch.dtype, scale: float = 5, offset: float = 0
) -> tuple[Tensor, Tensor]:
    """Normal logits, and targets among which are the first, the last and a middle class."""
    generator = torch.Generator().manual_seed(rows * classes)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale + offset
    targets = torch.randint(0, classes, (rows,), generator=generator)
    targets[:3] = torch.tensor([classes - 1, 0, classes // 2])[:rows]
    return logits.to(dtype), targets


@pytest.mark.parametrize("dtype", DTYPES)
class TestNumbers:
    @pytest.mark.parametrize(("rows", "classes"), SHAPES)
    def test_every_shape(self, rows: int, classes: int, dtype: torch.dtype) -> None:
        assert_plain(*random_rows(rows, classes, dtype))

    @pytest.mark.parametrize("classes", [10, 40_000])
    @pytest.mark.parametrize("offset", [1e4, -1e4])
    def test_a_shared_offset(self, offset: float, classes: int, dtype: torch.dtype) -> None:
        assert_plain(*random_rows(4, classes, dtype, offset=offset))

    @pytest.mark.parametrize("classes", [5, 40_000])
    @pytest.mark.parametrize("scale", [1e-6, 1e3, 1e4])
    def test_scales(self, scale: float, classes: int, dtype: torch.dtype) -> None:
        assert_plain(*random_rows(6, classes, dtype, scale=scale))

    def test_rows_on_which_focal_losses_go_wrong(self, dtype: torch.dtype) -> None:
        assert_plain(*all_difficult_rows(dtype))

    @pytest.mark.parametrize("classes", [3, 9000])
    def test_the_largest_and_the_smallest_numbers(self, classes: int, dtype: torch.dtype) -> None:
        largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).tiny
        logits = torch.zeros(6, classes, dtype=dtype)
        logits[0] = largest
        logits[1, ::2], logits[1, 1::2] = largest, -largest
        logits[2] = -largest
        logits[3, 1::2] = smallest
        logits[4, -1] = largest
        logits[5, 0] = -largest
        for target in (0, 1, classes - 1):
            assert_plain(logits, torch.full((6,), target))

    @pytest.mark.parametrize("classes", [4, 12_000])
    def test_a_maximum_that_grows_or_falls_from_tile_to_tile(self, classes: int, dtype: torch.dtype) -> None:
        steps = torch.linspace(-30, 30, classes, dtype=torch.float64)
        logits = torch.stack([steps, steps.flip(0), steps.abs(), -steps.abs()]).to(dtype)
        for target in (0, classes // 2, classes - 1):
            assert_plain(logits, torch.full((4,), target))

    @pytest.mark.parametrize("classes", [2, 6, 12_000])
    def test_of_equal_logits_the_first_is_predicted(self, classes: int, dtype: torch.dtype) -> None:
        logits = torch.zeros(3, classes, dtype=dtype)
        logits[1, classes // 2 :] = 1
        logits[2, -1] = 1
        logits[2, 0] = 1
        for target in (0, classes // 2, classes - 1):
            assert_plain(logits, torch.full((3,), target))

    @pytest.mark.parametrize("classes", [2, 6, 9000])
    def test_masks_and_what_is_no_number(self, classes: int, dtype: torch.dtype) -> None:
        last = classes - 1
        logits = torch.ones(9, classes, dtype=dtype)
        logits[0, :last] = -math.inf  # only the target is left
        logits[1] = -math.inf
        logits[2, last] = -math.inf  # the target is masked
        logits[3, last] = math.nan
        logits[4, 0] = math.nan
        logits[5, last] = math.inf
        logits[6, 0] = math.inf
        logits[7, 0] = -math.inf
        logits[8, :last] = -math.inf  # a NaN among masks
        logits[8, 0] = math.nan
        targets = torch.full((9,), last)
        assert compute(logits, targets).valid.tolist() == [True, *[False] * 6, True, False]
        assert_plain(logits, targets)
        assert compute(logits, targets).logit_margin[0] == math.inf
        assert compute(logits, targets).log_others[0] == 0

    @pytest.mark.parametrize("classes", [6, 9000])
    def test_the_first_tile_may_be_masked(self, classes: int, dtype: torch.dtype) -> None:
        logits, targets = random_rows(4, classes, dtype)
        logits[:, : classes - 3] = -math.inf
        assert_plain(logits, torch.full_like(targets, classes - 1))

    def test_rows_and_columns_of_a_larger_tensor(self, dtype: torch.dtype) -> None:
        whole, targets = random_rows(12, 64, dtype)
        for view in (whole[:, 3:20], whole[::3, :32], whole[1:, 8:], whole[:, ::2], whole[:1].expand(12, 64)):
            assert_plain(view, targets[: len(view)].remainder(view.shape[1]))
        assert_plain(whole.t(), targets.repeat(6)[:64].remainder(12))
        wide, targets = random_rows(3, 10_001, dtype)
        assert_plain(wide[:, 1:], targets.remainder(10_000))
        assert_plain(random_rows(4, 12, dtype)[0], torch.arange(8)[::2])

    @pytest.mark.parametrize(("prediction", "moments"), [(False, False), (True, False), (False, True)])
    @pytest.mark.parametrize("classes", [10, 5000])
    def test_what_is_not_asked_for_is_not_there(
        self, classes: int, prediction: bool, moments: bool, dtype: torch.dtype
    ) -> None:
        logits, targets = random_rows(3, classes, dtype)
        row, everything = compute(logits, targets, prediction=prediction, moments=moments), compute(logits, targets)
        assert (row.prediction is not None, row.moments is not None) == (prediction, moments)
        assert torch.equal(row.logit_margin, everything.logit_margin)
        assert torch.equal(row.log_others, everything.log_others)

    @pytest.mark.parametrize("classes", [2, 5000])
    def test_no_rows(self, classes: int, dtype: torch.dtype) -> None:
        row = compute(torch.empty(0, classes, dtype=dtype), torch.empty(0, dtype=torch.int64))
        assert row.logit_margin.shape == row.valid.shape == (0,)
        assert row.prediction is not None
        assert row.prediction.shape == (0,)
        assert row.moments is not None
        assert row.moments.entropy.shape == (0,)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 40),
    classes=st.integers(2, 70) | st.integers(4090, 4100) | st.integers(8190, 8200),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    values=st.lists(st.sampled_from([math.inf, -math.inf, -math.inf, math.nan, 0.0, -1.0, 7.0]), max_size=12),
    seed=st.integers(0, 2**32),
)
def test_any_rows(rows: int, classes: int, dtype: torch.dtype, scale: float, values: list[float], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale).to(dtype)
    for value in values:
        place = torch.randint(0, rows * classes, (1,), generator=generator)
        logits.view(-1)[place] = value
    assert_plain(logits, torch.randint(0, classes, (rows,), generator=generator))


def test_the_log_odds_equal_40_digits() -> None:
    logits, targets = random_rows(6, 1000, torch.float32, scale=8)
    row = compute(logits, targets)
    for i, target in enumerate(targets.tolist()):
        powers = [mpmath.exp(mpmath.mpf(x)) for x in logits[i].tolist()]
        exact = mpmath.log(powers[target] / mpmath.fsum(powers[:target] + powers[target + 1 :]))
        assert row.log_odds[i].item() == pytest.approx(float(exact), abs=5e-7)


@pytest.mark.skipif(not INTERPRETED, reason="loads are counted in the interpreter")
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
        # The target's once more, alone, while the cache has its line.
        assert counts.pop(target) == 2
        assert set(counts) == {1}
    assert set(loaded) == {targets.data_ptr() + 8 * row for row in range(rows)}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the compiler makes of the kernels for two generations of GPUs; no GPU is needed for that."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, "-m", "tests.loss.kernels.compile_kernels"]
    root = Path(__file__).parents[3]
    made = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root)
    return json.loads(made.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "itemsize", "computed"), [("bf16", 2, 4), ("fp16", 2, 4), ("fp32", 4, 4), ("fp64", 8, 8)]
)
@pytest.mark.parametrize("kind", ["narrow", "wide"])
def test_it_compiles_to_16_byte_loads_of_each_logit_once(
    compiled: dict[str, dict[str, Any]], kind: str, dtype: str, itemsize: int, computed: int, capability: int
) -> None:
    kernel = compiled[f"{kind} {dtype} {capability}"]
    loads = Counter(kernel["loads"])
    if kind == "narrow":
        tiles, elements = 1, fused_cuda.TILE_BYTES_PER_WARP // computed
    else:
        # Those on their way before the first is worked on, the one that each turn sends for, and the remainder.
        tiles = fused_cuda.STAGES - 1 + 1 + 1
        elements = fused_cuda.WIDE_TILE_BYTES // computed // fused_cuda.WIDE_WARPS
    assert loads.pop(16) == tiles * elements * itemsize // 16 // 32
    # The target, in more than one layout, and its logit.
    assert loads.total() <= 3
    assert kernel["stack"] == 0
    assert kernel["wide_products"] == 2 + 3


class TestChoice:
    """A CPU tensor stands in for one on CUDA: it says of itself that it is there."""

    @pytest.fixture
    def on_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Tensor, "is_cuda", property(lambda tensor: True))
        monkeypatch.setattr(fused_cpu, "takes", lambda logits: False)
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

    def test_scores_and_the_module_without_gradients_take_the_kernel(self, on_cuda: None, calls: list[int]) -> None:
        module = FocalLoss([1, 2, 3], device="cpu")
        logits, targets = random_rows(8, 3, torch.float32)
        targets[4], logits[4] = -100, math.nan
        scores, loss = score(module, logits, targets, OUTPUTS), module(logits, targets)
        assert calls == [8, 8]
        module.config = module.config.model_copy(update={"reduction": "none"})
        torch.testing.assert_close(module(logits, targets), torch.from_numpy(scores.loss).float())
        assert torch.isfinite(loss)

    def test_a_gradient_takes_the_plain_way(self, on_cuda: None, calls: list[int]) -> None:
        logits, targets = random_rows(8, 3, torch.float32)
        FocalLoss(device="cpu")(logits.requires_grad_(), targets).backward()
        assert calls == []
        assert logits.grad is not None
        with torch.no_grad():
            FocalLoss(device="cpu")(logits, targets)
        assert calls == [8]

    def test_the_cpu_does_without(self, calls: list[int]) -> None:
        score(FocalLoss(device="cpu"), *random_rows(8, 3, torch.float32), OUTPUTS)
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
    def test_a_kernel_that_cannot_be_built_is_said_once_and_done_without(
        self, monkeypatch: pytest.MonkeyPatch, on_cuda: None, error: Exception
    ) -> None:
        calls: list[int] = []

        def failing(logits: Tensor, *others: Any, **flags: bool) -> SoftmaxStatistics:
            calls.append(len(logits))
            raise error

        monkeypatch.setattr(fused_cuda, "_launch", failing)
        logits, targets = random_rows(8, 3, torch.float32)
        with capture_logs() as logs:
            rows = [fused.softmax_statistics(logits, targets, prediction=True, moments=True) for _ in range(3)]
        plain = formula.softmax_statistics(logits, targets, prediction=True, moments=True)
        assert calls == [8]
        assert [log["log_level"] for log in logs] == ["warning"]
        assert type(error).__name__ in logs[0]["error"]
        for row in rows:
            assert torch.equal(row.log_odds, plain.log_odds)

    def test_without_triton(self, monkeypatch: pytest.MonkeyPatch, on_cuda: None) -> None:
        import service.loss.kernels

        monkeypatch.delattr(service.loss.kernels, "cuda")
        monkeypatch.setitem(sys.modules, "service.loss.kernels.cuda", None)
        logits, targets = random_rows(8, 3, torch.float32)
        with capture_logs() as logs:
            row = fused.softmax_statistics(logits, targets)
        assert torch.equal(row.log_odds, formula.softmax_statistics(logits, targets).log_odds)
        assert len(logs) == 1

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("Triton Error [CUDA]: out of memory"),
            MemoryError(),
        ],
    )
    def test_memory_that_runs_out_is_not_a_broken_kernel(
        self, monkeypatch: pytest.MonkeyPatch, on_cuda: None, calls: list[int], error: Exception
    ) -> None:
        launch = fused_cuda._launch

        def failing(*_: Any, **__: bool) -> None:
            monkeypatch.setattr(fused_cuda, "_launch", launch)
            raise error

        monkeypatch.setattr(fused_cuda, "_launch", failing)
        logits, targets = random_rows(8, 3, torch.float32)
        with capture_logs() as logs, pytest.raises(type(error)):
            fused.softmax_statistics(logits, targets)
        fused.softmax_statistics(logits, targets)
        assert calls == [8, 8]
        assert logs == []


@pytest.mark.skipif(INTERPRETED, reason="torch finds no CUDA device")
class TestOnTheDevice:
    def test_nothing_of_the_size_of_the_logits_is_made(self) -> None:
        logits = torch.randn(4096, 32_000, device="cuda", dtype=torch.bfloat16)
        targets = torch.zeros(4096, dtype=torch.int64, device="cuda")
        fused_cuda.softmax_statistics(logits, targets)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        fused_cuda.softmax_statistics(logits, targets, prediction=True, moments=True)
        assert torch.cuda.max_memory_allocated() - before < logits.nbytes / 50

    def test_rows_behind_2_to_the_31(self) -> None:
        logits = torch.zeros(2**16 + 1, 2**15, device="cuda", dtype=torch.bfloat16)
        logits[-1, 5] = 3
        row = fused_cuda.softmax_statistics(
            logits, torch.full((len(logits),), 5, device="cuda"), prediction=True, moments=False
        )
        assert row.logit_margin[-1].item() == 3
        assert row.prediction is not None
        assert row.prediction[-2:].tolist() == [0, 5]
