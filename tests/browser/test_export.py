"""The export in a browser: the preview agrees with the downloaded file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import httpx
import pytest

from tests.browser.browser import HOSTILE, Watched, check_layout, push, queue_rows
from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


@pytest.fixture(scope="module")
def server(server: ServerProcess) -> ServerProcess:
    push(server.url)
    return server


def in_address(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(page.url.partition("?")[2]).items()}


def test_a_queue_goes_to_label_studio(page: Page, server: ServerProcess, tmp_path: Path) -> None:
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed")
    page.goto("/#/runs/mail/export")
    page.get_by_label("What", exact=True).select_option("monday")
    expect(page.locator(".notice.good")).to_contain_text("Label Studio's own validator")
    expect(page.locator(".count")).to_have_text("3 of 60 rows")
    first = page.locator(".json > details").first
    expect(first).to_contain_text(f'external_id: "{queue_rows(server)[0]["id"]}"')
    # Text of a data set is never markup.
    expect(first).to_contain_text("<img src=x onerror=")
    assert HOSTILE[:10] not in page.locator(".json").inner_html()

    page.get_by_label("Control name").fill("topic")
    expect(first).to_contain_text('from_name: "topic"')
    expect(page.locator("pre")).to_contain_text('<Choices name="topic" toName="text"')
    assert in_address(page) == {
        "format": "label-studio", "queue": "monday", "from_name": "topic", "to_name": "text",
        "object_tag": "Text", "data_key": "text",
    }  # fmt: skip
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "monday.label-studio.json"
    download.value.save_as(tmp_path / "file")
    exported = httpx.get(f"{server.url}/runs/mail/export", params=in_address(page))
    assert (tmp_path / "file").read_bytes() == exported.content
    assert exported.json()[0]["predictions"][0]["result"][0]["from_name"] == "topic"

    page.reload()
    expect(page.get_by_label("Control name")).to_have_value("topic")
    page.get_by_label("Control name").fill("text")
    expect(page.locator(".notice.bad")).to_contain_text("refuses 3 of 3 rows shown")
    expect(page.locator(".notice.bad")).to_contain_text("non-unique names")


def test_each_target_has_its_own_fields_and_preview(page: Page, server: ServerProcess) -> None:
    page.goto("/#/runs/bare/export")
    # The run has pictures.
    expect(page.get_by_label("Object tag")).to_have_value("Image")
    expect(page.get_by_label("Data attribute")).to_have_value("thumbnail")
    page.get_by_label("Argilla").check()
    expect(page.get_by_label("Question")).to_have_value("label")
    expect(page.locator(".notice.good")).to_contain_text("The check of the documented format takes all 3 rows shown.")
    expect(page.get_by_label("Object tag")).to_have_count(0)
    page.get_by_label("FiftyOne").check()
    page.get_by_label("Image attribute").fill("file")
    expect(page.locator(".notes")).to_contain_text("3 of these 3 rows have no attribute 'file'")
    page.get_by_label("CSV").check()
    expect(page.get_by_label("Image attribute")).to_have_count(0)
    lines = httpx.get(f"{server.url}/runs/bare/export?format=csv").text.splitlines()
    expect(page.locator("table.flat tbody tr")).to_have_count(len(lines[0].split(",")))
    shown = page.locator("table.flat tbody tr", has=page.get_by_text("id", exact=True)).locator("td").all_inner_texts()
    assert shown == [line.split(",")[1] for line in lines[1:4]]
    expect(page.locator(".notice.good")).to_contain_text("pyarrow")
    page.get_by_label("Parquet").check()
    expect(page.get_by_role("link", name="Download bare.parquet")).to_be_visible()


def test_an_export_that_the_service_refuses_has_no_download(watched: Watched) -> None:
    page = watched.page
    page.goto("/#/runs/mail/export?format=argilla&epoch=1")
    expect(page.get_by_label("Scores of")).to_have_value("1")
    expect(page.locator(".notice.good")).to_be_visible()
    page.get_by_label("Data attribute").fill("rank")
    expect(page.get_by_role("alert")).to_contain_text("is a name that the export itself writes")
    expect(page.get_by_role("link", name="Download")).to_have_count(0)
    expect(page.locator(".json")).to_have_count(0)
    page.get_by_label("Data attribute").fill("annotator")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("link", name="Download mail.argilla.jsonl")).to_be_visible()
    page.goto("/#/runs/mail/export?queue=absent")
    expect(page.get_by_role("alert")).to_contain_text("no queue absent")
    # The browser logs the statuses itself.
    assert all("422" in error or "404" in error for error in watched.errors)
    watched.errors.clear()


def test_without_a_validator_the_rows_are_not_checked(page: Page) -> None:
    def without(route: object) -> None:
        reply = route.fetch()  # type: ignore[attr-defined]
        preview = reply.json() | {"validator": None, "notes": ["pip install it"]}
        route.fulfill(response=reply, json=preview)  # type: ignore[attr-defined]

    page.route("**/export/preview?*", without)
    page.goto("/#/runs/mail/export?format=label-studio&queue=monday")
    expect(page.locator(".notice.warn")).to_contain_text("Not checked")
    expect(page.locator(".notes")).to_contain_text("pip install it")


@pytest.mark.parametrize("width", [390, 1440])
def test_it_fits_its_window(browser: Browser, server: ServerProcess, width: int) -> None:
    watched = Watched(browser, server, viewport={"width": width, "height": 844}, color_scheme="dark")
    for address in ("/#/runs/mail/export?queue=monday", "/#/runs/bare/export?format=csv"):
        watched.page.goto("about:blank")
        watched.page.goto(address)
        expect(watched.page.locator(".notice")).to_be_visible()
        check_layout(watched.page)
    watched.context.close()
    assert (watched.errors, watched.elsewhere) == ([], [])
