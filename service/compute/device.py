"""The device and the work on it: admission, worker threads, chunks that fit, and what to do when memory runs out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from threading import Lock
from typing import TypeVar

import numpy as np
import torch

from service.compute.siblings import BYTES, REQUESTS, Siblings
from service.compute.threads import Workers
from service.compute.transfer import Chunk, Transfer, transfers
from service.errors import DeviceOutOfMemoryError, DeviceUnavailableError, QueueFullError
from service.loss.arrays import Rows
from service.loss.focal import FocalLoss
from service.loss.kernels import cpu as fused_cpu
from service.loss.scores import Scores, is_fused, score

T = TypeVar("T")

# Logits of one chunk. On the CPU its float32 copy and its exponentials stay in the last-level cache; on CUDA the bus
# needs about a millisecond for it, beside which starting the work is short, and a large body has several to overlap.
CHUNK_ELEMENTS = {"cpu": 2**19, "cuda": 2**24}

# Seconds that a body may take to arrive before the next one may begin. In a fast network they are enough for some MB.
TURN_S = 0.05


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


class Engine:
    """One device, its worker threads, and a bound on the work that waits for them.

    Args:
        device: `cpu` or `cuda:N`.
        workers: Threads that decode, compute and encode.
        queue_size: Requests admitted at once.
        max_queued_bytes: Bytes of request bodies admitted at once.
        siblings: The processes that these bounds hold for together.
    """

    def __init__(
        self, device: str, *, workers: int, queue_size: int, max_queued_bytes: int, siblings: Siblings | None = None
    ) -> None:
        self.device = device
        self.queue_size = queue_size
        self.max_queued_bytes = max_queued_bytes
        self.chunk_elements = CHUNK_ELEMENTS[torch.device(device).type]
        self._siblings = siblings or Siblings()
        self.out_of_memory_retries = 0
        self._lock = Lock()
        self._turns = asyncio.Semaphore(workers)
        self._waiting_for_turn = 0
        self._transfer = transfers(device)
        self._workers = Workers(workers, "engine")
        # A stream lives as long as its client likes: it must not take a worker away from the other requests.
        self._streams = ThreadPoolExecutor(queue_size, thread_name_prefix="stream")
        if device == "cpu":
            fused_cpu.warm_up()

    @property
    def requests(self) -> int:
        """Requests that this process holds."""
        return self._siblings.of(REQUESTS)

    @property
    def queued_bytes(self) -> int:
        """Bytes of request bodies that this process holds."""
        return self._siblings.of(BYTES)

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker of this process."""
        return self._waiting_for_turn + self._workers.waiting

    @property
    def free_places(self) -> int:
        """How many more requests would be admitted now."""
        return max(0, self.queue_size - self._siblings.total(REQUESTS))

    def full(self) -> QueueFullError:
        """The error that says so."""
        return QueueFullError(f"{self.queue_size} requests are held already (queue_size)", headers={"Retry-After": "1"})

    @contextmanager
    def admit(self) -> Iterator[Admission]:
        """A place for one request, from before its body is read until its reply is made.

        Raises:
            QueueFullError: No place is left.
        """
        with self._lock:
            # Counted before it is looked: of processes that do both at once none may miss the other.
            self._siblings.add(REQUESTS, 1)
            if self._siblings.total(REQUESTS) > self.queue_size:
                self._siblings.add(REQUESTS, -1)
                raise self.full()
        admission = Admission(self)
        try:
            yield admission
        finally:
            self.release(admission)
            with self._lock:
                self._siblings.add(REQUESTS, -1)

    def hold(self, admission: Admission, count: int) -> None:
        """Count bytes of a body as held; they are given back when the admission ends.

        Raises:
            QueueFullError: That would be more than `max_queued_bytes`.
        """
        with self._lock:
            self._siblings.add(BYTES, count)
            held = self._siblings.total(BYTES)
            if held > self.max_queued_bytes:
                self._siblings.add(BYTES, -count)
                raise QueueFullError(
                    f"{held - count} bytes of request bodies are held, {count} more would pass "
                    f"{self.max_queued_bytes} (max_queued_bytes)",
                    headers={"Retry-After": "1"},
                )
            admission.held_bytes += count

    def release(self, admission: Admission) -> None:
        """Give back the bytes that an admission holds."""
        with self._lock:
            self._siblings.add(BYTES, -admission.held_bytes)
            admission.held_bytes = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[], None]]:
        """A turn to receive a large body and have it worked on; there are as many as workers.

        A body that would only wait for a worker waits at its client, where it takes no memory and no cache of ours. One
        that is long on its way gives its turn to the next, and goes on beside it.

        Yields:
            What to call when the body is there.
        """
        self._waiting_for_turn += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting_for_turn -= 1
        kept = True

        def give_away() -> None:
            nonlocal kept
            kept = False
            self._turns.release()

        timer = asyncio.get_running_loop().call_later(TURN_S, give_away)
        try:
            yield timer.cancel
        finally:
            timer.cancel()
            if kept:
                give_away()

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work on a worker thread; the event loop goes on."""
        return await self._workers.run(work)

    async def run_stream(self, work: Callable[[], T]) -> T:
        """The same for work that waits for its client, on a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._streams, work)

    def close(self) -> None:
        """Wait for the work at hand and end the threads."""
        self._workers.close()
        self._streams.shutdown(wait=True)

    def check(self) -> None:
        """Have the device compute something.

        Raises:
            DeviceUnavailableError: It does not.
        """
        try:
            answer = torch.ones(8, device=self.device).sum().item()
        except RuntimeError as err:
            raise DeviceUnavailableError(f"{self.device} does not answer: {err}") from err
        if answer != 8:
            raise DeviceUnavailableError(f"{self.device} adds eight ones to {answer}")

    def score(self, module: FocalLoss, logits: Rows, targets: Rows, outputs: Sequence[str]) -> Scores:
        """The scores of all rows, on the host, computed in chunks; halves the chunk while memory runs out.

        Args:
            module: On this engine's device.
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
        at_once = self.device == "cpu" and is_fused(module, logits)
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
        if self.device != "cpu":
            torch.cuda.empty_cache()
        if rows <= 1:
            raise DeviceOutOfMemoryError(
                f"{self.device} has no memory for even one row", headers={"Retry-After": "5"}
            ) from err
        with self._lock:
            self.out_of_memory_retries += 1
        return rows // 2


class Admission:
    """The place of one request in the engine's bounds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.held_bytes = 0

    def hold(self, count: int) -> None:
        """See `Engine.hold`."""
        self._engine.hold(self, count)

    def release(self) -> None:
        """See `Engine.release`."""
        self._engine.release(self)


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
