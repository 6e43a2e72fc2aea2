"""A queue in a browser: filters, sort keys, tabs, pages, bulk reviews, and the form that makes a queue."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from service.client import LossClient
from tests.browser.browser import NAMES, WITHIN_MS, Watched, check_layout, push, queue_rows, reviews, tile, withdraw_all
from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
LONG = 3_000
MONDAY = "/#/runs/mail/queues/monday"


@pytest.fixture(scope="module")
def server(server: ServerProcess) -> ServerProcess:
    push(server.url)
    rng = np.random.default_rng(3)
    with LossClient(server.url) as client:
        long = client.put_run("long", class_names=NAMES)
        sources = {"source": [["web", "phone", "shop"][row % 3] for row in range(LONG)]}
        logits = rng.standard_normal((LONG, 5)).astype(np.float32)
        long.push(0, "all", logits, rng.integers(0, 5, LONG), range(LONG), attributes=sources)
        long.create_queue("top_loss", budget=LONG, name="all")
    return server


def ranks(page: Page) -> Locator:
    return page.locator("tbody .rank")


def rank_texts(rows: list[dict[str, Any]]) -> list[str]:
    return [str(row["rank"]) for row in rows]


def tab(page: Page, text: str) -> Locator:
    return page.get_by_role("group", name="Which rows").get_by_role("button", name=text, exact=True)


def verdicts(server: ServerProcess) -> dict[str, tuple[str, int | None]]:
    return {row["id"]: (row["verdict"], row["verdict_label"]) for row in queue_rows(server) if row["verdict"]}


def test_filters_by_class_attribute_and_text_are_in_the_address(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    rows = queue_rows(server)
    label = rows[0]["target"]
    of_kim = [row for row in rows if row["target"] == label and row["attributes"]["annotator"] == "kim"]
    page.goto(MONDAY)
    expect(ranks(page)).to_have_text(rank_texts(rows))
    page.get_by_label("Given", exact=True).select_option(NAMES[label])
    page.get_by_label("annotator").select_option("kim")
    expect(ranks(page)).to_have_text(rank_texts(of_kim))
    expect(tab(page, f"Filtered ({len(of_kim)})")).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(ranks(page)).to_have_text(rank_texts(of_kim))
    expect(page.get_by_label("annotator")).to_have_value("kim")
    matching = [row for row in of_kim if "INVOICE" in row["attributes"]["text"].upper()]
    assert 0 < len(matching) < len(of_kim)
    page.get_by_label("Search").fill("iNVOICE")
    expect(ranks(page)).to_have_text(rank_texts(matching))
    # The tab All ignores the filters, but keeps them, also in the address.
    tab(page, "All (60)").click()
    expect(ranks(page)).to_have_text(rank_texts(rows))
    page.reload()
    expect(ranks(page)).to_have_text(rank_texts(rows))
    expect(page.get_by_label("Search")).to_have_value("iNVOICE")
    tab(page, f"Filtered ({len(matching)})").click()
    expect(ranks(page)).to_have_text(rank_texts(matching))


def test_the_heads_of_the_columns_set_two_sort_keys(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    rows = sorted(queue_rows(server), key=lambda row: (row["target"], -row["loss"], row["rank"]))
    page.goto(MONDAY)
    given = page.get_by_role("button", name="Given", exact=True)
    given.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Loss").click(modifiers=["Shift"])
    expect(ranks(page)).to_have_text(rank_texts(rows))
    expect(page.get_by_role("columnheader", name="Given")).to_have_attribute("aria-sort", "ascending")
    expect(page.get_by_role("columnheader", name="Loss")).to_have_attribute("aria-sort", "descending")
    assert "sort=target%2C-loss" in page.url
    page.reload()
    expect(ranks(page)).to_have_text(rank_texts(rows))
    # A narrow window has no head of the table, but the same choices.
    page.get_by_label("Then by").select_option("loss")
    rows.sort(key=lambda row: (row["target"], row["loss"], row["rank"]))
    expect(ranks(page)).to_have_text(rank_texts(rows))


def test_many_rows_are_reviewed_and_undone_in_one_step(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    rows = queue_rows(server)
    some = [row for row in rows if row["target"] == 2]
    accepted = {row["id"]: ("wrong", row["suggested"]) for row in some if row["suggested"] is not None}
    first = next(row for row in rows if row["target"] != 2)
    page.goto(f"{MONDAY}?given=2")
    expect(ranks(page)).to_have_count(len(some))
    page.get_by_label("Select this page").check()
    # The selection outlives the filter.
    page.get_by_label("Given", exact=True).select_option("any class")
    expect(ranks(page)).to_have_count(60)
    page.get_by_label(f"Select row {first['rank']}", exact=True).check()
    page.get_by_label(f"Select row {first['rank']}", exact=True).uncheck()
    tab(page, f"Selected ({len(some)})").click()
    expect(ranks(page)).to_have_text(rank_texts(some))
    before = len(reviews(server)["reviews"])
    page.get_by_role("button", name="Accept suggestions").click()
    expect(page.locator(".notice.done")).to_contain_text(f"{len(accepted)} rows accepted")
    expect(tile(page, "Reviewed")).to_have_text(f"{len(accepted)} of 60")
    assert verdicts(server) == accepted
    page.keyboard.press("u")
    expect(tile(page, "Reviewed")).to_have_text("0 of 60")
    assert verdicts(server) == {}
    assert len(reviews(server)["reviews"]) == before + 2 * len(accepted)
    # More than twenty rows need a confirmation, and are sent in one request.
    posted: list[str] = []
    page.on("request", lambda request: posted.append(request.url) if request.method == "POST" else None)
    page.get_by_label("Select this page").check()
    page.get_by_role("button", name="Keep all").click()
    expect(page.get_by_role("dialog")).to_contain_text("Keep the given label of 60 rows?")
    assert posted == []
    page.keyboard.press("Enter")
    expect(tile(page, "Reviewed")).to_have_text("60 of 60")
    assert set(verdicts(server).values()) == {("ok", None)}
    assert len(posted) == 1


def test_after_the_last_row_the_page_tells_where_to_go_on(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    page.goto(f"{MONDAY}/60")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("60")
    page.keyboard.press("1")
    expect(page.locator(".notice.done")).to_contain_text("No open row follows.")
    page.locator(".notice.done").get_by_role("link", name="overview").click()
    expect(page.get_by_role("heading", name="The corrected data set")).to_be_visible()


def test_the_link_of_a_row_loads_only_its_page(page: Page, server: ServerProcess) -> None:
    replies: list[str] = []
    page.on("response", lambda reply: replies.append(reply.text()) if "/queues/all?" in reply.url else None)
    page.goto("/#/runs/long/queues/all/2345")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("2345")
    expect(ranks(page)).to_have_text([str(rank) for rank in range(2301, 2401)])
    expect(page.locator(".count")).to_have_text(re.compile("Rows 2,301.2,400 of 3,000"))
    assert sum(text.count('"reason"') for text in replies) <= 100
    page.get_by_role("button", name="Next page").click()
    expect(ranks(page).first).to_have_text("2401")
    assert page.url.endswith("/all/2401")
    page.keyboard.press("ArrowUp")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("2400")
    page.keyboard.press("j")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("2401")
    # Matching rows of other pages can be selected too.
    page.get_by_label("source").select_option("phone")
    page.get_by_role("button", name="Select all 1,000 that match").click()
    expect(page.locator(".bulk")).to_contain_text("1,000 selected")
    tab(page, "Selected (1,000)").click()
    expect(ranks(page)).to_have_count(100)


def test_reviews_by_keyboard_go_on_to_the_next_page(page: Page, server: ServerProcess) -> None:
    """Reviewed rows leave the list, and no row is left out at the end of a page."""
    everything = f"{server.url}/runs/long/queues/all"
    first = [row["id"] for row in httpx.get(everything, params={"limit": 98}).json()["rows"]]
    ids = [row["id"] for row in httpx.get(everything, params={"limit": 4, "offset": 98}).json()["rows"]]
    page.goto("/#/runs/long/queues/all?show=open")
    expect(ranks(page)).to_have_count(100)
    verdicts = [{"id": row_id, "verdict": "ok"} for row_id in first]
    httpx.post(f"{server.url}/runs/long/reviews", json=verdicts).raise_for_status()
    page.reload()
    expect(page.locator("[aria-current=true] .rank")).to_have_text("99")
    for key in ("m", "4", "m", "d"):
        page.keyboard.press(key)
    expect(page.locator("[aria-current=true] .rank")).to_have_text("101")
    expect(page.locator(".bulk")).to_contain_text("2 selected")
    expect(ranks(page).first).to_have_text("101")
    assert httpx.get(everything, params={"verdict": "unsure", "fields": "id"}).json()["rows"] == [
        {"id": row_id} for row_id in ids[:2]
    ]
    for _ in range(98):
        page.keyboard.press("j")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("199")
    page.keyboard.press("k")
    page.keyboard.press("k")
    # A key pressed while the next page loads applies to its first row.
    page.keyboard.press("k")
    expect(page.locator("[aria-current=true] .rank")).to_have_text("202")

    def kept_ranks() -> list[int]:
        query = {"verdict": "ok", "fields": "rank", "limit": 1000}
        return [row["rank"] for row in httpx.get(everything, params=query).json()["rows"]]

    # The last verdicts may still be in flight.
    deadline = time.monotonic() + WITHIN_MS / 1000
    while len(kept_ranks()) < 101 and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert kept_ranks() == [*range(1, 99), 199, 200, 201]


def test_the_form_makes_a_mix_and_previews_it(page: Page, server: ServerProcess) -> None:
    withdraw_all(server)
    page.goto("/#/runs/mail")
    page.get_by_label("Strategy", exact=True).select_option("mix")
    page.get_by_label("Part of the mix").nth(0).select_option("area_under_margin")
    page.get_by_label("Its share in %").nth(0).fill("50")
    page.get_by_label("Its share in %").nth(1).fill("50")
    page.get_by_label("How many examples").fill("20")
    page.get_by_text("More choices").click()
    expect(page.get_by_label("Semi-hard up to a margin of")).to_be_hidden()
    page.get_by_label("Only the first epochs").fill("2")
    page.get_by_label("Seed of the draw").fill("7")
    page.get_by_label("At most so many with the same").fill("annotator")
    page.get_by_label("At most how many").fill("8")
    page.get_by_label("Reviewers of each row").fill("2")
    page.get_by_label("Rows without a suggestion, in %").fill("25")
    page.get_by_label("Hide the verdicts of others").check()
    expect(page.locator(".expected")).to_contain_text("expected in 16 rows; by class: ")
    preview = page.locator(".expected").inner_text()
    page.get_by_label("Name", exact=True).fill("mixed")
    page.get_by_role("button", name="Make queue").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("mixed")
    expect(page.locator(".lead")).to_contain_text(
        "Mix of area under the margin 50 % and random (control) 50 %, up to 20 rows, "
        "at most 8 with the same annotator, 2 reviewers for each row, without the verdicts of others, from epoch 2."
    )
    queue = httpx.get(f"{server.url}/runs/mail/queues/mixed").json()
    expected = {"mix": {"area_under_margin": 0.5, "random": 0.5}, "budget": 20, "first": 2, "seed": 7}
    expected |= {"overlap": 2, "without_suggestion": 0.25, "blind": True}
    assert {name: queue["request"][name] for name in expected} == expected
    assert {row["strategy"] for row in queue["rows"]} == {"area_under_margin", "random"}
    assert preview.startswith(f"About {round(queue['expected_yield']['wrong_labels'])} wrong label")
    for label, count in queue["num_per_class"].items():
        assert f"{NAMES[int(label)]}: {count}" in preview


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_state_fits_its_window(
    browser: Browser, server: ServerProcess, tmp_path: Path, width: int, scheme: Any
) -> None:
    folder = Path(os.environ.get("FOCAL_LOSS_SCREENSHOTS", tmp_path))
    watched = Watched(browser, server, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = watched.page
    page.goto(f"{MONDAY}/3?sort=target,-loss&attribute.annotator=kim")
    expect(page.get_by_role("heading", level=1)).to_have_text("monday")
    page.get_by_label("Select this page").check()
    shots = {"selected": None, "form": "/#/runs/mail"}
    for name, address in shots.items():
        if address:
            page.goto(address)
            page.get_by_label("Strategy", exact=True).select_option("mix")
            page.get_by_text("More choices").click()
        page.wait_for_load_state("networkidle")
        check_layout(page, name)
        page.screenshot(path=folder / f"queue-{name}-{width}-{scheme}.png", full_page=width == 390)
    watched.context.close()
    assert (watched.errors, watched.elsewhere) == ([], [])
