"""The commands about runs, with a service: their output, exit statuses, and a push that is killed."""

from __future__ import annotations

import csv
import gzip
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from service.client import LossClient, RunClient
from tests.cli import command
from tests.cli.html_page import Page
from tests.live.server_process import ServerProcess, service_environment, wait_for

ROWS, CLASSES = 400, 4
NAMES = ["cat", "dog", "owl", "<i>elk</i>"]
UNREACHABLE = "http://127.0.0.1:9"
HOSTILE = "</td><script>alert('x')</script>"


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[LossClient]:
    with LossClient(server.url) as connected:
        yield connected


def data(rows: int = ROWS, seed: int = 0) -> dict[str, Any]:
    """Columns of a small data set with 5 % wrong labels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, rows)
    labels = np.where(rng.random(rows) < 0.05, (truth + 1) % CLASSES, truth)
    logits = rng.standard_normal((rows, CLASSES)).astype(np.float32)
    logits[np.arange(rows), truth] += 4
    texts = [f"text {row}" for row in range(rows)]
    texts[0] = HOSTILE
    ids = [f"row-{row}" for row in range(rows)]
    return {"logits": logits, "targets": labels, "id": ids, "text": texts, "group": [row % 3 for row in range(rows)]}


@pytest.fixture(scope="module")
def run(client: LossClient) -> RunClient:
    run = client.put_run("animals", config={"gamma": 2.0}, class_names=NAMES)
    for epoch in range(2):
        rows = data()
        logits = rows["logits"] * (1 + epoch)
        attributes = {"text": rows["text"], "group": rows["group"]}
        run.push(epoch, "all", logits, rows["targets"], rows["id"], attributes=attributes)
    return run


def arguments(*words: Any, url: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "service", *map(str, words), "--url", url]


def focal_loss(server: ServerProcess, *words: Any, status: int = 0, stdin: str | None = None) -> command.Ended:
    ended = command.run(*words, "--url", server.url, stdin=stdin)
    assert ended.returncode == status, ended.stderr
    return ended


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    logits = pa.FixedSizeListArray.from_arrays(pa.array(columns["logits"].ravel()), columns["logits"].shape[1])
    pyarrow.parquet.write_table(pa.table({**columns, "logits": logits}), path)
    return path


def test_runs_are_created_listed_shown_and_deleted(server: ServerProcess) -> None:
    create = ("runs", "create", "example", "--class-names", "a,b", "--alpha", "1,3", "--gamma", "1.5", "--no-logits")
    for _ in range(2):
        focal_loss(server, *create)
    assert "example exists with another" in focal_loss(server, "runs", "create", "example", status=2).stderr
    shown = json.loads(focal_loss(server, "runs", "show", "example", "--json").stdout)
    assert (shown["config"]["alpha"], shown["class_names"], shown["store_logits"]) == ([1, 3], ["a", "b"], False)
    assert "2: a, b" in focal_loss(server, "runs", "show", "example").stdout
    assert "example" in focal_loss(server, "runs").stdout
    assert "example" in [run["run"] for run in json.loads(focal_loss(server, "runs", "list", "--json").stdout)]
    focal_loss(server, "runs", "delete", "example", stdin="n\n", status=1)
    focal_loss(server, "runs", "delete", "example", "--yes")
    assert "example" in focal_loss(server, "runs", "show", "example", status=2).stderr


def test_a_run_with_class_counts_is_shown(server: ServerProcess) -> None:
    with LossClient(server.url) as client:
        run = client.put_run("counted", config={"alpha": {"class_counts": [9, 1], "scheme": "effective"}})
        try:
            assert "class counts (effective)" in focal_loss(server, "runs", "show", "counted").stdout
            assert "counted" in focal_loss(server, "runs").stdout
        finally:
            run.delete()


def written(folder: Path, ending: str, columns: dict[str, Any]) -> Path:
    path = folder / f"rows{ending}"
    match ending:
        case ".parquet":
            parquet(path, columns)
        case ".npz":
            np.savez(path, **columns)
        case ".jsonl":
            rows = [
                dict(zip(columns, values, strict=True)) for values in zip(*map(listed, columns.values()), strict=True)
            ]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*(f"logit_{label}" for label in range(CLASSES)), "label", "id", "text", "group"])
                for values in zip(*map(listed, columns.values()), strict=True):
                    writer.writerow([*values[0], *values[1:]])
    return path


def listed(column: Any) -> list[Any]:
    values: list[Any] = column.tolist() if hasattr(column, "tolist") else column
    return values


@pytest.mark.parametrize("ending", [".parquet", ".npz", ".jsonl", ".csv"])
def test_push_reads_what_score_reads(server: ServerProcess, client: LossClient, tmp_path: Path, ending: str) -> None:
    name = f"pushed{ending}"
    path = written(tmp_path, ending, data(100))
    words = ("push", name, path, "--epoch", 3, "--create", "--gamma", "1", "--attributes", "all", "--batch-rows", 30)
    assert "100 rows in 4 batches" in focal_loss(server, *words).stderr
    focal_loss(server, *words)
    description = client.run(name).describe()
    assert (
        [epoch["epoch"] for epoch in description["epochs"]],
        description["num_rows"],
        description["config"]["gamma"],
    ) == ([3], 100, 1)
    assert len({row["batch"] for row in client.run(name).all_examples()}) == 4
    group = "2" if ending == ".csv" else 2
    assert client.run(name).example("row-5")["attributes"] == {"text": "text 5", "group": group}
    reply = client.loss(data(100)["logits"], data(100)["targets"], config={"gamma": 1})
    assert client.run(name).diagnostics()["loss"]["value"] == pytest.approx(reply.loss, rel=1e-4)


def test_a_killed_push_continues_and_stores_every_row_once(
    server: ServerProcess, client: LossClient, tmp_path: Path
) -> None:
    path = parquet(tmp_path / "rows.parquet", data(20_000))
    run = client.put_run("killed")
    words = arguments("push", "killed", path, "--epoch", 0, "--batch-rows", 200, url=server.url)

    def stored_rows() -> int:
        return int(run.describe()["num_rows"])

    for minimum in (1, 3_000, 9_000):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=service_environment())
        wait_for(lambda minimum=minimum: stored_rows() >= minimum, f"{minimum} rows")
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
        assert stored_rows() < 20_000
    focal_loss(server, *words[5:-2])
    assert run.describe()["epochs"][0]["num_examples"] == 20_000
    assert {row["id"] for row in run.all_examples()} == {f"row-{row}" for row in range(20_000)}
    assert run.diagnostics()["num_duplicates"] == 0


def test_push_of_files_with_the_same_name_and_without_ids(
    server: ServerProcess, client: LossClient, tmp_path: Path
) -> None:
    columns = {name: values for name, values in data(10).items() if name != "id"}
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        parquet(tmp_path / folder / "part 0.parquet", columns)
    words = "push", "numbered", tmp_path / "monday", tmp_path / "tuesday", "--create", "--epoch", 0
    assert "--number-rows" in focal_loss(server, *words, status=2).stderr
    focal_loss(server, *words, "--number-rows")
    rows = list(client.run("numbered").all_examples())
    assert sorted(int(row["id"]) for row in rows) == list(range(20))
    assert len({row["batch"] for row in rows}) == 2
    assert all(re.fullmatch(r"part-0-[0-9a-f]{8}-000000", row["batch"]) for row in rows)


def test_errors_of_push(server: ServerProcess, client: LossClient, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    focal_loss(server, "push", "absent", rows, status=2)
    rows.write_text("id,logit_0,logit_1,label\na,1,2,0\nb,1,2,1\n")
    assert "--create" in focal_loss(server, "push", "absent", rows, "--epoch", 0, status=2).stderr
    assert "--create" in focal_loss(server, "push", "absent", rows, "--epoch", 0, "--gamma", 2, status=2).stderr
    assert "gone.csv" in focal_loss(server, "push", "absent", tmp_path / "gone.csv", "--epoch", 0, status=2).stderr
    focal_loss(server, "push", "bad", rows, "--epoch", 0, "--create", "--prefix", "rows")
    with rows.open("a") as file:
        file.write("c,1,2,7\n")
    assert "rows.csv, row 2: target 7" in focal_loss(server, "push", "bad", rows, "--epoch", 1, status=3).stderr
    assert "1 excluded" in focal_loss(server, "push", "bad", rows, "--epoch", 1, "--on-invalid", "exclude").stderr
    assert (
        "other content"
        in focal_loss(
            server, "push", "bad", rows, "--epoch", 0, "--prefix", "rows", "--on-invalid", "exclude", status=2
        ).stderr
    )
    assert client.run("bad").describe()["epochs"][0]["num_examples"] == 2
    ended = command.run("push", "bad", rows, "--epoch", 0, "--url", UNREACHABLE)
    assert (ended.returncode, "127.0.0.1:9" in ended.stderr) == (1, True)


def test_diagnose_prints_the_diagnostics_of_the_service(server: ServerProcess, run: RunClient) -> None:
    shown = focal_loss(server, "diagnose", "animals").stdout
    diagnostics = run.diagnostics()
    assert f"about {diagnostics['label_errors']['estimated']} wrong labels" in shown
    for part in ("concentration", "at gamma 0", "calibration", "Most confused", "Over the epochs", *NAMES):
        assert part in shown
    what_if = json.loads(focal_loss(server, "diagnose", "animals", "--json", "--gamma", 0, "--epoch", 0).stdout)
    further = {"dynamics": what_if["dynamics"], "remaining": run.remaining(epoch=0), "gain": None}
    assert what_if == {**run.diagnostics(epoch=0, gamma=0), **further}
    assert what_if["dynamics"]["num_examples"] == ROWS
    weighted = json.loads(focal_loss(server, "diagnose", "animals", "--json", "--alpha", "1,2,3,4").stdout)
    assert weighted["alpha"] == [1, 2, 3, 4]
    assert "no epoch 9" in focal_loss(server, "diagnose", "animals", "--epoch", 9, status=2).stderr


def test_diagnose_prints_warnings(server: ServerProcess, client: LossClient) -> None:
    rows = data(200)
    run = client.put_run("learned", store_logits=False)
    run.push(0, "b", rows["logits"] * 100, rows["logits"].argmax(1), rows["id"])
    shown = focal_loss(server, "diagnose", "learned").stdout
    assert "Warning: The model agrees with 100.00% of the labels." in shown
    assert "wrong labels" not in shown.split("Warning")[0]


def test_the_report_runs_and_loads_nothing(server: ServerProcess, run: RunClient, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    focal_loss(server, "diagnose", "animals", "--html", path)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "i>elk"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "src"]
    assert "http" not in path.read_text(encoding="utf-8")
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 3
    titles = "Losses", "Concentration of the loss", "Calibration", "Label errors", "Classes", "Confusion matrix"
    for title in (*titles, "What the numbers mean", "Examples to review first", "row-"):
        assert title in page.text
    assert NAMES[3] in page.text
    assert page.text.count("row-") == 50
    first = run.examples(sort="logit_margin", limit=1)["rows"][0]["id"]
    assert page.text.index(first) == page.text.index("row-")


def test_the_report_escapes_hostile_texts(server: ServerProcess, client: LossClient, tmp_path: Path) -> None:
    run = client.put_run("hostile", class_names=[HOSTILE, "b"])
    logits, ids = np.array([[0, 5], [4, 0]], np.float32), [HOSTILE, '"quoted"']
    run.push(0, "b", logits, [0, 0], ids, attributes={"text": [HOSTILE, "x"]})
    focal_loss(server, "diagnose", "hostile", "--html", tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) >= 5


def test_diagnose_of_a_run_without_rows(server: ServerProcess, client: LossClient, tmp_path: Path) -> None:
    client.put_run("empty", class_names=["a", "b"])
    shown = focal_loss(server, "diagnose", "empty", "--html", tmp_path / "r.html").stdout
    assert "no examples yet" in shown
    assert "no examples yet" in Page((tmp_path / "r.html").read_text(encoding="utf-8")).text


def test_mine_prints_stores_and_writes_a_queue(server: ServerProcess, run: RunClient, tmp_path: Path) -> None:
    words = ("mine", "animals", "--budget", 12, "--name", "monday", "--per-class", "0=5,3=7", "--at-most", "group=6")
    shown = focal_loss(server, *words).stdout
    queue = run.queue("monday")
    assert (queue["request"]["per_class"], queue["request"]["at_most"]) == (
        {"0": 5, "3": 7},
        {"attribute": "group", "count": 6},
    )
    assert all(row["id"] in shown for row in queue["rows"])
    assert "Queue monday" in shown
    assert "wrong labels among them" in shown
    # Lines are wrapped.
    assert queue["chosen"]["why"] in " ".join(shown.split())
    for ending in (".csv", ".jsonl", ".json"):
        focal_loss(server, *words, "-o", tmp_path / f"queue{ending}")
    ids = [row["id"] for row in queue["rows"]]
    with (tmp_path / "queue.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ids
    assert [row["text"] for row in rows] == [row["attributes"]["text"] for row in queue["rows"]]
    assert [json.loads(line)["id"] for line in (tmp_path / "queue.jsonl").read_text().splitlines()] == ids
    assert json.loads((tmp_path / "queue.json").read_text())["rows"] == queue["rows"]
    mixed = focal_loss(server, "mine", "animals", "--strategy", "mix", "--mix", "top_loss=0.5,random=0.5", "--json")
    assert {row["strategy"] for row in json.loads(mixed.stdout)["rows"]} == {"top_loss", "random"}
    several = focal_loss(server, "mine", "animals", "--runs", "animals", "--json")
    assert json.loads(several.stdout)["request"]["runs"] == ["animals"]
    assert "a name twice" in focal_loss(server, "mine", "animals", "--runs", "a, a", status=2).stderr
    assert "another" in focal_loss(server, "mine", "animals", "--name", "monday", status=2).stderr
    assert "--at-most" in focal_loss(server, "mine", "animals", "--at-most", "group", status=2).stderr
    assert "magic" in focal_loss(server, "mine", "animals", "--strategy", "magic", status=2).stderr
    ended = focal_loss(server, "mine", "animals", "--name", "tuesday", "-o", tmp_path / "queue.xlsx", status=2)
    assert ".csv" in ended.stderr
    assert "tuesday" not in [queue["name"] for queue in run.queues()]


def test_next_leases_rows_to_a_reviewer(server: ServerProcess, run: RunClient, tmp_path: Path) -> None:
    words = ("--name", "shared", "--budget", 12, "--overlap", 2, "--blind", "--without-suggestion", 1, "--gold", 0.1)
    focal_loss(server, "mine", "animals", *words)
    queue = run.queue("shared")
    assert {name: queue["request"][name] for name in ("overlap", "blind", "without_suggestion", "gold")} == {
        "overlap": 2,
        "blind": True,
        "without_suggestion": 1,
        "gold": 0.1,
    }
    ids = [row["id"] for row in queue["rows"]]
    lease = ("next", "animals", "shared", "--limit", 3, "--reviewer")
    ended = focal_loss(server, *lease, "kim")
    assert "Next rows of queue shared" in ended.stdout
    assert f"{len(ids)} rows are left for this reviewer, {len(ids) - 3} of them free." in ended.stderr
    assert [row["id"] for row in json.loads(focal_loss(server, *lease, "lee", "--json").stdout)["rows"]] == ids[:3]
    focal_loss(server, *lease, "mia", "-o", tmp_path / "next.csv")
    with (tmp_path / "next.csv").open(newline="") as file:
        assert [(row["id"], row["suggested"]) for row in csv.DictReader(file)] == [(one, "") for one in ids[3:6]]
    focal_loss(server, *lease, "kim", "--give-back")
    assert [row["id"] for row in run.next("shared", 1, reviewer="zoe")["rows"]] == ids[:1]
    assert "unknown extension" in focal_loss(server, *lease, "kim", "-o", tmp_path / "next.xlsx", status=2).stderr


def test_export_chooses_the_format_by_the_extension(server: ServerProcess, run: RunClient, tmp_path: Path) -> None:
    run.create_queue("top_loss", 5, name="five")
    for ending, format_name in {
        "q.csv": "csv",
        "q.jsonl": "jsonl",
        "q.parquet": "parquet",
        "q.label-studio.json": "label-studio",
        "q.argilla.jsonl": "argilla",
    }.items():
        shown = focal_loss(server, "export", "animals", "-o", tmp_path / ending, "--queue", "five", "--to-name", "text")
        assert f"({format_name})" in shown.stderr
        assert (tmp_path / ending).read_bytes() == run.export(format=format_name, queue="five", to_name="text")
    focal_loss(server, "export", "animals", "-o", tmp_path / "all.json", "--format", "label-studio")
    assert len(json.loads((tmp_path / "all.json").read_text())) == ROWS
    assert "--format" in focal_loss(server, "export", "animals", "-o", tmp_path / "x.json", status=2).stderr
    assert "no such folder" in focal_loss(server, "export", "animals", "-o", tmp_path / "no" / "x.csv", status=2).stderr
    assert (
        "gone" in focal_loss(server, "export", "animals", "-o", tmp_path / "y.csv", "--queue", "gone", status=2).stderr
    )
    assert not (tmp_path / "y.csv").exists()


def test_compare_prints_the_changes(server: ServerProcess, client: LossClient, run: RunClient) -> None:
    rows = data()
    after = client.put_run("after", class_names=NAMES)
    after.push(0, "b", rows["logits"][::-1], rows["targets"], rows["id"])
    shown = focal_loss(server, "compare", "animals", "after").stdout
    for part in (
        "animals, epoch 1",
        "after, epoch 0",
        f"common  {ROWS}",
        "Newly hard",
        "Resolved",
        "Largest changes of rank",
    ):
        assert part in shown
    assert "given     accuracy" in shown
    ended = focal_loss(server, "compare", "animals", "after", "--json", "--top", 7, "--epoch", 0, "--gamma", 0)
    gain = run.gain("after", epoch=0, gamma=0)
    assert json.loads(ended.stdout) == {**run.compare("after", top=7, epoch=0, gamma=0), "gain": gain}
    assert "nothing" in focal_loss(server, "compare", "animals", "nothing", status=2).stderr


def test_review_reads_options_and_files(server: ServerProcess, client: LossClient, tmp_path: Path) -> None:
    rows = data(60)
    run = client.put_run("reviewed", class_names=NAMES)
    run.push(0, "b", rows["logits"], rows["targets"], rows["id"])
    run.create_queue("logit_margin", 10, name="q")
    words = "review", "reviewed", "--ok", "row-1,row-2", "--wrong", "row-3=dog,row-4=2", "--unsure", "row-5"
    assert "Stored 5 reviews." in focal_loss(server, *words, "--reviewer", "kim", "--queue", "q").stdout
    reviews = {review["id"]: review for review in run.reviews()["reviews"]}
    assert [reviews[f"row-{row}"]["label"] for row in (3, 4)] == [1, 2]
    assert {review["reviewer"] for review in reviews.values()} == {"kim"}
    focal_loss(server, "review", "reviewed", "--take-back", "row-5", "--reviewer", "kim")
    assert run.reviews()["num_unsure"] == 0
    export = tmp_path / "q.csv"
    run.export(export, format="csv", queue="q")
    with export.open(newline="") as file:
        exported = list(csv.DictReader(file))
    for row in exported[:3]:
        row.update(verdict="wrong", verdict_label="cat")
    with export.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(exported[0]))
        writer.writeheader()
        writer.writerows(exported)
    before = run.reviews()["num_reviewed"]
    shown = focal_loss(server, "review", "reviewed", export).stdout
    assert "Stored 3 reviews." in shown
    assert "logit_margin" in shown
    last = {review["id"]: review for review in run.reviews()["reviews"]}
    assert all((last[row["id"]]["verdict"], last[row["id"]]["label"]) == ("wrong", 0) for row in exported[:3])
    assert run.reviews()["num_reviewed"] <= before + 3
    (tmp_path / "bad.jsonl").write_text('{"verdict": "ok"}\n')
    assert "row 0" in focal_loss(server, "review", "reviewed", tmp_path / "bad.jsonl", status=3).stderr
    assert "no reviews" in focal_loss(server, "review", "reviewed", status=2).stderr
    assert "gone" in focal_loss(server, "review", "reviewed", "--ok", "gone", status=2).stderr


def test_review_reads_back_every_export_and_names_the_row_of_an_error(
    server: ServerProcess, client: LossClient, tmp_path: Path
) -> None:
    ids = ["=1+1", "aGVsbG8=", "a=2", "00017", "a,b", "-5"]
    run = client.put_run("exact", class_names=["1", "2", "tench, Tinca tinca"])
    run.push(0, "b", data(6)["logits"][:, :3], [0] * 6, ids)
    words = ("review", "exact", "--ok", 'aGVsbG8=,"a,b"', "--wrong", "a=2=2,aGVsbG8==tench", "--wrong", "a=2=1")
    assert "no example 'aGVsbG8==tench'" in focal_loss(server, *words, status=2).stderr
    focal_loss(server, *words[:4], "--wrong", '"=1+1=tench, Tinca tinca",a=2=1', "--unsure", "-5")
    verdicts = {"=1+1": ("wrong", 2), "aGVsbG8=": ("ok", None), "a=2": ("wrong", 0), "a,b": ("ok", None)}
    verdicts["-5"] = ("unsure", None)
    for format_name in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"all.{format_name}.gz"
        path.write_bytes(gzip.compress(run.export(format=format_name)))
        shown = focal_loss(server, "review", "exact", path, "--reviewer", "lee").stdout
        assert "Stored 0 reviews.\nRows that change nothing: 5; without a verdict: 1." in shown
        again = client.put_run("exact-again", class_names=["1", "2", "tench, Tinca tinca"])
        again.push(0, "b", data(6)["logits"][:, :3], [0] * 6, ids)
        assert "Stored 5 reviews." in focal_loss(server, "review", "exact-again", path, "--reviewer", "lee").stdout
        last = {review["id"]: (review["verdict"], review["label"]) for review in again.reviews()["reviews"]}
        assert last == verdicts
        again.delete()
    words = ("review", "exact", "--exclude", "-5", "--comment", "no animal", "--adjudicate", "--reviewer", "ada")
    focal_loss(server, *words)
    settled = run.reviews()["reviews"][-1]
    assert (settled["verdict"], settled["comment"], settled["adjudicated"]) == ("exclude", "no animal", True)
    path = tmp_path / "changed.csv"
    path.write_text("id,verdict,label\n00017,,\n17,ok,\n")
    assert "changed.csv, row 1, column 'id': run exact has no example '17'; spreadsheets change ids" in (
        focal_loss(server, "review", "exact", path, status=3).stderr
    )
    path.write_text("id,verdict,label\n00017,wrong,9\n")
    assert "changed.csv, row 0, column 'label': class 9" in focal_loss(server, "review", "exact", path, status=3).stderr
    assert "no such" in focal_loss(server, "review", "exact", tmp_path / "gone.csv", status=2).stderr.lower()
    queue = run.create_queue("top_loss", 1)
    (outside, *_) = [identity for identity in ids if identity != queue["rows"][0]["id"] and "," not in identity]
    path.write_text(f"id,verdict\n{outside if outside[0] != '=' else chr(39) + outside},ok\n")
    words = ("review", "exact", path, "--queue", queue["name"])
    assert f"row 0, column 'id': queue {queue['name']} has no example" in focal_loss(server, *words, status=3).stderr
    run.delete()


def test_class_names_may_hold_commas_and_come_from_a_file(server: ServerProcess, tmp_path: Path) -> None:
    names = ["tench, Tinca tinca", 'a "b"', "dog "]
    (tmp_path / "names.txt").write_text("\ufeff" + "\r\n".join(names) + "\r\n", newline="")
    (tmp_path / "names.json").write_text(json.dumps(names))
    (tmp_path / "list.json").write_text("[1]")
    listed = ("--class-names", '"tench, Tinca tinca","a ""b"""', "--class-names", '"dog "')
    for option in (listed, *(("--class-names-file", tmp_path / f"names.{ending}") for ending in ("txt", "json"))):
        focal_loss(server, "runs", "create", "named", *option)
        shown = json.loads(focal_loss(server, "runs", "show", "named", "--json").stdout)
        assert shown["class_names"] == names
        focal_loss(server, "runs", "delete", "named", "--yes")
    for option in (
        ("--class-names-file", tmp_path / "list.json"),
        (*listed, "--class-names-file", "x"),
    ):
        assert "--class-names-file" in focal_loss(server, "runs", "create", "named", *option, status=2).stderr


HUGE = "9" * 25


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["runs", "show", "x\n"], 2),
        (["runs", "show", ".."], 2),
        (["runs", "create", "x", "--class-names", '"'], 2),
        (["runs", "create", "x", "--gamma", "nan"], 2),
        (["push", "animals", "rows.csv", "--epoch", HUGE], 2),
        (["push", "animals", "rows.csv", "--epoch", "9", "--prefix", "a/b"], 2),
        (["push", "animals", "-", "--epoch", "9", "--format", "parquet"], 3),
        (["diagnose", "animals", "--epoch", HUGE], 2),
        (["diagnose", "animals", "--alpha", "nan"], 2),
        (["diagnose", "animals", "--html", "."], 1),
        (["mine", "animals", "--budget", HUGE], 2),
        (["mine", "animals", "--mix", "top_loss=1e400"], 2),
        (["export", "animals", "-o", "x.csv", "--queue", "\0"], 2),
        (["compare", "animals", "animals", "--top", HUGE], 2),
        (["review", "animals", "--ok", "\ud800"], 2),
        (["review", "animals", "--ok", ","], 2),
        (["review", "animals", "."], 2),
        (["review", "animals", "rows.csv"], 3),
    ],
)
def test_odd_arguments_end_with_a_message(
    server: ServerProcess,
    run: RunClient,
    words: list[str],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("id,logit_0,logit_1,logit_2,logit_3,y\na,1,2,3,4,0\n")
    assert focal_loss(server, *words, status=status, stdin="").stderr.strip()


def test_every_command_has_help_and_names_an_unreachable_service(tmp_path: Path) -> None:
    for words in (
        ["runs"],
        ["runs", "show", "x"],
        ["diagnose", "x"],
        ["mine", "x"],
        ["export", "x", "-o", str(tmp_path / "x.csv")],
        ["compare", "x", "y"],
        ["review", "x", "--ok", "a"],
    ):
        ended = command.run(*words, "--url", UNREACHABLE)
        assert (ended.returncode, "127.0.0.1:9" in ended.stderr) == (1, True)
        shown = command.run(*words[: 1 + (words[0] == "runs" and len(words) > 1)], "--help")
        assert shown.returncode == 0
        assert "--url" in shown.stdout


def test_a_process_prints_the_same_as_the_command_in_this_process(server: ServerProcess, run: RunClient) -> None:
    words = arguments("diagnose", "animals", url=server.url)
    ended = subprocess.run(
        words, capture_output=True, text=True, env=service_environment() | {"COLUMNS": "200"}, timeout=120, check=True
    )
    assert ended.stdout == focal_loss(server, "diagnose", "animals").stdout
    words = arguments("diagnose", "nothing", url=server.url)
    ended = subprocess.run(words, capture_output=True, text=True, env=service_environment(), timeout=120, check=False)
    assert (ended.returncode, "nothing" in ended.stderr, "Traceback" in ended.stderr) == (2, True, False)
