"""The order of uploads and computations of chunks, with a fake device and fake streams; and on CUDA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from service.compute import transfer as device_transfer
from service.compute.device import Device
from service.compute.transfer import Chunk, CudaTransfer, HostTransfer, pinned, transfer_factory
from service.errors import DeviceOutOfMemoryError
from service.loss.focal import FocalLoss
from service.loss.scores import Scores
from service.schema.request import ELEMENT_OUTPUTS
from tests.compute.test_device import assert_same, batch, chunked_loss

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


class RecordedTransfer(HostTransfer):
    """Records its calls; `max_rows` limits the rows of single uploads, by their number from 1."""

    def __init__(self, steps: list[str], max_rows: dict[int, int]) -> None:
        self.steps = steps
        self.max_rows = max_rows
        self.uploads = 0

    def upload(self, logits: Tensor, targets: Tensor) -> Chunk:
        self.uploads += 1
        self.steps.append(f"upload {len(logits)}")
        if len(logits) > self.max_rows.get(self.uploads, len(logits)):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().upload(logits, targets)

    def mark_computed(self) -> None:
        self.steps.append("computed")
        super().mark_computed()

    def finish(self) -> None:
        self.steps.append("finish")


class RecordedDevice(Device):
    """Chunks of ten rows of four classes; `failing` has the errors of computations, by their number from 1."""

    def __init__(
        self, *, max_upload_rows: dict[int, int] | None = None, failing: dict[int, Exception] | None = None
    ) -> None:
        super().__init__("cpu")
        self.chunk_elements = 40
        self.steps: list[str] = []
        self.failing = failing or {}
        self.computed = 0
        self._transfer = lambda: RecordedTransfer(self.steps, max_upload_rows or {})

    def _score_chunk(self, module: FocalLoss, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Scores:
        self.steps.append(f"compute {len(logits)}")
        self.computed += 1
        if self.computed in self.failing:
            raise self.failing[self.computed]
        return super()._score_chunk(module, logits, targets, outputs)


def expected(rows: int) -> Scores:
    device = Device("cpu")
    return device.score(chunked_loss(), *batch(rows), ELEMENT_OUTPUTS)


class TestOrder:
    def test_the_next_chunk_is_sent_before_this_one_is_computed(self) -> None:
        device = RecordedDevice()
        scores = device.score(chunked_loss(), *batch(25), ELEMENT_OUTPUTS)
        assert device.steps == [
            *("upload 10", "upload 10", "compute 10", "computed"),
            *("upload 5", "compute 10", "computed"),
            *("compute 5", "computed", "finish"),
        ]
        assert_same(scores, expected(25))

    @pytest.mark.parametrize("rows", [0, 1, 10])
    def test_one_chunk(self, rows: int) -> None:
        device = RecordedDevice()
        assert len(device.score(chunked_loss(), *batch(rows), ELEMENT_OUTPUTS).loss) == rows
        assert device.steps == [f"upload {rows}", f"compute {rows}", "computed", "finish"]

    def test_rows_of_the_fused_kernel_go_to_cuda_in_chunks(self) -> None:
        device = RecordedDevice()
        device.score(FocalLoss(device="cpu"), *batch(25), ELEMENT_OUTPUTS)
        assert device.steps == ["upload 25", "compute 25", "computed", "finish"]
        device.steps.clear()
        device.name = "cuda:0"
        device.score(FocalLoss(device="cpu"), *batch(25), ELEMENT_OUTPUTS)
        assert [step for step in device.steps if step.startswith("upload")] == ["upload 10", "upload 10", "upload 5"]

    def test_memory_that_runs_out_when_the_next_chunk_is_sent(self) -> None:
        device = RecordedDevice(max_upload_rows={3: 5})
        scores = device.score(chunked_loss(), *batch(35), ELEMENT_OUTPUTS)
        assert device.steps[:8] == [
            *("upload 10", "upload 10", "compute 10", "computed"),
            *("upload 10", "finish", "upload 5", "upload 5"),
        ]
        assert device.out_of_memory_retries == 1
        assert_same(scores, expected(35))

    def test_memory_that_runs_out_after_the_next_chunk_was_sent(self) -> None:
        device = RecordedDevice(failing={2: torch.OutOfMemoryError("CUDA out of memory")})
        scores = device.score(chunked_loss(), *batch(20), ELEMENT_OUTPUTS)
        assert device.steps == [
            *("upload 10", "upload 10", "compute 10", "computed", "compute 10", "finish"),
            *("upload 5", "upload 5", "compute 5", "computed", "compute 5", "computed", "finish"),
        ]
        assert_same(scores, expected(20))

    def test_no_memory_for_one_row(self) -> None:
        device = RecordedDevice(max_upload_rows=dict.fromkeys(range(1, 9), 0))
        with pytest.raises(DeviceOutOfMemoryError):
            device.score(chunked_loss(), *batch(20), ELEMENT_OUTPUTS)
        assert [step for step in device.steps if step != "finish"] == ["upload 10", "upload 5", "upload 2", "upload 1"]
        assert device.steps[-1] == "finish"

    def test_an_error_waits_for_unfinished_transfers(self) -> None:
        device = RecordedDevice(failing={1: ValueError("in the middle")})
        with pytest.raises(ValueError, match="in the middle"):
            device.score(chunked_loss(), *batch(20), ELEMENT_OUTPUTS)
        assert device.steps == ["upload 10", "upload 10", "compute 10", "finish"]

    @pytest.mark.parametrize(
        "text", ["CUDA error: out of memory", "Triton Error [CUDA]: out of memory", "CUDA out of memory. Tried to"]
    )
    def test_every_message_of_out_of_memory_is_recognised(self, text: str) -> None:
        device = RecordedDevice(failing={1: RuntimeError(text)})
        device.score(chunked_loss(), *batch(10), ELEMENT_OUTPUTS)
        assert device.out_of_memory_retries == 1


class FakeStream:
    """A stream, or an event of a stream; records its calls."""

    def __init__(self, name: str, steps: list[str]) -> None:
        self.name, self.steps, self.events = name, steps, 0

    def record_event(self) -> FakeStream:
        self.events += 1
        event = FakeStream(f"{self.name} {self.events}", self.steps)
        self.steps.append(f"record {event.name}")
        return event

    def wait_event(self, event: FakeStream) -> None:
        self.steps.append(f"{self.name} waits for {event.name}")

    def synchronize(self) -> None:
        self.steps.append(f"host waits for {self.name}")


class TestStreams:
    @pytest.fixture
    def steps(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The calls of `CudaTransfer` to its streams, with the CPU as its device."""
        steps: list[str] = []
        computing = FakeStream("computing", steps)

        @contextmanager
        def stream(entered: FakeStream) -> Iterator[None]:
            steps.append(f"enter {entered.name}")
            yield
            steps.append(f"leave {entered.name}")

        def record_stream(tensor: Tensor, used_by: FakeStream) -> None:
            steps.append(f"{len(tensor)} rows are used by {used_by.name}")

        def pinning(tensor: Tensor) -> Tensor:
            steps.append(f"pin {len(tensor)}")
            return tensor

        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
        monkeypatch.setattr(Tensor, "record_stream", record_stream)
        monkeypatch.setattr(device_transfer, "pinned", pinning)
        return steps

    def test_a_computation_waits_for_its_upload_and_the_third_upload_for_the_first_computation(
        self, steps: list[str]
    ) -> None:
        transfer = CudaTransfer("cpu", FakeStream("copies", steps))  # type: ignore[arg-type]
        logits, targets = batch(2)

        def upload(number: int) -> list[str]:
            return ["enter copies", "pin 2", "pin 2", f"record copies {number}", "leave copies"]

        def start(number: int) -> list[str]:
            return [f"computing waits for copies {number}", *["2 rows are used by computing"] * 2]

        first, second = transfer.upload(logits, targets), transfer.upload(logits, targets)
        transfer.start(first)
        transfer.mark_computed()
        third = transfer.upload(logits, targets)
        transfer.start(second)
        transfer.mark_computed()
        transfer.start(third)
        transfer.finish()
        assert steps == [
            *(*upload(1), *upload(2), *start(1), "record computing 1"),
            *("host waits for computing 1", *upload(3), *start(2), "record computing 2"),
            *(*start(3), "host waits for copies", "host waits for computing 2"),
        ]

    def test_a_device_uses_the_streams(self, steps: list[str]) -> None:
        device = Device("cpu")
        device.chunk_elements = 40
        copies: Any = FakeStream("copies", steps)
        device._transfer = lambda: CudaTransfer("cpu", copies)
        assert_same(device.score(chunked_loss(), *batch(25), ELEMENT_OUTPUTS), expected(25))
        assert copies.events == 3
        assert steps[-2:] == ["host waits for copies", "host waits for computing 3"]


def test_pinned_memory_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor, copy = torch.zeros(3), torch.zeros(3)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: copy)
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: True)
    assert pinned(tensor) is tensor
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: False)
    assert pinned(tensor) is copy


@pytest.mark.parametrize("is_pinned", [False, True])
def test_a_part_of_dense_logits_becomes_contiguous_in_pinned_memory(
    monkeypatch: pytest.MonkeyPatch, is_pinned: bool
) -> None:
    asked: list[bool] = []
    empty = torch.empty

    def allocate(shape: Any, *, dtype: torch.dtype, pin_memory: bool) -> Tensor:
        asked.append(pin_memory)
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", allocate)
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: is_pinned)
    part = torch.arange(24, dtype=torch.bfloat16).reshape(1, 4, 6)[:, :, 2:5]
    result = pinned(part)
    assert result.is_contiguous()
    assert torch.equal(result, part)
    assert asked == [True]


def test_on_the_cpu_nothing_is_transferred() -> None:
    logits, targets = batch(3)
    transfer = transfer_factory("cpu")()
    assert isinstance(transfer, HostTransfer)
    assert transfer.start(transfer.upload(logits, targets)) == (logits, targets)


@NEEDS_CUDA
class TestCuda:
    @pytest.fixture
    def device(self) -> Device:
        return Device("cuda:0")

    @pytest.mark.parametrize("chunk_elements", [36, 400, 2**24])
    @pytest.mark.parametrize("pin", [False, True])
    def test_scores_are_those_of_the_cpu(self, device: Device, chunk_elements: int, pin: bool) -> None:
        logits, targets = batch(1000)
        if pin:
            logits, targets = logits.pin_memory(), targets.pin_memory()
        device.chunk_elements = chunk_elements
        scores = device.score(FocalLoss(device="cuda:0"), logits, targets, ELEMENT_OUTPUTS)
        assert_same(scores, expected(1000))

    @pytest.mark.parametrize("chunk_elements", [36, 400, 2**24])
    def test_dense_scores_are_those_of_the_cpu(self, device: Device, chunk_elements: int) -> None:
        logits = torch.randn(3, 5, 70, generator=torch.Generator().manual_seed(0))
        targets = torch.arange(210).reshape(3, 70) % 5
        on_host = Device("cpu").score(FocalLoss(device="cpu"), logits, targets, ELEMENT_OUTPUTS)
        device.chunk_elements = chunk_elements
        assert_same(device.score(FocalLoss(device="cuda:0"), logits, targets, ELEMENT_OUTPUTS), on_host)

    def test_a_large_body_needs_the_memory_of_a_few_chunks(self, device: Device) -> None:
        logits, targets = torch.zeros(2**18, 1000, dtype=torch.bfloat16), torch.zeros(2**18, dtype=torch.int64)
        module = FocalLoss(device="cuda:0")
        torch.cuda.reset_peak_memory_stats()
        device.score(module, logits, targets, ["loss"])
        assert torch.cuda.max_memory_allocated() < 4 * 2 * device.chunk_elements

    def test_chunks_are_halved_where_memory_runs_out(self, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        compute = device._score_chunk

        def small(module: FocalLoss, logits: Tensor, *others: Any) -> Scores:
            if len(logits) > 100:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return compute(module, logits, *others)

        monkeypatch.setattr(device, "_score_chunk", small)
        scores = device.score(FocalLoss(device="cuda:0"), *batch(1000), ELEMENT_OUTPUTS)
        assert device.out_of_memory_retries == 4
        assert_same(scores, expected(1000))
