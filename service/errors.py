"""The errors of the service, and their common format in a reply (RFC 9457).

- LossServiceError                  500 internal_error
  - DecodeError                     400 malformed_body          the body is not of its media type
  - UnauthorizedError               401 unauthorized            no key, or an unknown one
  - CrossSiteError                  403 cross_site              a change requested by a page of another origin
  - ForbiddenError                  403 forbidden               the role of the key does not allow this
  - ForbiddenHostError              403 forbidden_host          the `Host` of the request is not allowed
  - NotFoundError                   404 not_found               unknown path
    - UnknownConfigError            404 unknown_config          the service does not hold this config_id
    - UnknownRunError               404 unknown_run             the store has no run of this name
    - UnknownEpochError             404 unknown_epoch           the run has no rows of this epoch
    - UnknownExampleError           404 unknown_example         the run has no example of this id
    - UnknownBatchError             404 unknown_batch           the epoch has no batch of this name
    - UnknownQueueError             404 unknown_queue           the run has no queue of this name
  - MethodNotAllowedError           405 method_not_allowed
  - NotAcceptableError              406 not_acceptable          Accept allows none of the reply formats
  - HeadersTimeoutError             408 head_timeout            request line and headers did not arrive in time
  - BodyTimeoutError                408 body_timeout            the body did not arrive in time
  - ConflictError                   409 conflict                the name exists with other content
    - RunConflictError              409 run_conflict
    - BatchConflictError            409 batch_conflict
    - QueueConflictError            409 queue_conflict
    - ReviewConflictError           409 review_conflict         someone has reviewed the example since
  - RunDamagedError                 409 run_damaged             a file of the run cannot be read
  - BodyTooLargeError               413 body_too_large          more bytes than max_body_bytes
  - TooManyElementsError            413 too_many_elements       a batch has too many logits, targets or classes
  - TooManyExamplesError            413 too_many_examples       the request has more examples than max_examples
  - TooManyBatchesError             413 too_many_batches        the request has too many batches
  - TooManyRegionsError             413 too_many_regions        the reply would have more than 2^18 regions
  - TooManyAttributesError          413 too_many_attributes     an example has too many attributes
  - TooManyColumnsError             413 too_many_columns        a CSV file has more than 10 000 columns
  - TooManyValuesError              413 too_many_values         a JSON body has too many values and names
  - RunFullError                    413 run_full                the run has more rows than max_run_rows
  - UnsupportedMediaTypeError       415 unsupported_media_type
  - UnsupportedEncodingError        415 unsupported_encoding    unknown Content-Encoding
  - InvalidRequestError             422 invalid_request         unknown or missing field, wrong type
    - InvalidConfigError            422 invalid_config          invalid configuration
    - UnknownOutputError            422 unknown_output          unknown name in `outputs`
    - ShapeError                    422 invalid_shape           rows or parts of different lengths, C < 2
    - InvalidLogitError             422 invalid_logit           NaN, +inf, or -inf on the target
    - InvalidTargetError            422 invalid_target          neither a class nor ignore_index
    - InvalidIdsError               422 invalid_ids             not unique, or not strings or integers
    - InvalidNameError              422 invalid_name            invalid name of a run, batch or queue
    - NeedsLogitsError              422 needs_logits            it does not follow from statistics in place of logits
    - LayoutNotStoredError          422 layout_not_stored       a run stores batches of the layout of its task only
  - QueueFullError                  429 queue_full              the queue of requests is full
  - HeadersTooLargeError            431 head_too_large          request line and headers over max_head_bytes
  - TransferEncodingError           501 transfer_encoding       Transfer-Encoding other than chunked
  - TooManyConnectionsError         503 too_many_connections    the process has more than max_connections
  - DeviceOutOfMemoryError          503 out_of_memory           not enough memory for a single row
  - DeviceUnavailableError          503 device_unavailable      the device does not respond
  - DrainingError                   503 draining                the process is shutting down
  - StorageUnavailableError         503 storage_unavailable     the data directory cannot be read or written
  - QueryTimeoutError               503 query_timeout           a query took longer than query_timeout_s
  - HttpVersionError                505 http_version            neither HTTP/1.1 nor HTTP/1.0
  - StorageFullError                507 storage_full            the data directory is full

Messages name the faulty value and the allowed ones. `service.api.http.problems` turns an error into a reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NotRequired, Self

from typing_extensions import TypedDict

TYPE_PREFIX = "urn:focal-loss-service:problem:"


class ErrorItem(TypedDict):
    """A fault of the request: its place (`["batches", 0, "logits", 17, 3]`) and a message."""

    loc: list[str | int]
    msg: str


class Problem(TypedDict):
    """An error, in the format of RFC 9457; `code` is stable, `errors` locates each fault of invalid input.

    `current`, of `review_conflict` only, is the last review of the example.
    Errors below `/v2` repeat `detail` as `error`, for clients of the Open Inference Protocol.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: NotRequired[list[ErrorItem]]
    current: NotRequired[object]
    error: NotRequired[str]


class LossServiceError(Exception):
    """An error with a status, a stable code and, for invalid input, the place of each fault."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, errors: Sequence[ErrorItem] = (), headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = headers or {}

    def problem(self) -> Problem:
        """The error as the body of a reply."""
        members: Problem = {
            "type": TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            members["errors"] = self.errors
        return members


class DecodeError(LossServiceError):
    """The body is not of its media type."""

    status, code, title = 400, "malformed_body", "Malformed body"


class UnauthorizedError(LossServiceError):
    """Keys are set, and the request has none of them."""

    status, code, title = 401, "unauthorized", "Unauthorized"


class CrossSiteError(LossServiceError):
    """A page of another origin requests a change from a browser."""

    status, code, title = 403, "cross_site", "Cross-site request refused"


class ForbiddenError(LossServiceError):
    """The role of the key does not allow this."""

    status, code, title = 403, "forbidden", "Forbidden"


class ForbiddenHostError(LossServiceError):
    """The `Host` of the request is neither a loopback name nor in `allowed_hosts`."""

    status, code, title = 403, "forbidden_host", "Host not allowed"


class NotFoundError(LossServiceError):
    """No route has this path."""

    status, code, title = 404, "not_found", "Not found"


class UnknownConfigError(NotFoundError):
    """The service holds no configuration with this `config_id`."""

    code, title = "unknown_config", "Unknown configuration"


class UnknownRunError(NotFoundError):
    """The store has no run of this name."""

    code, title = "unknown_run", "Unknown run"


class UnknownEpochError(NotFoundError):
    """The run has no rows of this epoch."""

    code, title = "unknown_epoch", "Unknown epoch"


class UnknownExampleError(NotFoundError):
    """The run has no example of this id."""

    code, title = "unknown_example", "Unknown example"


class UnknownBatchError(NotFoundError):
    """The epoch of the run has no batch of this name."""

    code, title = "unknown_batch", "Unknown batch"


class UnknownQueueError(NotFoundError):
    """The run has no queue of this name."""

    code, title = "unknown_queue", "Unknown queue"


class MethodNotAllowedError(LossServiceError):
    """The route does not have this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class NotAcceptableError(LossServiceError):
    """`Accept` allows none of the reply formats."""

    status, code, title = 406, "not_acceptable", "Not acceptable"


class HeadersTimeoutError(LossServiceError):
    """Request line and headers did not arrive in time."""

    status, code, title = 408, "head_timeout", "Request headers timed out"


class BodyTimeoutError(LossServiceError):
    """The body did not arrive in time."""

    status, code, title = 408, "body_timeout", "Body timed out"


class ConflictError(LossServiceError):
    """The name exists with other content."""

    status, code, title = 409, "conflict", "Conflict"


class RunConflictError(ConflictError):
    """A run of this name exists with another description."""

    code, title = "run_conflict", "Run exists with another description"


class BatchConflictError(ConflictError):
    """A batch of this name exists with other content."""

    code, title = "batch_conflict", "Batch exists with other content"


class QueueConflictError(ConflictError):
    """A queue of this name exists, created by another request."""

    code, title = "queue_conflict", "Queue exists with another request"


class ReviewConflictError(ConflictError):
    """The last review of the example is another one than `expected`."""

    code, title = "review_conflict", "Reviewed since"
    current: object = None
    """The last review of the example; null if it has none."""

    def problem(self) -> Problem:
        return {**super().problem(), "current": self.current}


class RunDamagedError(LossServiceError):
    """A file of the run cannot be read. A retry does not help: delete the run, or repair it with `focal-loss verify`.

    Attributes:
        file: Path of the file in the folder of the run; empty in the client.
        fault: The damage, such as "cannot be read: unexpected end of data"; empty in the client.
    """

    status, code, title = 409, "run_damaged", "Run damaged"
    file = fault = ""

    @classmethod
    def of(cls, run: str, file: str, fault: str) -> Self:
        """Build the error that names the run and the file."""
        error = cls(f"run {run} is damaged: {file} {fault}")
        error.file, error.fault = file, fault
        return error


class BodyTooLargeError(LossServiceError):
    """The body is larger than `max_body_bytes`."""

    status, code, title = 413, "body_too_large", "Body too large"


class TooManyElementsError(LossServiceError):
    """A batch has more than `max_elements` logits or targets, or too many classes for soft labels."""

    status, code, title = 413, "too_many_elements", "Too many elements"


class TooManyExamplesError(LossServiceError):
    """The request has more than `max_examples` examples."""

    status, code, title = 413, "too_many_examples", "Too many examples"


class TooManyRegionsError(LossServiceError):
    """The reply would have more than 2^18 regions."""

    status, code, title = 413, "too_many_regions", "Too many regions"


class TooManyBatchesError(LossServiceError):
    """The request has more batches than are accepted."""

    status, code, title = 413, "too_many_batches", "Too many batches"


class TooManyAttributesError(LossServiceError):
    """The examples have more attributes than are accepted."""

    status, code, title = 413, "too_many_attributes", "Too many attributes"


class TooManyColumnsError(LossServiceError):
    """A CSV file has more than 10 000 columns."""

    status, code, title = 413, "too_many_columns", "Too many columns"


class TooManyValuesError(LossServiceError):
    """A JSON body has more values and names than its route reads: 2^20, or 2^21 beside plain numbers."""

    status, code, title = 413, "too_many_values", "Too many values"


class RunFullError(LossServiceError):
    """The run would have more than `max_run_rows` rows."""

    status, code, title = 413, "run_full", "Run full"


class UnsupportedMediaTypeError(LossServiceError):
    """No codec reads this `Content-Type`."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class UnsupportedEncodingError(LossServiceError):
    """The service cannot decode this `Content-Encoding`."""

    status, code, title = 415, "unsupported_encoding", "Unsupported content encoding"


class InvalidRequestError(LossServiceError):
    """The body can be decoded, but the request is not valid."""

    status, code, title = 422, "invalid_request", "Invalid request"


class InvalidConfigError(InvalidRequestError, ValueError):
    """The configuration is invalid, or does not fit the logits; also a ValueError, for users of `FocalLoss`."""

    code, title = "invalid_config", "Invalid configuration"


class UnknownOutputError(InvalidRequestError):
    """Unknown name in `outputs`."""

    code, title = "unknown_output", "Unknown output"


class ShapeError(InvalidRequestError):
    """Shapes or lengths do not match."""

    code, title = "invalid_shape", "Invalid shape"


class NeedsLogitsError(InvalidRequestError):
    """Something that does not follow from the statistics that a batch holds in place of its logits."""

    code, title = "needs_logits", "Needs logits"


class InvalidLogitError(InvalidRequestError):
    """A logit whose loss is undefined or infinite."""

    code, title = "invalid_logit", "Invalid logit"


class InvalidTargetError(InvalidRequestError):
    """A target that is neither a class nor `ignore_index`."""

    code, title = "invalid_target", "Invalid target"


class InvalidIdsError(InvalidRequestError):
    """Ids that are not unique, or of the wrong type."""

    code, title = "invalid_ids", "Invalid ids"


class InvalidNameError(InvalidRequestError):
    """Invalid name of a run, batch or queue."""

    code, title = "invalid_name", "Invalid name"


class LayoutNotStoredError(InvalidRequestError):
    """A batch for a run has another layout than that of the run's task."""

    code, title = "layout_not_stored", "Layout not stored"


class QueueFullError(LossServiceError):
    """The queue of requests is full."""

    status, code, title = 429, "queue_full", "Queue full"


class HeadersTooLargeError(LossServiceError):
    """Request line and headers are larger than `max_head_bytes`."""

    status, code, title = 431, "head_too_large", "Request headers too large"


class TransferEncodingError(LossServiceError):
    """`Transfer-Encoding` names another coding than chunked."""

    status, code, title = 501, "transfer_encoding", "Transfer coding not implemented"


class TooManyConnectionsError(LossServiceError):
    """The process has more than `max_connections` connections."""

    status, code, title = 503, "too_many_connections", "Too many connections"


class DeviceOutOfMemoryError(LossServiceError):
    """The device has not enough memory for a single row."""

    status, code, title = 503, "out_of_memory", "Out of memory"


class DeviceUnavailableError(LossServiceError):
    """The device does not respond."""

    status, code, title = 503, "device_unavailable", "Device unavailable"


class DrainingError(LossServiceError):
    """The process is shutting down; the load balancer should use another one."""

    status, code, title = 503, "draining", "Draining"


class StorageUnavailableError(LossServiceError):
    """The data directory cannot be read or written."""

    status, code, title = 503, "storage_unavailable", "Storage unavailable"


class QueryTimeoutError(LossServiceError):
    """A query over a run took longer than `query_timeout_s`."""

    status, code, title = 503, "query_timeout", "Query timed out"


class HttpVersionError(LossServiceError):
    """The request line names another version than HTTP/1.1 and HTTP/1.0."""

    status, code, title = 505, "http_version", "HTTP version not supported"


class StorageFullError(LossServiceError):
    """The data directory is full; stored runs stay readable."""

    status, code, title = 507, "storage_full", "Storage full"
