"""Rows on their way to the device and scores on their way back.

On CUDA a chunk goes through pinned memory and a stream of its own, so that it is transferred while the one before it is
computed. Pinned memory comes from torch, which keeps it for the next chunk and gives it out again only when the copies
from it are done; logits that are pinned already are sent from where they lie. Scores come back into pinned memory by
themselves, and the host waits once, for the last of them.

The order of the steps is tested without a GPU; that they overlap has not been seen on one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from service.loss.arrays import Rows, as_tensor


class Chunk(NamedTuple):
    """Rows of logits and targets on the device, once `ready` has happened."""

    logits: Rows
    targets: Rows
    ready: torch.cuda.Event | None = None


class Transfer(Protocol):
    """The way to one device and back, for the chunks of one request."""

    def upload(self, logits: Rows, targets: Rows) -> Chunk:
        """Send rows off; at most the chunk before this one is still at work when it returns."""

    def start(self, chunk: Chunk) -> tuple[Rows, Rows]:
        """Logits and targets for what is computed from here on."""

    def computed(self) -> None:
        """All is asked for of the chunk that was started last; its scores are there after `finish`."""

    def finish(self) -> None:
        """Wait for everything that was sent off."""


class HostTransfer:
    """Where the device is the host, nothing moves."""

    def upload(self, logits: Rows, targets: Rows) -> Chunk:
        return Chunk(logits, targets)

    def start(self, chunk: Chunk) -> tuple[Rows, Rows]:
        return chunk.logits, chunk.targets

    def computed(self) -> None:
        pass

    def finish(self) -> None:
        pass


class CudaTransfer:
    """By pinned memory.

    Args:
        device: `cuda:N`.
        copies: The stream for uploads; requests share it, as they share the bus.
    """

    def __init__(self, device: str, copies: torch.cuda.Stream) -> None:
        self._device = device
        self._copies = copies
        self._computed: torch.cuda.Event | None = None

    def upload(self, logits: Rows, targets: Rows) -> Chunk:
        # Two chunks are on the device at most: the one that is computed next and this one.
        if self._computed is not None:
            self._computed.synchronize()
        with torch.cuda.stream(self._copies):
            return Chunk(
                pinned(as_tensor(logits)).to(self._device, non_blocking=True),
                pinned(as_tensor(targets)).to(self._device, non_blocking=True),
                self._copies.record_event(),
            )

    def start(self, chunk: Chunk) -> tuple[Rows, Rows]:
        computing = torch.cuda.current_stream(self._device)
        if chunk.ready is not None:
            computing.wait_event(chunk.ready)
        tensors = as_tensor(chunk.logits), as_tensor(chunk.targets)
        for tensor in tensors:
            # It was allocated for the other stream, which must not have its memory again before this one is done.
            tensor.record_stream(computing)
        return tensors

    def computed(self) -> None:
        self._computed = torch.cuda.current_stream(self._device).record_event()

    def finish(self) -> None:
        self._copies.synchronize()
        if self._computed is not None:
            self._computed.synchronize()


def transfers(device: str) -> Callable[[], Transfer]:
    """What makes the transfer of a request to `cpu` or `cuda:N`."""
    if torch.device(device).type != "cuda":
        return HostTransfer
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return lambda: CudaTransfer(device, copies)


def pinned(tensor: Tensor) -> Tensor:
    """The tensor in memory that the device reads by itself; copied unless it lies there."""
    return tensor if tensor.is_pinned() else tensor.pin_memory()
