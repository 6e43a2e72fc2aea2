"""The overview of a reviewed run in a browser: wrong labels left, agreement, corrected data set, files of verdicts."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.client import LossClient
from tests.browser.browser import NAMES, Watched, check_layout, push, queue_rows, serious_violations, tile
from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


@pytest.fixture(scope="module")
def server(server: ServerProcess) -> ServerProcess:
    """A run with a random queue that Kim has reviewed, half of it Lee too."""
    push(server.url)
    with LossClient(server.url) as client:
        mail = client.run("mail")
        rows = mail.create_queue("random", budget=40, name="random")["rows"]
        reviews: list[dict[str, Any]] = [
            {"id": row["id"], "verdict": "wrong" if number < 4 else "ok", "reviewer": "Kim", "queue": "random"}
            for number, row in enumerate(rows)
        ]
        reviews[0] |= {"label": (rows[0]["target"] + 1) % 5, "comment": "plainly"}
        mail.review([*reviews, *({**review, "reviewer": "Lee"} for review in reviews[:20])])
        mail.review([{"id": rows[19]["id"], "verdict": "exclude", "reviewer": "Lee"}])
    return server


def heading_card(page: Page, title: str) -> Any:
    return page.locator(".card", has=page.get_by_role("heading", name=title))


def test_the_overview_tells_what_is_left_and_how_reviewers_agree(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/mail")
    message = httpx.get(f"{server.url}/runs/mail/remaining").json()["message"]
    expect(heading_card(page, "Wrong labels left")).to_contain_text(message)
    reviewers = heading_card(page, "Reviewers")
    expect(reviewers).to_contain_text("rows have the verdicts of two or more")
    expect(reviewers.get_by_role("row", name="Kim")).to_contain_text("404")
    expect(reviewers).to_contain_text("1 conflict")
    reviewers.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Verdicts")).to_be_visible()


def test_the_corrected_data_set_is_downloaded(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/mail")
    corrected = heading_card(page, "The corrected data set")
    expect(corrected).to_contain_text("4 labels found wrong, 1 conflict to settle")
    with page.expect_download() as download:
        corrected.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "mail-corrected.csv"
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"))))
    assert len(rows) == 300
    changed = [row for row in rows if row["status"] == "corrected"]
    expected = (NAMES.index(changed[0]["given_label"]) + 1) % 5
    assert [(row["label"], row["comment"]) for row in changed] == [(NAMES[expected], "plainly")]


def test_a_file_with_verdicts_comes_back_by_drop(watched: Watched, server: ServerProcess) -> None:
    page = watched.page
    page.goto("/#/runs/mail")
    page.evaluate("localStorage.setItem('focal-loss-name', 'Max')")
    page.reload()
    expect(tile(page, "Reviewed")).to_have_text("40")
    (first, second, *_) = [row for row in queue_rows(server) if row["verdict"] is None]
    content = f"id,verdict,label,comment\n{first['id']},ok,,\n{second['id']},exclude,,not a mail\nnone,,,\n"
    chosen = page.get_by_label("A file with verdicts")
    chosen.set_input_files({"name": "verdicts.csv", "mimeType": "text/csv", "buffer": content.encode()})
    done = page.locator(".notice.done")
    expect(done).to_have_text("verdicts.csv: 2 verdicts stored, 1 row without a verdict left out.")
    expect(tile(page, "Reviewed")).to_have_text("42")
    expect(heading_card(page, "The corrected data set")).to_contain_text("1 row to leave out")
    stored = next(row for row in queue_rows(server) if row["id"] == second["id"])
    assert [(item["reviewer"], item["verdict"], item["comment"]) for item in stored["reviews"]] == [
        ("Max", "exclude", "not a mail")
    ]
    chosen.set_input_files({"name": "verdicts.csv", "mimeType": "text/csv", "buffer": content.encode()})
    expect(done).to_contain_text("0 verdicts stored, 2 as before")
    bad = content.replace("exclude", "perhaps")
    chosen.set_input_files({"name": "bad.csv", "mimeType": "text/csv", "buffer": bad.encode()})
    expect(page.get_by_role("alert")).to_contain_text("perhaps")
    chosen.set_input_files({"name": "bad.xls", "mimeType": "text/csv", "buffer": b""})
    expect(page.get_by_role("alert")).to_contain_text("bad.xls has an unknown type")
    assert all("422" in error for error in watched.errors)
    watched.errors.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_overview_fits_its_window_and_axe_accepts_it(
    browser: Browser, server: ServerProcess, tmp_path: Path, width: int, scheme: Any
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    watched = Watched(browser, server, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = watched.page
    page.goto("/#/runs/mail")
    expect(heading_card(page, "Reviewers")).to_be_visible()
    page.wait_for_load_state("networkidle")
    check_layout(page)
    assert serious_violations(page, axe) == []
    folder = Path(os.environ.get("FOCAL_LOSS_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"overview-{width}-{scheme}.png", full_page=True)
    watched.context.close()
    assert (watched.errors, watched.elsewhere) == ([], [])
