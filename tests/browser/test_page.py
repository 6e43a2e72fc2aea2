"""The page in a browser: runs, reviews by keyboard, examples, errors, narrow windows and dark colours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser.browser import (
    HOSTILE,
    NAMES,
    Watched,
    check_view,
    push,
    queue_rows,
    reviews,
    tile,
    withdraw_all,
)
from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


@pytest.fixture(scope="module")
def server(server: ServerProcess) -> ServerProcess:
    push(server.url)
    return server


def test_runs_show_their_counts_and_lead_to_a_queue(watched: Watched, server: ServerProcess) -> None:
    page, estimated = watched.page, httpx.get(f"{server.url}/runs/mail/diagnostics").json()["label_errors"]["estimated"]
    page.goto("/")
    row = page.get_by_role("row", name="mail")
    expect(row).to_contain_text("300")
    expect(row.locator("[data-label^='Wrong labels']")).to_have_text(str(estimated))
    expect(row.locator("[data-label='Mean loss']")).not_to_have_text("…")
    page.get_by_role("link", name="mail").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("mail")
    expect(tile(page, "Examples")).to_have_text("300")
    page.get_by_label("Strategy").select_option("top_loss")
    page.get_by_label("How many examples").fill("12")
    page.get_by_label("Classes").select_option("numbers")
    page.get_by_label("spam").fill("3")
    page.get_by_label("Name").fill("friday")
    page.get_by_role("button", name="Make queue").click()
    expect(page.get_by_role("alert")).to_contain_text("per_class asks for 43 rows, the budget is 12")
    assert all("422" in error for error in watched.errors)
    watched.errors.clear()
    page.get_by_label("Classes").select_option("equal")
    page.get_by_role("button", name="Make queue").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("friday")
    expect(page.locator("tbody tr")).to_have_count(12)


def test_verdicts_by_keyboard_outlive_a_reload(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    rows = queue_rows(server)
    page.goto("/#/runs/mail/queues/monday")
    expect(tile(page, "Reviewed")).to_have_text("0 of 60")
    expected: dict[str, tuple[str, int | None]] = {}
    for number, row in enumerate(rows[:50]):
        expect(page.locator("[aria-current=true] .rank")).to_have_text(str(row["rank"]))
        if number % 5 == 4:
            other = next(label for label in range(5) if label not in (row["target"], row["suggested"]))
            page.keyboard.press("o")
            page.keyboard.type(NAMES[other])
            page.keyboard.press("Enter")
            expected[row["id"]] = ("wrong", other)
        elif number % 2 and row["suggested"] is not None:
            page.keyboard.press("2" if number % 3 else "a")
            expected[row["id"]] = ("wrong", row["suggested"])
        else:
            page.keyboard.press("1" if number % 3 else "k")
            expected[row["id"]] = ("ok", None)
    expect(tile(page, "Reviewed")).to_have_text("50 of 60")
    page.keyboard.press("u")
    expect(tile(page, "Reviewed")).to_have_text("49 of 60")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("50")
    del expected[rows[49]["id"]]
    page.keyboard.press("s")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("51")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("j")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("51")
    stored = {row["id"]: (row["verdict"], row["verdict_label"]) for row in queue_rows(server) if row["verdict"]}
    assert stored == expected
    assert {review["queue"] for review in reviews(server)["reviews"] if review["verdict"]} == {"monday"}
    wrong = sum(verdict == "wrong" for verdict, _ in expected.values())
    page.reload()
    expect(tile(page, "Reviewed")).to_have_text("49 of 60")
    expect(tile(page, "Wrong labels here")).to_have_text(f"{wrong} of 49")
    expect(tile(page, "Precision")).to_have_text(f"{round(100 * wrong / 49)} %")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("51")


def test_filters_and_the_row_are_in_the_address(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    rows = queue_rows(server)
    label = rows[0]["target"]
    matching = [row for row in rows if row["target"] == label]
    page.goto("/#/runs/mail/queues/monday")
    page.get_by_label("Given", exact=True).select_option(NAMES[label])
    expect(page.locator("tbody tr")).to_have_count(len(matching))
    page.locator("h1").click()
    page.keyboard.press("j")
    assert page.url.endswith(f"/monday/{matching[1]['rank']}?given={label}")
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(len(matching))
    expect(page.locator("[aria-current=true] .rank")).to_have_text(str(matching[1]["rank"]))
    page.get_by_label("Show").select_option("open")
    page.locator("h1").click()
    page.keyboard.press("k")
    expect(page.locator("tbody tr")).to_have_count(len(matching) - 1)
    prediction = rows[0]["prediction"]
    page.goto(f"/#/runs/mail/queues/monday/1?prediction={prediction}")
    expect(page.locator("tbody tr")).to_have_count(sum(row["prediction"] == prediction for row in rows))


def test_a_row_whose_verdict_is_not_stored_stays_unreviewed(watched: Watched, server: ServerProcess) -> None:
    withdraw_all(server)
    page = watched.page
    page.goto("/#/runs/mail/queues/monday")
    expect(tile(page, "Reviewed")).to_have_text("0 of 60")
    full = {"title": "Storage full", "detail": "no room is left in the data directory", "code": "storage_full"}

    def refuse(route: Route) -> None:
        route.fulfill(status=507, json=full)

    page.route("**/reviews", refuse)
    page.keyboard.press("k")
    expect(page.get_by_role("alert")).to_contain_text("no room is left in the data directory")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("1")
    expect(tile(page, "Reviewed")).to_have_text("0 of 60")
    page.keyboard.press("u")
    page.unroute("**/reviews")
    page.keyboard.press("k")
    expect(tile(page, "Reviewed")).to_have_text("1 of 60")
    expect(page.get_by_role("alert")).to_have_count(0)
    # The browser logs the status itself.
    assert all("507" in error for error in watched.errors)
    watched.errors.clear()


def test_the_view_of_an_example(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    row = queue_rows(server)[0]
    verdicts = [{"id": row["id"], "verdict": "wrong", "label": row["suggested"], "reviewer": "kim"}]
    httpx.post(f"{server.url}/runs/mail/reviews", json=verdicts).raise_for_status()
    page.goto("/#/runs/mail/queues/monday/1")
    page.get_by_role("region", name="Row under review").get_by_role("link", name=row["id"]).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(row["id"])
    # Text of a data set is never markup.
    expect(page.locator(".example .text")).to_have_text(HOSTILE)
    assert "broken in" not in page.title()
    expect(page.locator(".classes li.given")).to_contain_text(NAMES[row["target"]])
    expect(page.locator(".classes li.suggested")).to_contain_text(NAMES[row["suggested"]])
    expect(page.get_by_role("row", name="Logit margin")).to_contain_text("The best other class is ahead of the label.")
    expect(page.get_by_role("img", name="p(label): epoch 0")).to_be_visible()
    expect(page.locator(".history li").first).to_contain_text(f"Wrong: {NAMES[row['suggested']]}")
    page.get_by_role("link", name="monday").click()
    expect(page.locator("[aria-current=true] .rank")).to_have_text("1")


def test_without_names_classes_are_numbers_and_pictures_are_shown(page: Page) -> None:
    page.goto("/#/runs/bare/queues/all")
    focus = page.get_by_role("region", name="Row under review")
    expect(focus.locator(".label.given")).to_have_text("class 0")
    assert focus.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 9
    expect(focus.locator("img")).to_have_attribute("loading", "lazy")
    expect(focus.locator("dd")).to_have_count(1)


def test_deleting_a_run_asks_first(page: Page, server: ServerProcess) -> None:
    httpx.put(f"{server.url}/runs/doomed", json={}).raise_for_status()
    page.goto("/")
    delete = page.get_by_role("button", name="Delete run doomed")
    delete.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("cannot be brought back")
    page.keyboard.press("Escape")
    expect(delete).to_be_focused()
    assert httpx.get(f"{server.url}/runs/doomed").status_code == 200
    delete.click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("row", name="doomed")).to_have_count(0)
    assert httpx.get(f"{server.url}/runs/doomed").status_code == 404


def test_keys_are_listed_and_can_be_turned_off(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    page.goto("/#/runs/mail/queues/monday/1")
    expect(tile(page, "Reviewed")).to_have_text("0 of 60")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Take the suggested label")
    page.get_by_label("Turn these keys off").check()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("1")
    # The buttons still work.
    page.get_by_role("button", name="Keep").press("Enter")
    expect(tile(page, "Reviewed")).to_have_text("1 of 60")


def test_an_unknown_run_is_reported(watched: Watched) -> None:
    watched.page.goto("/#/runs/nothing")
    expect(watched.page.get_by_role("alert")).to_contain_text("nothing")
    watched.page.wait_for_load_state("networkidle")
    assert all("404" in error for error in watched.errors)
    watched.errors.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_view_fits_its_window(
    browser: Browser, server: ServerProcess, tmp_path: Path, width: int, scheme: Any
) -> None:
    folder = Path(os.environ.get("FOCAL_LOSS_SCREENSHOTS", tmp_path))
    watched = Watched(browser, server, viewport={"width": width, "height": 844}, color_scheme=scheme)
    row = queue_rows(server)[1]["id"].replace("/", "%2F")
    views = {
        "runs": "/#/",
        "run": "/#/runs/mail",
        "queue": "/#/runs/mail/queues/monday/2",
        "pictures": "/#/runs/bare/queues/all",
        "example": f"/#/runs/mail/examples/{row}",
    }
    for name, address in views.items():
        check_view(watched.page, address, folder / f"{name}-{width}-{scheme}.png")
    watched.context.close()
    assert (watched.errors, watched.elsewhere) == ([], [])
