"""`/runs/{run}/export/preview`: the first rows of what `/export` writes, for every format."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contract.run_batches import batch_of
from tests.lanes import mostly_slow

# The SDK of Label Studio warns of its own use of pydantic when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")

RUN = "preview"


@pytest.fixture
def run(client: httpx.Client) -> Iterator[str]:
    client.put(f"/runs/{RUN}", json={"class_names": ["cat", "dog", "bird"]}).raise_for_status()
    for epoch in range(2):
        batch = batch_of(40, seed=1) | {"logits": batch_of(40, seed=epoch)["logits"]}
        client.put(f"/runs/{RUN}/epochs/{epoch}/batches/b", json=batch).raise_for_status()
    client.post(
        f"/runs/{RUN}/queues", json={"strategy": "logit_margin", "budget": 5, "name": "five"}
    ).raise_for_status()
    yield RUN
    client.delete(f"/runs/{RUN}")


def rows_of(name: str, reply: httpx.Response) -> list[Any]:
    if name == "label-studio":
        return list(reply.json())
    if name == "fiftyone":
        return [{image: label} for image, label in reply.json()["labels"].items()]
    if name == "csv":
        return list(csv.DictReader(io.StringIO(reply.text, newline="")))
    return [httpx.Response(200, text=line).json() for line in reply.text.splitlines()]


@pytest.mark.parametrize("where", mostly_slow([{"queue": "five"}, {}, {"epoch": "0", "gamma": "0.5"}], quick=1))
@pytest.mark.parametrize("name", mostly_slow(["label-studio", "argilla", "fiftyone", "csv", "jsonl"], quick=3))
def test_it_shows_the_first_rows_of_the_file(client: httpx.Client, run: str, name: str, where: dict[str, str]) -> None:
    query = {"format": name, "from_name": "topic", "data_key": "text"} | where
    file = client.get(f"/runs/{run}/export", params=query)
    preview = client.get(f"/runs/{run}/export/preview", params=query | {"rows": "4"}).json()
    assert preview["rows"] == rows_of(name, file)[:4]
    assert (preview["format"], preview["num_rows"]) == (name, 5 if "queue" in where else 40)
    assert f'filename="{preview["file_name"]}"' in file.headers["content-disposition"]
    assert file.headers["content-type"] == preview["media_type"]
    assert (preview["validator"]["accepted"], preview["validator"]["refused"]) == (4, [])


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_an_interrupted_download_goes_on_while_the_run_is_the_same(client: httpx.Client, run: str, name: str) -> None:
    address = f"/runs/{run}/export?format={name}"
    whole = client.get(address)
    tail = {"Range": "bytes=100-", "If-Range": whole.headers["etag"]}
    rest = client.get(address, headers=tail)
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    client.post(f"/runs/{run}/reviews", json=[{"id": "1-0", "verdict": "wrong", "label": 0}]).raise_for_status()
    changed = client.get(address, headers=tail)
    assert (changed.status_code, changed.headers["etag"] == whole.headers["etag"]) == (200, False)


def test_without_a_word_it_is_three_rows_of_jsonl(client: httpx.Client, run: str) -> None:
    preview = client.get(f"/runs/{run}/export/preview").json()
    assert (preview["format"], len(preview["rows"]), preview["columns"][0]) == ("jsonl", 3, "rank")
    assert client.get(f"/runs/{run}/export/preview?queue=five&rows=20&format=parquet").json()["num_rows"] == 5


@pytest.mark.parametrize(
    "query", mostly_slow(["rows=0", "rows=21", "rows=x", "format=nosuch", "data_key=rank", "nosuch=1"], quick=2)
)
def test_what_makes_no_sense_is_refused(client: httpx.Client, run: str, query: str) -> None:
    reply = client.get(f"/runs/{run}/export/preview?{query}")
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert client.get(f"/runs/{run}/export/preview?queue=absent").json()["code"] == "unknown_queue"
    assert client.get("/runs/absent/export/preview").json()["code"] == "unknown_run"
