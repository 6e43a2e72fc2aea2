"""The fused kernel against the device's copy bandwidth and against eager torch, and the memory that it takes.

`make bench` runs it on CUDA; `make gpu-check` also on the CPU, with the kernel of the CPU and small shapes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.seed_loss import FocalLoss as SeedLoss
from benchmarks.row import Row, in_turn, over
from service.loss.focal import FocalLoss

# Least share of the copy bandwidth; None where a call is too short for it, or rows do not begin at 16 bytes.
SHAPES: dict[tuple[int, int], float | None] = {
    (65_536, 1_000): 0.8,
    (8_192, 128_000): 0.8,
    (4_096, 50_257): None,
    (32_768, 100): None,
}
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
MOST_EXTRA_MEMORY = 0.05
ROUNDS, CALLS = 7, 10
QUICK_SHAPES, QUICK_ROUNDS, QUICK_CALLS = ((512, 10), (64, 1_000)), 2, 1
# The logits, the target of the copy, and what eager torch makes on its way to the loss.
COPIES_IN_MEMORY = 4


@dataclass(frozen=True)
class Measured:
    """Seconds of one call, one value a round, for (N, C) logits of a dtype.

    Args:
        size: Bytes of the logits.
        kernel: The fused statistics of each row, without prediction and moments.
        copy: A copy of the logits on the device, which reads and writes them.
        loss: The mean focal loss by `FocalLoss`, without a gradient.
        eager: The same by cross-entropy and `1 - exp(-ce)` in eager torch.
        extra_bytes: Memory that the kernel takes at its peak; None on the CPU, where it is not measured.
    """

    size: int
    kernel: list[float]
    copy: list[float]
    loss: list[float]
    eager: list[float]
    extra_bytes: int | None

    @property
    def kernel_gb_s(self) -> float:
        return self.size / statistics.median(self.kernel) / 1e9

    @property
    def copy_gb_s(self) -> float:
        return 2 * self.size / statistics.median(self.copy) / 1e9

    @property
    def shares(self) -> list[float]:
        """The kernel's bandwidth as a share of the copy's, one value a round."""
        return over([self.size / each for each in self.kernel], [2 * self.size / each for each in self.copy])


def run() -> Iterator[Row]:
    """Rows for `make bench`: bandwidth, memory and eager torch; without figures where there is no GPU."""
    for (rows, classes), bar in SHAPES.items():
        for dtype in DTYPES:
            what = f"GPU, {rows} x {classes} {_name(dtype)}"
            if not torch.cuda.is_available():
                yield Row(f"{what}, bandwidth against a copy", "", "not measured: no GPU", at_least=bar)
            elif missing := missing_memory((rows, classes), dtype):
                yield Row(f"{what}, bandwidth against a copy", "", f"not measured: {missing}", at_least=bar)
            else:
                yield from _rows(what, measure((rows, classes), dtype, "cuda", ROUNDS, CALLS), bar)


def figures(device: str, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """The figures of every shape and dtype as JSON values.

    Args:
        device: `cuda` or `cpu`.
        quick: Small shapes and few calls, to test the benchmark itself.
    """
    for rows, classes in QUICK_SHAPES if quick else SHAPES:
        for dtype in DTYPES:
            found: dict[str, Any] = {"rows": rows, "classes": classes, "dtype": _name(dtype)}
            if missing := missing_memory((rows, classes), dtype) if device != "cpu" else "":
                yield found | {"not_measured": missing}
                continue
            rounds, calls = (QUICK_ROUNDS, QUICK_CALLS) if quick else (ROUNDS, CALLS)
            measured = measure((rows, classes), dtype, device, rounds, calls)
            yield found | {
                "kernel_gb_s": measured.kernel_gb_s,
                "copy_gb_s": measured.copy_gb_s,
                "share_of_copy": statistics.median(measured.shares),
                "kernel_ms": statistics.median(measured.kernel) * 1e3,
                "loss_ms": statistics.median(measured.loss) * 1e3,
                "eager_ms": statistics.median(measured.eager) * 1e3,
                "times_eager": statistics.median(over(measured.eager, measured.loss)),
                "extra_memory_share": None if measured.extra_bytes is None else measured.extra_bytes / measured.size,
                "seconds": asdict(measured),
            }


def measure(shape: tuple[int, int], dtype: torch.dtype, device: str, rounds: int, calls: int) -> Measured:
    """Time kernel, copy, loss and eager torch in turn.

    Raises:
        AssertionError: The loss differs from that of eager torch.
    """
    logits, targets = torch.randn(shape, device=device).to(dtype), torch.randint(0, shape[1], shape[:1], device=device)
    copied, module, eager = torch.empty_like(logits), FocalLoss(device=device), SeedLoss(device=device)
    kernel = _kernel(logits, targets)
    with torch.no_grad():
        # In float32, as the loss is computed: eager torch stays in the dtype of the logits.
        torch.testing.assert_close(module(logits, targets), eager(logits.float(), targets), rtol=1e-3, atol=1e-4)
        works: Sequence[Callable[[], object]] = (
            kernel,
            lambda: copied.copy_(logits),
            lambda: module(logits, targets),
            lambda: eager(logits, targets),
        )
        kernel_s, copy_s, loss_s, eager_s = in_turn([_timer(work, device, calls) for work in works], rounds)
    extra = None if device == "cpu" else _extra_memory(kernel)
    return Measured(logits.numel() * logits.element_size(), kernel_s, copy_s, loss_s, eager_s, extra)


def missing_memory(shape: tuple[int, int], dtype: torch.dtype) -> str:
    """How much memory of the CUDA device is too little to measure; empty if there is enough."""
    # Eager torch and the comparison work in float32.
    needed = COPIES_IN_MEMORY * shape[0] * shape[1] * max(4, dtype.itemsize)
    free, _ = torch.cuda.mem_get_info()
    return "" if needed <= free else f"{needed / 2**30:.0f} GiB of device memory needed, {free / 2**30:.0f} free"


def _rows(what: str, measured: Measured, bar: float | None) -> Iterator[Row]:
    ours, copied = f"{measured.kernel_gb_s:.0f} GB/s", f"{measured.copy_gb_s:.0f} GB/s"
    yield Row(f"{what}, bandwidth against a copy", ours, copied, measured.shares, at_least=bar)
    loss, eager = (f"{statistics.median(each) * 1e3:.3g} ms" for each in (measured.loss, measured.eager))
    yield Row(f"{what}, loss against eager torch", loss, eager, over(measured.eager, measured.loss))
    share = (measured.extra_bytes or 0) / measured.size
    # A few numbers for each row, which are much beside a hundred classes.
    most = MOST_EXTRA_MEMORY if bar else None
    yield Row(f"{what}, extra memory over the logits' bytes", f"{share:.1%}", "", [share], at_most=most)


def _kernel(logits: Tensor, targets: Tensor) -> Callable[[], object]:
    if logits.is_cpu:
        from service.loss.kernels.cpu import score_rows

        return lambda: score_rows(logits, targets, 2.0, None, None)
    from service.loss.kernels.cuda import softmax_statistics

    return lambda: softmax_statistics(logits, targets, prediction=False, moments=False)


def _timer(work: Callable[[], object], device: str, calls: int) -> Callable[[], float]:
    """Return a function that gives the seconds of one call: on CUDA by the device's clock."""
    work()

    def on_cuda() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            work()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1000 / calls

    def on_cpu() -> float:
        started = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - started) / calls

    return on_cpu if device == "cpu" else on_cuda


def _extra_memory(work: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
