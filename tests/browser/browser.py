"""Data for the tests of the page, and a browser window that records errors and requests to other hosts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from service.client import LossClient
from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request

# How long the page may take on a busy machine.
WITHIN_MS = 30_000
NAMES = ["spam", "ham", "newsletter", "invoice", "support"]
ROWS, QUEUED = 300, 60
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"
# A red square, without a request to another host.
SQUARE = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9' fill='red'/></svg>"
PICTURE = f"data:image/svg+xml,{SQUARE}"
SUBJECTS = ["Your parcel is waiting", "Re: meeting on Thursday", "Invoice 2291", "Ten ways to save", "I am locked out"]


def chromium() -> str | None:
    """The path of the machine's Chromium, or None."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def push(url: str, key: str | None = None) -> None:
    """Push a run with class names, texts and three epochs, a run with pictures only, and a queue of each."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 5, ROWS)
    given = np.where(rng.random(ROWS) < 0.1, (truth + 1) % 5, truth)
    texts = [f"{SUBJECTS[row % 5]}. Message {row}: please answer before the end of the week." for row in range(ROWS)]
    ids = [f"inbox/{row:04d}" for row in range(ROWS)]
    with LossClient(url, api_key=key) as client:
        mail = client.put_run("mail", class_names=NAMES)
        for epoch in range(3):
            logits = rng.standard_normal((ROWS, 5)).astype(np.float32)
            logits[np.arange(ROWS), truth] += 1 + epoch
            if epoch == 2:
                first = int(np.argmax(truth != given))
                logits[first, truth[first]] += 9
                texts[first] = HOSTILE
            attributes = {"text": texts, "annotator": [["kim", "lee"][row % 2] for row in range(ROWS)]}
            mail.push(epoch, "all", logits, given, ids, attributes=attributes)
        mail.create_queue("logit_margin", budget=QUEUED, name="monday")
        bare = client.put_run("bare")
        pictures = {"thumbnail": [PICTURE] * 20, "size": list(range(20))}
        bare.push(0, "all", rng.standard_normal((20, 3)).astype(np.float32), [0] * 20, range(20), attributes=pictures)
        bare.create_queue("top_loss", budget=20, name="all")


# The number of elements without a name for screen readers.
NAMELESS = """
    [...document.querySelectorAll("button, a, input, select, img")].filter((element) => !(element.textContent
        || element.getAttribute("aria-label") || element.getAttribute("alt") !== null || element.labels?.length)).length
"""


def check_layout(page: Page, view: str = "") -> None:
    """Check that the view is not wider than its window, and that screen readers have names for its elements."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
    assert page.evaluate(NAMELESS) == 0, view


def check_view(page: Page, address: str, picture: Path) -> None:
    """Load a view, check its layout, and store a picture of it."""
    page.goto("about:blank")
    page.goto(address)
    page.get_by_role("heading", level=1).wait_for()
    page.wait_for_load_state("networkidle")
    check_layout(page, picture.name)
    page.screenshot(path=picture)


def serious_violations(page: Page, axe: Any) -> list[tuple[str, str]]:
    """The rules of axe that the view breaks seriously, each with its first element."""
    return [
        (violation["id"], violation["nodes"][0]["html"][:200])
        for violation in axe.run(page).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


class Watched:
    """A window; `errors` are its logged errors and warnings, `elsewhere` its requests to other hosts."""

    def __init__(self, browser: Browser, server: ServerProcess, **options: Any) -> None:
        self.context = browser.new_context(base_url=server.url, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WITHIN_MS)
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("console", self._log)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.own = (server.url, "data:", "about:")
        self.page.on("request", self._check_host)

    def _log(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _check_host(self, request: Request) -> None:
        if not request.url.startswith(self.own):
            self.elsewhere.append(request.url)


def reviews(server: ServerProcess, run: str = "mail") -> dict[str, Any]:
    reply: dict[str, Any] = httpx.get(f"{server.url}/runs/{run}/reviews", params={"history": "true"}).json()
    return reply


def queue_rows(server: ServerProcess, run: str = "mail", name: str = "monday") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = httpx.get(f"{server.url}/runs/{run}/queues/{name}").json()["rows"]
    return rows


def withdraw_all(server: ServerProcess, run: str = "mail", name: str = "monday") -> None:
    """Withdraw the verdicts of all reviewers on the rows of a queue."""
    withdrawn = [
        {
            "id": row["id"],
            "unit": row.get("unit"),
            "verdict": None,
            "reviewer": review["reviewer"],
            "adjudicate": review["adjudicated"],
        }
        for row in queue_rows(server, run, name)
        for review in row["reviews"]
    ]
    httpx.post(f"{server.url}/runs/{run}/reviews", json=withdrawn).raise_for_status()


def tile(page: Page, name: str) -> Locator:
    return page.locator(".tile", has=page.locator("dt", has_text=name)).locator("strong")
