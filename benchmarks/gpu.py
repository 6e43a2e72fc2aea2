"""The Triton kernel: the share of the device's copy bandwidth that reading the logits once reaches, and its memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.row import Row, in_turn, over

SHAPES = ((65_536, 1_000), (8_192, 128_000))
DTYPES = (torch.bfloat16, torch.float32)
ROUNDS, CALLS = 7, 10
LEAST_SHARE, MOST_EXTRA_MEMORY = 0.8, 0.05


def run() -> Iterator[Row]:
    """Bandwidth and memory for each shape and dtype; rows without figures where there is no GPU."""
    for shape in SHAPES:
        for dtype in DTYPES:
            what = f"GPU, {shape[0]} x {shape[1]} {str(dtype).removeprefix('torch.')}"
            if torch.cuda.is_available():
                yield from _measured(what, shape, dtype)
            else:
                yield Row(f"{what}, bandwidth against a copy", "", "not measured: no GPU", at_least=LEAST_SHARE)


def _measured(what: str, shape: tuple[int, int], dtype: torch.dtype) -> Iterator[Row]:
    from service.loss.kernels.cuda import softmax_statistics

    logits = torch.randn(shape, device="cuda", dtype=dtype)
    targets = torch.randint(0, shape[1], shape[:1], device="cuda")
    target = torch.empty_like(logits)
    size = logits.numel() * logits.element_size()

    def ours() -> object:
        return softmax_statistics(logits, targets, prediction=False, moments=False)

    alone, copied = in_turn([_seconds(ours), _seconds(lambda: target.copy_(logits))], ROUNDS)
    # A copy reads and writes, the kernel reads.
    ratios = over([size / each for each in alone], [2 * size / each for each in copied])
    bandwidths = [
        f"{factor * size / statistics.median(each) / 1e9:.0f} GB/s" for factor, each in ((1, alone), (2, copied))
    ]
    yield Row(f"{what}, bandwidth against a copy", *bandwidths, ratios, at_least=LEAST_SHARE)
    share = _extra_memory(ours) / size
    yield Row(f"{what}, extra memory over the logits' bytes", f"{share:.1%}", "", [share], at_most=MOST_EXTRA_MEMORY)


def _seconds(work: Callable[[], Tensor | object]) -> Callable[[], float]:
    """Something that times one call on the device, by its own clock."""
    work()

    def timed() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(CALLS):
            work()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1000 / CALLS

    return timed


def _extra_memory(work: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)
