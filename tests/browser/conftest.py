from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.browser import WITHIN_MS, Watched, chromium
from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, driven by Playwright. Without Chromium the tests are skipped, or fail if the environment requires it.

    The scope is this package: while Playwright runs, no other test of this thread can start an event loop.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    sync_api.expect.set_options(timeout=WITHIN_MS)
    executable = chromium()
    if executable is None:
        missing = pytest.fail if os.environ.get("FOCAL_LOSS_TEST_BROWSER") == "required" else pytest.skip
        missing("no Chromium on the path")
    with sync_api.sync_playwright() as playwright:
        options = ["--headless", "--no-sandbox", "--disable-gpu"]
        chromium_browser = playwright.chromium.launch(executable_path=executable, args=options)
        yield chromium_browser
        chromium_browser.close()


@pytest.fixture
def watched(browser: Browser, server: ServerProcess) -> Iterator[Watched]:
    """A desktop window. The test fails if the page logs an error or sends a request to another host."""
    window = Watched(browser, server, viewport={"width": 1440, "height": 900})
    yield window
    window.context.close()
    assert window.errors == []
    assert window.elsewhere == []


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page
