"""The device: resolves its name, computes a batch in chunks, retries with smaller chunks when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
import torch

from service.compute.chunks import ChunkRange, Split
from service.compute.transfer import Chunk, Transfer, transfer_factory
from service.errors import DeviceOutOfMemoryError, DeviceUnavailableError
from service.loss.arrays import Array, Rows
from service.loss.focal import FocalLoss
from service.loss.kernels import cpu
from service.loss.kernels.choose import check_kernels
from service.loss.scores import Scores, is_bounded, score

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
        """The scores of all elements, on the host. Computes in chunks, and halves them when memory runs out.

        Args:
            module: The configured loss, on this device.
            logits: (N, C) or (N, L), or with S elements of each example (N, C, S) or (N, L, S); on the host.
            targets: Softmax (N,) or (N, S), or soft labels of the shape of the logits; sigmoid the shape of the logits.
            outputs: See `service.loss.scores.score`.

        Raises:
            DeviceOutOfMemoryError: Not even one element fits into memory.
        """
        transfer = self._transfer()
        try:
            parts = self._score_chunks(transfer, module, logits, targets, outputs)
        finally:
            # Also after an error: unfinished transfers read the logits, which belong to the caller.
            transfer.finish()
        if len(parts) == 1:
            return parts[0][1]
        labels = logits.shape[1:2] if module.config.mode == "sigmoid" else ()
        return _assembled(parts, (logits.shape[0], *labels, *logits.shape[2:]))

    def _score_chunks(
        self, transfer: Transfer, module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]
    ) -> list[tuple[ChunkRange, Scores]]:
        one_chunk = self.name == "cpu" and is_bounded(module, logits, targets)
        split = Split(logits, targets)
        size = split.total if one_chunk else max(1, self.chunk_elements // max(1, logits.shape[1]))
        parts: list[tuple[ChunkRange, Scores]] = []
        start, next_chunk = 0, None
        while start < split.total or not parts:
            part = split.part(start, size)
            chunk: Chunk | None
            try:
                chunk = next_chunk or transfer.upload(*split.arrays(part))
                # Start the next transfer before computing, so that the two overlap.
                next_chunk = None
                if part.stop < split.total:
                    next_chunk = transfer.upload(*split.arrays(split.part(part.stop, size)))
                parts.append((part, self._score_chunk(module, *transfer.start(chunk), outputs)))
                transfer.mark_computed()
            except (RuntimeError, MemoryError) as err:
                if not _is_out_of_memory(err):
                    raise
                chunk = next_chunk = None
                transfer.finish()
                size = self._halved(part.stop - start, err)
            else:
                start = part.stop
        return parts

    def _score_chunk(self, module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]) -> Scores:
        return score(module, logits, targets, outputs)

    def _halved(self, elements: int, err: Exception) -> int:
        if self.name != "cpu":
            torch.cuda.empty_cache()
        if elements <= 1:
            raise DeviceOutOfMemoryError(
                f"{self.name} has no memory for even one element", headers={"Retry-After": "5"}
            ) from err
        with self._lock:
            self.out_of_memory_retries += 1
        self._retried()
        return elements // 2


def _is_out_of_memory(err: Exception) -> bool:
    # Triton and the allocators of CPU and pinned memory raise plain RuntimeErrors.
    return isinstance(err, torch.OutOfMemoryError | MemoryError) or any(
        text in str(err) for text in ("can't allocate memory", "out of memory")
    )


def _assembled(parts: list[tuple[ChunkRange, Scores]], shape: tuple[int, ...]) -> Scores:
    """The scores of all elements in the order of the targets, which have this shape."""

    def whole(columns: list[Array]) -> Array:
        result = np.empty(shape, columns[0].dtype)
        for (part, _), column in zip(parts, columns, strict=True):
            target = result[part.index]
            target[...] = column.reshape(target.shape)
        return result.reshape(-1)

    scores = [score for _, score in parts]
    return Scores(
        whole([score.state for score in scores]),
        whole([score.loss for score in scores]),
        whole([score.log_loss for score in scores]),
        whole([score.alpha_t for score in scores]),
        {name: whole([score.outputs[name] for score in scores]) for name in scores[0].outputs},
    )
