"""`AsyncConnection`: sends calls to one service over HTTP and retries them where that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from service.client.calls import DEFAULT_URL, Call, connection_arguments
from service.client.errors import ClientError, error_of, network_error
from service.client.files import replace_atomically
from service.client.processes import PerProcess
from service.client.retry import Retries, RetryPolicy
from service.errors import LossServiceError

T = TypeVar("T")


class AsyncConnection:
    """A pool of HTTP connections to one service.

    Args:
        url: Address of the service.
        api_key: Bearer key. Default: the environment variable FOCAL_LOSS_API_KEY; no key if that is not set.
        timeout_s: Seconds to wait while no data is sent or received. Connecting may take 5 s at most.
        retry: Number and duration of the retries. Default: `RetryPolicy()`.
        transport: httpx transport to use in place of the network, e.g. `httpx.MockTransport`.
        sleep: Function that waits between two attempts. Takes seconds.

    A forked process opens connections of its own. So does a pickled or deep copy, which has the same settings.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
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
        self._http = PerProcess(partial(_open, self.url, api_key, timeout_s, transport))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.get().aclose()

    async def send(self, call: Call[T], policy: RetryPolicy | None = None) -> T:
        """Send a call, retry it where that is safe, and return the result that its reply contains.

        Args:
            call: The request and the function that reads its reply.
            policy: Retries of this call. Default: those of the client.

        Raises:
            LossServiceError: The service answered with an error. The class is that of the error's `code`.
            ClientError: The service gave no usable reply.
        """
        return await self._with_retries(lambda: self._send_once(call), call.repeatable, policy)

    async def save(self, call: Call[bytes], path: Path) -> None:
        """Send a call and write the body of its reply to a file in pieces.

        The file is complete or absent: a failed download leaves nothing, and does not change an existing file.

        Args:
            call: The request.
            path: File to write.

        Raises:
            LossServiceError: The service answered with an error. The class is that of the error's `code`.
            ClientError: The service gave no usable reply.
        """
        await self._with_retries(lambda: self._save_once(call, path), call.repeatable)

    async def _with_retries(
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

    async def _send_once(self, call: Call[T]) -> T:
        http = self._http.get()
        request = call.request(http)
        try:
            response = await http.send(request)
        except httpx.TransportError as err:
            raise network_error(err, str(request.url)) from err
        return call.result(response)

    async def _save_once(self, call: Call[bytes], path: Path) -> None:
        http = self._http.get()
        request = call.request(http)
        try:
            async with aclosing(await http.send(request, stream=True)) as response:
                if not response.is_success:
                    await response.aread()
                    raise error_of(response)
                with replace_atomically(path) as temporary, temporary.open("wb") as file:
                    async for piece in response.aiter_bytes():
                        file.write(piece)
        except httpx.TransportError as err:
            raise network_error(err, str(request.url)) from err


def _open(
    url: str, api_key: str | None, timeout_s: float, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, **connection_arguments(url, api_key, timeout_s))
