"""A damaged run in the list of runs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.live.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


@pytest.fixture
def damaged(server: ServerProcess) -> str:
    """The name of a run whose description is cut; a whole run is before it and one after it."""
    batch = {"logits": [[1, 2], [2, 1]], "targets": [0, 1], "ids": ["a", "b"]}
    for run in ("a-whole", "b-damaged", "c-whole"):
        httpx.put(f"{server.url}/runs/{run}", json={}).raise_for_status()
        httpx.put(f"{server.url}/runs/{run}/epochs/0/batches/b", json=batch).raise_for_status()
    file = server.data_dir / "runs/b-damaged/run.json"
    file.write_bytes(file.read_bytes()[:20])
    return "b-damaged"


def test_a_damaged_run_is_shown_with_its_fault_and_can_be_deleted(
    page: Page, server: ServerProcess, damaged: str
) -> None:
    page.goto("/")
    row = page.locator("tbody tr", has_text=damaged)
    expect(row).to_contain_text("Damaged")
    expect(row).to_contain_text("run.json")
    expect(page.locator("tbody tr", has_text="whole")).to_have_count(2)
    page.get_by_role("link", name="a-whole").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("a-whole")
    page.goto("/#/")
    page.get_by_role("button", name=f"Delete run {damaged}").click()
    expect(page.get_by_role("dialog")).to_contain_text("It is damaged.")
    page.get_by_role("button", name="Delete for good").click()
    expect(row).to_have_count(0)
    expect(page.locator("tbody tr")).to_have_count(2)
    assert not (server.data_dir / "runs" / damaged).exists()


def test_runs_that_are_all_damaged_are_shown(page: Page, server: ServerProcess, damaged: str) -> None:
    for run in ("a-whole", "c-whole"):
        httpx.delete(f"{server.url}/runs/{run}").raise_for_status()
    page.goto("/")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text(damaged)
    shutil.rmtree(server.data_dir / "runs" / damaged)
