"""The fused kernel against the device's copy bandwidth and against eager torch, and its memory.

`make bench` runs it on CUDA. `make gpu-check` can also run it on the CPU, with the CPU kernel and small shapes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.seed_loss import FocalLoss as SeedLoss
from benchmarks.row import Row, divide, interleave, timer
from service.loss.focal import FocalLoss

# Minimum share of the copy bandwidth; None if a call is too short for it, rows are not aligned to 16 bytes, or the few
# numbers of an element are as many bytes as its logits.
SHAPES: dict[tuple[int, ...], float | None] = {
    (65_536, 1_000): 0.8,
    (8_192, 128_000): 0.8,
    (4_096, 50_257): None,
    (32_768, 100): None,
    (32, 21, 512, 512): None,
}
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
MAX_EXTRA_MEMORY = 0.05
ROUNDS, CALLS = 7, 10
QUICK_SHAPES, QUICK_ROUNDS, QUICK_CALLS = ((512, 10), (64, 1_000), (2, 5, 16, 16)), 2, 1
# The logits, their copy, and the intermediate tensors of eager torch.
COPIES_IN_MEMORY = 4


@dataclass(frozen=True)
class Timings:
    """Seconds of one call, one value per round, for logits of a shape and dtype.

    Args:
        size: Bytes of the logits.
        kernel: Fused statistics of each element, without prediction and moments.
        copy: Copy of the logits on the device, which reads and writes them.
        loss: Mean focal loss by `FocalLoss`, without a gradient.
        eager: The same in eager torch, by cross-entropy and `1 - exp(-ce)`.
        extra_bytes: Peak memory of the kernel; None on the CPU, where it is not measured.
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
        """Bandwidth of the kernel as a share of that of the copy, one value per round."""
        return divide([self.size / kernel for kernel in self.kernel], [2 * self.size / copy for copy in self.copy])


def run() -> Iterator[Row]:
    """Yield rows for `make bench`: bandwidth, memory and eager torch, or without figures if there is no GPU."""
    for shape, bar in SHAPES.items():
        for dtype in DTYPES:
            what = f"GPU, {_size(shape)} {_name(dtype)}"
            if not torch.cuda.is_available():
                yield Row(f"{what}, bandwidth against a copy", "", "not measured: no GPU", at_least=bar)
            elif missing := missing_memory(shape, dtype):
                yield Row(f"{what}, bandwidth against a copy", "", f"not measured: {missing}", at_least=bar)
            else:
                yield from _rows(what, measure(shape, dtype, "cuda", ROUNDS, CALLS), bar)


def figures(device: str, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the figures of every shape and dtype as JSON values.

    Args:
        device: `cuda` or `cpu`.
        quick: Use small shapes and few calls, to test the benchmark itself.
    """
    for shape in QUICK_SHAPES if quick else SHAPES:
        for dtype in DTYPES:
            labels: dict[str, Any] = {"size": _size(shape), "dtype": _name(dtype)}
            if missing := missing_memory(shape, dtype) if device != "cpu" else "":
                yield labels | {"not_measured": missing}
                continue
            rounds, calls = (QUICK_ROUNDS, QUICK_CALLS) if quick else (ROUNDS, CALLS)
            timings = measure(shape, dtype, device, rounds, calls)
            yield labels | {
                "kernel_gb_s": timings.kernel_gb_s,
                "copy_gb_s": timings.copy_gb_s,
                "share_of_copy": statistics.median(timings.shares),
                "kernel_ms": statistics.median(timings.kernel) * 1e3,
                "loss_ms": statistics.median(timings.loss) * 1e3,
                "eager_ms": statistics.median(timings.eager) * 1e3,
                "times_eager": statistics.median(divide(timings.eager, timings.loss)),
                "extra_memory_share": None if timings.extra_bytes is None else timings.extra_bytes / timings.size,
                "seconds": asdict(timings),
            }


def measure(shape: tuple[int, ...], dtype: torch.dtype, device: str, rounds: int, calls: int) -> Timings:
    """Time kernel, copy, loss and eager torch in turn.

    Raises:
        AssertionError: The loss differs from that of eager torch.
    """
    logits = torch.randn(shape, device=device).to(dtype)
    targets = torch.randint(0, shape[1], shape[:1] + shape[2:], device=device)
    copied, module, eager = torch.empty_like(logits), FocalLoss(device=device), SeedLoss(device=device)
    kernel = _kernel(logits, targets)
    with torch.no_grad():
        # In float32, as `FocalLoss` computes: eager torch would stay in the dtype of the logits.
        torch.testing.assert_close(module(logits, targets), eager(logits.float(), targets), rtol=1e-3, atol=1e-4)
        works: Sequence[Callable[[], object]] = (
            kernel,
            lambda: copied.copy_(logits),
            lambda: module(logits, targets),
            lambda: eager(logits, targets),
        )
        kernel_s, copy_s, loss_s, eager_s = interleave([_timer(work, device, calls) for work in works], rounds)
    extra = None if device == "cpu" else _extra_memory(kernel)
    return Timings(logits.numel() * logits.element_size(), kernel_s, copy_s, loss_s, eager_s, extra)


def missing_memory(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    """Return a message if the CUDA device has too little free memory for the measurement, else an empty string."""
    # Eager torch and the comparison work in float32.
    needed = COPIES_IN_MEMORY * math.prod(shape) * max(4, dtype.itemsize)
    free, _ = torch.cuda.mem_get_info()
    return "" if needed <= free else f"{needed / 2**30:.0f} GiB of device memory needed, {free / 2**30:.0f} free"


def _rows(what: str, timings: Timings, bar: float | None) -> Iterator[Row]:
    ours, copied = f"{timings.kernel_gb_s:.0f} GB/s", f"{timings.copy_gb_s:.0f} GB/s"
    yield Row(f"{what}, bandwidth against a copy", ours, copied, timings.shares, at_least=bar)
    loss, eager = (f"{statistics.median(seconds) * 1e3:.3g} ms" for seconds in (timings.loss, timings.eager))
    yield Row(f"{what}, loss against eager torch", loss, eager, divide(timings.eager, timings.loss))
    share = (timings.extra_bytes or 0) / timings.size
    # The kernel writes a few numbers per row: a large share with only a hundred classes.
    max_share = MAX_EXTRA_MEMORY if bar else None
    yield Row(f"{what}, extra memory over the logits' bytes", f"{share:.1%}", "", [share], at_most=max_share)


def _kernel(logits: Tensor, targets: Tensor) -> Callable[[], object]:
    if logits.is_cpu:
        from service.loss.kernels.cpu import score_rows

        elements = logits.flatten(2) if logits.dim() > 2 else logits
        return lambda: score_rows(elements, targets, 2.0, None, None)
    from service.loss.kernels.cuda import softmax_statistics

    return lambda: softmax_statistics(logits, targets, prediction=False, moments=False)


def _timer(work: Callable[[], object], device: str, calls: int) -> Callable[[], float]:
    """Return a function that measures the seconds of one call; on CUDA by the clock of the device."""
    on_cpu = timer(work, calls)

    def on_cuda() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            work()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1000 / calls

    return on_cpu if device == "cpu" else on_cuda


def _extra_memory(work: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
