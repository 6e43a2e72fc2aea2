"""Wrong keys: counted by client address, with a growing delay of the replies."""

from __future__ import annotations

import asyncio
import ipaddress
import math
from typing import NoReturn

import structlog
from cachetools import TTLCache
from starlette.types import Scope

from service.errors import UnauthorizedError

ADDRESSES, FORGOTTEN_AFTER_S = 10_000, 60
# Mistakes of people are not delayed.
FREE_GUESSES = 5
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0
# An IPv6 network of this size belongs to one client.
CLIENT_BITS = 64

log = structlog.get_logger("service.keys")


class WrongKeys:
    """Counts the wrong keys of each address in this process; requests with a right key are never delayed.

    An address is forgotten a minute after its last wrong key. The number of addresses is bounded.
    """

    def __init__(self) -> None:
        self._counts: TTLCache[str, int] = TTLCache(ADDRESSES, FORGOTTEN_AFTER_S)

    async def refuse(self, scope: Scope, detail: str) -> NoReturn:
        """Refuse a request with a wrong key, after the delay of its address.

        After the first few the scope is marked as `repeated`: their log lines would only fill the disk.

        Raises:
            UnauthorizedError: Always; `Retry-After` has the next delay.
        """
        address = client_network(scope)
        count = self._counts[address] = self._counts.get(address, 0) + 1
        if count > FREE_GUESSES:
            scope["repeated"] = True
            await asyncio.sleep(delay_s(count))
        # One line for 10, 100, 1000, ... wrong keys.
        if count >= 10 and math.log10(count).is_integer():
            log.warning("wrong keys", address=address, count=count)
        headers = {"WWW-Authenticate": "Bearer"}
        if count >= FREE_GUESSES:
            headers["Retry-After"] = str(math.ceil(delay_s(count + 1)))
        raise UnauthorizedError(detail, headers=headers)


def delay_s(count: int) -> float:
    """Seconds before the reply to the wrong key of this number: none at first, then doubled each time."""
    if count <= FREE_GUESSES:
        return 0.0
    return float(min(FIRST_DELAY_S * 2 ** min(count - FREE_GUESSES - 1, 10), LONGEST_DELAY_S))


def client_network(scope: Scope) -> str:
    """The address of the client; for IPv6, its network."""
    host = str((scope.get("client") or ("",))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:100]
    return host if address.version == 4 else str(ipaddress.ip_network((int(address), CLIENT_BITS), strict=False))
