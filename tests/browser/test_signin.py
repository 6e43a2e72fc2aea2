"""Signing in to a service with keys, and the page of a service without runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.browser import Watched, push, tile
from tests.live.server_process import ServerProcess
from tests.live.test_operations import KEY
from tests.services import ServerWith

if TYPE_CHECKING:
    from playwright.sync_api import Browser

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


def test_signing_in_and_out(browser: Browser, server_with: ServerWith) -> None:
    server = server_with(api_keys=KEY)
    push(server.url, KEY)
    watched = Watched(browser, server)
    page = watched.page
    page.goto("/#/runs/mail/queues/monday/7")
    expect(page.get_by_label("Key")).to_be_focused()
    page.keyboard.type("another key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("this is not a key of this service")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("7")
    (cookie,) = watched.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    page.keyboard.press("k")
    expect(tile(page, "Reviewed")).to_have_text("1 of 60")
    # When a session ends, the page asks for the key and then returns to the row.
    watched.context.clear_cookies()
    page.keyboard.press("k")
    page.get_by_label("Key").fill(KEY)
    page.keyboard.press("Enter")
    expect(tile(page, "Reviewed")).to_have_text("1 of 60")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Key")).to_be_visible()
    assert all("401" in error for error in watched.errors)
    assert watched.elsewhere == []
    watched.context.close()
    assert KEY not in server.log_path.read_text()


def test_without_runs_the_page_shows_the_push_command(browser: Browser, server: ServerProcess) -> None:
    watched = Watched(browser, server)
    watched.page.goto("/")
    expect(watched.page.locator("code")).to_contain_text(f"--url {server.url}")
    expect(watched.page.get_by_role("heading", level=1)).to_have_text("No runs yet")
    watched.context.close()
    assert (watched.errors, watched.elsewhere) == ([], [])
