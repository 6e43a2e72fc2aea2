"""Readiness: device and store are checked at most once a second, whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api import state
from service.api.app import create_app
from service.api.state import Service
from service.errors import DrainingError, StorageUnavailableError
from service.settings import Settings
from service.storage.files import Files


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("ready")
    app = create_app(Settings(device="cpu", data_dir=str(folder)))
    yield app.state.service
    app.state.service.close()


@pytest.fixture
def checks(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The checks of the data directory so far; the first fails, later ones succeed."""
    done: list[bool] = []

    def check(_: Files) -> None:
        done.append(True)
        if len(done) == 1:
            raise StorageUnavailableError("broken")

    monkeypatch.setattr(state, "check_files", check)
    service._ready_check = None
    return done


def test_many_requests_share_a_check_and_its_result(service: Service, checks: list[bool]) -> None:
    async def ask() -> None:
        replies = await asyncio.gather(*(service.check_ready() for _ in range(20)), return_exceptions=True)
        assert [type(reply) for reply in replies] == [StorageUnavailableError] * 20
        with pytest.raises(StorageUnavailableError):
            await service.check_ready()

    asyncio.run(ask())
    assert len(checks) == 1


def test_the_next_check_is_a_second_later(
    service: Service, checks: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        with pytest.raises(StorageUnavailableError):
            await service.check_ready()
        monkeypatch.setattr(state, "READY_CHECK_EVERY_S", 0.0)
        await service.check_ready()

    asyncio.run(ask())
    assert len(checks) == 2


def test_a_request_that_is_cancelled_does_not_end_the_check_of_others(service: Service, checks: list[bool]) -> None:
    async def ask() -> None:
        first, second = asyncio.create_task(service.check_ready()), asyncio.create_task(service.check_ready())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(StorageUnavailableError):
            await second

    asyncio.run(ask())
    assert len(checks) == 1


def test_draining_is_seen_at_once(service: Service, checks: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "draining", True)
    with pytest.raises(DrainingError):
        asyncio.run(service.check_ready())
    assert not checks
