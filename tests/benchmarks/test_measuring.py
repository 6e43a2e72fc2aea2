"""The figures of the benchmarks: parsing, ratios, bars, tables and exit status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import annotators
from benchmarks.growth import lowest_share_of_peak
from benchmarks.load import Load, LoadError, parse
from benchmarks.over_http import Options, matches
from benchmarks.report import BEGIN, END, insert_tables, markdown
from benchmarks.row import Row, divide, interleave

LINE = (
    'load {"seconds":2.5,"requests":110,"refused":10,"broken":0,"p50_ms":1.25,"p99_ms":3.5,'
    '"statuses":{"200":100,"429":10}}'
)


def test_the_line_of_load_lua_is_found_in_the_output() -> None:
    load = parse(f"Running 2s test @ http://127.0.0.1:1\n  110 requests in 2.50s\n\n{LINE}\n")
    assert load == Load(2.5, 110, 10, 0, 1.25, 3.5, {"200": 100, "429": 10})
    assert load.rate == 40


def test_without_that_line_the_error_has_the_end_of_the_output() -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_measurements_are_interleaved() -> None:
    calls: list[str] = []

    def work(name: str, value: float) -> float:
        calls.append(name)
        return value

    results = interleave([lambda: work("a", 1.0), lambda: work("b", 2.0)], 3)
    assert calls == ["a", "b"] * 3
    assert divide(results[1], results[0]) == [2.0] * 3


@pytest.mark.parametrize(
    ("ratios", "at_least", "at_most", "met", "verdict"),
    [
        ([1.0, 3.0, 9.0], 3.0, None, True, ">= 3: met"),
        ([1.0, 2.9, 9.0], 3.0, None, False, ">= 3: MISSED"),
        ([1.2], None, 1.3, True, "<= 1.3: met"),
        ([1.4], None, 1.3, False, "<= 1.3: MISSED"),
        ([0.1], None, None, True, "shown"),
        ([], 0.8, None, True, ">= 0.8: not measured"),
    ],
)
def test_the_bar_is_for_the_median(
    ratios: Sequence[float], at_least: float | None, at_most: float | None, met: bool, verdict: str
) -> None:
    row = Row("what", "ours", ratios=ratios, at_least=at_least, at_most=at_most)
    assert (row.met, row.verdict) == (met, verdict)


def test_a_ratio_is_shown_with_its_spread() -> None:
    assert Row("what", "ours", ratios=[3, 1, 2]).ratio == "2.00 (1.00 - 3.00)"
    assert Row("what", "ours", ratios=[3]).ratio == "3.00"


def test_a_rate_is_compared_with_the_peak_of_fewer_clients() -> None:
    assert lowest_share_of_peak([100, 200, 150, 300, 290]) == 0.75
    assert lowest_share_of_peak([100, 100, 101]) == 1


def test_names_match_by_substrings() -> None:
    assert matches("JSON 64 x 10", [])
    assert matches("JSON 64 x 10", ["safetensors", "64x10"])
    assert not matches("JSON 64 x 10", ["4096x100"])


@pytest.mark.parametrize(("share", "status"), [(1.0, 0), (0.5, 1)])
def test_the_exit_status_and_the_tables(
    share: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(folder: Path, options: Options) -> Iterator[Row]:
        yield Row("rate", "2 req/s", "not run: a | b", at_least=1.5)
        yield Row("share", "3 req/s", "4 req/s", [share], at_least=0.9)

    monkeypatch.setattr(command, "PARTS", {"http": part})
    monkeypatch.setattr(command, "header", lambda: ["Machine: a test."])
    path = tmp_path / "README.md"
    path.write_text(f"before\n\n{BEGIN}old\n{END}\n\nafter\n")
    ended = CliRunner().invoke(command.app, ["http", "--markdown", str(path)])
    assert ended.exit_code == status, ended.output
    assert ("MISSED" in ended.output) == bool(status)
    text = path.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\nMachine: a test.\n\n| over HTTP | ours |")
    assert text.endswith(f"|\n{END}\n\nafter\n")
    assert "| rate | 2 req/s | not run: a \\| b |  | >= 1.5: not measured |\n" in text
    assert "old" not in text


def test_a_failed_part_is_reported_and_gives_exit_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def part(folder: Path, options: Options) -> Iterator[Row]:
        yield Row("rate", "2 req/s")
        raise LoadError("wrk is not installed")

    monkeypatch.setattr(command, "PARTS", {"http": part})
    monkeypatch.setattr(command, "header", list)
    ended = CliRunner().invoke(command.app, [])
    assert ended.exit_code == 1
    assert "http failed: wrk is not installed" in ended.output
    assert CliRunner().invoke(command.app, ["absent"]).exit_code == 2


def test_a_file_without_marks_contains_only_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "build" / "measured.md"
    insert_tables(path, markdown(["One line."], {"gpu": []}))
    assert path.read_text().startswith("One line.\n\n| on a GPU | ours |")


@pytest.mark.slow
def test_the_benchmark_of_annotators_runs() -> None:
    rows = list(annotators.run(500))
    assert [row.what.partition(",")[0] for row in rows] == ["consensus", "ActiveLab", "consensus"]
    assert all(len(row.ratios) == annotators.ROUNDS for row in rows)
