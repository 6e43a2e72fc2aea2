"""Who computes: a service over the network, or this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from service.cli.score.inputs import Chunk
from service.client import LossClient
from service.schema.config import LossConfig
from service.schema.request import OnInvalid
from service.schema.result import BatchResult


class Scorer(Protocol):
    """Computes one chunk."""

    def score(self, chunk: Chunk) -> BatchResult:
        """The result of a chunk as one batch.

        Raises:
            LossServiceError: What is wrong with it; batch 0, rows counted from the chunk's first.
        """


class RemoteScorer:
    """Asks a service.

    Args:
        client: Connected to it.
        config: The configuration.
        outputs: Names of scores.
        on_invalid: What to do with bad rows.
    """

    def __init__(self, client: LossClient, config: LossConfig, outputs: Sequence[str], on_invalid: OnInvalid) -> None:
        self._client = client
        self._config = config
        self._outputs = outputs
        self._on_invalid = on_invalid

    def score(self, chunk: Chunk) -> BatchResult:
        """See `Scorer.score`."""
        reply = self._client.loss(
            chunk.logits, chunk.targets, config=self._config, outputs=self._outputs, on_invalid=self._on_invalid
        )
        return reply.batches[0]


class LocalScorer:
    """Computes in this process, as the service would; needs the `server` extra.

    Args:
        config: The configuration.
        outputs: Names of scores.
        on_invalid: What to do with bad rows.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """

    def __init__(self, config: LossConfig, outputs: Sequence[str], on_invalid: OnInvalid, device: str) -> None:
        from service.compute.device import Device, resolve_device
        from service.loss.focal import FocalLoss
        from service.schema.request import RequestOptions

        name = resolve_device(device)
        self._device = Device(name)
        self._module = FocalLoss.from_config(config, name)
        self._options = RequestOptions.parse({"outputs": list(outputs), "on_invalid": on_invalid})

    def score(self, chunk: Chunk) -> BatchResult:
        """See `Scorer.score`."""
        from service.compute.evaluation import Limits, evaluate
        from service.schema.request import Batch, LossRequest

        batch = Batch(chunk.logits, chunk.targets)
        request = LossRequest(self._options, (batch,))
        return evaluate(self._device, self._module, request, Limits(batch.logits.size, len(chunk.logits))).batches[0]
