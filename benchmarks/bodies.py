"""The bytes that are sent, in every format, and the answer that has to come back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

JSON, SAFETENSORS, TRITON = "application/json", "application/x-safetensors", "application/octet-stream"
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Batch:
    """Logits, targets, and what the seed's formula makes of them in float64."""

    logits: Floats
    targets: NDArray[np.int64]
    per_example: Floats

    @classmethod
    def random(cls, rows: int, classes: int) -> Batch:
        """Standard normal float32 logits, equally frequent targets, always the same."""
        rng = np.random.default_rng(0)
        logits = rng.standard_normal((rows, classes), dtype=np.float32)
        targets = rng.integers(0, classes, rows)
        # Standard normal logits are small: nothing overflows without their maximum taken off.
        at_target = logits[np.arange(rows), targets].astype(np.float64)
        cross_entropy = np.log(np.exp(logits).sum(1, dtype=np.float64)) - at_target
        return cls(logits, targets, (1 - np.exp(-cross_entropy)) ** 2 * cross_entropy)


@dataclass(frozen=True)
class Body:
    """A batch as one server wants it.

    Args:
        path: The file of its bytes.
        headers: What goes with them.
    """

    path: Path
    headers: Mapping[str, str]

    @property
    def size(self) -> int:
        return self.path.stat().st_size


_WRITTEN: dict[Path, Body] = {}


def write(batch: Batch, media_type: str, folder: Path) -> Body:
    """The body of a batch, written once for each format and shape."""
    rows, classes = batch.logits.shape
    path = folder / f"{rows}x{classes}.{media_type.rpartition('/')[2]}"
    if path not in _WRITTEN:
        content, headers = _encoded(batch, media_type)
        path.write_bytes(content)
        _WRITTEN[path] = Body(path, {"Content-Type": media_type} | headers)
    return _WRITTEN[path]


def _encoded(batch: Batch, media_type: str) -> tuple[bytes, dict[str, str]]:
    if media_type == JSON:
        lists = {"logits": batch.logits.tolist(), "targets": batch.targets.tolist()}
        return json.dumps(lists).encode(), {}
    if media_type == SAFETENSORS:
        return bytes(safetensors.numpy.save({"logits": batch.logits, "targets": batch.targets})), {}
    import tritonclient.http as triton

    inputs = [
        triton.InferInput("logits", batch.logits.shape, "FP32").set_data_from_numpy(batch.logits),
        triton.InferInput("targets", (len(batch.targets), 1), "INT64").set_data_from_numpy(batch.targets[:, None]),
    ]
    content, head = triton.InferenceServerClient.generate_request_body(inputs)
    return bytes(content), {"Inference-Header-Content-Length": str(head)}


def is_right(batch: Batch, content: bytes, headers: Mapping[str, str]) -> bool:
    """Whether an answer has the batch's mean loss and the loss of every example."""
    media_type = headers.get("content-type", "").partition(";")[0]
    if media_type not in _READERS:
        return False
    loss, per_example = _READERS[media_type](content, headers)
    right: bool = np.shape(per_example) == batch.per_example.shape
    return right and bool(
        np.isclose(loss, batch.per_example.mean(), rtol=1e-4)
        and np.allclose(per_example, batch.per_example, rtol=1e-3, atol=1e-5)
    )


def _from_json(content: bytes, headers: Mapping[str, str]) -> tuple[float, Any]:
    answer = json.loads(content)
    ours = "batches" in answer
    return answer["loss"], answer["batches"][0]["per_example"]["loss"] if ours else answer["per_example"]


def _from_safetensors(content: bytes, headers: Mapping[str, str]) -> tuple[float, Any]:
    answer = safetensors.numpy.load(content)
    return float(answer["loss"]), answer["per_example.loss"]


def _from_triton(content: bytes, headers: Mapping[str, str]) -> tuple[float, Any]:
    import tritonclient.http as triton

    head = int(headers["inference-header-content-length"])
    answer = triton.InferenceServerClient.parse_response_body(content, header_length=head)
    return float(answer.as_numpy("loss").ravel()[0]), answer.as_numpy("per_example").ravel()


_READERS: dict[str, Callable[[bytes, Mapping[str, str]], tuple[float, Any]]] = {
    JSON: _from_json,
    SAFETENSORS: _from_safetensors,
    TRITON: _from_triton,
}
