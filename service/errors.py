"""Every error the service answers with, and the one shape they have on the wire.

- LossServiceError                  500 internal_error
  - DecodeError                     400 malformed_body          bytes that are not what their media type says
  - UnauthorizedError               401 unauthorized            no bearer key, or not one of ours
  - CrossSiteError                  403 cross_site              a browser's session used from another page than ours
  - NotFoundError                   404 not_found               no such path
    - UnknownConfigError            404 unknown_config          a config_id the service does not hold
    - UnknownRunError               404 unknown_run             no run of this name is kept
    - UnknownEpochError             404 unknown_epoch           the run has no rows of this epoch
    - UnknownExampleError           404 unknown_example         the run has no example of this id
    - UnknownQueueError             404 unknown_queue           the run has no queue of this name
  - MethodNotAllowedError           405 method_not_allowed
  - NotAcceptableError              406 not_acceptable          no reply format that Accept allows
  - BodyTimeoutError                408 body_timeout            the body stopped arriving
  - ConflictError                   409 conflict                the name is taken by other content
    - RunConflictError              409 run_conflict
    - BatchConflictError            409 batch_conflict
    - QueueConflictError            409 queue_conflict
  - BodyTooLargeError               413 body_too_large          more bytes than max_body_bytes
  - TooManyElementsError            413 too_many_elements       a batch with more logits than max_elements
  - TooManyExamplesError            413 too_many_examples       a request with more rows than max_examples
  - RunFullError                    413 run_full                a run with more rows than max_run_rows
  - HeadTimeoutError                408 head_timeout            request line and headers stopped arriving
  - HeadTooLargeError               431 head_too_large          more bytes of them than max_head_bytes
  - UnsupportedMediaTypeError       415 unsupported_media_type
  - UnsupportedEncodingError        415 unsupported_encoding    a Content-Encoding that is not read
  - InvalidRequestError             422 invalid_request         unknown field, wrong type, missing part
    - InvalidConfigError            422 invalid_config          a configuration that means nothing
    - UnknownOutputError            422 unknown_output          a name that is not in `outputs`
    - ShapeError                    422 invalid_shape           ragged rows, lengths that differ, C < 2
    - InvalidLogitError             422 invalid_logit           NaN, +inf, or -inf on the target
    - InvalidTargetError            422 invalid_target          outside the classes and not ignore_index
    - InvalidIdsError               422 invalid_ids             not unique, or not strings or integers
    - InvalidNameError              422 invalid_name            a name that no run, batch or queue may have
  - QueueFullError                  429 queue_full              more work than the service may hold
  - DeviceOutOfMemoryError          503 out_of_memory           even the smallest chunk does not fit
  - DeviceUnavailableError          503 device_unavailable      the device does not answer
  - DrainingError                   503 draining                the process is about to end
  - StorageUnavailableError         503 storage_unavailable     the data directory cannot be read or written
  - StorageFullError                507 storage_full            no room is left where runs are kept

Raised where the fault is found, with the value and what is allowed; turned into a reply in one place
(`service.api.http.problems`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from typing_extensions import TypedDict

type_prefix = "urn:focal-loss-service:problem:"


class ErrorItem(TypedDict):
    """One thing that is wrong: where (`["batches", 0, "logits", 17, 3]`) and what."""

    loc: list[str | int]
    msg: str


class LossServiceError(Exception):
    """An error with a status, a stable code and, for invalid input, the places that are wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, errors: Sequence[ErrorItem] = (), headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = headers or {}

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 members of this error."""
        members: dict[str, Any] = {
            "type": type_prefix + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            members["errors"] = self.errors
        return members


class DecodeError(LossServiceError):
    """The body is not what its media type says."""

    status, code, title = 400, "malformed_body", "Malformed body"


class UnauthorizedError(LossServiceError):
    """Keys are set and the request carries none of them."""

    status, code, title = 401, "unauthorized", "Unauthorized"


class CrossSiteError(LossServiceError):
    """A change asked for with a browser's session, by another page than the service's own."""

    status, code, title = 403, "cross_site", "Cross-site request refused"


class NotFoundError(LossServiceError):
    """Nothing is served at this path."""

    status, code, title = 404, "not_found", "Not found"


class UnknownConfigError(NotFoundError):
    """The service holds no instance with this `config_id`."""

    code, title = "unknown_config", "Unknown configuration"


class UnknownRunError(NotFoundError):
    """No run of this name is kept."""

    code, title = "unknown_run", "Unknown run"


class UnknownEpochError(NotFoundError):
    """The run has no rows of this epoch."""

    code, title = "unknown_epoch", "Unknown epoch"


class UnknownExampleError(NotFoundError):
    """The run has no example of this id."""

    code, title = "unknown_example", "Unknown example"


class UnknownQueueError(NotFoundError):
    """The run has no queue of this name."""

    code, title = "unknown_queue", "Unknown queue"


class MethodNotAllowedError(LossServiceError):
    """The path exists, the method does not."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class NotAcceptableError(LossServiceError):
    """`Accept` allows none of the reply formats."""

    status, code, title = 406, "not_acceptable", "Not acceptable"


class BodyTimeoutError(LossServiceError):
    """The body did not arrive in time."""

    status, code, title = 408, "body_timeout", "Body timed out"


class ConflictError(LossServiceError):
    """The name is taken by other content."""

    status, code, title = 409, "conflict", "Conflict"


class RunConflictError(ConflictError):
    """A run of this name and with another description is kept."""

    code, title = "run_conflict", "Run exists with another description"


class BatchConflictError(ConflictError):
    """A batch of this name and with other content is kept."""

    code, title = "batch_conflict", "Batch exists with other content"


class QueueConflictError(ConflictError):
    """A queue of this name and made from another request is kept."""

    code, title = "queue_conflict", "Queue exists with another request"


class RunFullError(LossServiceError):
    """The run would have more rows than the service keeps in one."""

    status, code, title = 413, "run_full", "Run full"


class HeadTimeoutError(LossServiceError):
    """Request line and headers did not arrive in time."""

    status, code, title = 408, "head_timeout", "Request head timed out"


class HeadTooLargeError(LossServiceError):
    """Request line and headers have more bytes than the service takes."""

    status, code, title = 431, "head_too_large", "Request head too large"


class BodyTooLargeError(LossServiceError):
    """The body has more bytes than the service takes."""

    status, code, title = 413, "body_too_large", "Body too large"


class TooManyElementsError(LossServiceError):
    """A batch has more logits than the service takes in one batch."""

    status, code, title = 413, "too_many_elements", "Too many elements"


class TooManyExamplesError(LossServiceError):
    """The request has more rows than the service takes in one request."""

    status, code, title = 413, "too_many_examples", "Too many examples"


class UnsupportedMediaTypeError(LossServiceError):
    """No codec reads this `Content-Type`."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class UnsupportedEncodingError(LossServiceError):
    """The body's `Content-Encoding` is none that the service reads."""

    status, code, title = 415, "unsupported_encoding", "Unsupported content encoding"


class InvalidRequestError(LossServiceError):
    """The body can be read but does not say a valid request."""

    status, code, title = 422, "invalid_request", "Invalid request"


class InvalidConfigError(InvalidRequestError, ValueError):
    """The configuration has no meaning, or none for these logits; a ValueError for who builds a `FocalLoss`."""

    code, title = "invalid_config", "Invalid configuration"


class UnknownOutputError(InvalidRequestError):
    """`outputs` names a score that does not exist."""

    code, title = "unknown_output", "Unknown output"


class ShapeError(InvalidRequestError):
    """Shapes or lengths do not fit together."""

    code, title = "invalid_shape", "Invalid shape"


class InvalidLogitError(InvalidRequestError):
    """A logit from which no loss follows."""

    code, title = "invalid_logit", "Invalid logit"


class InvalidTargetError(InvalidRequestError):
    """A target that names no class and is not `ignore_index`."""

    code, title = "invalid_target", "Invalid target"


class InvalidIdsError(InvalidRequestError):
    """Ids that are not unique, or of the wrong type."""

    code, title = "invalid_ids", "Invalid ids"


class InvalidNameError(InvalidRequestError):
    """A name that no run, batch or queue may have."""

    code, title = "invalid_name", "Invalid name"


class QueueFullError(LossServiceError):
    """The service holds as much work as it may."""

    status, code, title = 429, "queue_full", "Queue full"


class DeviceOutOfMemoryError(LossServiceError):
    """The device has no room even for the smallest chunk."""

    status, code, title = 503, "out_of_memory", "Out of memory"


class DeviceUnavailableError(LossServiceError):
    """The device does not answer."""

    status, code, title = 503, "device_unavailable", "Device unavailable"


class DrainingError(LossServiceError):
    """The process has been told to end and takes leave of its balancer."""

    status, code, title = 503, "draining", "Draining"


class StorageUnavailableError(LossServiceError):
    """The place where runs are kept cannot be read or written."""

    status, code, title = 503, "storage_unavailable", "Storage unavailable"


class StorageFullError(LossServiceError):
    """No room is left where runs are kept; what is kept stays readable."""

    status, code, title = 507, "storage_full", "Storage full"
