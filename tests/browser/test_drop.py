"""Files that the user drops on the page, or chooses there, become runs; failed uploads leave no run."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save

from tests.browser.browser import NAMELESS, Watched, tile
from tests.codecs.file_bodies import arrow_file, csv_file, parquet_file
from tests.live.server_process import ServerProcess
from tests.services import SMALL_LIMITS, ServerWith

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

ROWS = 120
RNG = np.random.default_rng(3)
LOGITS, LABELS = RNG.standard_normal((ROWS, 3)).astype(np.float32), RNG.integers(0, 3, ROWS)
TABLE = pa.table(
    {
        "id": [f"row-{row}" for row in range(ROWS)],
        "logits": pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.ravel()), 3),
        "label": LABELS,
        "text": [f"Message {row},\nplease answer" for row in range(ROWS)],
    }
)
DROP = """([files, selector]) => {
    const transfer = new DataTransfer();
    for (const [name, content] of files) {
        const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
        transfer.items.add(new File([bytes], name));
    }
    const target = document.querySelector(selector);
    for (const kind of ["dragenter", "dragover", "drop"]) {
        target.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }
}"""


@pytest.fixture(scope="module")
def server(server_with: ServerWith) -> ServerProcess:
    return server_with(**SMALL_LIMITS)


def drop(page: Page, *files: tuple[str, bytes], on: str = "main") -> None:
    page.locator(".drop").wait_for()
    page.evaluate(DROP, [[[name, base64.b64encode(content).decode()] for name, content in files], on])


def make_run(page: Page) -> None:
    page.get_by_role("button", name="Make the run").click()


def run_of(server: ServerProcess, name: str) -> dict[str, Any]:
    run: dict[str, Any] = httpx.get(f"{server.url}/runs/{name}").raise_for_status().json()
    return run


def names(server: ServerProcess) -> set[str]:
    return {run["run"] for run in httpx.get(f"{server.url}/runs").json()["runs"]}


def rows_of(server: ServerProcess, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = httpx.get(f"{server.url}/runs/{name}/examples?sort=row&limit=1000").json()["rows"]
    return rows


def expect_status(watched: Watched, status: int) -> None:
    """Check that the browser has logged this status of a reply, and nothing else."""
    assert watched.errors
    assert all(str(status) in error for error in watched.errors)
    watched.errors.clear()


def safetensors_file(table: pa.Table) -> bytes:
    return save({"logits.0": LOGITS, "targets.0": LABELS, "ids.0": np.arange(len(table))})


def test_a_page_without_runs_takes_files_too(page: Page, server: ServerProcess) -> None:
    for run in names(server):
        httpx.delete(f"{server.url}/runs/{run}")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("No runs yet")
    drop(page, ("first.csv", csv_file(TABLE)), on="footer")
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    make_run(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("first")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("Week 31 (final).parquet", parquet_file(TABLE, compression="zstd")),
        ("week.csv", csv_file(TABLE)),
        ("week.feather", arrow_file(TABLE, compression="lz4")),
        ("week.SAFETENSORS", safetensors_file(TABLE)),
    ],
    ids=["parquet", "csv", "feather", "safetensors"],
)
def test_a_dropped_file_becomes_a_run(page: Page, server: ServerProcess, file: str, content: bytes) -> None:
    page.goto("/")
    drop(page, (file, content))
    expect(page.get_by_role("dialog")).to_contain_text(file)
    name = "Week-31-final" if "31" in file else "week"
    expect(page.get_by_label("Name of the run")).to_have_value(name)
    name = f"drop-{file[-7:]}"
    page.get_by_label("Name of the run").fill(name)
    page.get_by_label("Class names, one per line").fill("spam\nham, cooked\nnews")
    page.get_by_label("Gamma").fill("1.5")
    make_run(page)
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(tile(page, "Examples")).to_have_text(str(ROWS))
    run, rows = run_of(server, name), rows_of(server, name)
    assert (run["config"]["gamma"], run["class_names"], run["num_classes"]) == (1.5, ["spam", "ham, cooked", "news"], 3)
    assert [row["target"] for row in rows] == LABELS.tolist()
    if file.endswith("SAFETENSORS"):
        assert [row["id"] for row in rows] == [str(row) for row in range(ROWS)]
    else:
        assert [row["id"] for row in rows] == TABLE["id"].to_pylist()
        assert [row["attributes"] for row in rows] == [{"text": text} for text in TABLE["text"].to_pylist()]


def test_class_names_come_from_a_file(page: Page, server: ServerProcess) -> None:
    page.goto("/")
    drop(page, ("named.csv", csv_file(TABLE)))
    names_file = {"name": "classes.txt", "mimeType": "text/plain", "buffer": b'tench, Tinca\r\ncat\r\n"dog"\r\n'}
    page.get_by_label("Or a text file with class names").set_input_files(names_file)  # type: ignore[arg-type]
    expect(page.get_by_label("Class names, one per line")).to_have_value('tench, Tinca\ncat\n"dog"\n')
    make_run(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("named")
    assert run_of(server, "named")["class_names"] == ["tench, Tinca", "cat", '"dog"']


def test_several_files_make_one_epoch_and_later_files_the_next(page: Page, server: ServerProcess) -> None:
    page.goto("/")
    half = ROWS // 2
    drop(page, ("a.csv", csv_file(TABLE.slice(0, half))), ("b.parquet", parquet_file(TABLE.slice(half))))
    expect(page.get_by_role("dialog")).to_contain_text("A run from 2 files")
    page.get_by_label("Name of the run").fill("halves")
    make_run(page)
    expect(tile(page, "Examples")).to_have_text(str(ROWS))
    assert run_of(server, "halves")["epochs"][0]["num_batches"] == 2
    page.goto("/#/")
    # The page of a run takes files, too: those of reviews.
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    drop(page, ("halves.csv", csv_file(TABLE)))
    expect(page.get_by_label("Epoch")).to_have_value("1")
    expect(page.get_by_label("Gamma")).to_be_hidden()
    page.get_by_role("button", name="Add to the run").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("halves")
    assert [epoch["num_examples"] for epoch in run_of(server, "halves")["epochs"]] == [ROWS, ROWS]


def test_a_file_is_chosen_by_keyboard(page: Page, server: ServerProcess) -> None:
    # Without a listener, Playwright misses the first file chooser.
    page.on("filechooser", lambda chooser: None)
    page.goto("/")
    page.locator(".drop").wait_for()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "drop":
            break
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    file: Any = {"name": "keys.csv", "mimeType": "text/csv", "buffer": csv_file(TABLE)}
    choosing.value.set_files(file)
    expect(page.get_by_label("Name of the run")).to_be_focused()
    assert page.evaluate(NAMELESS) == 0
    page.keyboard.press("Escape")
    expect(page.locator(".drop")).to_be_focused()
    # The same file can be chosen again.
    page.get_by_label("Files with predictions").set_input_files(file)
    expect(page.get_by_label("Name of the run")).to_have_value("keys")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("keys")
    assert run_of(server, "keys")["num_examples"] == ROWS


def test_a_file_with_faults_leaves_no_run(watched: Watched, server: ServerProcess) -> None:
    page = watched.page
    page.goto("/")
    alert = page.get_by_role("dialog").get_by_role("alert")
    bad = TABLE.set_column(2, "label", [[0, 9, *LABELS[2:].tolist()]])
    for content, status, message in (
        (parquet_file(TABLE)[:-9], 400, "Malformed body"),
        (csv_file(bad), 422, "row 1: target 9 is outside [0, 3)"),
        (csv_file(TABLE.drop_columns("id")), 422, "ids missing"),
        (csv_file(TABLE) + b"x" * 2**20, 413, "focal-loss push bad"),
    ):
        drop(page, ("bad.parquet" if status == 400 else "bad.csv", content))
        make_run(page)
        expect(alert).to_contain_text(message)
        expect(page.get_by_role("button", name="Make the run")).to_be_enabled()
        expect_status(watched, status)
        assert "bad" not in names(server)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    drop(page, ("bad.csv", b"id,label,logit_0,logit_1\n"))
    make_run(page)
    expect(alert).to_contain_text("There are no rows in it")
    assert "bad" not in names(server)
    page.keyboard.press("Escape")
    drop(page, ("notes.docx", b"PK"))
    expect(page.get_by_role("alert")).to_contain_text("notes.docx has an unknown type")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_form_can_be_corrected_after_an_error(watched: Watched, server: ServerProcess) -> None:
    page = watched.page
    page.goto("/")
    drop(page, ("names.csv", csv_file(TABLE)))
    page.get_by_label("Class names, one per line").fill("only, two")
    make_run(page)
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("the logits have 3 classes")
    expect_status(watched, 422)
    assert "names" not in names(server)
    page.get_by_label("Class names, one per line").fill("now, there, three")
    make_run(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("names")
    assert run_of(server, "names")["class_names"] == ["now", "there", "three"]


def test_progress_is_shown_and_a_cancelled_upload_leaves_no_run(page: Page, server: ServerProcess) -> None:
    page.goto("/")
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 30_000}
    drop(page, ("slow.parquet", parquet_file(pa.concat_tables([TABLE] * 40), compression="none", use_dictionary=False)))
    session.send("Network.emulateNetworkConditions", slow)
    make_run(page)
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible()
    first = page.locator("label", has_text="Sent").inner_text()
    expect(page.locator("label", has_text="Sent")).not_to_have_text(first)
    assert 0 < bar.evaluate("bar => bar.value") < 1
    assert "slow" in names(server)
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#status")).to_have_text("It was cancelled.")
    assert "slow" not in names(server)
