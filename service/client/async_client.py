"""`AsyncLossClient`: `LossClient`, awaited; under asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from service.client import calls
from service.client.arrays import SentBatch, sent_batch
from service.client.async_runs import AsyncRunClient
from service.client.async_streams import AsyncLossStream, Batches, stream_results
from service.client.errors import ClientError, ConnectionFailedError, error_of, network_error
from service.client.grouping import Progress
from service.client.results import HeldConfig, ServiceInfo
from service.client.retry import ONCE, Retries, RetryPolicy
from service.client.run_calls import put_run_call, runs_call, written
from service.client.wire import Body
from service.errors import LossServiceError
from service.schema.config import LossConfig
from service.schema.request import DEFAULT_OUTPUTS, OnInvalid
from service.schema.result import LossResult, Totals

T = TypeVar("T")


class AsyncLossClient:
    """A connection to one service; every argument and error is that of `LossClient`.

    Args:
        url: Address of the service.
        api_key: Bearer key; default: the environment variable FOCAL_LOSS_API_KEY, and none where it is not set.
        timeout_s: Seconds without progress in sending or receiving; connecting has at most 5.
        retry: How often and how long to repeat what may be repeated.
        transport: Instead of the network, e.g. `httpx.ASGITransport`.
        sleep: How to wait between two attempts, seconds.
    """

    def __init__(
        self,
        url: str = calls.DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._retry = retry or RetryPolicy()
        self._sleep = sleep
        self._http = httpx.AsyncClient(transport=transport, **calls.connection_arguments(self.url, api_key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def loss(
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
        """See `LossClient.loss`; the arrays must not change until it returns."""
        batch = calls.one_batch(logits, targets, ids)
        return await self.loss_batches([batch], config=config, outputs=outputs, top_k=top_k, on_invalid=on_invalid)

    async def loss_batches(
        self,
        batches: Iterable[Any],
        *,
        config: calls.ConfigLike = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
    ) -> LossResult:
        """See `LossClient.loss_batches`; the arrays must not change until it returns."""
        sent = [sent_batch(batch, number) for number, batch in enumerate(batches)]
        return await self.send(calls.loss_call(sent, calls.loss_fields(config, outputs, top_k, on_invalid)))

    def stream(
        self,
        batches: Batches,
        *,
        config: calls.ConfigLike = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
        progress: Progress | None = None,
    ) -> AsyncLossStream:
        """See `LossClient.stream`; the batches may come from an async iterable too."""
        fields = calls.loss_fields(config, outputs, top_k, on_invalid)
        totals = Totals("none", top_k)

        async def send(group: Sequence[SentBatch]) -> LossResult:
            if not totals.num_batches:
                used = (await self.get_config(config)).config if isinstance(config, str) else calls.config_of(config)
                totals.reduction = used.reduction
            return await self.send(calls.loss_call(group, fields))

        return AsyncLossStream(totals, stream_results(batches, send, totals, progress))

    async def put_config(self, config: LossConfig | Mapping[str, Any]) -> HeldConfig:
        """See `LossClient.put_config`."""
        return await self.send(calls.put_config_call(config))

    async def configs(self) -> list[HeldConfig]:
        """See `LossClient.configs`."""
        return await self.send(calls.configs_call())

    async def get_config(self, config_id: str) -> HeldConfig:
        """See `LossClient.get_config`."""
        return await self.send(calls.get_config_call(config_id))

    async def delete_config(self, config_id: str) -> None:
        """See `LossClient.delete_config`."""
        await self.send(calls.delete_config_call(config_id))

    async def info(self) -> ServiceInfo:
        """See `LossClient.info`."""
        version = await self.send(calls.version_call())
        try:
            device = await self.send(calls.device_call(), ONCE)
        except LossServiceError as err:
            return ServiceInfo(self.url, version, False, None, err.detail)
        return ServiceInfo(self.url, version, True, device)

    async def ready(self) -> bool:
        """See `LossClient.ready`."""
        try:
            await self.send(calls.device_call(), ONCE)
        except (LossServiceError, ConnectionFailedError):
            return False
        return True

    async def put_run(
        self,
        name: str,
        *,
        config: LossConfig | Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        display: Mapping[str, Any] | None = None,
        store_logits: bool = True,
    ) -> AsyncRunClient:
        """See `LossClient.put_run`."""
        await self.send(put_run_call(name, config, class_names, display, store_logits=store_logits))
        return AsyncRunClient(self, name)

    def run(self, name: str) -> AsyncRunClient:
        """See `LossClient.run`; not awaited."""
        return AsyncRunClient(self, name)

    async def runs(self) -> list[dict[str, Any]]:
        """See `LossClient.runs`."""
        return await self.send(runs_call())

    async def send(self, call: calls.Call[T], policy: RetryPolicy | None = None) -> T:
        """See `LossClient.send`."""
        return await self._repeated(lambda: self._send_once(call), call.repeatable, policy)

    async def save(self, call: calls.Call[Any], path: Path) -> None:
        """See `LossClient.save`."""
        await self._repeated(lambda: self._save_once(call, path), call.repeatable)

    async def _repeated(
        self, attempt: Callable[[], Awaitable[T]], repeatable: bool, policy: RetryPolicy | None = None
    ) -> T:
        retries = Retries(policy or self._retry, repeatable=repeatable)
        while True:
            try:
                return await attempt()
            except (LossServiceError, ClientError) as err:
                wait_s = retries.wait_s(err)
                if wait_s is None:
                    raise
            await self._sleep(wait_s)

    async def _send_once(self, call: calls.Call[T]) -> T:
        arguments = call.arguments()
        if isinstance(call.content, Body):
            arguments["content"] = call.content.pieces()
        request = self._http.build_request(**arguments)
        try:
            response = await self._http.send(request)
        except httpx.TransportError as err:
            raise network_error(err, str(request.url)) from err
        return call.result(response)

    async def _save_once(self, call: calls.Call[Any], path: Path) -> None:
        request = self._http.build_request(**call.arguments())
        try:
            async with aclosing(await self._http.send(request, stream=True)) as response:
                if not response.is_success:
                    await response.aread()
                    raise error_of(response)
                with written(path) as file:
                    async for piece in response.aiter_bytes():
                        file.write(piece)
        except httpx.TransportError as err:
            raise network_error(err, str(request.url)) from err
