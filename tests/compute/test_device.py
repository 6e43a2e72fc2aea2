"""Scoring in chunks, smaller chunks when memory runs out (of a fake device), and names of devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from service.compute.device import CHUNK_ELEMENTS, Device, resolve_device
from service.errors import DeviceOutOfMemoryError, DeviceUnavailableError
from service.loss.focal import FocalLoss
from service.loss.scores import Scores
from service.schema.request import ELEMENT_OUTPUTS
from tests.lanes import mostly_slow

MESSAGE_OF_THE_CPU_ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4000000000000000 bytes. Error code 12 (Cannot allocate memory)"
)


class SmallDevice(Device):
    """A device that fails on chunks of more than `max_rows` rows, later of `max_rows_later` rows."""

    def __init__(self, max_rows: int, error: Exception, max_rows_later: int | None = None) -> None:
        super().__init__("cpu")
        self.max_rows = max_rows
        self.max_rows_later = max_rows if max_rows_later is None else max_rows_later
        self.error = error
        self.tried: list[int] = []

    def _score_chunk(self, module: FocalLoss, logits: Tensor, targets: Tensor, outputs: Sequence[str]) -> Scores:
        self.tried.append(len(logits))
        if len(logits) > self.max_rows:
            raise self.error
        self.max_rows = self.max_rows_later
        return super()._score_chunk(module, logits, targets, outputs)


@pytest.fixture
def device() -> Device:
    return Device("cpu")


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
    def test_the_scores_do_not_depend_on_the_size_of_a_chunk(self, device: Device, chunk_elements: int) -> None:
        module = FocalLoss([1, 2, 0.5, 0], device="cpu")
        logits, targets = batch(100)
        expected = device.score(module, logits, targets, ELEMENT_OUTPUTS)
        assert set(expected.state.tolist()) == {0, 1, 2}
        device.chunk_elements = chunk_elements
        assert_same(device.score(module, logits, targets, ELEMENT_OUTPUTS), expected)

    @pytest.mark.parametrize("chunk_elements", [1, 3, 4, 100])
    def test_labels(self, device: Device, chunk_elements: int) -> None:
        module = FocalLoss([0.25, 0.5, 0.75], device="cpu", mode="sigmoid", ignore_index=-1)
        logits = torch.linspace(-5, 5, 60).reshape(20, 3)
        targets = torch.arange(60).remainder(3).reshape(20, 3).roll(1, 0) - 1
        expected = device.score(module, logits, targets, ELEMENT_OUTPUTS)
        device.chunk_elements = chunk_elements
        scores = device.score(module, logits, targets, ELEMENT_OUTPUTS)
        assert scores.outputs["prediction"].shape == (60,)
        assert_same(scores, expected)

    @pytest.mark.parametrize("elements", mostly_slow([1, 4, 6, 7, 12, 13, 23, 24], quick=3))
    @pytest.mark.parametrize("kind", ["classes", "smoothed", "soft", "labels"])
    def test_examples_of_several_elements(self, device: Device, kind: str, elements: int) -> None:
        generator = torch.Generator().manual_seed(1)
        logits, classes = torch.randn(4, 3, 6, generator=generator), torch.arange(24).reshape(4, 6) % 3
        targets = classes if kind in ("classes", "smoothed") else one_hot(classes, 3).movedim(2, 1).double()
        targets[1, ..., 2] = -100
        targets[2, ..., 5] = 5
        options: dict[str, Any] = {"smoothed": {"label_smoothing": 0.1}, "labels": {"mode": "sigmoid"}}.get(kind, {})
        module = FocalLoss([0.25, 0.5, 0.75], device="cpu", **options)
        expected = device.score(module, logits, targets, ELEMENT_OUTPUTS)
        assert len(expected.loss) == (72 if kind == "labels" else 24)
        assert set(expected.state.tolist()) == {0, 1, 2}
        device.chunk_elements = 3 * elements
        assert_same(device.score(module, logits, targets, ELEMENT_OUTPUTS), expected)

    @pytest.mark.parametrize("rows", [0, 1])
    def test_few_rows(self, rows: int) -> None:
        device = SmallDevice(1, MemoryError())
        logits, targets = batch(rows)
        scores = device.score(FocalLoss(device="cpu"), logits, targets, ELEMENT_OUTPUTS)
        assert device.tried == [rows]
        assert scores.loss.shape == (rows,)
        assert scores.outputs["entropy"].shape == (rows,)

    def test_chunks_have_the_configured_size(self) -> None:
        device = SmallDevice(1000, MemoryError())
        device.chunk_elements = 40
        device.score(chunked_loss(), *batch(25), ["loss"])
        assert device.tried == [10, 10, 5]
        assert device.out_of_memory_retries == 0

    def test_rows_wider_than_a_chunk_are_scored_one_by_one(self) -> None:
        device = SmallDevice(1, MemoryError())
        device.chunk_elements = 3
        device.score(chunked_loss(), *batch(4), ["loss"])
        assert device.tried == [1, 1, 1, 1]

    def test_the_fused_kernel_gets_all_rows_at_once(self) -> None:
        device = SmallDevice(1000, MemoryError())
        device.chunk_elements = 40
        device.score(FocalLoss(device="cpu"), *batch(25), ["loss"])
        assert device.tried == [25]

    def test_the_default_size_of_a_chunk(self, device: Device) -> None:
        assert device.chunk_elements == CHUNK_ELEMENTS["cpu"]


def chunked_loss() -> FocalLoss:
    """A loss that is computed in chunks, since it is not fused."""
    return FocalLoss(device="cpu", label_smoothing=0.1)


class TestOutOfMemory:
    @pytest.mark.parametrize(
        "error",
        [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError(MESSAGE_OF_THE_CPU_ALLOCATOR)],
    )
    def test_chunks_are_halved_until_they_fit(self, device: Device, error: Exception) -> None:
        small = SmallDevice(20, error)
        module = FocalLoss(device="cpu")
        logits, targets = batch(100)
        scores = small.score(module, logits, targets, ELEMENT_OUTPUTS)
        assert small.tried == [100, 50, 25, 12, 12, 12, 12, 12, 12, 12, 12, 4]
        assert small.out_of_memory_retries == 3
        assert_same(scores, device.score(module, logits, targets, ELEMENT_OUTPUTS))

    def test_memory_that_runs_out_in_the_middle(self, device: Device) -> None:
        small = SmallDevice(40, MemoryError(), max_rows_later=5)
        small.chunk_elements = 4 * 40
        module = chunked_loss()
        logits, targets = batch(100)
        scores = small.score(module, logits, targets, ELEMENT_OUTPUTS)
        assert small.tried == [40, 40, 20, 10, *[5] * 12]
        assert small.out_of_memory_retries == 3
        assert_same(scores, device.score(module, logits, targets, ELEMENT_OUTPUTS))

    def test_without_memory_for_a_single_row_it_is_503(self) -> None:
        small = SmallDevice(0, torch.OutOfMemoryError("CUDA out of memory"))
        logits, targets = batch(9)
        with pytest.raises(DeviceOutOfMemoryError) as caught:
            small.score(FocalLoss(device="cpu"), logits, targets, ELEMENT_OUTPUTS)
        assert caught.value.status == 503
        assert int(caught.value.headers["Retry-After"]) > 0
        assert small.tried == [9, 4, 2, 1]
        assert small.out_of_memory_retries == 3
        assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)

    def test_the_next_request_is_served(self) -> None:
        small = SmallDevice(0, MemoryError())
        module = FocalLoss(device="cpu")
        logits, targets = batch(9)

        with pytest.raises(DeviceOutOfMemoryError):
            small.score(module, logits, targets, ELEMENT_OUTPUTS)
        small.max_rows = small.max_rows_later = 100
        small.tried.clear()
        assert len(small.score(module, logits, targets, ELEMENT_OUTPUTS).loss) == 9
        assert small.tried == [9]

    @pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("memory")])
    def test_other_errors_are_raised(self, error: Exception) -> None:
        small = SmallDevice(0, error)
        with pytest.raises(type(error), match=str(error)):
            small.score(FocalLoss(device="cpu"), *batch(9), ELEMENT_OUTPUTS)
        assert small.tried == [9]
        assert small.out_of_memory_retries == 0


class TestDevice:
    def test_the_cpu_passes_the_check(self, device: Device) -> None:
        device.check()

    def test_a_device_that_computes_nothing_fails_the_check(self, device: Device) -> None:
        # torch's meta device accepts tensors and computes nothing.
        device.name = "meta"
        with pytest.raises(DeviceUnavailableError, match="meta"):
            device.check()

    def test_the_cpu_is_the_cpu(self) -> None:
        assert resolve_device("cpu") == "cpu"

    def test_auto_is_cuda_if_there_is_a_cuda_device(self) -> None:
        assert resolve_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")

    @pytest.mark.parametrize("number", [100, 127, 128, 255, 256, 257, 65_536, 99_999, 2**32, 2**64])
    def test_an_absent_device_number_is_an_error(self, number: int) -> None:
        with pytest.raises(DeviceUnavailableError, match=f"cuda:{number}:"):
            resolve_device(f"cuda:{number}")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
    @pytest.mark.parametrize("setting", ["cuda", "cuda:0"])
    def test_cuda_without_a_cuda_device_is_an_error(self, setting: str) -> None:
        with pytest.raises(DeviceUnavailableError, match="finds 0 CUDA devices"):
            resolve_device(setting)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
    @pytest.mark.parametrize("setting", ["cuda", "cuda:0"])
    def test_cuda_is_named_in_full(self, setting: str) -> None:
        assert resolve_device(setting) == "cuda:0"
