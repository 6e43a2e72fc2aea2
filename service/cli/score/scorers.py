"""Scorers: a service, or this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from service.cli.errors import CommandError, UsageError
from service.cli.score.chunks import Chunk
from service.cli.score.options import ScoringOptions
from service.client import LossClient
from service.client.errors import ClientError
from service.client.retry import NO_RETRIES
from service.errors import LossServiceError
from service.schema.result import BatchResult


class Scorer(Protocol):
    """Computes the scores of chunks."""

    def score(self, chunk: Chunk) -> BatchResult:
        """Score a chunk as one batch.

        Raises:
            LossServiceError: The chunk is invalid, or the computation failed. Its place counts rows from the first row
                of the chunk.
        """


class RemoteScorer:
    """Scores chunks on a service."""

    def __init__(self, client: LossClient, options: ScoringOptions) -> None:
        self._client = client
        self._options = options

    def score(self, chunk: Chunk) -> BatchResult:
        """See `Scorer.score`."""
        options = self._options
        reply = self._client.loss_batches(
            [chunk.parts],
            config=options.config,
            outputs=options.scorer_outputs,
            on_invalid=options.on_invalid,
            **options.structure,
        )
        return reply.batches[0]


class LocalScorer:
    """Scores chunks in this process, with the code of the service; needs the `server` extra.

    Args:
        options: Options of the run.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """

    def __init__(self, options: ScoringOptions, device: str) -> None:
        from service.compute.device import Device, resolve_device
        from service.loss.focal import FocalLoss
        from service.schema.request import RequestOptions

        name = resolve_device(device)
        self._device = Device(name)
        self._module = FocalLoss.from_config(options.config, name)
        self._options = RequestOptions.parse(
            {"outputs": list(options.scorer_outputs), "on_invalid": options.on_invalid, **options.structure}
        )

    def score(self, chunk: Chunk) -> BatchResult:
        """See `Scorer.score`."""
        from service.compute.evaluation import Limits, evaluate
        from service.schema.request import LossRequest

        batch = chunk.batch
        limits = Limits(max(batch.logits.size, batch.targets.size), batch.num_examples)
        return evaluate(self._device, self._module, LossRequest(self._options, (batch,)), limits).batches[0]


@contextmanager
def open_scorer(options: ScoringOptions, url: str, device: str | None) -> Iterator[Scorer]:
    """Open a scorer: the service at `url`, or this process if `device` is not None.

    Raises:
        UsageError: This process cannot compute on the device.
        CommandError: The service does not reply.
    """
    if device is not None:
        yield _local_scorer(options, device)
        return
    # A service that does not reply at the start ends the command; later requests wait for a lost service.
    with LossClient(url, retry=NO_RETRIES) as client:
        try:
            client.info()
        except (LossServiceError, ClientError) as err:
            raise CommandError(f"{err}; start a service with 'focal-loss serve', or use --local") from err
    with LossClient(url) as client:
        yield RemoteScorer(client, options)


def _local_scorer(options: ScoringOptions, device: str) -> LocalScorer:
    try:
        return LocalScorer(options, device)
    except ModuleNotFoundError as err:
        raise UsageError(f"--local needs {err.name}: pip install 'focal-loss-service[server]'") from err
    except LossServiceError as err:
        raise UsageError(err.detail) from err
