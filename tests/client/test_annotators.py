"""Annotations and their consensus through the client and the command."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.client import LossClient, RunClient
from service.errors import InvalidRequestError, UnknownExampleError
from tests.cli.command import run as command
from tests.diagnostics.annotators.crowds import FIXTURE
from tests.live.server_process import ServerProcess

IDS = list("abcdefgh")
ROWS = [
    {"id": IDS[example], "annotator": f"ann{annotator}", "label": int(FIXTURE.labels[example, annotator])}
    for example, annotator in np.argwhere(~np.isnan(FIXTURE.labels))
]


def put_run(client: LossClient, name: str) -> RunClient:
    run = client.put_run(name, class_names=["cat", "dog", "owl"])
    run.push(0, "b", np.log(FIXTURE.p), [0, 1, 2, 2, 1, 0, 2, 1], IDS)
    return run


@pytest.fixture
def run(loss_client: LossClient) -> Iterator[RunClient]:
    run = put_run(loss_client, "annotated")
    yield run
    run.delete()


def write_csv(path: Path) -> Path:
    lines = ["id,annotator,label", *(f"{row['id']},{row['annotator']},{row['label']}" for row in ROWS)]
    content = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_annotations_from_mappings_and_files(run: RunClient, tmp_path: Path) -> None:
    assert run.annotate(ROWS)["added"] == 21
    for name in ("a.csv", "a.csv.gz"):
        assert run.annotate(str(write_csv(tmp_path / name)))["unchanged"] == 21
    assert run.annotate([ROWS[0] | {"label": "owl"}])["changed"] == 1
    run.delete_annotations()
    assert run.annotate(iter(ROWS[:3]))["num_annotations"] == 3


def test_the_consensus_and_its_pages(run: RunClient) -> None:
    run.annotate(ROWS)
    reply = run.consensus()
    assert reply["model_weight"] == pytest.approx(1.620185174602)
    assert [row["id"] for row in reply["rows"]][:2] == ["f", "c"]
    assert [row["id"] for row in run.consensus(differing=True, limit=1, epoch=0)["rows"]] == ["h"]
    page = run.consensus(sort="-id", limit=2, offset=1, reviewers=True, annotated=True)
    assert [row["id"] for row in page["rows"]] == ["g", "f"]


def test_errors(run: RunClient, tmp_path: Path) -> None:
    with pytest.raises(UnknownExampleError, match="row 0: run annotated has no example 'x'"):
        run.annotate([{"id": "x", "annotator": "k", "label": 0}])
    with pytest.raises(InvalidRequestError, match=r"unknown extension '.jsonl'"):
        run.annotate(tmp_path / "a.jsonl")
    with pytest.raises(InvalidRequestError, match="unknown sort key 'x'"):
        run.consensus(sort="x")


def test_the_commands(server: ServerProcess, tmp_path: Path) -> None:
    with LossClient(server.url) as client:
        put_run(client, "annotated")
        file = write_csv(tmp_path / "a.csv")
        stored = command("annotations", "annotated", file, "--url", server.url)
        assert (stored.returncode, stored.stderr.split()[:3]) == (0, ["21", "annotations", "added,"])
        shown = command("consensus", "annotated", "--limit", 2, "--url", server.url)
        assert "21 annotations of 8 of 8 examples, 8 by several annotators; 1 with another" in shown.stdout
        assert "50.5%" in shown.stdout
        assert "weight of the model 1.62" in shown.stdout
        differing = command("consensus", "annotated", "--differing", "--json", "--url", server.url)
        assert '"id":"h"' in differing.stdout.replace(" ", "")
        (tmp_path / "bad.csv").write_text("id,annotator,label\na,k,cow\n")
        refused = command("annotations", "annotated", tmp_path / "bad.csv", "--url", server.url)
        assert (refused.returncode, "row 0, column 'label': 'cow'" in refused.stderr) == (3, True)
        assert command("annotations", "annotated", "--url", server.url).returncode == 2
        missing = command("annotations", "annotated", "none.csv", "--url", server.url)
        assert (missing.returncode, missing.stderr.strip()) == (2, "none.csv: No such file or directory")
        assert command("annotations", "annotated", "--delete", "--url", server.url).returncode == 0
        assert client.run("annotated").consensus()["num_annotations"] == 0
        client.run("annotated").delete()
