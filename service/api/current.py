"""The request that the current task answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.api.admission import Place

T = TypeVar("T")


class CurrentRequest:
    """One request, as the parts of the service need it that its route does not pass it to.

    Args:
        place: Its place among the requests with a body; counts the bytes of its body and of its reply.
        receive: ASGI `receive`, to notice that the client leaves.
    """

    __slots__ = ("place", "receive")

    def __init__(self, place: Place, receive: Receive) -> None:
        self.place = place
        self.receive = receive


CURRENT: ContextVar[CurrentRequest | None] = ContextVar("current_request", default=None)


def current_request() -> CurrentRequest:
    """The current request.

    Raises:
        LookupError: The task answers no request.
    """
    request = CURRENT.get()
    if request is None:
        raise LookupError("no request is answered here")
    return request


async def until_disconnect(work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled if the client of the current request leaves; its body must be received.

    Raises:
        ClientDisconnect: The client has left.
    """
    request = CURRENT.get()
    if request is None:
        return await work
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return await task
        raise ClientDisconnect
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
