"""Scoring files in this process: formats, columns, invalid values, continued runs, the summary."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet
import pytest
import torch
from rich.console import Console
from safetensors.numpy import save_file

from service.cli.errors import CommandError, DataError, UsageError
from service.cli.score.chunks import Chunk
from service.cli.score.columns import ColumnNames
from service.cli.score.options import ScoringOptions
from service.cli.score.run import score_files
from service.cli.score.scorers import LocalScorer
from service.cli.score.sources import Source, find_sources
from service.cli.score.summary import Summary
from service.errors import DeviceOutOfMemoryError
from service.schema.config import LossConfig
from service.schema.result import BatchResult

ROWS, CLASSES = 25, 4
RNG = np.random.default_rng(0)
LOGITS = (RNG.standard_normal((ROWS, CLASSES)) * 3).astype(np.float32)
TARGETS = RNG.integers(0, CLASSES, ROWS)
IDS = [f"row-{row}" for row in range(ROWS)]


def options(**changes: Any) -> ScoringOptions:
    defaults: dict[str, Any] = {
        "config": LossConfig(),
        "outputs": ("loss", "contribution", "prediction"),
        "top_k": 3,
        "on_invalid": "error",
        "columns": ColumnNames(),
        "batch_rows": 7,
    }
    return ScoringOptions(**(defaults | changes))


def score(
    sources: list[Source] | Path, output: Path | str, scorer: Any = None, restart: bool = False, **changes: Any
) -> Summary:
    chosen = options(**changes)
    if isinstance(sources, Path):
        sources = find_sources([str(sources)], None)
    scorer = scorer or LocalScorer(chosen, "cpu")
    return score_files(sources, str(output), chosen, scorer, restart=restart)


def expected_losses() -> list[float]:
    p_t = torch.from_numpy(LOGITS).double().softmax(1)[torch.arange(ROWS), torch.from_numpy(TARGETS)]
    return ((1 - p_t) ** 2 * -p_t.log()).tolist()


def table(logits: Any = LOGITS, targets: Any = TARGETS) -> pa.Table:
    column = pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), logits.shape[1])
    return pa.table({"logits": column, "label": targets, "id": IDS[: len(targets)]})


def wide() -> pa.Table:
    return pa.table({**{f"logit_{c}": LOGITS[:, c] for c in range(CLASSES)}, "y": TARGETS, "id": IDS, "text": IDS})


def write_input(folder: Path, kind: str) -> Path:
    path = folder / f"input.{kind.split('-', maxsplit=1)[0]}"
    match kind:
        case "parquet":
            pyarrow.parquet.write_table(table(), path, row_group_size=4)
        case "arrow":
            pyarrow.feather.write_feather(table(), str(path), compression="uncompressed")
        case "arrows":
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table().schema) as writer:
                writer.write_table(table(), max_chunksize=3)
        case "csv":
            pyarrow.csv.write_csv(wide(), path)
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in table().to_pylist()))
        case "npz":
            np.savez(path, logits=LOGITS, targets=TARGETS, ids=np.array(IDS))
        case "safetensors":
            save_file({"logits": LOGITS, "targets": TARGETS}, path)
    return path


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows", "csv", "jsonl", "npz", "safetensors"])
def test_every_input_format_gives_the_same_losses(tmp_path: Path, kind: str) -> None:
    summary = score(write_input(tmp_path, kind), tmp_path / "out.parquet")
    scored = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert scored["loss"].to_pylist() == pytest.approx(expected_losses(), rel=1e-5)
    assert scored["target"].to_pylist() == TARGETS.tolist()
    assert scored["prediction"].to_pylist() == LOGITS.argmax(1).tolist()
    assert sum(scored["contribution"].to_pylist()) == pytest.approx(summary.loss)
    assert summary.loss == pytest.approx(np.mean(expected_losses()), rel=1e-5)
    identity = "row" if kind == "safetensors" else "id"
    assert scored[identity].to_pylist() == (list(range(ROWS)) if identity == "row" else IDS)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "arrow", "arrows"])
def test_every_output_format_holds_the_same_rows(tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"out.{ending}"
    score(write_input(tmp_path, "parquet"), output)
    match ending:
        case "parquet":
            got = pyarrow.parquet.read_table(output)
        case "csv":
            got = pyarrow.csv.read_csv(output)
        case "jsonl":
            got = pyarrow.json.read_json(output)
        case "arrow":
            got = pa.ipc.open_file(pa.memory_map(str(output))).read_all()
        case _:
            got = pa.ipc.open_stream(pa.memory_map(str(output))).read_all()
    assert got.column_names == ["id", "target", "loss", "contribution", "prediction"]
    assert got["loss"].to_pylist() == pytest.approx(expected_losses(), rel=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["input.parquet", f"out.{ending}"]


def test_folders_and_globs_are_read_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b", "a"):
        pyarrow.parquet.write_table(table(), tmp_path / "in" / f"{name}.parquet")
    (tmp_path / "in" / "notes.txt").write_text("not data")
    by_folder = find_sources([str(tmp_path / "in")], None)
    assert by_folder == find_sources([str(tmp_path / "in" / "*.parquet")], None)
    score(by_folder, tmp_path / "out.parquet")
    scored = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert (
        scored["file"].to_pylist()
        == [str(tmp_path / "in" / "a.parquet")] * ROWS + [str(tmp_path / "in" / "b.parquet")] * ROWS
    )


def test_standard_input_is_read_and_standard_output_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    content = write_input(tmp_path, "arrows").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    score(find_sources(["-"], "arrow"), "-")
    lines = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line)["loss"] for line in lines] == pytest.approx(expected_losses(), rel=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["input.arrows"]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    odd = wide().rename_columns([*(f"c{c}" for c in range(CLASSES)), "truth", "key", "text"])
    pyarrow.parquet.write_table(odd, path)
    names = ColumnNames(tuple(f"c{c}" for c in range(CLASSES)), "truth", "key")
    score(path, tmp_path / "out.parquet", columns=names)
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["loss"].to_pylist() == pytest.approx(
        expected_losses(), rel=1e-5
    )


@pytest.mark.parametrize(
    ("columns", "names", "says"),
    [
        ({"a": [1.0], "label": [0]}, ColumnNames(), "--logits"),
        ({"logit_0": [1.0], "logit_2": [1.0], "label": [0]}, ColumnNames(), "--logits"),
        ({"logits": [[1.0, 2.0]], "a": [0]}, ColumnNames(), "--targets"),
        (
            {"logits": [[1.0, 2.0]], "label": [0], "y": [0]},
            ColumnNames(),
            "both 'label' and 'y' are names of the targets",
        ),
        ({"logits": [[1.0, 2.0]], "label": [0]}, ColumnNames(id="key"), "no column 'key'"),
    ],
)
def test_missing_and_ambiguous_columns_name_their_option(
    tmp_path: Path, columns: dict[str, Any], names: ColumnNames, says: str
) -> None:
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(UsageError, match=says) as raised:
        score(tmp_path / "in.parquet", tmp_path / "out.parquet", columns=names)
    assert "in.parquet" in str(raised.value)


def test_an_error_names_file_row_and_column(tmp_path: Path) -> None:
    logits = LOGITS.copy()
    logits[17, 2] = np.nan
    pyarrow.parquet.write_table(table(logits), tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"in\.parquet, row 17, column 2: logit NaN"):
        score(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    targets = TARGETS.copy()
    targets[20] = 9
    pyarrow.parquet.write_table(table(targets=targets), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet, row 20: target 9 is outside \[0, 4\)"):
        score(tmp_path / "other.parquet", tmp_path / "other-out.parquet")


@pytest.mark.parametrize(
    ("ending", "text", "says"),
    [
        ("csv", "logit_0,logit_1,y\n1,2,0\n1,x,0\n", "logit_1"),
        ("csv", "logit_0,logit_1,y\n1,2,0\n1,,0\n", "row 1, column 'logit_1': no value"),
        ("jsonl", '{"logits": [1, 2], "y": 0}\n{"logits": [1], "y": 0}\n', "row 1, column 'logits': 1 values"),
        ("jsonl", '{"logits": [1, 2], "y": null}\n{"logits": [1, 2], "y": 0}\n', "row 0, column 'y': no value"),
        ("jsonl", "nonsense", "input"),
        ("parquet", "nonsense", "input"),
        ("npz", "nonsense", "input"),
        ("safetensors", "nonsense", "input"),
        ("arrow", "nonsense", "input"),
    ],
)
def test_an_error_names_a_broken_file(tmp_path: Path, ending: str, text: str, says: str) -> None:
    path = tmp_path / f"input.{ending}"
    path.write_text(text)
    with pytest.raises(DataError) as raised:
        score(path, tmp_path / "out.parquet")
    assert f"input.{ending}" in str(raised.value)
    assert says in str(raised.value)


def test_excluded_rows_have_no_loss_and_are_counted(tmp_path: Path) -> None:
    logits = LOGITS.copy()
    logits[17, 2] = np.nan
    pyarrow.parquet.write_table(table(logits), tmp_path / "in.parquet")
    summary = score(tmp_path / "in.parquet", tmp_path / "out.parquet", on_invalid="exclude")
    scored = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert scored["loss"].to_pylist()[17] is None
    assert scored["contribution"].to_pylist()[17] == 0
    assert scored["prediction"].to_pylist()[17] is None
    assert (summary.num_examples, summary.num_excluded) == (ROWS, 1)
    assert summary.loss == pytest.approx(np.delete(expected_losses(), 17).mean(), rel=1e-5)


class FailingScorer:
    """Scores a number of chunks, then runs out of memory."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks
        self.rows: list[int] = []
        self._scorer = LocalScorer(options(), "cpu")

    def score(self, chunk: Chunk) -> BatchResult:
        if not self.left:
            raise DeviceOutOfMemoryError("no memory")
        self.left -= 1
        self.rows.append(chunk.first_row)
        return self._scorer.score(chunk)


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_an_interrupted_run_continues_without_scoring_twice(tmp_path: Path, chunks: int) -> None:
    path = write_input(tmp_path, "parquet")
    score(path, tmp_path / "whole.parquet")
    first, second = FailingScorer(chunks), FailingScorer(99)
    with pytest.raises(CommandError, match="same command again to continue"):
        score(path, tmp_path / "out.parquet", first)
    assert not (tmp_path / "out.parquet").exists()
    summary = score(path, tmp_path / "out.parquet", second)
    assert first.rows + second.rows == [0, 7, 14, 21]
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert summary.num_examples == ROWS
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_run_with_other_options_or_inputs_needs_restart(tmp_path: Path) -> None:
    path = write_input(tmp_path, "parquet")
    with pytest.raises(CommandError):
        score(path, tmp_path / "out.parquet", FailingScorer(2))
    with pytest.raises(UsageError, match="--restart"):
        score(path, tmp_path / "out.parquet", config=LossConfig(gamma=1.0))
    pyarrow.parquet.write_table(table(LOGITS[:20], TARGETS[:20]), path)
    with pytest.raises(UsageError, match="--restart"):
        score(path, tmp_path / "out.parquet")
    score(path, tmp_path / "out.parquet", restart=True)
    assert len(pyarrow.parquet.read_table(tmp_path / "out.parquet")) == 20


def test_unknown_extensions_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.xlsx"):
        score(write_input(tmp_path, "parquet"), tmp_path / "out.xlsx")
    with pytest.raises(UsageError, match="no such file"):
        find_sources([str(tmp_path / "absent.parquet")], None)
    with pytest.raises(UsageError, match="--format"):
        find_sources(["-"], None)
    (tmp_path / "data.bin").write_text("")
    with pytest.raises(UsageError, match="--format"):
        find_sources([str(tmp_path / "data.bin")], None)


def test_the_summary_shows_the_worst_classes_and_the_hardest_examples(tmp_path: Path) -> None:
    summary = score(write_input(tmp_path, "parquet"), tmp_path / "out.parquet")
    losses = np.array(expected_losses())
    hardest = np.argsort(-losses)[:3]
    assert [hard.id for hard in summary.hardest] == [IDS[row] for row in hardest]
    for label, (count, loss) in summary.of_class.items():
        assert count == (label == TARGETS).sum()
        assert loss == pytest.approx(losses[label == TARGETS].sum(), rel=1e-5)
    console = Console(file=io.StringIO(), width=100)
    summary.show(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"loss {losses.mean():.6f}" in shown
    assert IDS[hardest[0]] in shown


def test_the_summary_prints_ids_without_interpreting_them(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": "[bold]row[/] [/x]", "logits": [1, 2], "y": 0}\n')
    console = Console(file=io.StringIO(), width=100)
    score(tmp_path / "in.jsonl", tmp_path / "out.jsonl").show(console)
    assert "[bold]row[/] [/x]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_sigmoid_labels_are_scored(tmp_path: Path) -> None:
    labels = (RNG.random((ROWS, CLASSES)) > 0.5).astype(np.float32)
    np.savez(tmp_path / "in.npz", logits=LOGITS, targets=labels)
    summary = score(tmp_path / "in.npz", tmp_path / "out.parquet", config=LossConfig(mode="sigmoid", gamma=0.0))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.from_numpy(LOGITS), torch.from_numpy(labels))
    assert summary.loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_sum_is_over_the_labels_of_an_example(tmp_path: Path, reduction: Any) -> None:
    labels = (RNG.random((ROWS, CLASSES)) > 0.5).astype(np.float32)
    labels[3, 1:] = -100
    np.savez(tmp_path / "in.npz", logits=LOGITS, targets=labels)
    config = LossConfig(mode="sigmoid", gamma=0.0, reduction=reduction)
    summary = score(tmp_path / "in.npz", tmp_path / "out.parquet", config=config)
    x, y, counted = (
        torch.from_numpy(LOGITS).double(),
        torch.from_numpy(labels).clamp(min=0),
        torch.from_numpy(labels >= 0),
    )
    losses = torch.nn.functional.binary_cross_entropy_with_logits(x, y.double(), reduction="none") * counted
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    np.testing.assert_allclose(table["contribution"], losses.sum(1), rtol=1e-5)
    means = losses.sum(1) / counted.sum(1)
    np.testing.assert_allclose(table["loss"], means, rtol=1e-5)
    assert "num_valid" not in table.column_names
    assert summary.loss_sum == pytest.approx(losses.sum().item(), rel=1e-6)
    assert summary.hardest[0].contribution == pytest.approx(losses.sum(1)[means.argmax()].item(), rel=1e-6)


def test_a_csv_file_of_scores_has_no_cell_that_a_spreadsheet_evaluates(tmp_path: Path) -> None:
    rows = pa.table({"logits": [[1.0, 2.0]] * 2, "y": [0, 1], "id": ["=1+1", "-5"]})
    pyarrow.parquet.write_table(rows, tmp_path / "in.parquet")
    score(tmp_path / "in.parquet", tmp_path / "out.csv")
    assert [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()[1:]] == ['"\'=1+1"', '"-5"']
