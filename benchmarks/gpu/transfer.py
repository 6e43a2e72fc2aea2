"""Upload and computation of the chunks of one large batch: overlapped, and each alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.row import interleave
from service.compute.device import Device
from service.compute.transfer import transfer_factory
from service.loss.focal import FocalLoss
from service.loss.scores import score

CHUNKS, ROUNDS, NUM_CLASSES = 8, 5, 1_024
QUICK_CHUNK_ELEMENTS = 2**14
OUTPUTS = ("loss",)


def figures(device: str, *, quick: bool = False) -> list[dict[str, Any]]:
    """Measure pageable and, on CUDA, pinned logits.

    `overlap` is (upload + compute - together) / min(upload, compute): 1 if the shorter of the two is hidden entirely,
    0 if nothing overlaps, None on the CPU, which needs no upload.

    Args:
        device: `cuda:N` or `cpu`.
        quick: Use small chunks, to test the benchmark itself.
    """
    place = Device(device)
    if quick:
        place.chunk_elements = QUICK_CHUNK_ELEMENTS
    rows = CHUNKS * place.chunk_elements // NUM_CLASSES
    logits, targets = torch.randn(rows, NUM_CLASSES), torch.randint(0, NUM_CLASSES, (rows,))
    results = [_measure(place, logits, targets, "pageable")]
    if device != "cpu":
        results.append(_measure(place, logits.pin_memory(), targets.pin_memory(), "pinned"))
    return results


def _measure(place: Device, logits: Tensor, targets: Tensor, memory: str) -> dict[str, Any]:
    module = FocalLoss(device=place.name)
    rows = place.chunk_elements // NUM_CLASSES
    chunks = list(zip(logits.split(rows), targets.split(rows), strict=True))
    make_transfer = transfer_factory(place.name)
    uploaded = [(chunk.to(place.name), target.to(place.name)) for chunk, target in chunks]

    def together() -> None:
        place.score(module, logits, targets, OUTPUTS)

    def upload() -> None:
        transfer = make_transfer()
        for chunk in chunks:
            transfer.start(transfer.upload(*chunk))
            transfer.mark_computed()
        transfer.finish()

    def compute() -> None:
        for chunk in uploaded:
            score(module, *chunk, OUTPUTS)

    together_s, upload_s, compute_s = (
        statistics.median(times)
        for times in interleave([_timer(work, place.name) for work in (together, upload, compute)], ROUNDS)
    )
    shorter = min(upload_s, compute_s)
    size = logits.numel() * logits.element_size()
    return {
        "memory": memory,
        "chunks": len(chunks),
        "chunk_bytes": size // len(chunks),
        "upload_ms": upload_s * 1e3,
        "upload_gb_s": None if place.name == "cpu" else size / upload_s / 1e9,
        "compute_ms": compute_s * 1e3,
        "together_ms": together_s * 1e3,
        "overlap": None if place.name == "cpu" else (upload_s + compute_s - together_s) / shorter,
    }


def _timer(work: Callable[[], None], device: str) -> Callable[[], float]:
    def seconds() -> float:
        _synchronize(device)
        started = time.perf_counter()
        work()
        _synchronize(device)
        return time.perf_counter() - started

    seconds()
    return seconds


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
