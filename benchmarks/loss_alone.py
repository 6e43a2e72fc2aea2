"""The loss in one process, against the usual formula in eager torch: time, and memory beyond the logits."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peers.seed_loss import FocalLoss as SeedLoss
from benchmarks.process import ROOT, memory_of
from benchmarks.row import Row, divide, interleave, timer
from service.compute.device import Device
from service.loss.focal import FocalLoss, focal_loss
from service.schema.config import LossConfig

ROUNDS = 5
# The ratios are close to 1, above all where the logits fit into the cache; rounds are short there.
HALVES_ROUNDS, SHORT_HALVES_ROUNDS = 25, 151
# Shapes with fewer logits take less than 10 ms.
SHORT_ELEMENTS = 10**7
SHAPES = {(65_536, 1_000): 3.0, (8_192, 32_000): 3.0, (65_536, 10): 2.0, (8, 21, 512, 512): 3.0}
# A dense shape has so few elements along each axis when the process warms up.
WARM_ROWS, WARM_AXIS = 64, 32
HALVES = (torch.bfloat16, torch.float16)
MAX_EXTRA_MEMORY = 0.05


def run() -> Iterator[Row]:
    """Yield rows for time against eager torch, half precision against float32, and memory."""
    for shape, bar in SHAPES.items():
        yield from _against_eager(shape, bar)
    for shape in SHAPES:
        yield from _against_float32(shape)
    for shape in SHAPES:
        yield _memory(shape)


def example(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Draw standard normal logits (N, C) or (N, C, d1, ...) and uniform targets."""
    torch.manual_seed(0)
    return torch.randn(shape).to(dtype), torch.randint(0, shape[1], shape[:1] + shape[2:])


def ours(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean loss, without a gradient."""
    with torch.no_grad():
        return focal_loss(logits, targets)


def eager(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean loss by the usual formula."""
    with torch.no_grad():
        return SeedLoss()(logits, targets)


def _timer(work: Callable[[Tensor, Tensor], object], logits: Tensor, targets: Tensor) -> Callable[[], float]:
    return timer(lambda: work(logits, targets), calls=10 if logits.numel() < SHORT_ELEMENTS else 1)


def _against_eager(shape: tuple[int, ...], bar: float) -> Iterator[Row]:
    logits, targets = example(shape)
    torch.testing.assert_close(ours(logits, targets), eager(logits, targets), rtol=1e-4, atol=1e-5)
    device = Device("cpu")
    module = FocalLoss.from_config(LossConfig(), "cpu")

    def with_contributions(logits: Tensor, targets: Tensor) -> object:
        if logits.dim() > 2:
            logits, targets = logits.flatten(2), targets.flatten(1)
        return device.score(module, logits, targets, ("loss", "contribution"))

    alone, theirs, per_example = interleave(
        [_timer(work, logits, targets) for work in (ours, eager, with_contributions)], ROUNDS
    )
    what = f"loss alone, {_size(shape)} float32, against eager torch"
    yield Row(what, _ms(alone), _ms(theirs), divide(theirs, alone), at_least=bar)
    yield Row(f"{what}, with contributions", _ms(per_example), _ms(theirs), divide(theirs, per_example))


def _against_float32(shape: tuple[int, ...]) -> Iterator[Row]:
    logits, targets = example(shape)
    halves = [logits.to(dtype) for dtype in HALVES]
    rounds = SHORT_HALVES_ROUNDS if logits.numel() < SHORT_ELEMENTS else HALVES_ROUNDS
    full, *times = interleave([_timer(ours, values, targets) for values in (logits, *halves)], rounds)
    for dtype, half in zip(HALVES, times, strict=True):
        what = f"loss alone, {_size(shape)} {str(dtype).removeprefix('torch.')}, against float32"
        yield Row(what, _ms(half), _ms(full), divide(full, half), at_least=1.0)


def _memory(shape: tuple[int, ...]) -> Row:
    shares = [_extra_memory(which, shape) for which in ("ours", "eager")]
    return Row(
        f"loss alone, {_size(shape)} float32, extra memory over the logits' bytes",
        f"{shares[0]:.1%}",
        f"{shares[1]:.1%}",
        [shares[0]],
        at_most=MAX_EXTRA_MEMORY,
    )


def _extra_memory(which: str, shape: tuple[int, ...]) -> float:
    """Return the growth of the peak of a new process during one call, as a share of the logits' bytes."""
    command = [sys.executable, "-m", "benchmarks.loss_alone", which, *map(str, shape)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(json.loads(ended.stdout))


def _measure_memory(which: str, shape: tuple[int, ...]) -> float:
    work = ours if which == "ours" else eager
    # The first call loads and compiles; only the second is measured.
    work(*example((min(shape[0], WARM_ROWS), shape[1], *(min(size, WARM_AXIS) for size in shape[2:]))))
    logits, targets = example(shape)
    before = memory_of("self", "VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    work(logits, targets)
    return (memory_of("self", "VmHWM") - before) / (logits.numel() * logits.element_size())


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _ms(times: Sequence[float]) -> str:
    return f"{statistics.median(times) * 1000:.3g} ms"


if __name__ == "__main__":
    print(json.dumps(_measure_memory(sys.argv[1], tuple(map(int, sys.argv[2:])))))
