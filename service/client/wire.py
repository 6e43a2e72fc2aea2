"""Requests and replies of `POST /loss` as safetensors, without copying the logits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from service.client.batches import SentBatch
from service.client.element_results import element_results
from service.formats.safetensors import LARGEST_HEADER_BYTES, Tensor, file_parts, read_safetensors
from service.schema.request import Ids
from service.schema.result import BatchResult, Excluded, HardExample, LossResult, LossWarning

MEDIA_TYPE = "application/x-safetensors"
HEADERS = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
# The HTTP stack copies each piece, and the unsent part after each send. Copies of small pieces stay in the CPU cache.
PIECE_BYTES = 256 * 1024


class RequestBody:
    """A request body in pieces. It can be sent several times.

    Args:
        buffers: The bytes in order. They are read when the request is sent.
    """

    def __init__(self, buffers: Sequence[bytes | memoryview]) -> None:
        self._buffers = buffers
        self.length = sum(map(len, buffers))

    def __iter__(self) -> Iterator[bytes]:
        small: list[bytes | memoryview] = []
        size = 0
        for buffer in self._buffers:
            for start in range(0, len(buffer), PIECE_BYTES):
                piece = buffer[start : start + PIECE_BYTES]
                if size + len(piece) > PIECE_BYTES:
                    yield b"".join(small)
                    small, size = [], 0
                small.append(piece)
                size += len(piece)
        yield b"".join(small)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Iterate asynchronously. Not `__aiter__`: httpx.AsyncClient rejects a body that has `__iter__` as well."""
        for piece in self:
            yield piece


def loss_body(batches: Sequence[SentBatch], fields: Mapping[str, object]) -> RequestBody:
    """Write a request as a safetensors file with the tensors `logits.0`, `targets.0`, ...

    Args:
        batches: One batch or more.
        fields: The other members of the request: config or config_id, outputs, top_k, on_invalid.
    """
    counts = {batch.num_classes for batch in batches}
    if len(counts) == 1 and counts != {None}:
        fields = {**fields, "num_classes": counts.pop()}
    tensors: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        tensors |= {f"{part}.{number}": tensor for part, tensor in batch.tensors.items()}
    return RequestBody(file_parts(tensors, {"request": orjson.dumps(fields).decode()}))


def read_reply(content: bytes, ids: Sequence[Ids | None]) -> LossResult:
    """Read a reply. The columns of the result are views into `content`.

    Args:
        content: A safetensors file as the service writes it.
        ids: Ids of each batch of the request.

    Raises:
        ValueError: The content is no safetensors file.
        KeyError: A tensor or a member is missing.
        TypeError: A member has the wrong type.
    """
    tensors, metadata = read_safetensors(content, max_header_bytes=LARGEST_HEADER_BYTES)
    counts = [tensors[f"batch_{name}"] for name in ("num_examples", "num_ignored", "num_excluded", "num_elements")]
    columns = {
        name.removeprefix("per_example."): array for name, array in tensors.items() if name.startswith("per_example.")
    }
    ends = np.cumsum(counts[0]).tolist()
    elements = element_results(tensors, metadata, counts[0].tolist())
    batches = tuple(
        BatchResult(
            loss=_number(tensors["batch_loss"][number]),
            loss_sum=float(tensors["batch_loss_sum"][number]),
            alpha_sum=float(tensors["batch_alpha_sum"][number]),
            num_examples=int(counts[0][number]),
            num_ignored=int(counts[1][number]),
            num_excluded=int(counts[2][number]),
            per_example={name: array[end - int(counts[0][number]) : end] for name, array in columns.items()},
            ids=ids[number],
            num_elements=int(counts[3][number]),
            per_element=elements[number].per_element,
            offsets=elements[number].offsets,
            regions=elements[number].regions,
        )
        for number, end in enumerate(ends)
    )
    return LossResult(
        config_id=metadata["config_id"],
        device=metadata["device"],
        loss=_number(tensors["loss"]),
        num_examples=int(counts[0].sum()),
        num_ignored=int(counts[1].sum()),
        num_excluded=int(counts[2].sum()),
        batches=batches,
        hardest=tuple(_hard_example(row, ids) for row in orjson.loads(metadata["hardest"])),
        excluded=tuple(_excluded(row, ids) for row in orjson.loads(metadata["excluded"])),
        warnings=tuple(LossWarning(**warning) for warning in orjson.loads(metadata.get("warnings", "[]"))),
        num_elements=int(counts[3].sum()),
    )


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _id(row: dict[str, Any], ids: Sequence[Ids | None]) -> str | int | None:
    batch_ids = ids[row["batch"]]
    return None if batch_ids is None else batch_ids[row["index"]]


def _hard_example(row: dict[str, Any], ids: Sequence[Ids | None]) -> HardExample:
    return HardExample(row["batch"], row["index"], _id(row, ids), row["loss"], row["contribution"])


def _excluded(row: dict[str, Any], ids: Sequence[Ids | None]) -> Excluded:
    return Excluded(row["batch"], row["index"], _id(row, ids), row["code"], row["msg"])
