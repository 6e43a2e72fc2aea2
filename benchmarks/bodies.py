"""Request bodies in every format, and the check of their replies."""

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
    """Logits, targets, and the loss of each example in float64, by the usual formula."""

    logits: Floats
    targets: NDArray[np.int64]
    per_example: Floats

    @classmethod
    def random(cls, rows: int, classes: int) -> Batch:
        """Draw standard normal float32 logits and uniform targets, with a fixed seed."""
        rng = np.random.default_rng(0)
        logits = rng.standard_normal((rows, classes), dtype=np.float32)
        targets = rng.integers(0, classes, rows)
        # Standard normal logits are small: exp does not overflow.
        at_target = logits[np.arange(rows), targets].astype(np.float64)
        cross_entropy = np.log(np.exp(logits).sum(1, dtype=np.float64)) - at_target
        return cls(logits, targets, (1 - np.exp(-cross_entropy)) ** 2 * cross_entropy)


@dataclass(frozen=True)
class Body:
    """A request body in the format of one server.

    Args:
        path: File with the bytes.
        headers: Headers of the request.
    """

    path: Path
    headers: Mapping[str, str]

    @property
    def size(self) -> int:
        return self.path.stat().st_size


_BODIES: dict[Path, Body] = {}


def write(batch: Batch, media_type: str, folder: Path) -> Body:
    """Return the body of a batch. It is written once for each format and shape."""
    rows, classes = batch.logits.shape
    path = folder / f"{rows}x{classes}.{media_type.rpartition('/')[2]}"
    if path not in _BODIES:
        content, headers = _encode(batch, media_type)
        path.write_bytes(content)
        _BODIES[path] = Body(path, {"Content-Type": media_type} | headers)
    return _BODIES[path]


def _encode(batch: Batch, media_type: str) -> tuple[bytes, dict[str, str]]:
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
    content, header_length = triton.InferenceServerClient.generate_request_body(inputs)
    return bytes(content), {"Inference-Header-Content-Length": str(header_length)}


def is_correct(batch: Batch, content: bytes, headers: Mapping[str, str]) -> bool:
    """Return True if a reply contains the mean loss of the batch and the loss of every example."""
    media_type = headers.get("content-type", "").partition(";")[0]
    if media_type not in _READERS:
        return False
    loss, per_example = _READERS[media_type](content, headers)
    same_shape: bool = np.shape(per_example) == batch.per_example.shape
    return same_shape and bool(
        np.isclose(loss, batch.per_example.mean(), rtol=1e-4)
        and np.allclose(per_example, batch.per_example, rtol=1e-3, atol=1e-5)
    )


def _from_json(content: bytes, headers: Mapping[str, str]) -> tuple[float, Any]:
    reply = json.loads(content)
    ours = "batches" in reply
    return reply["loss"], reply["batches"][0]["per_example"]["loss"] if ours else reply["per_example"]


def _from_safetensors(content: bytes, headers: Mapping[str, str]) -> tuple[float, Any]:
    tensors = safetensors.numpy.load(content)
    return float(tensors["loss"]), tensors["per_example.loss"]


def _from_triton(content: bytes, headers: Mapping[str, str]) -> tuple[float, Any]:
    import tritonclient.http as triton

    length = int(headers["inference-header-content-length"])
    reply = triton.InferenceServerClient.parse_response_body(content, header_length=length)
    return float(reply.as_numpy("loss").ravel()[0]), reply.as_numpy("per_example").ravel()


_READERS: dict[str, Callable[[bytes, Mapping[str, str]], tuple[float, Any]]] = {
    JSON: _from_json,
    SAFETENSORS: _from_safetensors,
    TRITON: _from_triton,
}
