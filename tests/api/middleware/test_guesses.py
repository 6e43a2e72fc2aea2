"""Wrong keys: growing delays, few log lines, bounded memory."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from service.api.middleware import guesses
from service.api.middleware.guesses import ADDRESSES, FREE_GUESSES, LONGEST_DELAY_S, WrongKeys, client_network, delay_s
from service.errors import UnauthorizedError
from tests.api.middleware.apps import http_scope


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays of refused requests, which are recorded instead of slept."""
    recorded: list[float] = []

    async def sleep(seconds: float) -> None:
        recorded.append(seconds)

    monkeypatch.setattr(guesses.asyncio, "sleep", sleep)
    return recorded


def refuse(wrong_keys: WrongKeys, address: str = "192.0.2.1") -> tuple[UnauthorizedError, bool]:
    """The error for one wrong key, and True if its log line is left out."""
    scope = http_scope(client=(address, 1))
    with pytest.raises(UnauthorizedError) as caught:
        asyncio.run(wrong_keys.refuse(scope, "wrong"))
    return caught.value, "repeated" in scope


def test_delays_grow_by_address(delays: list[float]) -> None:
    wrong_keys = WrongKeys()
    for _ in range(FREE_GUESSES - 1):
        error, repeated = refuse(wrong_keys)
        assert (error.status, "Retry-After" in error.headers, repeated) == (401, False, False)
    assert delays == []
    replies = [refuse(wrong_keys) for _ in range(11)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, *[LONGEST_DELAY_S] * 4]
    assert [error.headers["Retry-After"] for error, _ in replies] == list("11112455555")
    assert [repeated for _, repeated in replies] == [False, *[True] * 10]
    refuse(wrong_keys, "192.0.2.2")
    assert len(delays) == 10


def test_the_longest_delay_stays() -> None:
    assert delay_s(10**9) == LONGEST_DELAY_S


@pytest.mark.usefixtures("delays")
def test_a_burst_has_few_log_lines() -> None:
    wrong_keys = WrongKeys()
    with capture_logs() as logs:
        for _ in range(1001):
            refuse(wrong_keys)
    assert [(line["event"], line["count"], line["address"]) for line in logs] == [
        ("wrong keys", count, "192.0.2.1") for count in (10, 100, 1000)
    ]


@pytest.mark.usefixtures("delays")
def test_the_number_of_addresses_is_bounded() -> None:
    wrong_keys = WrongKeys()

    async def guess() -> None:
        for number in range(ADDRESSES + 100):
            with pytest.raises(UnauthorizedError):
                await wrong_keys.refuse(
                    http_scope(client=(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)), ""
                )

    asyncio.run(guess())
    assert len(wrong_keys._counts) == ADDRESSES


@pytest.mark.parametrize(
    ("client", "network"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9", 1), "2001:db8:1:2::/64"),
        (("x" * 1000, 1), "x" * 100),
        (None, ""),
    ],
)
def test_addresses_of_one_client(client: tuple[str, int] | None, network: str) -> None:
    assert client_network(http_scope(client=client)) == network
