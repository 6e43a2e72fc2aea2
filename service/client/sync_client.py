"""`LossClient`: the service as a Python object."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from service.client import calls
from service.client.arrays import SentBatch, sent_batch
from service.client.errors import ClientError, ConnectionFailedError, error_of, network_error
from service.client.grouping import Progress
from service.client.results import HeldConfig, ServiceInfo
from service.client.retry import ONCE, Retries, RetryPolicy
from service.client.run_calls import put_run_call, runs_call, written
from service.client.runs import RunClient
from service.client.streams import LossStream, stream_results
from service.errors import LossServiceError
from service.schema.config import LossConfig
from service.schema.request import DEFAULT_OUTPUTS, OnInvalid
from service.schema.result import LossResult, Totals

T = TypeVar("T")


class LossClient:
    """A connection to one service; safe to use from many threads.

    Args:
        url: Address of the service.
        api_key: Bearer key; default: the environment variable FOCAL_LOSS_API_KEY, and none where it is not set.
        timeout_s: Seconds without progress in sending or receiving; connecting has at most 5.
        retry: How often and how long to repeat what may be repeated.
        transport: Instead of the network, e.g. `httpx.MockTransport`.
        sleep: How to wait between two attempts, seconds.

    Every method raises the classes of `service.errors` (one for each `code`, with `detail`, `errors` and `status`) for
    what the service refuses; ConnectionFailedError, RequestTimeoutError or UnexpectedReplyError where it gives no
    answer.
    """

    def __init__(
        self,
        url: str = calls.DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._retry = retry or RetryPolicy()
        self._sleep = sleep
        self._http = httpx.Client(transport=transport, **calls.connection_arguments(self.url, api_key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def loss(
        self,
        logits: Any,
        targets: Any = None,
        *,
        ids: Any = None,
        config: calls.ConfigLike = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
    ) -> LossResult:
        """The loss of one batch and what each example adds to it.

        Args:
            logits: (N, C), sigmoid mode (N,), (N, 1) or (N, L): numpy array, torch tensor, Arrow column, anything with
                `__array__` or `__dlpack__`, or nested lists; float16, bfloat16, float32 or float64. Or an Arrow table
                or record batch with the columns `logits`, `targets` and perhaps `id`, and no further argument.
            targets: (N,) integers; sigmoid mode the shape of the logits, in [0, 1].
            ids: One string or integer per example, unique.
            config: The configuration, the `config_id` of one that the service holds, or None for all defaults.
            outputs: Names of the README's table.
            top_k: How many of the hardest examples to name.
            on_invalid: `error`, or `exclude` to leave rows with a bad logit or target out of every sum.

        Raises:
            InvalidRequestError: Or the class of it that says what is wrong; the message names row and value.
        """
        batch = calls.one_batch(logits, targets, ids)
        return self.loss_batches([batch], config=config, outputs=outputs, top_k=top_k, on_invalid=on_invalid)

    def loss_batches(
        self,
        batches: Iterable[Any],
        *,
        config: calls.ConfigLike = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
    ) -> LossResult:
        """The loss of several batches in one request; `loss` is over all of them.

        Args:
            batches: Each `(logits, targets)`, `(logits, targets, ids)`, a mapping with these names, or an Arrow table.
            config: See `loss`, as for the rest.
            outputs: See `loss`.
            top_k: Over all batches.
            on_invalid: See `loss`.
        """
        sent = [sent_batch(batch, number) for number, batch in enumerate(batches)]
        return self.send(calls.loss_call(sent, calls.loss_fields(config, outputs, top_k, on_invalid)))

    def stream(
        self,
        batches: Iterable[Any],
        *,
        config: calls.ConfigLike = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
        progress: Progress | None = None,
    ) -> LossStream:
        """The result of each batch, in order and in constant memory, however many there are.

        Batches are copied and grouped into requests of about 16 MiB; while the results of one are taken the next is
        under way, and none beyond it.

        Args:
            batches: As for `loss_batches`; read as results are taken.
            config: See `loss`, as for the rest.
            outputs: See `loss`.
            top_k: Over the whole stream; see `LossStream.totals`.
            on_invalid: See `loss`.
            progress: Called with the batches and the examples done, after each request.
        """
        config = self.get_config(config).config if isinstance(config, str) else calls.config_of(config)
        fields = calls.loss_fields(config, outputs, top_k, on_invalid)
        totals = Totals(config.reduction, top_k)

        def send(group: Sequence[SentBatch]) -> LossResult:
            return self.send(calls.loss_call(group, fields))

        return LossStream(totals, stream_results(batches, send, totals, progress))

    def put_config(self, config: LossConfig | Mapping[str, Any]) -> HeldConfig:
        """Hold a configuration on the device; one of the same meaning is held once."""
        return self.send(calls.put_config_call(config))

    def configs(self) -> list[HeldConfig]:
        """All configurations held, the most recently used first."""
        return self.send(calls.configs_call())

    def get_config(self, config_id: str) -> HeldConfig:
        """One of them.

        Raises:
            UnknownConfigError: It is not held.
        """
        return self.send(calls.get_config_call(config_id))

    def delete_config(self, config_id: str) -> None:
        """Let a configuration go.

        Raises:
            UnknownConfigError: It is not held.
        """
        self.send(calls.delete_config_call(config_id))

    def info(self) -> ServiceInfo:
        """What answers at this address, of which version, on which device."""
        version = self.send(calls.version_call())
        try:
            device = self.send(calls.device_call(), ONCE)
        except LossServiceError as err:
            return ServiceInfo(self.url, version, False, None, err.detail)
        return ServiceInfo(self.url, version, True, device)

    def ready(self) -> bool:
        """Whether the service takes work now; False too where nothing answers."""
        try:
            self.send(calls.device_call(), ONCE)
        except (LossServiceError, ConnectionFailedError):
            return False
        return True

    def put_run(
        self,
        name: str,
        *,
        config: LossConfig | Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        display: Mapping[str, Any] | None = None,
        store_logits: bool = True,
    ) -> RunClient:
        """Make a run, or find it as it was made with the same description.

        Args:
            name: 1 to 100 of `A-Z a-z 0-9 . _ -`, the first no dot.
            config: Of the loss; None: all defaults.
            class_names: One for each class.
            display: Whatever a page or a tool wants to remember of the run.
            store_logits: Keep the logits: needed for label errors and calibration.

        Raises:
            RunConflictError: It exists with another description.
        """
        self.send(put_run_call(name, config, class_names, display, store_logits=store_logits))
        return RunClient(self, name)

    def run(self, name: str) -> RunClient:
        """A run by its name; asks nothing of the service yet."""
        return RunClient(self, name)

    def runs(self) -> list[dict[str, Any]]:
        """All runs by name, each as `RunClient.describe` tells it."""
        return self.send(runs_call())

    def send(self, call: calls.Call[T], policy: RetryPolicy | None = None) -> T:
        """Send a call, repeat it as far as it may be, and read its reply."""
        return self._repeated(lambda: self._send_once(call), call.repeatable, policy)

    def save(self, call: calls.Call[Any], path: Path) -> None:
        """Send a call and write the body of its reply to a file, piece by piece; it is there in full or not at all."""
        self._repeated(lambda: self._save_once(call, path), call.repeatable)

    def _repeated(self, attempt: Callable[[], T], repeatable: bool, policy: RetryPolicy | None = None) -> T:
        retries = Retries(policy or self._retry, repeatable=repeatable)
        while True:
            try:
                return attempt()
            except (LossServiceError, ClientError) as err:
                wait_s = retries.wait_s(err)
                if wait_s is None:
                    raise
            self._sleep(wait_s)

    def _send_once(self, call: calls.Call[T]) -> T:
        request = self._http.build_request(**call.arguments())
        try:
            response = self._http.send(request)
        except httpx.TransportError as err:
            raise network_error(err, str(request.url)) from err
        return call.result(response)

    def _save_once(self, call: calls.Call[Any], path: Path) -> None:
        request = self._http.build_request(**call.arguments())
        try:
            with closing(self._http.send(request, stream=True)) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                with written(path) as file:
                    for piece in response.iter_bytes():
                        file.write(piece)
        except httpx.TransportError as err:
            raise network_error(err, str(request.url)) from err
