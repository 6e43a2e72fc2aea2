"""The Python client of the service: numpy, torch, Arrow or lists in, numpy out. Loads neither torch nor fastapi."""

from service.client.async_client import AsyncLossClient
from service.client.async_runs import AsyncRunClient
from service.client.async_streams import AsyncLossStream
from service.client.errors import ClientError, ConnectionFailedError, RequestTimeoutError, UnexpectedReplyError
from service.client.results import HeldConfig, ServiceInfo
from service.client.retry import RetryPolicy
from service.client.runs import RunClient
from service.client.streams import LossStream
from service.client.sync_client import LossClient
from service.client.training import RecordingError, RunRecorder
from service.errors import LossServiceError
from service.schema.config import LossConfig
from service.schema.result import BatchResult, Excluded, HardExample, LossResult

__all__ = [
    "AsyncLossClient",
    "AsyncLossStream",
    "AsyncRunClient",
    "BatchResult",
    "ClientError",
    "ConnectionFailedError",
    "Excluded",
    "HardExample",
    "HeldConfig",
    "LossClient",
    "LossConfig",
    "LossResult",
    "LossServiceError",
    "LossStream",
    "RecordingError",
    "RequestTimeoutError",
    "RetryPolicy",
    "RunClient",
    "RunRecorder",
    "ServiceInfo",
    "UnexpectedReplyError",
]
