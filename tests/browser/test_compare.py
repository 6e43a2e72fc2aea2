"""The comparison in a browser: corrected labels are resolved, a label that was made wrong is newly hard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from service.client import LossClient
from tests.browser.browser import Watched, check_layout, tile
from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
ROWS, WRONG = 200, (3, 4, 5)


@pytest.fixture(scope="module")
def server(server: ServerProcess) -> ServerProcess:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 3, ROWS)
    logits = rng.standard_normal((ROWS, 3)).astype(np.float32) / 10
    logits[np.arange(ROWS), truth] += 5
    given, corrected = truth.copy(), truth.copy()
    given[list(WRONG)] = (given[list(WRONG)] + 1) % 3
    corrected[7] = (corrected[7] + 1) % 3
    ids = [f"row {row}" for row in range(ROWS)]
    with LossClient(server.url) as client:
        before = client.put_run("original", class_names=["cat", "dog", "bird"])
        before.push(0, "all", np.roll(logits, 1, axis=0), given, ids)
        before.push(1, "all", logits, given, ids)
        # The older run is the one before, although the other is first by name.
        after = client.put_run("corrected", class_names=["cat", "dog", "bird"])
        after.push(0, "all", logits[:-1], corrected[:-1], ids[:-1])
        client.put_run("other", class_names=["cat", "dog", "bird"]).push(
            0, "all", logits, given, [f"x{i}" for i in ids]
        )
        client.put_run("empty")
    return server


def test_two_runs_are_chosen_in_the_list_and_compared(page: Page, server: ServerProcess) -> None:
    page.goto("/")
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    expect(page.get_by_label("Compare empty")).to_have_count(0)
    page.get_by_label("Compare corrected").check()
    expect(compare).to_be_disabled()
    page.get_by_label("Compare original").check()
    compare.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("original")
    assert page.url.endswith("#/runs/original/compare?with=corrected")
    page.get_by_label("How many count as the hardest").fill("3")
    page.keyboard.press("Enter")
    expect(page.locator(".compare-summary")).to_have_text(
        "3 examples have become hard, 3 are resolved; 0 % of the hardest are the same."
    )
    assert page.url.endswith("compare?with=corrected&top=3")
    expect(tile(page, "Relabelled")).to_have_text("4")
    expect(tile(page, "Examples in common")).to_have_text("199")
    resolved = page.get_by_role("region", name="Resolved").locator("tbody tr")
    assert sorted(resolved.locator("th").all_inner_texts()) == [f"row {row}" for row in WRONG]
    worse = page.get_by_role("region", name="Newly hard").locator("tbody tr", has_text="row 7")
    expect(worse.locator("[data-label=Rank]")).to_contain_text("1")
    comparison = httpx.get(f"{server.url}/runs/original/compare/corrected?top=3").json()
    expect(tile(page, "Rank correlation")).to_have_text(f"{comparison['rank_correlation']:.3g}")
    classes = page.get_by_role("region", name="Classes").locator("[data-label=Resolved]").all_inner_texts()
    assert [int(text) for text in classes] == [row["num_resolved"] for row in comparison["classes"]]
    worse.get_by_role("link").click()
    # The link leads to the run in which the example is hard.
    expect(page.get_by_role("heading", level=1)).to_have_text("row 7")
    assert "#/runs/corrected/examples/" in page.url


def test_the_moves_have_a_chart_and_a_table(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/original/compare?with=corrected&top=3")
    moves = page.get_by_role("region", name="Moves")
    moves.scroll_into_view_if_needed()
    comparison = httpx.get(f"{server.url}/runs/original/compare/corrected?top=3").json()
    listed = {row["id"] for kind in ("newly_hard", "resolved", "moves") for row in comparison[kind]}
    expect(moves.locator(".plot .point")).to_have_count(len(listed))
    moves.get_by_label("Show").select_option("loss")
    expect(moves.locator(".plot .xtitle")).to_have_text("loss before")
    moves.get_by_text("As a table").click()
    expect(moves.locator("tbody tr")).to_have_count(len(comparison["moves"]))
    expect(moves.locator("tbody tr").first).to_contain_text(comparison["moves"][0]["id"])


def test_a_run_is_compared_with_itself_at_another_epoch(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/original/compare")
    expect(page.get_by_text("Choose the run that came after")).to_be_visible()
    page.get_by_label("After: run").select_option("original")
    comparison = httpx.get(f"{server.url}/runs/original/compare/original?epoch=0&other_epoch=1").json()
    expect(page.locator(".compare-summary")).to_contain_text(f"{comparison['num_resolved']} are resolved")
    assert page.url.endswith("compare?with=original&epoch=0")
    page.get_by_label("After: epoch").select_option("0")
    expect(page.locator(".compare-summary")).to_have_text(
        "0 examples have become hard, 0 are resolved; 100 % of the hardest are the same."
    )
    page.reload()
    expect(page.get_by_label("After: epoch")).to_have_value("0")
    page.get_by_label("After: epoch").select_option("1, the last")
    page.get_by_role("link", name="Swap before and after").click()
    expect(page.get_by_label("Before: original, epoch")).to_have_value("")
    expect(page.get_by_label("After: epoch")).to_have_value("0")


def test_impossible_comparisons_are_reported(watched: Watched) -> None:
    page = watched.page
    page.goto("/#/runs/original/compare?with=other")
    expect(page.locator(".notice")).to_contain_text("no example in common")
    page.goto("/#/runs/original/compare?with=gone")
    expect(page.get_by_role("alert")).to_contain_text("gone")
    # The browser logs the status itself.
    assert all("404" in error for error in watched.errors)
    watched.errors.clear()


@pytest.mark.parametrize("width", [390, 1440])
def test_it_fits_its_window(browser: Browser, server: ServerProcess, width: int) -> None:
    watched = Watched(browser, server, viewport={"width": width, "height": 844}, color_scheme="dark")
    for address in ("/#/runs/original/compare?with=corrected", "/#/"):
        watched.page.goto("about:blank")
        watched.page.goto(address)
        expect(watched.page.get_by_role("table").first).to_be_visible()
        check_layout(watched.page)
    watched.context.close()
    assert (watched.errors, watched.elsewhere) == ([], [])
