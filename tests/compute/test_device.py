"""Admission, chunks, and what happens when memory runs out; the device that runs out of it is a fake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from service.compute.device import CHUNK_ELEMENTS, Engine, resolve_device
from service.errors import DeviceOutOfMemoryError, DeviceUnavailableError, QueueFullError
from service.loss.focal import FocalLoss
from service.loss.scores import Scores
from service.schema.request import OUTPUTS

MESSAGE_OF_THE_CPU_ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4000000000000000 bytes. Error code 12 (Cannot allocate memory)"
)


class SmallEngine(Engine):
    """An engine whose device has room for a number of rows, after the first chunk for another, and fails on more."""

    def __init__(self, room: int, error: Exception, room_later: int | None = None) -> None:
        super().__init__("cpu", workers=1, queue_size=4, max_queued_bytes=100)
        self.room = room
        self.room_later = room if room_later is None else room_later
        self.error = error
        self.tried: list[int] = []

    def _score_chunk(self, module: FocalLoss, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Scores:
        self.tried.append(len(logits))
        if len(logits) > self.room:
            raise self.error
        self.room = self.room_later
        return super()._score_chunk(module, logits, targets, outputs)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("cpu", workers=2, queue_size=3, max_queued_bytes=100)
    yield engine
    engine.close()


def batch(rows: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    targets = torch.randint(0, classes, (rows,), generator=generator)
    targets[::7] = -100
    targets[3::11] = classes
    return torch.randn(rows, classes, generator=generator) * 5, targets


def assert_same(scores: Scores, expected: Scores) -> None:
    np.testing.assert_array_equal(scores.state, expected.state)
    for name in ("loss", "log_loss", "alpha_t"):
        np.testing.assert_allclose(getattr(scores, name), getattr(expected, name), rtol=1e-6, atol=1e-12)
    assert list(scores.outputs) == list(expected.outputs)
    for name, values in scores.outputs.items():
        np.testing.assert_allclose(values, expected.outputs[name], rtol=1e-5, atol=1e-6)


class TestChunks:
    @pytest.mark.parametrize("chunk_elements", [1, 3, 4, 5, 7, 36, 399, 400, 401, 10_000])
    def test_the_size_of_a_chunk_does_not_show(self, engine: Engine, chunk_elements: int) -> None:
        module = FocalLoss([1, 2, 0.5, 0], device="cpu")
        logits, targets = batch(100)
        expected = engine.score(module, logits, targets, OUTPUTS)
        assert set(expected.state.tolist()) == {0, 1, 2}
        engine.chunk_elements = chunk_elements
        assert_same(engine.score(module, logits, targets, OUTPUTS), expected)

    @pytest.mark.parametrize("chunk_elements", [1, 3, 4, 100])
    def test_labels(self, engine: Engine, chunk_elements: int) -> None:
        module = FocalLoss([0.25, 0.5, 0.75], device="cpu", mode="sigmoid", ignore_index=-1)
        logits = torch.linspace(-5, 5, 60).reshape(20, 3)
        targets = torch.arange(60).remainder(3).reshape(20, 3).roll(1, 0) - 1
        expected = engine.score(module, logits, targets, OUTPUTS)
        engine.chunk_elements = chunk_elements
        scores = engine.score(module, logits, targets, OUTPUTS)
        assert scores.outputs["prediction"].shape == (20, 3)
        assert_same(scores, expected)

    @pytest.mark.parametrize("rows", [0, 1])
    def test_few_rows(self, rows: int) -> None:
        engine = SmallEngine(1, MemoryError())
        logits, targets = batch(rows)
        scores = engine.score(FocalLoss(device="cpu"), logits, targets, OUTPUTS)
        assert engine.tried == [rows]
        assert scores.loss.shape == (rows,)
        assert scores.outputs["entropy"].shape == (rows,)

    def test_chunks_are_of_the_size_that_is_set(self) -> None:
        engine = SmallEngine(1000, MemoryError())
        engine.chunk_elements = 40
        engine.score(in_chunks(), *batch(25), ["loss"])
        assert engine.tried == [10, 10, 5]
        assert engine.out_of_memory_retries == 0

    def test_wide_rows_come_one_by_one(self) -> None:
        engine = SmallEngine(1, MemoryError())
        engine.chunk_elements = 3
        engine.score(in_chunks(), *batch(4), ["loss"])
        assert engine.tried == [1, 1, 1, 1]

    def test_what_is_fused_goes_in_one_piece(self) -> None:
        engine = SmallEngine(1000, MemoryError())
        engine.chunk_elements = 40
        engine.score(FocalLoss(device="cpu"), *batch(25), ["loss"])
        assert engine.tried == [25]

    def test_a_device_starts_with_chunks_of_its_own_size(self, engine: Engine) -> None:
        assert engine.chunk_elements == CHUNK_ELEMENTS["cpu"]


def in_chunks() -> FocalLoss:
    """A loss that needs memory beside the logits."""
    return FocalLoss(device="cpu", label_smoothing=0.1)


class TestOutOfMemory:
    @pytest.mark.parametrize(
        "error",
        [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError(MESSAGE_OF_THE_CPU_ALLOCATOR)],
    )
    def test_chunks_are_halved_until_they_fit(self, engine: Engine, error: Exception) -> None:
        small = SmallEngine(20, error)
        module = FocalLoss(device="cpu")
        logits, targets = batch(100)
        scores = small.score(module, logits, targets, OUTPUTS)
        assert small.tried == [100, 50, 25, 12, 12, 12, 12, 12, 12, 12, 12, 4]
        assert small.out_of_memory_retries == 3
        assert_same(scores, engine.score(module, logits, targets, OUTPUTS))

    def test_memory_that_runs_out_in_the_middle(self, engine: Engine) -> None:
        small = SmallEngine(40, MemoryError(), room_later=5)
        small.chunk_elements = 4 * 40
        module = in_chunks()
        logits, targets = batch(100)
        scores = small.score(module, logits, targets, OUTPUTS)
        assert small.tried == [40, 40, 20, 10, *[5] * 12]
        assert small.out_of_memory_retries == 3
        assert_same(scores, engine.score(module, logits, targets, OUTPUTS))

    def test_not_even_one_row(self) -> None:
        small = SmallEngine(0, torch.OutOfMemoryError("CUDA out of memory"))
        logits, targets = batch(9)
        with pytest.raises(DeviceOutOfMemoryError) as caught:
            small.score(FocalLoss(device="cpu"), logits, targets, OUTPUTS)
        assert caught.value.status == 503
        assert int(caught.value.headers["Retry-After"]) > 0
        assert small.tried == [9, 4, 2, 1]
        assert small.out_of_memory_retries == 3
        assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)

    def test_the_next_request_is_served(self) -> None:
        small = SmallEngine(0, MemoryError())
        module = FocalLoss(device="cpu")
        logits, targets = batch(9)

        def request() -> Scores:
            with small.admit() as admission:
                admission.hold(100)
                return small.score(module, logits, targets, OUTPUTS)

        with pytest.raises(DeviceOutOfMemoryError):
            request()
        assert (small.requests, small.queued_bytes) == (0, 0)
        small.room = small.room_later = 100
        small.tried.clear()
        assert len(request().loss) == 9
        assert small.tried == [9]

    @pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("memory")])
    def test_another_error_is_not_taken_for_it(self, error: Exception) -> None:
        small = SmallEngine(0, error)
        with pytest.raises(type(error), match=str(error)):
            small.score(FocalLoss(device="cpu"), *batch(9), OUTPUTS)
        assert small.tried == [9]
        assert small.out_of_memory_retries == 0


class TestAdmission:
    def test_as_many_requests_as_are_set(self, engine: Engine) -> None:
        with engine.admit(), engine.admit(), engine.admit():
            assert engine.requests == 3
            with pytest.raises(QueueFullError) as caught, engine.admit():
                pass
            assert caught.value.status == 429
            assert caught.value.headers["Retry-After"] == "1"
            assert "queue_size" in caught.value.detail
            assert engine.requests == 3
        assert engine.requests == 0

    def test_as_many_bytes_as_are_set(self, engine: Engine) -> None:
        with engine.admit() as first, engine.admit() as second:
            first.hold(60)
            second.hold(0)
            second.hold(40)
            for admission in (first, second):
                with pytest.raises(QueueFullError) as caught:
                    admission.hold(1)
                assert "max_queued_bytes" in caught.value.detail
                assert caught.value.headers["Retry-After"] == "1"
            assert engine.queued_bytes == 100
        assert engine.queued_bytes == 0

    def test_what_is_refused_is_not_counted(self, engine: Engine) -> None:
        with engine.admit() as admission:
            with pytest.raises(QueueFullError):
                admission.hold(101)
            assert engine.queued_bytes == 0
            admission.hold(100)
        assert engine.queued_bytes == 0

    @pytest.mark.parametrize("error", [ValueError("in the codec"), asyncio.CancelledError(), KeyboardInterrupt()])
    def test_an_exception_gives_everything_back(self, engine: Engine, error: BaseException) -> None:
        def request() -> None:
            with engine.admit() as admission:
                admission.hold(70)
                raise error

        with pytest.raises(type(error)):
            request()
        assert (engine.requests, engine.queued_bytes) == (0, 0)

    def test_a_request_that_ends_gives_back_its_own(self, engine: Engine) -> None:
        with engine.admit() as first:
            first.hold(30)
            with engine.admit() as second:
                second.hold(50)
            assert (engine.requests, engine.queued_bytes) == (1, 30)

    def test_many_threads_at_once(self) -> None:
        engine = Engine("cpu", workers=1, queue_size=5, max_queued_bytes=30)
        threads = 16
        together, decided = threading.Barrier(threads), threading.Barrier(threads)

        def ask(_: int) -> str:
            together.wait()
            try:
                with engine.admit() as admission:
                    try:
                        admission.hold(10)
                    except QueueFullError:
                        decided.wait()
                        return "no bytes"
                    decided.wait()
                    return "admitted"
            except QueueFullError:
                decided.wait()
                return "no place"

        with ThreadPoolExecutor(threads) as pool:
            answers = list(pool.map(ask, range(threads)))
        assert {answer: answers.count(answer) for answer in answers} == {"admitted": 3, "no bytes": 2, "no place": 11}
        assert (engine.requests, engine.queued_bytes) == (0, 0)


class TestWorkers:
    def test_work_is_done_on_a_thread_of_the_engine(self, engine: Engine) -> None:
        name = asyncio.run(engine.run(lambda: threading.current_thread().name))
        assert name.startswith("engine")

    def test_as_many_at_once_as_there_are_workers(self, engine: Engine) -> None:
        both = threading.Barrier(2)

        async def two() -> list[int]:
            return list(await asyncio.gather(*(engine.run(lambda: both.wait(timeout=60)) for _ in range(2))))

        assert sorted(asyncio.run(two())) == [0, 1]

    def test_an_error_reaches_who_asked(self, engine: Engine) -> None:
        with pytest.raises(ZeroDivisionError):
            asyncio.run(engine.run(lambda: 1 // 0))

    def test_closing_waits_for_the_work_at_hand(self) -> None:
        engine = Engine("cpu", workers=1, queue_size=1, max_queued_bytes=1)
        started, go_on, done = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            started.set()
            go_on.wait(timeout=60)
            done.set()

        async def close_while_it_works() -> None:
            running = asyncio.ensure_future(engine.run(work))
            await asyncio.to_thread(started.wait, 60)
            closing = asyncio.ensure_future(asyncio.to_thread(engine.close))
            _, pending = await asyncio.wait({closing}, timeout=0.05)
            assert pending == {closing}
            go_on.set()
            await closing
            assert done.is_set()
            await running

        asyncio.run(close_while_it_works())
        with pytest.raises(RuntimeError, match="shutdown"):
            asyncio.run(engine.run(work))


class TestTurns:
    """Who may receive a large body: as many as workers, and none waits long for one that comes slowly."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("service.compute.device.TURN_S", 0.02)

    async def quick(self, engine: Engine, order: list[int | str], name: int | str, end: asyncio.Event) -> None:
        """A body that is there at once, and whose work takes until `end`."""
        async with engine.turn() as arrived:
            arrived()
            order.append(name)
            await end.wait()

    def test_as_many_as_workers_in_the_order_of_asking(self, engine: Engine) -> None:
        order: list[int | str] = []

        async def run() -> None:
            ends = [asyncio.Event() for _ in range(4)]
            tasks = [asyncio.create_task(self.quick(engine, order, number, end)) for number, end in enumerate(ends)]
            # Of a body that is there the turn is kept, however long the work takes.
            await asyncio.wait(tasks, timeout=0.1)
            assert order == [0, 1]
            ends[1].set()
            await asyncio.wait(tasks, timeout=0.1)
            assert order == [0, 1, 2]
            for end in ends:
                end.set()
            await asyncio.gather(*tasks)
            assert order == [0, 1, 2, 3]

        asyncio.run(run())

    def test_who_has_none_yet_waits_for_a_worker_and_so_does_work(self, engine: Engine) -> None:
        begun, go_on = threading.Semaphore(0), threading.Event()

        def work() -> None:
            begun.release()
            go_on.wait(60)

        async def run() -> None:
            end = asyncio.Event()
            tasks = [asyncio.create_task(self.quick(engine, [], number, end)) for number in range(5)]
            await asyncio.sleep(0)
            assert engine.waiting == 3
            works = [asyncio.create_task(engine.run(work)) for _ in range(3)]
            for _ in range(2):
                await asyncio.to_thread(begun.acquire)
            assert engine.waiting == 4
            tasks.pop().cancel()
            await asyncio.sleep(0)
            assert engine.waiting == 3
            go_on.set()
            end.set()
            await asyncio.gather(*tasks, *works)
            assert engine.waiting == 0

        asyncio.run(run())

    def test_a_slow_body_gives_its_turn_away_once(self, engine: Engine) -> None:
        order: list[int | str] = []

        async def slow(end: asyncio.Event) -> None:
            async with engine.turn():
                await end.wait()

        async def run() -> None:
            slow_ends, quick_end = asyncio.Event(), asyncio.Event()
            slow_ones = [asyncio.create_task(slow(slow_ends)) for _ in range(2)]
            quick_ones = [asyncio.create_task(self.quick(engine, order, name, quick_end)) for name in "abc"]
            await asyncio.wait(quick_ones, timeout=0.5)
            assert order == ["a", "b"]
            slow_ends.set()
            await asyncio.gather(*slow_ones)
            await asyncio.wait(quick_ones, timeout=0.1)
            assert order == ["a", "b"]
            quick_end.set()
            await asyncio.gather(*quick_ones)
            assert order == ["a", "b", "c"]

        asyncio.run(run())

    def test_an_error_gives_it_back(self, engine: Engine) -> None:
        async def run() -> None:
            for _ in range(3):
                with pytest.raises(KeyError):
                    async with engine.turn():
                        raise KeyError
            async with asyncio.timeout(5), engine.turn(), engine.turn():
                pass

        asyncio.run(run())


class TestDevice:
    def test_the_cpu_answers(self, engine: Engine) -> None:
        engine.check()

    def test_a_device_that_does_not_answer(self, engine: Engine) -> None:
        # torch's meta device takes tensors and computes nothing.
        engine.device = "meta"
        with pytest.raises(DeviceUnavailableError, match="meta"):
            engine.check()

    def test_the_cpu_is_the_cpu(self) -> None:
        assert resolve_device("cpu") == "cpu"

    def test_auto_is_cuda_where_there_is_one(self) -> None:
        assert resolve_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")

    @pytest.mark.parametrize("number", [100, 127, 128, 255, 256, 257, 65_536, 99_999, 2**32, 2**64])
    def test_a_device_number_that_is_not_there(self, number: int) -> None:
        with pytest.raises(DeviceUnavailableError, match=f"cuda:{number} "):
            resolve_device(f"cuda:{number}")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
    @pytest.mark.parametrize("wanted", ["cuda", "cuda:0"])
    def test_cuda_where_there_is_none(self, wanted: str) -> None:
        with pytest.raises(DeviceUnavailableError, match="finds 0 CUDA devices"):
            resolve_device(wanted)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
    @pytest.mark.parametrize("wanted", ["cuda", "cuda:0"])
    def test_cuda_is_named_in_full(self, wanted: str) -> None:
        assert resolve_device(wanted) == "cuda:0"
