"""The views of a run in a browser: charts, examples, classes, data map, and the accessibility of all views."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser.browser import NAMES, Watched, push, serious_violations, tile
from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

GAMMA = "\N{GREEK SMALL LETTER GAMMA}"


@pytest.fixture(scope="module")
def server(server: ServerProcess) -> ServerProcess:
    push(server.url)
    return server


def get(server: ServerProcess, path: str) -> dict[str, Any]:
    reply: dict[str, Any] = httpx.get(f"{server.url}/runs/mail/{path}").raise_for_status().json()
    return reply


def newest_queue(server: ServerProcess) -> dict[str, Any]:
    queues = get(server, "queues")["queues"]
    return get(server, f"queues/{max(queues, key=lambda queue: queue['created_at'])['name']}?limit=1000")


def chart(page: Page, title: str) -> Any:
    """The card of a chart, after Plotly has drawn it."""
    card = page.locator(".card", has=page.get_by_role("heading", name=title))
    card.scroll_into_view_if_needed()
    expect(card.locator(".main-svg").first).to_be_visible()
    return card


def test_a_bar_of_the_histogram_leads_to_its_examples(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/mail")
    card = chart(page, "Losses")
    bars = card.locator(".bars .point path")
    counts = get(server, "diagnostics?fields=histogram")["histogram"]["counts"]
    drawn = counts[next(place for place, count in enumerate(counts) if count) :]
    expect(bars).to_have_count(len(drawn))
    bar, plot = bars.last.bounding_box(), card.locator(".nsewdrag").bounding_box()
    assert bar
    assert plot
    # On a logarithmic scale a bar extends far below the visible plot.
    x, y = bar["x"] + bar["width"] / 2, plot["y"] + plot["height"] - 4
    page.mouse.move(x, y, steps=5)
    expect(card.locator(".hoverlayer")).to_contain_text(f": {drawn[-1]} example")
    page.mouse.click(x, y)
    expect(page).to_have_url(re.compile("examples.*min_loss="))
    expect(page.locator("tbody tr")).to_have_count(drawn[-1])
    page.go_back()
    card = chart(page, "Losses")
    card.get_by_text("As a table").click()
    card.get_by_role("link").first.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(drawn[-1])


def test_the_slider_shows_the_concentration_for_another_gamma(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/mail")
    card = chart(page, "How few examples hold the loss")
    expect(card).to_contain_text("The order of the examples stays the same")
    before = card.locator(".lines path").last.get_attribute("d")
    slider = card.get_by_label("What if")
    slider.focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    expect(card.locator("output")).to_have_text(f"{GAMMA} = 0")
    shares = get(server, "diagnostics?fields=concentration&gamma=0")["concentration"]
    expect(card).to_contain_text(
        f"With {GAMMA} = 0 the hardest 1 % of the examples hold {100 * shares['top_1_percent']:.0f}"
    )
    expect(card.locator(".lines path").last).not_to_have_attribute("d", before or "")


def test_calibration_is_described_in_words(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/mail")
    card = chart(page, "Can its certainty be believed?")
    calibration = get(server, "diagnostics")["calibration"]
    expect(card).to_contain_text(f"is right {100 * calibration['accuracy']:.1f}")
    expect(card.locator(".points path.point")).to_have_count(sum(bin["count"] > 0 for bin in calibration["bins"]))


def test_classes_are_sorted_and_a_cell_opens_its_queue(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/mail")
    page.get_by_role("link", name="Classes").click()
    diagnostics = get(server, "diagnostics?fields=classes,confusion")
    by_noise = sorted(diagnostics["classes"], key=lambda row: (-row["label_noise"], row["class"]))
    page.get_by_role("link", name="Wrong labels").click()
    expect(page.get_by_role("columnheader", name="Wrong labels")).to_have_attribute("aria-sort", "descending")
    rows = page.locator("table.stacked tbody th")
    expect(rows).to_have_text([NAMES[row["class"]] for row in by_noise])
    page.get_by_role("link", name="Class ", exact=True).or_(page.get_by_role("link", name="Class", exact=True)).click()
    expect(rows).to_have_text(sorted(NAMES, reverse=True))
    largest = diagnostics["confusion"]["largest"][0]
    given, predicted = NAMES[largest["target"]], NAMES[largest["prediction"]]
    cell = page.get_by_role("button", name=f"{largest['count']} given {given}, predicted {predicted}: review them")
    cell.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{given}-taken-for-{predicted}")
    queue = newest_queue(server)
    assert queue["num_rows"] == largest["count"]
    assert {(row["target"], row["prediction"]) for row in queue["rows"]} == {(largest["target"], largest["prediction"])}
    page.go_back()
    cell.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{given}-taken-for-{predicted}")
    assert newest_queue(server)["name"] == queue["name"], "the same click opens the same queue"


def test_examples_are_filtered_sorted_and_become_a_queue(watched: Watched, server: ServerProcess) -> None:
    page = watched.page
    page.goto("/#/runs/mail")
    page.get_by_role("link", name="Examples").click()
    expect(page.locator("tbody tr")).to_have_count(100)
    page.get_by_role("button", name="Load more").click()
    expect(page.locator("tbody tr")).to_have_count(200)
    page.get_by_label("Given").select_option("ham")
    page.get_by_label("The model").select_option("disagrees")
    page.get_by_label("annotator").select_option("lee")
    page.get_by_label("Sort by").select_option("most undecided")
    page.get_by_label("then by").select_option("largest loss")
    query = "examples?target=1&correct=false&attribute.annotator=lee&sort=-entropy,-loss"
    expected = [row["id"] for row in get(server, query)["rows"]]
    assert len(expected) > 2
    expect(page.locator("tbody .id")).to_have_text(expected)
    page.reload()
    expect(page.locator("tbody .id")).to_have_text(expected)
    page.get_by_label("Review", exact=True).fill("2")
    page.get_by_role("button", name="Make queue").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    queue = newest_queue(server)
    assert {row["id"] for row in queue["rows"]} <= set(expected)
    page.goto("/#/runs/mail/examples?sort=nosense")
    expect(page.get_by_role("alert")).to_contain_text("unknown sort key 'nosense'")
    assert all("422" in error for error in watched.errors)
    watched.errors.clear()


def test_a_box_on_the_data_map_becomes_a_queue(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/mail/map")
    plot = page.locator(".plot")
    expect(plot.locator(".points path.point")).to_have_count(300)
    drag = plot.locator(".nsewdrag").bounding_box()
    assert drag
    # The lower left: examples whose label the model never believed.
    x, y, width, height = (drag[name] for name in ("x", "y", "width", "height"))
    page.mouse.move(x + 2, y + height - 2)
    page.mouse.down()
    page.mouse.move(x + width / 3, y + height * 0.8, steps=4)
    page.mouse.move(x + width * 0.7, y + height * 0.6, steps=4)
    page.mouse.up()
    expect(page.locator("#confidence-1")).not_to_have_value("")
    bounds = [float(page.locator(f"#{axis}-1").input_value()) for axis in ("confidence", "variability")]
    dynamics = get(server, "dynamics?limit=1000")["rows"]
    inside = {row["id"] for row in dynamics if row["confidence"] <= bounds[0] and row["variability"] <= bounds[1]}
    assert 3 < len(inside) < 100
    expect(page.locator(".count")).to_contain_text(f"{len(inside)} examples")
    page.get_by_label("How many examples").fill("100")
    page.get_by_role("button", name="Make queue").click()
    expect(page.locator("tbody tr")).to_have_count(len(inside))
    assert {row["id"] for row in newest_queue(server)["rows"]} == inside


def test_a_region_of_the_first_epochs_becomes_a_queue_by_keyboard(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/mail/map?first=2")
    regions = get(server, "dynamics?first=2&limit=0")["summary"]["regions"]
    ambiguous = page.get_by_role("button", name=f"Ambiguous: {regions['ambiguous']}")
    ambiguous.press("Enter")
    expect(page.locator(".count")).to_contain_text(f"{regions['ambiguous']} examples")
    page.get_by_role("button", name="Make queue").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("area_under_margin")
    queue = newest_queue(server)
    assert queue["request"]["first"] == 2
    assert queue["num_rows"] == min(50, regions["ambiguous"])
    page.goto("/#/runs/bare/map")
    expect(page.locator("main")).to_contain_text("at least two epochs. This run has one.")


def test_the_data_map_of_a_large_run_is_binned(page: Page, server: ServerProcess) -> None:
    page.route("**/map.js", lambda route: route.fulfill(
        body=route.fetch().text().replace("MAX_POINTS = 20_000", "MAX_POINTS = 200"), content_type="text/javascript",
    ))  # fmt: skip
    cells = get(server, "dynamics?bins=60&limit=0")["map"]
    page.goto("/#/runs/mail/map")
    expect(page.locator(".points path.point")).to_have_count(len(cells))
    assert len(cells) < 300
    expect(page.locator(".count")).to_contain_text("About 300 examples")


def test_the_page_does_not_wait_for_diagnostics(page: Page, server: ServerProcess) -> None:
    waiting: list[Any] = []

    def hold(route: Route) -> None:
        waiting.append(route)

    page.route("**/diagnostics", hold)
    page.goto("/#/runs/mail")
    expect(page.get_by_role("link", name="Review monday")).to_be_visible()
    expect(tile(page, "Mean loss")).to_have_text("…")
    (request,) = waiting
    request.continue_()
    expect(tile(page, "Mean loss")).not_to_have_text("…")


RUN_VIEWS = ["", "/examples", "/examples/inbox%2F0001", "/classes", "/map", "/queues/monday", "/export?queue=monday"]
VIEWS = [
    "",
    *(f"runs/mail{view}" for view in RUN_VIEWS),
    "runs/mail/compare?with=mail&other_epoch=0",
    "runs/bare",
    "nowhere",
]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_reports_no_serious_violation(browser: Browser, server: ServerProcess, width: int, scheme: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    watched = Watched(browser, server, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = watched.page
    for view in VIEWS:
        page.goto(f"/#/{view}")
        expect(page.locator("main h1")).to_be_visible()
        expect(page.locator("main[aria-busy]")).to_have_count(0)
        assert serious_violations(page, axe) == [], view
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
    watched.context.close()
    assert watched.errors == []
