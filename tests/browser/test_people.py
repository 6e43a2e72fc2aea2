"""Several people in a browser: names, comments, conflicts and their settlement, roles."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser.browser import (
    Watched,
    check_layout,
    push,
    queue_rows,
    reviews,
    serious_violations,
    tile,
    withdraw_all,
)
from tests.live.server_process import ServerProcess
from tests.services import ServerWith

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
MONDAY = "/#/runs/mail/queues/monday"


@pytest.fixture(scope="module")
def server(server: ServerProcess) -> ServerProcess:
    push(server.url)
    return server


def current_rank(page: Page) -> Any:
    return page.locator("[aria-current=true] .rank")


def said(page: Page) -> Any:
    return page.get_by_role("region", name="Verdicts on this row")


def review(server: ServerProcess, row: dict[str, Any], verdict: str, **more: Any) -> None:
    value = [{"id": row["id"], "verdict": verdict, **more}]
    httpx.post(f"{server.url}/runs/mail/reviews", json=value).raise_for_status()


def test_the_name_is_asked_once_and_stands_beside_the_verdicts(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    page.goto(f"{MONDAY}/1")
    page.get_by_label("Your name, so that others know").fill("Kim")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("button", name="Your name: Kim")).to_be_visible()
    expect(page.get_by_label("Your name, so that others know")).to_have_count(0)
    # Comments are typed without the keys of the review, and go with the verdict.
    page.keyboard.press("c")
    page.keyboard.type("kept by mistake?")
    page.keyboard.press("Enter")
    page.keyboard.press("x")
    expect(tile(page, "Reviewed")).to_have_text("1 of 60")
    last = reviews(server)["reviews"][-1]
    assert (last["verdict"], last["reviewer"], last["comment"]) == ("exclude", "Kim", "kept by mistake?")
    page.reload()
    expect(current_rank(page)).to_have_text("2")
    page.get_by_role("link", name="Row 1", exact=True).click()
    expect(page.get_by_label("Comment", exact=True)).to_have_value("kept by mistake?")
    expect(said(page)).to_contain_text("you: Excluded")
    page.get_by_label("Comment", exact=True).fill("no language")
    page.get_by_role("button", name="Save comment").click()
    expect(said(page)).to_contain_text("no language")
    assert [item["comment"] for item in reviews(server)["reviews"][-2:]] == ["kept by mistake?", "no language"]
    # Another name in the header is another reviewer.
    page.get_by_role("button", name="Your name: Kim").click()
    page.get_by_label("Stands beside your verdicts").fill("Lee")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Your name: Lee")).to_be_visible()
    expect(said(page)).to_contain_text("Kim: Excluded")


def test_a_verdict_on_a_row_that_another_has_reviewed_since_is_not_stored_silently(
    watched: Watched, server: ServerProcess
) -> None:
    page = watched.page
    withdraw_all(server)
    rows = queue_rows(server)
    page.goto(f"{MONDAY}/1")
    expect(current_rank(page)).to_have_text("1")
    review(server, rows[0], "unsure", reviewer="Max", comment="I cannot read it")
    page.keyboard.press("1")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Row 1 was reviewed in the meantime")
    expect(alert).to_contain_text("Max said “Not sure”")
    expect(alert).to_contain_text("I cannot read it")
    expect(alert).to_contain_text("Yours, “Kept”, is not stored.")
    expect(current_rank(page)).to_have_text("1")
    assert queue_rows(server)[0]["verdict"] == "unsure"
    alert.get_by_role("button", name="Store mine as well").click()
    expect(said(page)).to_contain_text("The reviewers disagree")
    assert queue_rows(server)[0]["verdict"] == "conflict"
    # An owner settles it.
    said(page).get_by_role("button", name="Kept").click()
    expect(said(page)).to_contain_text("Settled by you: Kept")
    settled = queue_rows(server)[0]
    assert (settled["verdict"], [item["adjudicated"] for item in settled["reviews"]]) == ("ok", [False, False, True])
    page.keyboard.press("u")
    expect(said(page)).to_contain_text("The reviewers disagree")
    page.get_by_label("Show", exact=True).select_option("in conflict")
    expect(page.locator("tbody .rank")).to_have_text(["1"])
    said(page).get_by_role("button", name="Another label").click()
    page.get_by_label("Type its first letters").select_option(str(rows[0]["suggested"]))
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.locator("tbody .rank")).to_have_count(0)
    assert queue_rows(server)[0]["verdict_label"] == rows[0]["suggested"]
    assert all("409" in error for error in watched.errors)
    watched.errors.clear()


def test_of_a_step_with_a_row_reviewed_since_nothing_is_stored_without_a_question(
    watched: Watched, server: ServerProcess
) -> None:
    page = watched.page
    withdraw_all(server)
    rows = queue_rows(server)
    page.goto(MONDAY)
    for rank in (1, 2, 3):
        page.get_by_label(f"Select row {rank}", exact=True).check()
    review(server, rows[1], "exclude", reviewer="Max")
    page.get_by_role("button", name="Keep all").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Row 2 was reviewed in the meantime")
    expect(alert).to_contain_text("None of the 3 verdicts of this step is.")
    assert [row["verdict"] for row in queue_rows(server)[:3]] == [None, "exclude", None]
    alert.get_by_role("button", name="Store all the same").click()
    expect(tile(page, "Reviewed")).to_have_text("3 of 60")
    expect(page.locator(".tile", has_text="Reviewed").get_by_role("link")).to_have_text("1 conflict")
    assert [row["verdict"] for row in queue_rows(server)[:3]] == ["ok", "conflict", "ok"]
    assert all("409" in error for error in watched.errors)
    watched.errors.clear()


def test_two_people_never_get_the_same_free_row(browser: Browser, server: ServerProcess) -> None:
    request = {"strategy": "logit_margin", "budget": 3, "name": "shared", "exclude_reviewed": False}
    httpx.post(f"{server.url}/runs/mail/queues", json=request).raise_for_status()
    withdraw_all(server, name="shared")
    windows = {name: Watched(browser, server) for name in ("Kim", "Lee")}
    pages = {name: watched.page for name, watched in windows.items()}
    free = "Give me rows that nobody else is reviewing"
    for name, page in pages.items():
        page.add_init_script(f"localStorage.setItem('focal-loss-name', '{name}')")
        page.goto("/#/runs/mail/queues/shared")
        page.get_by_label(free).check()
    kim, lee = pages.values()
    expect(current_rank(kim)).to_have_text("1")
    expect(current_rank(lee)).to_have_text("2")
    kim.keyboard.press("1")
    expect(current_rank(kim)).to_have_text("3")
    kim.keyboard.press("s")
    expect(kim.locator(".free-rows")).to_contain_text("No row is free for you.")
    # A row that is given back is free again.
    lee.get_by_label(free).uncheck()
    kim.get_by_label(free).uncheck()
    lee.get_by_label(free).check()
    expect(lee.locator(".free-rows")).to_contain_text("1 more")
    lee.keyboard.press("1")
    expect(current_rank(lee)).to_have_text("3")
    for watched in windows.values():
        watched.context.close()
        assert watched.errors == []
    assert [row["reviews"][0]["reviewer"] for row in queue_rows(server, name="shared")[:2]] == ["Kim", "Lee"]


def test_a_blind_queue_for_two_shows_verdicts_and_suggestions_after_the_own(page: Page, server: ServerProcess) -> None:
    request = {
        "strategy": "logit_margin",
        "budget": 4,
        "name": "blind",
        "exclude_reviewed": False,
        "overlap": 2,
        "blind": True,
        "without_suggestion": 1.0,
    }
    queue = httpx.post(f"{server.url}/runs/mail/queues", json=request).raise_for_status().json()
    withdraw_all(server)
    review(server, queue["rows"][0], "wrong", reviewer="Max")
    page.add_init_script("localStorage.setItem('focal-loss-name', 'Kim')")
    page.goto("/#/runs/mail/queues/blind")
    expect(current_rank(page)).to_have_text("1")
    expect(page.get_by_role("button", name="Suggestion hidden until your verdict")).to_be_disabled()
    expect(said(page)).to_have_count(0)
    page.keyboard.press("1")
    expect(current_rank(page)).to_have_text("2")
    expect(page.get_by_role("row", name="Row 1", exact=False).first).to_contain_text("Conflict")
    page.keyboard.press("ArrowUp")
    expect(said(page)).to_contain_text("Max: Wrong")
    expect(page.get_by_role("button", name=re.compile("^Accept "))).to_be_enabled()


SECRETS = {name: f"a-long-enough-key-of-{name}" for name in ("ann", "rob", "eve")}
KEYS = f"ann:owner:{SECRETS['ann']},rob:reviewer:{SECRETS['rob']},eve:reader:{SECRETS['eve']}"


def sign_in(page: Page, name: str) -> None:
    page.goto(f"{MONDAY}/1")
    page.get_by_label("Key").fill(SECRETS[name])
    page.keyboard.press("Enter")
    expect(current_rank(page)).to_have_text("1")


def test_the_role_of_the_key_decides_what_the_page_offers(browser: Browser, server_with: ServerWith) -> None:
    server = server_with(api_keys=KEYS)
    push(server.url, SECRETS["ann"])
    for name in ("rob", "eve"):
        watched = Watched(browser, server)
        page = watched.page
        sign_in(page, name)
        expect(page.locator("#person")).to_contain_text(name)
        expect(page.get_by_label("Your name, so that others know")).to_have_count(0)
        reader = name == "eve"
        expect(page.get_by_role("button", name="Keep", exact=False).first).to_be_visible(visible=not reader)
        page.keyboard.press("1")
        if not reader:
            expect(tile(page, "Reviewed")).to_have_text("1 of 60")
        page.keyboard.press("j")
        expect(current_rank(page)).to_have_text("3" if not reader else "2")
        page.get_by_label("Select row 1", exact=True).check()
        expect(page.locator(".bulk")).to_be_visible(visible=not reader)
        # Making queues and deleting runs is for owners.
        page.goto("/#/runs/mail")
        expect(page.get_by_role("heading", name="Queues")).to_be_visible()
        expect(page.get_by_role("heading", name="New queue")).to_have_count(0)
        page.goto("/#/")
        expect(page.get_by_role("heading", name="Runs")).to_be_visible()
        expect(page.get_by_role("button", name="Delete run mail")).to_have_count(0)
        watched.context.close()
        assert [error for error in watched.errors if "401" not in error] == []
    headers = {"Authorization": f"Bearer {SECRETS['ann']}"}
    stored = httpx.get(f"{server.url}/runs/mail/reviews", headers=headers).json()["reviews"]
    assert [(item["reviewer"], item["verdict"]) for item in stored] == [("rob", "ok")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_a_conflict_fits_its_window_and_axe_accepts_it(
    browser: Browser, server: ServerProcess, tmp_path: Path, width: int, scheme: Any
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    folder = Path(os.environ.get("FOCAL_LOSS_SCREENSHOTS", tmp_path))
    withdraw_all(server)
    row = queue_rows(server)[0]
    review(server, row, "ok", reviewer="Kim", comment="The subject line says so, and the sender is known to all of us.")
    review(server, row, "wrong", reviewer="A person with a rather long name that goes on", label=row["suggested"])
    watched = Watched(browser, server, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = watched.page
    page.goto(f"{MONDAY}/1")
    expect(said(page)).to_contain_text("The reviewers disagree")
    page.get_by_role("button", name="Your name …").click()
    page.get_by_label("Stands beside your verdicts").fill(
        "Wolfeschlegelsteinhausenbergerdorff the Elder of Philadelphia"
    )
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Wolfe")).to_be_visible()
    check_layout(page)
    assert serious_violations(page, axe) == []
    page.screenshot(path=folder / f"conflict-{width}-{scheme}.png", full_page=width == 390)
    review(server, row, "unsure", reviewer="Max")
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("Max said")
    check_layout(page)
    assert serious_violations(page, axe) == []
    page.screenshot(path=folder / f"reviewed-since-{width}-{scheme}.png", full_page=width == 390)
    watched.context.close()
    assert [error for error in watched.errors if "409" not in error] == []
