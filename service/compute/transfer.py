"""Transfers of rows to the device and of scores back to the host.

On CUDA a chunk goes through pinned memory on a separate stream, so that its transfer overlaps with the computation of
the chunk before it. torch's allocator reuses pinned memory only after the copies from it are done. Logits that are
pinned already are sent without a copy. Scores return to pinned memory asynchronously; the host waits once.

Tests without a GPU check the order of the steps. Whether they overlap has not been measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from service.loss.arrays import Rows, as_tensor


class Chunk(NamedTuple):
    """Logits and targets on the device; valid after the event `ready`."""

    logits: Rows
    targets: Rows
    ready: torch.cuda.Event | None = None


class Transfer(Protocol):
    """Transfers to one device and back, for the chunks of one request."""

    def upload(self, logits: Rows, targets: Rows) -> Chunk:
        """Start the transfer of a chunk; wait until at most one earlier chunk is unfinished."""

    def start(self, chunk: Chunk) -> tuple[Rows, Rows]:
        """Logits and targets of a chunk, ready for the computation that follows."""

    def mark_computed(self) -> None:
        """Note that all work on the started chunk is queued; its scores are complete after `finish`."""

    def finish(self) -> None:
        """Wait for all transfers and computations."""


class HostTransfer:
    """Transfers nothing, because the device is the host."""

    def upload(self, logits: Rows, targets: Rows) -> Chunk:
        return Chunk(logits, targets)

    def start(self, chunk: Chunk) -> tuple[Rows, Rows]:
        return chunk.logits, chunk.targets

    def mark_computed(self) -> None:
        pass

    def finish(self) -> None:
        pass


class CudaTransfer:
    """Transfers through pinned memory.

    Args:
        device: `cuda:N`.
        uploads: Stream for uploads; requests share it, as they share the bus.
    """

    def __init__(self, device: str, uploads: torch.cuda.Stream) -> None:
        self._device = device
        self._uploads = uploads
        self._computed: torch.cuda.Event | None = None

    def upload(self, logits: Rows, targets: Rows) -> Chunk:
        # At most two chunks are on the device: this one and the one before it.
        if self._computed is not None:
            self._computed.synchronize()
        with torch.cuda.stream(self._uploads):
            return Chunk(
                pinned(as_tensor(logits)).to(self._device, non_blocking=True),
                pinned(as_tensor(targets)).to(self._device, non_blocking=True),
                self._uploads.record_event(),
            )

    def start(self, chunk: Chunk) -> tuple[Rows, Rows]:
        computing = torch.cuda.current_stream(self._device)
        if chunk.ready is not None:
            computing.wait_event(chunk.ready)
        tensors = as_tensor(chunk.logits), as_tensor(chunk.targets)
        for tensor in tensors:
            # Allocated on the upload stream: its memory must not be reused before this computation is done.
            tensor.record_stream(computing)
        return tensors

    def mark_computed(self) -> None:
        self._computed = torch.cuda.current_stream(self._device).record_event()

    def finish(self) -> None:
        self._uploads.synchronize()
        if self._computed is not None:
            self._computed.synchronize()


def transfer_factory(device: str) -> Callable[[], Transfer]:
    """A function that creates the `Transfer` of a request to `cpu` or `cuda:N`."""
    if torch.device(device).type != "cuda":
        return HostTransfer
    uploads = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return lambda: CudaTransfer(device, uploads)


def pinned(tensor: Tensor) -> Tensor:
    """The tensor in pinned memory, contiguous; copied unless it is both already."""
    if not tensor.is_contiguous():
        # A part of each class of dense logits. `pin_memory` would keep the strides, and copy what lies between.
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    return tensor if tensor.is_pinned() else tensor.pin_memory()
