"""The page under a path prefix, behind a proxy that removes it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.browser.browser import WITHIN_MS, push, tile
from tests.live.server_process import ServerProcess
from tests.live.test_operations import KEY
from tests.services import ServerWith

if TYPE_CHECKING:
    from playwright.sync_api import Browser

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
PREFIX = "/focal"
# Headers of one connection.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Proxy(ThreadingHTTPServer):
    """Forwards the paths below `PREFIX` without it, and records all other paths."""

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.upstream = upstream
        self.outside: list[str] = []


class Forward(BaseHTTPRequestHandler):
    server: Proxy

    def forward(self) -> None:
        if not self.path.startswith(f"{PREFIX}/"):
            self.server.outside.append(self.path)
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = dict(self.headers.items()) | {"X-Forwarded-Prefix": PREFIX, "X-Forwarded-Host": self.headers["Host"]}
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.upstream)) as upstream:
            upstream.request(self.command, self.path.removeprefix(PREFIX), body, headers)
            reply = upstream.getresponse()
            content = reply.read()
        # The browser may have left the page.
        with suppress(ConnectionError):
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = forward

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def keyed(server_with: ServerWith) -> ServerProcess:
    server = server_with(api_keys=KEY)
    push(server.url, KEY)
    return server


@pytest.fixture
def proxy(keyed: ServerProcess) -> Iterator[Proxy]:
    with Proxy(keyed.port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


def test_page_and_docs_stay_under_the_prefix(browser: Browser, proxy: Proxy) -> None:
    base = f"http://127.0.0.1:{proxy.server_port}{PREFIX}"
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    page.goto(f"{base}/")
    page.get_by_label("Key").fill(KEY)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="mail").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("mail")
    (cookie,) = context.cookies()
    assert (cookie["path"], cookie["name"]) == (f"{PREFIX}/", f"focal_loss_session_{proxy.server_port}")
    page.goto(f"{base}/#/runs/mail/queues/monday/7")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("7")
    page.keyboard.press("k")
    expect(tile(page, "Reviewed")).to_have_text("1 of 60")
    page.get_by_role("link", name="API documentation").click()
    # Swagger UI takes seconds on a busy machine.
    page.locator(".opblock").first.wait_for(timeout=60_000)
    # Requests that are tried out go to the first server.
    expect(page.locator("select#servers, .servers select")).to_have_value(PREFIX)
    context.close()
    # The browser asks for the icon of a site at this path.
    assert [path for path in proxy.outside if path != "/favicon.ico"] == []
