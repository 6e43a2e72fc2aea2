"""Services that tests share: one per combination of settings, over TCP or in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.live.server_process import ServerProcess, running_server

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.client import LossClient

# A service that accepts up to 1 MiB, or 1000 rows.
SMALL_LIMITS = {"max_body_bytes": str(2**20), "max_queued_bytes": "20000000", "max_examples": "1000"}

Key: TypeAlias = frozenset[tuple[str, str]]
ServerWith: TypeAlias = Callable[..., ServerProcess]
ClientWith: TypeAlias = Callable[..., httpx.Client]


class AppTransport(httpx.BaseTransport):
    """Calls an ASGI app in this process. Replies are not streamed: a test of streaming needs a service over TCP."""

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        self._transport = httpx.ASGITransport(app)
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self._portal.call(self._reply, request)

    async def _reply(self, request: httpx.Request) -> httpx.Response:
        reply = await self._transport.handle_async_request(request)
        content = b"".join([piece async for piece in reply.aiter_raw()])
        return httpx.Response(reply.status_code, headers=reply.headers, stream=httpx.ByteStream(content))


@contextmanager
def running_app(folder: Path, **settings: str) -> Iterator[AppTransport]:
    """Run the app with these settings, with its event loop in a separate thread."""
    from service.api.app import create_app
    from service.settings import Settings

    app = create_app(Settings(**{"data_dir": str(folder / "data")} | settings))  # type: ignore[arg-type]
    lifespan = app.router.lifespan_context(app)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(lifespan):
        yield AppTransport(app, portal)


class Services:
    """Starts a service when its settings are first used, and stops all services after the session."""

    def __init__(self, new_folder: Callable[[str], Path]) -> None:
        self._new_folder = new_folder
        self._stack = ExitStack()
        self._processes: dict[Key, ServerProcess] = {}
        self._apps: dict[Key, AppTransport] = {}

    def process(self, **settings: str) -> ServerProcess:
        """Return the service process with these settings; start one if there is none or it has ended."""
        # The service with default settings has as many worker processes as a user's.
        settings = settings or {"processes": "0"}
        key = frozenset(settings.items())
        if key not in self._processes or self._processes[key].process.poll() is not None:
            started = running_server(self._new_folder("service"), **settings)
            self._processes[key] = self._stack.enter_context(started)
        return self._processes[key]

    def client(self, *, in_process: bool, **settings: str) -> httpx.Client:
        """Return a client of the service with these settings."""
        if not in_process:
            return _client(base_url=self.process(**settings).url)
        key = frozenset(settings.items())
        if key not in self._apps:
            self._apps[key] = self._stack.enter_context(running_app(self._new_folder("app"), **settings))
        return _client(base_url="http://localhost", transport=self._apps[key])

    def delete_runs(self) -> None:
        """Delete the runs of all services."""
        started = [(key, False) for key in self._processes] + [(key, True) for key in self._apps]
        for key, in_process in started:
            settings = dict(key)
            with self.client(in_process=in_process, **settings) as client:
                if "api_keys" in settings:
                    # The first one must be of an owner.
                    client.headers["Authorization"] = f"Bearer {settings['api_keys'].split(',')[0].split(':')[-1]}"
                for run in client.get("/runs").raise_for_status().json()["runs"]:
                    client.delete(f"/runs/{run['run']}").raise_for_status()

    def close(self) -> None:
        self._stack.close()


def _client(**options: Any) -> httpx.Client:
    # Loading certificates takes longer than most requests, and no test needs them.
    return httpx.Client(timeout=60, verify=False, **options)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    services = Services(tmp_path_factory.mktemp)
    yield services
    services.close()


@pytest.fixture(scope="module", autouse=True)
def _delete_runs_after_module(services: Services) -> Iterator[None]:
    """Delete the runs of the shared services after each test module."""
    yield
    services.delete_runs()


@pytest.fixture(scope="session")
def server_with(services: Services) -> ServerWith:
    """`server_with(queue_size="1")`: the shared service process with these settings."""
    return services.process


@pytest.fixture(scope="session")
def server(services: Services) -> ServerProcess:
    """The service process with default settings. A test must leave it as it was."""
    return services.process()


@pytest.fixture
def client_with(request: pytest.FixtureRequest, services: Services) -> Iterator[ClientWith]:
    """`client_with(max_configs="2")`: a client of the shared service with these settings.

    With `--in-process` the client calls an app in this process, except in `live` tests.
    """
    in_process = request.config.getoption("in_process") and request.node.get_closest_marker("live") is None
    with ExitStack() as stack:

        def connect(**settings: str) -> httpx.Client:
            return stack.enter_context(services.client(in_process=in_process, **settings))

        yield connect


@pytest.fixture
def client(client_with: ClientWith) -> Iterator[httpx.Client]:
    """A client of the shared service with default settings. The test fails if the service is not ready afterwards."""
    client = client_with()
    yield client
    assert client.get("/readyz").status_code == 200


@pytest.fixture(scope="module")
def loss_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LossClient]:
    """A `LossClient` of an app in this process, with default settings; each test module has its own."""
    from service.client import LossClient

    with (
        running_app(tmp_path_factory.mktemp("app")) as transport,
        LossClient("http://localhost", transport=transport) as client,
    ):
        yield client
