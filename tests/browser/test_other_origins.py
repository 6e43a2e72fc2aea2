"""Pages of other origins, in a browser without Local Network Access checks: they read and change nothing.

Chromium's checks would block these requests by themselves; other browsers have no such checks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser.browser import chromium
from tests.live.server_process import ServerProcess
from tests.live.test_operations import KEY
from tests.services import ServerWith

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

LAB = "http://lab.example"
HTML = "<!doctype html><title>Another page</title><body></body>"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-features=LocalNetworkAccessChecks",
    "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP lab.example 127.0.0.1",
]
BATCH = {"logits": [[1.0, 2.0], [2.0, 1.0]], "targets": [0, 1], "ids": ["a", "b"]}

# Sends a request and returns the text that the page can read, or the name of the exception.
READ = """async ([url, options]) => {
    try { return await (await fetch(url, options)).text(); } catch (error) { return error.name; }
}"""
# Sends what a page may send without asking the service first, and waits until all has been answered.
SEND = """async ([base, batch]) => {
    const run = `${base}/runs/kept`;
    const infer = `${base}/v2/models/focal_loss/infer`;
    const tensors = { inputs: [
        { name: "logits", shape: [1, 2], datatype: "FP32", data: [1, 2] },
        { name: "targets", shape: [1], datatype: "INT64", data: [0] },
    ] };
    const untyped = (value) => new Blob([JSON.stringify(value)]);
    const json = (value) => new Blob([JSON.stringify(value)], { type: "application/json" });
    const requests = [
        [infer, { method: "POST", body: JSON.stringify(tensors) }],
        [infer, { method: "POST", body: untyped(tensors) }],
        [`${base}/loss`, { method: "POST", body: untyped(batch) }],
        [`${base}/loss?x`, { method: "POST", body: new URLSearchParams({ logits: "1" }) }],
        [`${run}/reviews`, { method: "POST", body: JSON.stringify([{ id: "a", verdict: "ok" }]) }],
        [`${run}/reviews`, { method: "POST", body: untyped([{ id: "a", verdict: "ok" }]) }],
        [`${run}/queues`, { method: "POST", body: untyped({ strategy: "top_loss", name: "q" }) }],
        [`${base}/session`, { method: "POST", body: JSON.stringify({ key: "x" }) }],
    ];
    const changes = [
        [`${base}/runs/made`, { method: "PUT", body: json({}) }],
        [`${base}/configs`, { method: "PUT", body: json({ gamma: 7 }) }],
        [`${run}/reviews`, { method: "POST", body: json([{ id: "a", verdict: "ok" }]) }],
        [run, { method: "DELETE" }],
        [`${base}/session`, { method: "DELETE" }],
    ];
    const sent = [
        ...requests.map(([url, options]) => fetch(url, { ...options, mode: "no-cors", credentials: "include" })),
        ...[...requests, ...changes].map(([url, options]) => fetch(url, { ...options, credentials: "include" })),
    ];
    for (const url of [infer, `${run}/reviews`, `${base}/session`]) {
        navigator.sendBeacon(url, JSON.stringify(tensors));
        navigator.sendBeacon(url, json(tensors));
        for (const enctype of ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]) {
            const frame = document.body.appendChild(document.createElement("iframe"));
            frame.name = `${enctype} ${url}`;
            const form = document.createElement("form");
            Object.assign(form, { action: url, method: "POST", enctype, target: frame.name });
            const input = form.appendChild(document.createElement("input"));
            Object.assign(input, { name: '[{"id": "a", "verdict": "ok", "x": "', value: '"}]' });
            document.body.append(form);
            sent.push(new Promise((resolve) => {
                frame.addEventListener("load", resolve, { once: true });
                // Not every refusal is a page.
                setTimeout(resolve, 3000);
            }));
            form.submit();
        }
    }
    return (await Promise.allSettled(sent)).length;
}"""
FRAME = """(url) => {
    const frame = document.createElement("iframe");
    frame.src = url;
    document.body.replaceChildren(frame);
}"""


@pytest.fixture(scope="module")
def unchecked_browser(browser: Browser) -> Iterator[Browser]:
    launched = browser.browser_type.launch(executable_path=chromium(), args=ARGUMENTS)
    yield launched
    launched.close()


@pytest.fixture
def context(unchecked_browser: Browser) -> Iterator[BrowserContext]:
    context = unchecked_browser.new_context()
    yield context
    context.close()


@contextmanager
def other_site() -> Iterator[int]:
    """Serve an empty page on 127.0.0.1; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(HTML)))
            self.end_headers()
            self.wfile.write(HTML.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def fulfilled(context: BrowserContext, url: str) -> Page:
    """A window with an empty page of this address, which no server has sent."""
    page = context.new_page()
    page.route(url, lambda route: route.fulfill(content_type="text/html", body=HTML))
    page.goto(url)
    return page


def read(page: Page, url: str, **options: Any) -> str:
    text: str = page.evaluate(READ, [url, options])
    return text


@contextmanager
def nothing_changes(server: ServerProcess, key: str | None = None) -> Iterator[None]:
    """Check that runs, reviews, queues, configurations and computed batches stay as they are."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=server.url, headers=headers) as client:
        client.put("/runs/kept", json={}).raise_for_status()
        client.put("/runs/kept/epochs/0/batches/b", json=BATCH).raise_for_status()

        def state() -> list[Any]:
            stored = [
                client.get(path).json() for path in ("/runs", "/runs/kept/queues", "/runs/kept/reviews", "/configs")
            ]
            lines = client.get("/metrics").text.splitlines()
            return [
                *stored,
                *(line for line in lines if line.startswith(("focal_loss_batches", "focal_loss_examples"))),
            ]

        before = state()
        yield
        assert state() == before
        client.delete("/runs/kept").raise_for_status()


def test_a_page_of_another_site_reads_and_changes_nothing(context: BrowserContext, server_with: ServerWith) -> None:
    server = server_with(cors_origins=LAB)
    with other_site() as port, nothing_changes(server):
        page = context.new_page()
        page.goto(f"http://evil.example:{port}/")
        for path in ("/runs", "/runs/kept/export?format=csv", "/configs", "/metrics", "/openapi.json", "/"):
            assert read(page, server.url + path) == "TypeError", path
        assert page.evaluate(SEND, [server.url, BATCH]) > 20
        # The control: a request that the service answers to everybody is readable by its own page.
        assert "alive" in read(fulfilled(context, f"{server.url}/nothing"), f"{server.url}/healthz")


def test_a_name_that_is_bound_to_this_machine_reads_and_changes_nothing(
    context: BrowserContext, server_with: ServerWith
) -> None:
    server = server_with(cors_origins=LAB)
    rebound = f"http://evil.example:{server.port}"
    with nothing_changes(server):
        page = fulfilled(context, f"{rebound}/attack")
        # The control: the requests of the page reach the service.
        assert "alive" in read(page, f"{rebound}/healthz")
        for path in ("/runs", "/runs/kept/export?format=csv", "/configs", "/metrics", "/openapi.json", "/", "/docs"):
            assert "forbidden_host" in read(page, rebound + path), path
            hidden = read(
                page, rebound + path, headers={"X-Forwarded-Host": "localhost", "X-Forwarded-Prefix": "/healthz"}
            )
            assert "forbidden_host" in hidden, path
        assert page.evaluate(SEND, [rebound, BATCH]) > 20


def test_a_page_on_another_port_does_not_use_the_session(context: BrowserContext, server_with: ServerWith) -> None:
    server = server_with(api_keys=KEY)
    own = context.new_page()
    own.goto(server.url)
    own.get_by_label("Key").fill(KEY)
    own.keyboard.press("Enter")
    own.get_by_role("button", name="Sign out").wait_for()
    with other_site() as port, nothing_changes(server, KEY):
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        assert read(page, f"{server.url}/runs", credentials="include") == "TypeError"
        assert page.evaluate(SEND, [server.url, BATCH]) > 20
        # The control: the browser sends the cookie to this origin.
        assert "kept" in read(own, f"{server.url}/runs")


def test_no_page_shows_the_service_in_a_frame(context: BrowserContext, server_with: ServerWith) -> None:
    server = server_with(cors_origins=LAB)
    with other_site() as port:
        page = context.new_page()
        page.goto(f"http://evil.example:{port}/")
        for path in ("/", "/docs", "/runs", "/web/index.html", "/nothing"):
            # The page that Chromium shows instead of a refused frame.
            with page.expect_event("framenavigated", lambda frame: frame.url.startswith("chrome-error:")):
                page.evaluate(FRAME, server.url + path)


def test_a_page_of_an_allowed_origin_reads_and_changes(context: BrowserContext, server_with: ServerWith) -> None:
    server = server_with(cors_origins=LAB)
    page = fulfilled(context, f"{LAB}/notebook")
    runs = f"{server.url}/runs"
    json_type = {"Content-Type": "application/json"}
    assert '"run":"lab"' in read(page, f"{runs}/lab", method="PUT", headers=json_type, body="{}")
    assert '"run":"lab"' in read(page, runs)
    # Errors are readable, too.
    assert "unknown_run" in read(page, f"{runs}/none")
    exposed = page.evaluate("async (url) => (await fetch(url)).headers.get('X-Request-ID')", runs)
    assert len(exposed) == 32
    assert read(page, f"{runs}/lab", method="DELETE") == ""
    assert '"lab"' not in httpx.get(runs).text
