"""The device: its name, chunks of a batch that fit into its memory, and what happens when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
import torch

from service.compute.transfer import Chunk, Transfer, transfers
from service.errors import DeviceOutOfMemoryError, DeviceUnavailableError
from service.loss.arrays import Rows
from service.loss.focal import FocalLoss
from service.loss.kernels import cpu
from service.loss.kernels.choose import check_kernels
from service.loss.scores import Scores, is_fused, score

# Logits of one chunk. On the CPU its float32 copy and its exponentials stay in the last-level cache; on CUDA the bus
# needs about a millisecond for it, beside which starting the work is short, and a large body has several to overlap.
CHUNK_ELEMENTS = {"cpu": 2**19, "cuda": 2**24}


def resolve_device(wanted: str) -> str:
    """`auto` is CUDA where there is one, else the CPU; the answer names the device in full, e.g. `cuda:0`.

    Raises:
        DeviceUnavailableError: CUDA is asked for and there is none, or not that many.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return wanted
    # Not by torch.device, which keeps the number in 8 bits: cuda:256 is cuda:0 to it.
    index = int(wanted.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise DeviceUnavailableError(f"device {wanted} asked for, torch finds {torch.cuda.device_count()} CUDA devices")
    return f"cuda:{index}"


class Device:
    """One device that computes the scores of batches; safe to use from many threads.

    Args:
        name: `cpu` or `cuda:N`; see `resolve_device`.
        retried: Called for each chunk that is made smaller because memory ran out, from any thread.

    Attributes:
        chunk_elements: Logits of one chunk at most.
        out_of_memory_retries: Chunks that were made smaller because memory ran out.
    """

    def __init__(self, name: str, retried: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self._retried = retried
        self.chunk_elements = CHUNK_ELEMENTS[torch.device(name).type]
        self.out_of_memory_retries = 0
        self._lock = Lock()
        self._transfer = transfers(name)
        if name == "cpu":
            cpu.warm_up()
        else:
            check_kernels(name)

    def check(self) -> None:
        """Have the device compute something.

        Raises:
            DeviceUnavailableError: It does not.
        """
        try:
            answer = torch.ones(8, device=self.name).sum().item()
        except RuntimeError as err:
            raise DeviceUnavailableError(f"{self.name} does not answer: {err}") from err
        if answer != 8:
            raise DeviceUnavailableError(f"{self.name} adds eight ones to {answer}")

    def score(self, module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]) -> Scores:
        """The scores of all rows, on the host, computed in chunks; halves the chunk while memory runs out.

        Args:
            module: On this device.
            logits: (N, C) or (N, L) on the host.
            targets: (N,) or (N, L) on the host.
            outputs: See `service.loss.scores.score`.

        Raises:
            DeviceOutOfMemoryError: Not even one row fits.
        """
        transfer = self._transfer()
        try:
            parts = self._score_chunks(transfer, module, logits, targets, outputs)
        finally:
            # Also after an error: what is on its way reads the logits, which are the caller's.
            transfer.finish()
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _score_chunks(
        self, transfer: Transfer, module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]
    ) -> list[Scores]:
        total = logits.shape[0]
        at_once = self.name == "cpu" and is_fused(module, logits)
        rows = max(1, total if at_once else self.chunk_elements // max(1, logits.shape[1]))
        parts: list[Scores] = []
        start, ahead = 0, None
        while start < total or not parts:
            after = start + rows
            chunk: Chunk | None
            try:
                chunk = ahead or transfer.upload(*_part(logits, targets, start, rows))
                # Before this chunk is computed, so that the next one is on its way meanwhile.
                ahead = transfer.upload(*_part(logits, targets, after, rows)) if after < total else None
                parts.append(self._score_chunk(module, *transfer.start(chunk), outputs))
                transfer.computed()
            except (RuntimeError, MemoryError) as err:
                if not _is_out_of_memory(err):
                    raise
                chunk = ahead = None
                transfer.finish()
                rows = self._smaller(min(rows, total - start), err)
            else:
                start += rows
        return parts

    def _score_chunk(self, module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]) -> Scores:
        return score(module, logits, targets, outputs)

    def _smaller(self, rows: int, err: Exception) -> int:
        if self.name != "cpu":
            torch.cuda.empty_cache()
        if rows <= 1:
            raise DeviceOutOfMemoryError(
                f"{self.name} has no memory for even one row", headers={"Retry-After": "5"}
            ) from err
        with self._lock:
            self.out_of_memory_retries += 1
        self._retried()
        return rows // 2


def _part(logits: Rows, targets: Rows, start: int, rows: int) -> tuple[Rows, Rows]:
    if rows >= logits.shape[0]:
        return logits, targets
    return logits[start : start + rows], targets[start : start + rows]


def _is_out_of_memory(err: Exception) -> bool:
    # The allocators of the CPU and of pinned memory have no exception class of their own, nor has Triton.
    return isinstance(err, torch.OutOfMemoryError | MemoryError) or any(
        text in str(err) for text in ("can't allocate memory", "out of memory")
    )


def _joined(parts: list[Scores]) -> Scores:
    return Scores(
        np.concatenate([part.state for part in parts]),
        np.concatenate([part.loss for part in parts]),
        np.concatenate([part.log_loss for part in parts]),
        np.concatenate([part.alpha_t for part in parts]),
        {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs},
    )
