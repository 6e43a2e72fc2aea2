"""`AsyncLossClient`: the service as a Python object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

from service.client import calls
from service.client._async.connection import AsyncConnection
from service.client._async.runs import AsyncRunClient
from service.client._async.streams import AsyncLossStream, stream_results
from service.client.batches import SentBatch
from service.client.calls import ConfigFields, ConfigLike, Converter, Structure, WithinLike
from service.client.concurrency import AsyncBatches
from service.client.errors import ConnectionFailedError
from service.client.grouping import Progress
from service.client.histograms import Reduce
from service.client.results import HeldConfig, ServiceInfo
from service.client.retry import NO_RETRIES
from service.client.run_calls import put_run_call, runs_call
from service.errors import LossServiceError
from service.schema.config import LossConfig
from service.schema.replies.runs import DamagedRun, Run
from service.schema.request import DEFAULT_OUTPUTS, OnInvalid
from service.schema.result import LossResult, Totals
from service.schema.structure import Task


class AsyncLossClient(AsyncConnection):
    """A client of one service. The tasks of an event loop can share it.

        async with AsyncLossClient("http://127.0.0.1:8000") as client:
            reply = await client.loss(logits, targets)

    Args:
        url: Address of the service.
        api_key: Bearer key. Default: the environment variable FOCAL_LOSS_API_KEY; no key if that is not set.
        timeout_s: Seconds to wait while no data is sent or received. Connecting may take 5 s at most.
        retry: Number and duration of the retries. Default: `RetryPolicy()`.
        transport: httpx transport to use in place of the network, e.g. `httpx.MockTransport`.
        sleep: Function that waits between two attempts. Takes seconds.

    A forked process opens connections of its own. So does a pickled or deep copy, which has the same settings.

    If the service answers with an error, every method raises the class of `service.errors` for its `code`, with
    `detail`, `errors` and `status`. Without a usable reply it raises ConnectionFailedError, RequestTimeoutError or
    UnexpectedReplyError.
    """

    async def loss(
        self,
        logits: Any,
        targets: Any = None,
        *,
        ids: Any = None,
        config: ConfigLike = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
        offsets: Any = None,
        reduce: Reduce = False,
        **structure: Unpack[Structure],
    ) -> LossResult:
        """Compute the loss of one batch and what each example adds to it. The arrays must not change during the call.

        Args:
            logits: (N, C), in sigmoid mode (N,), (N, 1) or (N, L); float16, bfloat16, float32 or float64. A numpy
                array, torch tensor, Arrow column, nested lists, or any object with `__array__` or `__dlpack__`. Or a
                table of Arrow, polars, pandas or DuckDB with the columns `logits` (or `logit_0`, `logit_1`, ...),
                `targets` and optionally `id`, or the other names that every format takes; then `targets` and `ids` must
                be None; rows of the layouts `dense` and `ragged` are nested lists in them. Layout `dense`:
                (N, C, d1, ...), in sigmoid mode (N, L, d1, ...) or (N, d1, ...). Layout `ragged`: (T, C), in sigmoid
                mode (T,) or (T, L).
            targets: (N,) classes: integers of any type, booleans, whole floats, or texts of these; in sigmoid mode the
                shape of the logits, in [0, 1]. Layout `dense`: (N, d1, ...); `ragged`: (T,). Soft labels: floats of the
                shape of the logits that sum to 1.
            ids: One string or integer of 64 bits per example, unique.
            config: A configuration, the `config_id` of one that the service holds, or None for all defaults.
            outputs: Names of the scores to return for each example: `service.schema.request.OUTPUTS`.
            top_k: Number of hardest examples to return.
            on_invalid: `error`, or `exclude` to leave rows with an invalid logit or target out of every sum.
            offsets: (N + 1,) integers, the first element of each example; of the layout `ragged` only. Without them
                logits and targets are one array, tensor or list of elements for each example.
            reduce: Send the log-odds of the elements, and the other statistics that the outputs need, in place of the
                logits: 4 to 17 bytes an element. torch computes them in this thread, on the device of the logits.
                `histogram`: send a few elements of each mask that stand for all; see `service.client.histograms`.
            structure: `layout`, `divisor`, `within`, `elements`, `top_regions`, `num_classes`; see
                `service.client.Structure`.

        Raises:
            InvalidRequestError: The batch or an option is invalid. The class is that of the fault; the message names
                row and value.
            NeedsLogitsError: With `reduce`, an output or the loss does not follow from statistics.
            UnknownConfigError: The service does not hold this `config_id`.
        """
        batch = calls.as_batch(logits, targets, ids, offsets)
        return await self.loss_batches(
            [batch], config=config, outputs=outputs, top_k=top_k, on_invalid=on_invalid, reduce=reduce, **structure
        )

    async def loss_batches(
        self,
        batches: Iterable[Any],
        *,
        config: ConfigLike = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
        reduce: Reduce = False,
        **structure: Unpack[Structure],
    ) -> LossResult:
        """Compute the loss of several batches in one request. `loss` is reduced over all of them.

        Args:
            batches: Each is `(logits, targets)`, `(logits, targets, ids)`, a mapping with these names and `offsets`, or
                a table. A mapping or table may have statistics, such as `log_odds`, in place of logits.
            config: As for `loss`.
            outputs: As for `loss`.
            top_k: Number of hardest examples of all batches to return.
            on_invalid: As for `loss`.
            reduce: As for `loss`.
            structure: As for `loss`.
        """
        fields = calls.loss_fields(config, outputs, top_k, on_invalid, **structure)
        convert = calls.converter(fields, await self._config(config) if reduce else None, reduce)
        sent = [convert(batch, number) for number, batch in enumerate(batches)]
        return await self.send(calls.loss_call(sent, fields))

    async def _config(self, config: ConfigLike) -> LossConfig:
        """The configuration itself; if it is given by its id, as the service holds it."""
        if isinstance(config, str):
            return (await self.get_config(config)).config
        return calls.parse_config(config)

    def stream(
        self,
        batches: AsyncBatches,
        *,
        config: ConfigLike = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
        progress: Progress | None = None,
        reduce: Reduce = False,
        **structure: Unpack[Structure],
    ) -> AsyncLossStream:
        """Compute the losses of any number of batches in constant memory. The results come in order.

        Batches are copied and grouped into requests of about 16 MiB. One request is in progress while the caller
        uses the results of the previous one.

        Args:
            batches: An iterable of batches as for `loss_batches`; it may be asynchronous. It is read as results are
                used.
            config: As for `loss`.
            outputs: As for `loss`.
            top_k: Number of hardest examples of the whole stream in `totals`.
            on_invalid: As for `loss`.
            progress: Called after each request with the number of batches and of examples so far.
            reduce: As for `loss`.
            structure: As for `loss`.
        """
        fields = calls.loss_fields(config, outputs, top_k, on_invalid, **structure)
        totals = Totals("none", top_k, divisor=calls.divisor(fields))

        async def send(group: Sequence[SentBatch]) -> LossResult:
            return await self.send(calls.loss_call(group, fields))

        async def converter() -> Converter:
            """Sets the reduction of the totals, too."""
            held = await self._config(config)
            totals.reduction = held.reduction
            return calls.converter(fields, held if reduce else None, reduce)

        return AsyncLossStream(totals, stream_results(batches, send, converter, totals, progress))

    async def put_config(self, config: ConfigFields) -> HeldConfig:
        """Load a configuration onto the service's device. Configurations with the same meaning are held once."""
        return await self.send(calls.put_config_call(config))

    async def configs(self) -> list[HeldConfig]:
        """Return all configurations that the service holds, the most recently used first."""
        return await self.send(calls.configs_call())

    async def get_config(self, config_id: str) -> HeldConfig:
        """Return a configuration that the service holds.

        Raises:
            UnknownConfigError: The service does not hold it.
        """
        return await self.send(calls.get_config_call(config_id))

    async def delete_config(self, config_id: str) -> None:
        """Remove a configuration from the service's device.

        Raises:
            UnknownConfigError: The service does not hold it.
        """
        await self.send(calls.delete_config_call(config_id))

    async def info(self) -> ServiceInfo:
        """Return the version of the service, its device, and whether it is ready."""
        version = await self.send(calls.version_call())
        try:
            device = await self.send(calls.device_call(), NO_RETRIES)
        except LossServiceError as err:
            return ServiceInfo(self.url, version, False, None, err.detail)
        return ServiceInfo(self.url, version, True, device)

    async def ready(self) -> bool:
        """Return True if the service accepts work now; False also if nothing listens at the address."""
        try:
            await self.send(calls.device_call(), NO_RETRIES)
        except (LossServiceError, ConnectionFailedError):
            return False
        return True

    async def put_run(
        self,
        name: str,
        *,
        config: ConfigFields | None = None,
        class_names: Sequence[str] | None = None,
        display: Mapping[str, object] | None = None,
        store_logits: bool = True,
        task: Task = "classification",
        within: WithinLike = "mean",
    ) -> AsyncRunClient:
        """Create a run. If it exists with the same description, nothing changes.

        Args:
            name: 1 to 100 of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
            config: Configuration of the loss. Default: all defaults.
            class_names: One name per class; of the task `multi_label` one per label.
            display: JSON values that a page or tool stores with the run.
            store_logits: Store the logits. Label errors and calibration need them.
            task: `classification`; `multi_label` for several labels of each example; `tokens` or `masks` for a class of
                each token or pixel.
            within: How the loss of an example is made of those of its labels, tokens or pixels: `mean`, `sum`, `max`,
                or `{"top_share": q}`.

        Raises:
            RunConflictError: The run exists with another description.
        """
        call = put_run_call(name, config, class_names, display, store_logits=store_logits, task=task, within=within)
        await self.send(call)
        return AsyncRunClient(self, name)

    def run(self, name: str) -> AsyncRunClient:
        """Return the client of a run. Sends no request."""
        return AsyncRunClient(self, name)

    async def runs(self) -> list[Run | DamagedRun]:
        """Return all runs by name, each as `RunClient.describe` does; a damaged run has only `run` and `error`."""
        return await self.send(runs_call())
