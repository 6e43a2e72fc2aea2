"""Scoring rows of many elements: every layout and format, in this process and by a service, gives the same scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.runs.upload import Target, named_chunks, push_chunks
from service.cli.score.chunks import Reading
from service.cli.score.columns import ColumnNames
from service.cli.score.options import ScoringOptions
from service.cli.score.run import score_files
from service.cli.score.scorers import LocalScorer, RemoteScorer
from service.cli.score.sources import find_sources
from service.cli.score.summary import Summary
from service.client import LossClient
from service.codecs.arrow.columns import regions_column
from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig
from service.schema.request import STATISTICS, Batch, LossRequest, RequestOptions
from service.schema.result import LossResult
from tests.cli.command import run
from tests.cli.score.structured_files import ENDINGS, names, rows_of, write
from tests.compute.structured import Structured, structured_batches
from tests.lanes import mostly_slow
from tests.strategies import at_most

OUTPUTS = ["loss", "contribution", "p_t", "entropy", "num_valid", "label_quality", "max_loss"]
ELEMENTS = ["loss", "contribution", "p_t", "prediction"]
RNG = np.random.default_rng(0)
MASKS = Batch(RNG.normal(size=(5, 3, 4, 6)).astype(np.float32), RNG.integers(0, 3, (5, 4, 6)))
TOKENS = Batch(
    RNG.normal(size=(7, 4)).astype(np.float32),
    np.array([0, 3, -100, 1, 2, -100, 0]),
    offsets=np.array([0, 3, 3, 6, 7]),
)


def score(
    path: Path,
    output: Path,
    *,
    client: LossClient | None = None,
    config: dict[str, Any] | None = None,
    outputs: list[str] = OUTPUTS,
    batch_rows: int = 2,
    on_invalid: Any = "error",
    **structure: Any,
) -> Summary:
    options = ScoringOptions.parse(
        config or {},
        outputs=outputs,
        top_k=3,
        on_invalid=on_invalid,
        columns=ColumnNames(),
        batch_rows=batch_rows,
        structure=structure,
    )
    scorer = LocalScorer(options, "cpu") if client is None else RemoteScorer(client, options)
    return score_files(find_sources([str(path)], None), str(output), options, scorer, restart=True)


def evaluated(batch: Batch, config: dict[str, Any] | None = None, **options: Any) -> LossResult:
    module = FocalLoss.from_config(LossConfig.parse(config or {}), "cpu")
    request = LossRequest(RequestOptions.parse({"outputs": OUTPUTS, **options}), (batch,))
    return evaluate(Device("cpu"), module, request, Limits(10**6, 10**3))


def assert_scores(table: pa.Table, summary: Summary, expected: LossResult) -> None:
    """Check the output and the totals of a run against the result of the whole file as one batch."""
    (batch,) = expected.batches
    assert summary.loss == (None if expected.loss is None else pytest.approx(expected.loss, rel=1e-6, abs=1e-9))
    for name in ("num_examples", "num_ignored", "num_excluded", "num_elements"):
        assert getattr(summary, name) == getattr(expected, name)
    if not batch.num_examples:
        return
    hardest = sorted(batch.per_example["loss"][batch.per_example["num_valid"] > 0], reverse=True)[: summary.top_k]
    assert [hard.loss for hard in summary.hardest] == approx(hardest)
    for name, values in batch.per_example.items():
        got = table[name].to_numpy().astype(np.float64)
        np.testing.assert_allclose(got, values, rtol=1e-6, atol=1e-9, err_msg=name)
    for name, values in batch.per_element.items():
        rows = table[f"per_element.{name}"].to_pylist()
        flat = np.array([value for row in rows for value in flattened(row)], float)
        missing = values < 0 if values.dtype.kind == "i" else np.isnan(values)
        np.testing.assert_allclose(flat, np.where(missing, np.nan, values).ravel(), rtol=1e-6, atol=1e-9, err_msg=name)
    if batch.regions is not None:
        got, expected_rows = (rows.to_pylist() for rows in (table["regions"], regions_column(batch)))
        for regions, others in zip(got, expected_rows, strict=True):
            by_number = {region["region"]: region for region in regions}
            assert len(by_number) == len(others)
            for region in others:
                assert by_number[region["region"]] == region | {"loss_sum": approx(region["loss_sum"])} | {
                    "p_t": approx(region["p_t"])
                }


def approx(value: Any) -> Any:
    return pytest.approx(value, rel=1e-6, abs=1e-9)


def flattened(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from flattened(item)
    else:
        yield value


@at_most(40, deadline=None)
@given(
    case=structured_batches(),
    ending=st.sampled_from(ENDINGS),
    reduction=st.sampled_from(["mean", "sum", "weighted_mean", "none"]),
    divisor=st.sampled_from(["elements", "examples", "positives", None]),
    within=st.sampled_from(["mean", "sum", "max", {"top_share": 0.5}]),
    batch_rows=st.integers(1, 6),
)
def test_every_file_gives_the_scores_of_its_rows(
    loss_client: LossClient,
    tmp_path_factory: pytest.TempPathFactory,
    case: Structured,
    ending: str,
    reduction: str,
    divisor: str | None,
    within: Any,
    batch_rows: int,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    config = case.config | {"reduction": reduction}
    structure: dict[str, Any] = {"layout": case.layout, "within": within, "elements": ELEMENTS, "top_regions": 4}
    structure |= {} if divisor is None else {"divisor": divisor}
    batch = case.batch
    if ending == "jsonl" and not batch.num_examples:
        return
    path = write(folder, ending, batch)
    options: dict[str, Any] = {"config": config, "batch_rows": batch_rows, **structure}
    local = score(path, folder / "local.parquet", **options)
    remote = score(path, folder / "remote.parquet", client=loss_client, **options)
    table = pyarrow.parquet.read_table(folder / "local.parquet")
    assert table.equals(pyarrow.parquet.read_table(folder / "remote.parquet"))
    assert_scores(table, local, evaluated(batch, config, **structure))
    assert local.loss == remote.loss
    if batch.num_examples and ending != "safetensors":
        assert table["id"].to_pylist() == names(batch)


SOFT = {
    "rows": Batch(RNG.normal(size=(5, 3)), RNG.dirichlet([1, 1, 1], 5)),
    "dense": Batch(RNG.normal(size=(5, 3, 2, 2)), np.moveaxis(RNG.dirichlet([1, 1, 1], (5, 2, 2)), -1, 1)),
    "ragged": Batch(RNG.normal(size=(6, 3)), RNG.dirichlet([1, 1, 1], 6), offsets=np.array([0, 2, 2, 6])),
}


@pytest.mark.parametrize("ending", mostly_slow(["arrow", "jsonl", "safetensors"], quick=1))
@pytest.mark.parametrize("layout", SOFT)
def test_soft_labels(tmp_path: Path, layout: str, ending: str) -> None:
    summary = score(write(tmp_path, ending, SOFT[layout]), tmp_path / "out.parquet", layout=layout, elements=["loss"])
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert_scores(table, summary, evaluated(SOFT[layout], layout=layout, elements=["loss"]))


def reduced(batch: Batch) -> Batch:
    """The batch with statistics in place of its logits (softmax)."""
    target = np.where(batch.targets < 0, 0, batch.targets)[:, np.newaxis]
    given = np.take_along_axis(batch.logits, target, axis=1)
    others = batch.logits.copy()
    np.put_along_axis(others, target, -np.inf, axis=1)
    log_odds = given.squeeze(1) - np.log(np.exp(others).sum(1))
    statistics = {"log_odds": log_odds, "prediction": batch.logits.argmax(1)}
    return Batch(np.empty(0), batch.targets, offsets=batch.offsets, statistics=statistics)


@pytest.mark.parametrize("ending", mostly_slow(ENDINGS, quick=2))
@pytest.mark.parametrize(("layout", "batch"), [("dense", MASKS), ("ragged", TOKENS)])
def test_statistics_in_place_of_logits(
    loss_client: LossClient, tmp_path: Path, layout: str, batch: Batch, ending: str
) -> None:
    outputs = [name for name in OUTPUTS if name != "entropy"]
    structure: dict[str, Any] = {"layout": layout, "elements": ["loss", "prediction"], "top_regions": 2}
    path = write(tmp_path, ending, reduced(batch))
    for client in (None, loss_client):
        summary = score(path, tmp_path / "out.parquet", client=client, outputs=outputs, **structure)
        table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
        expected = evaluated(reduced(batch), outputs=outputs, **structure)
        assert_scores(table, summary, expected)
        assert expected.loss == pytest.approx(evaluated(batch, layout=layout).loss, rel=1e-5)


@pytest.mark.parametrize("ending", mostly_slow(ENDINGS, quick=2))
def test_examples_without_elements_come_first(loss_client: LossClient, tmp_path: Path, ending: str) -> None:
    labels = (RNG.random((3, 2)) < 0.5).astype(np.float32)
    batch = Batch(RNG.normal(size=(3, 2)), labels, offsets=np.array([0, 0, 0, 2, 3]))
    options: dict[str, Any] = {"layout": "ragged", "elements": ["loss", "prediction"]}
    config = {"mode": "sigmoid", "alpha": [0.25, 0.5]}
    path = write(tmp_path, ending, batch)
    for client in (None, loss_client):
        summary = score(path, tmp_path / "out.parquet", client=client, config=config, batch_rows=1, **options)
        table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
        assert_scores(table, summary, evaluated(batch, config, **options))
        assert table["target"].to_pylist() == [[], [], *rows_of(labels, batch.offsets)[2:]]


def command(path: Path, *words: Any) -> tuple[int, str]:
    """Exit status and messages of `focal-loss score --local`; the output is `scored.jsonl` beside the file."""
    output = path.with_name("scored.jsonl")
    ended = run("score", path, "-o", output, "--local", "--device", "cpu", "--restart", *words)
    return ended.returncode, ended.stderr


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_options_of_the_command(tmp_path: Path) -> None:
    batch = Batch(RNG.normal(size=(4, 2)), RNG.integers(0, 2, (4, 2)), offsets=np.array([0, 1, 4]))
    path = write(tmp_path, "jsonl", batch)
    words = ["--layout", "ragged", "--mode", "sigmoid", "--gamma-negative", "4", "--clip", "0.05", "--gamma", "1"]
    words += ["--divisor", "3.5", "--within", "top_share=0.5", "--elements", "loss,p_t", "--top-regions", "1"]
    status, messages = command(path, *words)
    assert status == 0, messages
    expected = evaluated(
        batch,
        {"mode": "sigmoid", "gamma": 1.0, "gamma_negative": 4.0, "clip": 0.05},
        layout="ragged",
        divisor=3.5,
        within={"top_share": 0.5},
        elements=["loss", "p_t"],
    )
    assert f"loss {expected.loss:.6f} (mean by 3.5), 2 examples" in messages
    rows = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert [*rows[0]] == [
        *("id", "target", "loss", "contribution", "num_valid", "label_quality"),
        *("per_element.loss", "per_element.p_t", "regions"),
    ]
    assert [row["loss"] for row in rows] == pytest.approx(expected.per_example["loss"].tolist())
    assert max(len(row["regions"]) for row in rows) == 1


def test_csv_has_lists_as_json(tmp_path: Path) -> None:
    options: dict[str, Any] = {"layout": "dense", "elements": ["loss", "prediction"], "top_regions": 2}
    path = write(tmp_path, "parquet", MASKS)
    for ending in ("csv", "jsonl"):
        score(path, tmp_path / f"out.{ending}", **options)
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for name in ("target", "per_element.loss", "per_element.prediction", "regions"):
        assert [json.loads(cell[name]) for cell in cells] == [row[name] for row in rows]
    assert np.array(rows[0]["per_element.loss"]).shape == (4, 6)


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_statistics_of_plain_rows_are_scored_and_pushed(loss_client: LossClient, tmp_path: Path, ending: str) -> None:
    rows = [
        {"id": f"row-{row}", "label": row % 3} | dict.fromkeys(STATISTICS, row / 4) | {"prediction": row % 2}
        for row in range(9)
    ]
    path = lines(tmp_path / "rows.jsonl", *rows)
    if ending != "jsonl":
        path, table = path.with_suffix(f".{ending}"), pa.Table.from_pylist(rows)
        pyarrow.parquet.write_table(table, path) if ending == "parquet" else pyarrow.csv.write_csv(table, path)
    summary = score(path, tmp_path / "out.parquet", outputs=["loss", "p_t", "entropy"])
    log_odds = np.arange(9) / 4
    p_t = 1 / (1 + np.exp(-log_odds))
    assert summary.loss == approx(((1 - p_t) ** 2 * -np.log(p_t)).mean())
    run_client = loss_client.put_run(f"thin-{ending}", class_names=["a", "b", "c"])
    chunks = named_chunks(find_sources([str(path)], None), Reading(ColumnNames(), 4), None, number_rows=False)
    replies = list(push_chunks(Target(run_client, 0, run_client.describe()), chunks, "error"))
    assert sum(reply.num_examples for reply in replies) == 9
    pushed = run_client.examples(sort="id")["rows"]
    assert [row["loss"] for row in pushed] == approx(
        pyarrow.parquet.read_table(tmp_path / "out.parquet")["loss"].to_pylist()
    )
