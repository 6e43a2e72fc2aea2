from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.live.server_process import ServerProcess, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The service with its default settings, shared by all tests that leave it as it was."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of the shared server; the test fails if the server is not ready after it."""
    with httpx.Client(base_url=server.url, timeout=60) as connected:
        yield connected
        assert connected.get("/readyz").status_code == 200
