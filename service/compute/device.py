"""The device: resolves its name, computes a batch in chunks, retries with smaller chunks when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
import torch

from service.compute.transfer import Chunk, Transfer, transfer_factory
from service.errors import DeviceOutOfMemoryError, DeviceUnavailableError
from service.loss.arrays import Rows
from service.loss.focal import FocalLoss
from service.loss.kernels import cpu
from service.loss.kernels.choose import check_kernels
from service.loss.scores import Scores, is_fused, score

# Logits of one chunk. On the CPU their float32 copy and exponentials fit into the last-level cache. On CUDA a transfer
# takes about a millisecond: long compared with starting a kernel, short enough that a large body has several.
CHUNK_ELEMENTS = {"cpu": 2**19, "cuda": 2**24}


def resolve_device(setting: str) -> str:
    """Full name of a device, e.g. `cuda:0`; `auto` is the first CUDA device if there is one, else the CPU.

    Raises:
        DeviceUnavailableError: The machine has no such CUDA device.
    """
    if setting == "auto":
        setting = "cuda" if torch.cuda.is_available() else "cpu"
    if setting == "cpu":
        return setting
    # torch.device keeps the index in 8 bits: it takes cuda:256 for cuda:0.
    index = int(setting.partition(":")[2] or 0)
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceUnavailableError(f"there is no device {setting}: torch finds {count} CUDA devices")
    return f"cuda:{index}"


class Device:
    """A device that computes the scores of batches; thread-safe.

    Args:
        name: `cpu` or `cuda:N`; see `resolve_device`.
        retried: Called from any thread when a chunk is made smaller because memory ran out.

    Attributes:
        chunk_elements: Largest number of logits in a chunk.
        out_of_memory_retries: Number of chunks that were made smaller because memory ran out.
    """

    def __init__(self, name: str, retried: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self._retried = retried
        self.chunk_elements = CHUNK_ELEMENTS[torch.device(name).type]
        self.out_of_memory_retries = 0
        self._lock = Lock()
        self._transfer = transfer_factory(name)
        if name == "cpu":
            cpu.warm_up()
        else:
            check_kernels(name)

    def check(self) -> None:
        """Check that the device computes.

        Raises:
            DeviceUnavailableError: The device fails, or its result is wrong.
        """
        try:
            total = torch.ones(8, device=self.name).sum().item()
        except RuntimeError as err:
            raise DeviceUnavailableError(f"{self.name} does not answer: {err}") from err
        if total != 8:
            raise DeviceUnavailableError(f"{self.name} adds eight ones to {total}")

    def score(self, module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]) -> Scores:
        """The scores of all rows, on the host. Computes in chunks, and halves them when memory runs out.

        Args:
            module: The configured loss, on this device.
            logits: (N, C) or (N, L) on the host.
            targets: (N,) or (N, L) on the host.
            outputs: See `service.loss.scores.score`.

        Raises:
            DeviceOutOfMemoryError: Not even one row fits into memory.
        """
        transfer = self._transfer()
        try:
            parts = self._score_chunks(transfer, module, logits, targets, outputs)
        finally:
            # Also after an error: unfinished transfers read the logits, which belong to the caller.
            transfer.finish()
        return parts[0] if len(parts) == 1 else _concatenated(parts)

    def _score_chunks(
        self, transfer: Transfer, module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]
    ) -> list[Scores]:
        total = logits.shape[0]
        one_chunk = self.name == "cpu" and is_fused(module, logits)
        rows = max(1, total if one_chunk else self.chunk_elements // max(1, logits.shape[1]))
        parts: list[Scores] = []
        start, next_chunk = 0, None
        while start < total or not parts:
            next_start = start + rows
            chunk: Chunk | None
            try:
                chunk = next_chunk or transfer.upload(*_part(logits, targets, start, rows))
                # Start the next transfer before computing, so that the two overlap.
                next_chunk = transfer.upload(*_part(logits, targets, next_start, rows)) if next_start < total else None
                parts.append(self._score_chunk(module, *transfer.start(chunk), outputs))
                transfer.mark_computed()
            except (RuntimeError, MemoryError) as err:
                if not _is_out_of_memory(err):
                    raise
                chunk = next_chunk = None
                transfer.finish()
                rows = self._halved(min(rows, total - start), err)
            else:
                start += rows
        return parts

    def _score_chunk(self, module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]) -> Scores:
        return score(module, logits, targets, outputs)

    def _halved(self, rows: int, err: Exception) -> int:
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
    # Triton and the allocators of CPU and pinned memory raise plain RuntimeErrors.
    return isinstance(err, torch.OutOfMemoryError | MemoryError) or any(
        text in str(err) for text in ("can't allocate memory", "out of memory")
    )


def _concatenated(parts: list[Scores]) -> Scores:
    return Scores(
        np.concatenate([part.state for part in parts]),
        np.concatenate([part.loss for part in parts]),
        np.concatenate([part.log_loss for part in parts]),
        np.concatenate([part.alpha_t for part in parts]),
        {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs},
    )
