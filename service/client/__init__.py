"""The Python client of the service. Takes numpy, torch, Arrow or lists, returns numpy.

It imports neither torch nor fastapi.

The asynchronous client in `_async` is the source. `scripts/generate_sync_client.py` generates `_sync` from it.
"""

from service.client._async.client import AsyncLossClient
from service.client._async.runs import AsyncRunClient
from service.client._async.streams import AsyncLossStream
from service.client._sync.client import LossClient
from service.client._sync.runs import RunClient
from service.client._sync.streams import LossStream
from service.client.calls import Structure
from service.client.errors import ClientError, ConnectionFailedError, RequestTimeoutError, UnexpectedReplyError
from service.client.results import HeldConfig, ServiceInfo
from service.client.retry import RetryPolicy
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
    "Structure",
    "UnexpectedReplyError",
]
