from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.browser.browser import Watched
from tests.live.server_process import ServerProcess, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


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


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of services that start from here on."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright; where it is missing, the test is skipped, or fails where it has to run.

    Not longer than a module: while Playwright runs, no other test of this thread can start an event loop.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        missing = pytest.fail if os.environ.get("FOCAL_LOSS_TEST_BROWSER") == "required" else pytest.skip
        missing("no Chromium on the path")
    with sync_api.sync_playwright() as playwright:
        options = ["--headless", "--no-sandbox", "--disable-gpu"]
        started = playwright.chromium.launch(executable_path=chromium, args=options)
        yield started
        started.close()


@pytest.fixture
def watched(browser: Browser, server: ServerProcess) -> Iterator[Watched]:
    """A window of a desk; the test fails if the page logged an error or asked anything of another host."""
    made = Watched(browser, server, viewport={"width": 1440, "height": 900})
    yield made
    made.context.close()
    assert made.errors == []
    assert made.elsewhere == []


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page
