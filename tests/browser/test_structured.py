"""Runs of several labels, tokens and masks in a browser: queues of units, examples, and the other views."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser.browser import Watched, check_view, queue_rows, reviews, serious_violations, tile, withdraw_all
from tests.browser.structured_runs import push_structured
from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

# The colour of a canvas in the middle of its box, as [red, green, blue, alpha].
MIDDLE_COLOUR = """
    (canvas) => {
        const { left, top, width, height } = canvas.parentElement.querySelector(".box").style;
        const middle = (from, size) => (parseFloat(from) + parseFloat(size) / 2) / 100;
        const [x, y] = [canvas.width * middle(left, width), canvas.height * middle(top, height)];
        return [...canvas.getContext("2d").getImageData(Math.floor(x), Math.floor(y), 1, 1).data];
    }
"""
STYLE_COLOUR = """
    (name) => {
        const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
    }
"""


@pytest.fixture(scope="module")
def server(server: ServerProcess) -> ServerProcess:
    push_structured(server.url)
    return server


@pytest.fixture(autouse=True)
def _no_verdicts(server: ServerProcess) -> None:
    """Withdraw the verdicts of the tests before."""
    for run in ("tags", "words", "scenes"):
        withdraw_all(server, run, "units")


def last_review(server: ServerProcess, run: str) -> tuple[Any, ...]:
    review = reviews(server, run)["reviews"][-1]
    return tuple(review[name] for name in ("id", "unit", "verdict", "label", "queue"))


def current(page: Page) -> Locator:
    return page.locator("[aria-current=true] .rank")


def test_a_label_is_reviewed_among_the_chips_of_its_example(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/tags/queues/units")
    chips = page.get_by_role("list", name="Labels").get_by_role("listitem")
    expect(chips).to_have_count(8)
    expect(page.locator(".chip[aria-current=true]")).to_have_text("dogpredicted")
    expect(page.locator(".focus .labels")).to_have_text("given not dog, suggested →dog")
    expect(page.get_by_role("button", name="Other")).to_be_disabled()
    page.get_by_role("button", name="Accept dog").click()
    expect(current(page)).to_have_text("2")
    expect(tile(page, "Reviewed")).to_have_text("1 of 2")
    assert last_review(server, "tags") == ("picture 3", 2, "wrong", 1, "units")
    expect(page.locator(".chip[aria-current=true]")).to_have_text("cargiven")
    page.keyboard.press("1")
    expect(tile(page, "Reviewed")).to_have_text("2 of 2")
    assert last_review(server, "tags") == ("picture 8", 3, "ok", None, "units")
    page.reload()
    expect(page.locator("tbody .badge")).to_have_text(["Wrong: dog", "Kept"])


def test_a_span_is_highlighted_in_its_sentence(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/words/queues/units")
    span = page.locator(".focus mark")
    expect(span).to_have_text("DeutscheLOC → ORG Bank")
    expect(page.locator(".focus .tokens")).to_contain_text("Angela met the board of Deutsche")
    page.keyboard.press("2")
    expect(span).to_have_text("LeeO → PER")
    expect(tile(page, "Reviewed")).to_have_text("1 of 2")
    assert last_review(server, "words") == ("sentence/0", [5, 7], "wrong", 3, "units")
    page.keyboard.press("o")
    page.keyboard.type("LOC")
    page.keyboard.press("Enter")
    expect(tile(page, "Reviewed")).to_have_text("2 of 2")
    assert last_review(server, "words") == ("sentence/1", [2, 3], "wrong", 2, "units")


def test_a_region_is_outlined_on_the_picture_and_the_masks(page: Page, server: ServerProcess) -> None:
    rows = queue_rows(server, "scenes", "units")
    row = next(row for row in rows if row["id"] == "scene 2" and row["num_elements"] == 6)
    page.goto(f"/#/runs/scenes/queues/units/{row['rank']}")
    expect(page.locator(".masks img")).to_have_attribute("alt", "Example scene 2")
    name = "region 0: 6 elements, rows 2 to 3, columns 15 to 17; given animal, predicted background"
    expect(page.get_by_role("img", name=name)).to_have_count(3)
    expect(page.locator(".box-label")).to_have_text(["region 0"] * 3)
    for canvas, colour in (("Given mask", "--bad"), ("Predicted mask", "--accent")):
        pixel = page.get_by_role("img", name=canvas).evaluate(MIDDLE_COLOUR)
        assert pixel == [*page.evaluate(STYLE_COLOUR, colour), 255]
    outline = page.locator(".whole .box").bounding_box()
    picture = page.locator(".whole img").bounding_box()
    assert outline
    assert picture
    assert outline["x"] - picture["x"] == pytest.approx(picture["width"] * 15 / 32, abs=1)
    assert outline["height"] == pytest.approx(picture["height"] * 2 / 24, abs=1)
    page.keyboard.press("1")
    expect(tile(page, "Reviewed")).to_have_text(f"1 of {len(rows)}")
    assert last_review(server, "scenes") == ("scene 2", 0, "ok", None, "units")


def test_units_of_one_example_have_their_own_verdicts(page: Page, server: ServerProcess) -> None:
    """A bulk step on all regions, undone; then the two regions of one scene."""
    page.goto("/#/runs/scenes/queues/units")
    page.get_by_label("Select this page").check()
    expect(page.locator(".bulk")).to_contain_text("6 selected")
    page.get_by_role("button", name="Accept suggestions").click()
    expect(tile(page, "Wrong labels here")).to_have_text("6 of 6")
    page.keyboard.press("u")
    expect(tile(page, "Reviewed")).to_have_text("0 of 6")
    of_scene = [row for row in queue_rows(server, "scenes", "units") if row["id"] == "scene 2"]
    for row, key in zip(of_scene, "14", strict=True):
        page.locator("tbody .rank", has_text=str(row["rank"])).click()
        page.keyboard.press(key)
    expect(tile(page, "Reviewed")).to_have_text("2 of 6")
    verdicts = {row["unit"]: row["verdict"] for row in queue_rows(server, "scenes", "units") if row["verdict"]}
    assert verdicts == {of_scene[0]["unit"]: "ok", of_scene[1]["unit"]: "unsure"}
    page.goto("/#/runs/scenes/examples/scene 2")
    units = page.locator("table", has_text="Units of this example").locator("tbody tr")
    expect(units).to_have_count(2)
    expect(units.nth(0)).to_contain_text("Kept")
    expect(units.nth(1)).to_contain_text("Not sure")
    expect(page.locator(".box")).to_have_count(0)
    page.get_by_role("button", name="region 0").click()
    expect(page.locator(".box-label")).to_have_text(["region 0"] * 3)
    page.get_by_role("button", name="region 0").click()
    expect(page.locator(".box")).to_have_count(0)


def test_the_form_makes_queues_of_units_and_of_whole_examples(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/scenes")
    expect(page.get_by_label("Strategy", exact=True)).to_have_value("recommended")
    page.get_by_text("More choices").click()
    page.get_by_label("At most how many").fill("1")
    page.get_by_role("button", name="Make queue").click()
    expect(page.locator(".lead")).to_contain_text("at most 1 of each example")
    expect(page.locator("tbody tr")).to_have_count(5)
    page.goto("/#/runs/scenes")
    page.get_by_label("Strategy", exact=True).select_option("label_quality")
    expect(page.get_by_label("Classes")).to_be_hidden()
    page.get_by_role("button", name="Make queue").click()
    expect(page.locator("tbody tr")).to_have_count(6)
    expect(page.locator(".focus")).to_contain_text("whole example")
    page.keyboard.press("3")
    expect(tile(page, "Reviewed")).to_have_text("1 of 6")
    review = reviews(server, "scenes")["reviews"][-1]
    assert (review["unit"], review["verdict"], review["label"]) == (None, "wrong", None)
    httpx.post(f"{server.url}/runs/scenes/reviews", json=[{"id": review["id"], "verdict": None}]).raise_for_status()


def test_a_confusion_of_classes_opens_its_regions(page: Page) -> None:
    page.goto("/#/runs/scenes/classes")
    page.get_by_role("row", name="animal → background").get_by_role("button", name="Review 1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("animal-taken-for-background-epoch-1")
    expect(page.locator("tbody tr")).to_have_count(1)


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_every_view_fits_its_window_and_axe_accepts_it(
    browser: Browser, server: ServerProcess, tmp_path: Path, width: int, scheme: Any
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    folder = Path(os.environ.get("FOCAL_LOSS_SCREENSHOTS", tmp_path))
    watched = Watched(browser, server, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = watched.page
    views = {
        "labels": "/#/runs/tags/queues/units",
        "tokens": "/#/runs/words/queues/units",
        "mask": "/#/runs/scenes/queues/units/5",
        "overview": "/#/runs/scenes",
        "examples": "/#/runs/words/examples",
        "example": "/#/runs/tags/examples/picture 3",
        "classes": "/#/runs/tags/classes",
        "map": "/#/runs/tags/map",
        "compare": "/#/runs/words/compare?with=words&epoch=0",
        "export": "/#/runs/words/export",
    }
    with_parts_of_its_own = ("labels", "tokens", "mask", "example", "classes")
    for name, address in views.items():
        check_view(page, address, folder / f"structured-{name}-{width}-{scheme}.png")
        if name in with_parts_of_its_own:
            assert serious_violations(page, axe) == [], name
    watched.context.close()
    assert (watched.errors, watched.elsewhere) == ([], [])
