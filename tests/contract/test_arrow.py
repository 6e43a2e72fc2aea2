"""Contract section 2: Arrow."""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import httpx
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from service.schema.request import OUTPUTS
from tests.contract.arrow_client import MEDIA_TYPE, duplex, ipc_pieces, read_batches
from tests.contract.test_errors import check_problem
from tests.live.server_process import ServerProcess, wait_for
from tests.live.test_operations import half_sent, held_requests
from tests.services import SMALL_LIMITS, ServerWith

ARROW = {"Content-Type": MEDIA_TYPE}


def record_batch(
    rows: int = 20, classes: int = 5, seed: int = 0, value_type: Any = None, target_type: Any = None, ids: bool = False
) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((rows, classes)) * 3
    values = pa.array(logits.ravel().astype(np.float32)).cast(value_type or pa.float32())
    columns = {
        "logits": pa.FixedSizeListArray.from_arrays(values, classes),
        "targets": pa.array(rng.integers(0, classes, rows)).cast(target_type or pa.int64()),
    }
    if ids:
        columns["id"] = pa.array([f"row-{seed}-{row}" for row in range(rows)])
    return pa.record_batch(columns)


def with_request(schema: pa.Schema, **fields: Any) -> pa.Schema:
    return schema.with_metadata({"request": json.dumps(fields)})


def stream_bytes(*batches: pa.RecordBatch, **fields: Any) -> bytes:
    return b"".join(ipc_pieces(with_request(batches[0].schema, **fields), batches))


def json_rows(batch: pa.RecordBatch) -> dict[str, Any]:
    rows = {"logits": batch["logits"].to_pylist(), "targets": batch["targets"].to_pylist()}
    return rows | ({"ids": batch["id"].to_pylist()} if "id" in batch.schema.names else {})


def test_each_batch_is_answered_with_its_own_and_the_totals_come_last(client: httpx.Client) -> None:
    batches = [record_batch(rows, seed=rows, ids=True) for rows in (20, 1, 7)]
    fields: dict[str, Any] = {"config": {"gamma": 1.5}, "outputs": ["loss", "p_t", "prediction"], "top_k": 3}
    reply = client.post("/loss", content=stream_bytes(*batches, **fields), headers=ARROW)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == MEDIA_TYPE
    *parts, (last, totals) = read_batches(reply.content)
    expected = client.post("/loss", json={**fields, "batches": [json_rows(batch) for batch in batches]}).json()
    assert len(parts) == 3
    for (part, metadata), batch, result in zip(parts, batches, expected["batches"], strict=True):
        assert part.schema.names == ["id", "loss", "p_t", "prediction"]
        assert part["id"].equals(batch["id"])
        assert part["loss"].type == pa.float32()
        assert part["loss"].to_pylist() == pytest.approx(result["per_example"]["loss"], rel=1e-5)
        assert part["prediction"].to_pylist() == result["per_example"]["prediction"]
        assert json.loads(metadata["loss"]) == pytest.approx(result["loss"], rel=1e-6)
        assert (metadata["num_examples"], metadata["num_ignored"]) == (str(len(batch)), "0")
    assert len(last) == 0
    assert json.loads(totals["loss"]) == pytest.approx(expected["loss"], rel=1e-6)
    assert totals["num_examples"] == "28"
    assert totals["config_id"] == expected["config_id"]
    assert [(hard["batch"], hard["index"], hard["id"]) for hard in json.loads(totals["hardest"])] == [
        (hard["batch"], hard["index"], hard["id"]) for hard in expected["hardest"]
    ]


def test_batches_are_answered_while_the_request_arrives(server: ServerProcess) -> None:
    batches = [record_batch(seed=seed) for seed in range(4)]
    replied = [threading.Event() for _ in range(len(batches) + 1)]

    def pieces() -> Iterator[bytes]:
        schema, *parts, end = ipc_pieces(batches[0].schema, batches)
        yield schema
        for number, part in enumerate(parts):
            # The next batch is sent only after the answer to the one before has been read.
            assert number == 0 or replied[number - 1].wait(30)
            yield part
        assert replied[len(parts) - 1].wait(30)
        yield end

    with duplex(server, pieces()) as response:
        for number, (part, _) in enumerate(read_batches(response)):
            assert len(part) == (20 if number < 4 else 0)
            replied[number].set()
    assert all(event.is_set() for event in replied)


@pytest.mark.parametrize("value_type", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize(
    "target_type",
    [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()],
    ids=str,
)
def test_every_type_of_the_contract_is_taken(client: httpx.Client, value_type: Any, target_type: Any) -> None:
    batch = record_batch(value_type=value_type, target_type=target_type)
    (part, _), _ = read_batches(client.post("/loss", content=stream_bytes(batch), headers=ARROW).content)
    expected = client.post("/loss", json=json_rows(batch)).json()["batches"][0]["per_example"]["loss"]
    assert part["loss"].to_pylist() == pytest.approx(expected, rel=1e-5)
    assert part["index"].to_pylist() == list(range(20))
    assert part["loss"].type == (pa.float64() if value_type == pa.float64() else pa.float32())


def test_lists_slices_and_tensors_are_taken(client: httpx.Client) -> None:
    fixed = record_batch()
    expected = client.post("/loss", json=json_rows(fixed)).json()["loss"]
    logits = fixed["logits"]
    for column in (
        logits.cast(pa.list_(pa.float32())),
        logits.cast(pa.large_list(pa.float32())),
        pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [5]), logits),
    ):
        batch = pa.record_batch({"logits": column, "targets": fixed["targets"]})
        *_, (_, totals) = read_batches(client.post("/loss", content=stream_bytes(batch), headers=ARROW).content)
        assert json.loads(totals["loss"]) == pytest.approx(expected, rel=1e-6)
    twice = pa.concat_tables([pa.table(record_batch(seed=9)), pa.table(fixed)]).combine_chunks().to_batches()[0]
    *_, (_, totals) = read_batches(client.post("/loss", content=stream_bytes(twice.slice(20)), headers=ARROW).content)
    assert json.loads(totals["loss"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_buffers_are_taken(client: httpx.Client, compression: str) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    batch = record_batch(1000)
    content = b"".join(ipc_pieces(batch.schema, [batch], options=options))
    *_, (_, totals) = read_batches(client.post("/loss", content=content, headers=ARROW).content)
    assert json.loads(totals["loss"]) == pytest.approx(client.post("/loss", json=json_rows(batch)).json()["loss"])


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_bomb_of_compressed_buffers_is_413_and_costs_no_memory(server_with: ServerWith, compression: str) -> None:
    zeros = pa.record_batch(
        {
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(20_000_000, np.float32)), 10),
            "targets": pa.array(np.zeros(2_000_000, np.int64)),
        }
    )
    options = pa.ipc.IpcWriteOptions(compression=compression)
    bomb = b"".join(ipc_pieces(zeros.schema, [zeros], options=options))
    assert len(bomb) < 1_000_000
    server = server_with(**SMALL_LIMITS)
    with httpx.Client(base_url=server.url) as client:
        before = server.memory_bytes()
        check_problem(client.post("/loss", content=bomb, headers=ARROW), 413, "body_too_large")
        assert server.memory_bytes() - before < 50_000_000


def test_polars_writes_requests_and_reads_replies(client: httpx.Client) -> None:
    batch = record_batch(50)
    frame = pl.DataFrame(
        {
            "logits": batch["logits"].to_pylist(),
            "targets": batch["targets"].to_pylist(),
            "id": [f"r{i}" for i in range(50)],
        },
        schema={"logits": pl.Array(pl.Float32, 5), "targets": pl.Int64, "id": pl.String},
    )
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
    reply = client.post("/loss", params={"outputs": "loss,prediction"}, content=buffer.getvalue(), headers=ARROW)
    assert reply.status_code == 200, reply.text
    scored = pl.read_ipc_stream(io.BytesIO(reply.content))
    assert scored.columns == ["id", "loss", "prediction"]
    expected = client.post("/loss", json=json_rows(batch)).json()["batches"][0]["per_example"]["loss"]
    assert scored["loss"].to_list() == pytest.approx(expected, rel=1e-5)


def test_duckdb_writes_requests_and_reads_replies(client: httpx.Client) -> None:
    batch = record_batch(50, ids=True)
    examples = pa.table(batch)  # noqa: F841  read by name in the query
    rows = duckdb.sql("select logits, targets, id from examples order by length(id), id").to_arrow_table()
    content = b"".join(ipc_pieces(rows.schema, rows.to_batches()))
    reply = client.post("/loss", content=content, headers=ARROW)
    assert reply.status_code == 200, reply.text
    scored = pa.ipc.open_stream(reply.content).read_all()  # noqa: F841  read by name in the query
    total, count = duckdb.sql("select sum(loss), count(*) from scored").fetchall()[0]
    assert count == 50
    assert total == pytest.approx(
        client.post("/loss", json=json_rows(batch)).json()["batches"][0]["loss_sum"], rel=1e-5
    )


@pytest.mark.parametrize("request_type", ["application/json", MEDIA_TYPE])
def test_arrow_meets_json_in_both_directions(client: httpx.Client, request_type: str) -> None:
    batches = [record_batch(seed=seed, ids=True) for seed in range(3)]
    other = {"application/json": MEDIA_TYPE, MEDIA_TYPE: "application/json"}[request_type]
    body = json.dumps({"batches": [json_rows(batch) for batch in batches], "outputs": list(OUTPUTS)}).encode()
    content = body if request_type == "application/json" else stream_bytes(*batches, outputs=list(OUTPUTS))
    reply = client.post("/loss", content=content, headers={"Content-Type": request_type, "Accept": other})
    assert reply.headers["content-type"] == other
    expected = client.post("/loss", content=body, headers={"Content-Type": "application/json"}).json()
    if other == "application/json":
        assert reply.json()["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    else:
        *parts, (_, totals) = read_batches(reply.content)
        assert json.loads(totals["loss"]) == expected["loss"]
        assert [part["el2n"].to_pylist() for part, _ in parts] == [
            batch["per_example"]["el2n"] for batch in expected["batches"]
        ]


def test_nulls_are_nulls_and_labels_are_lists(client: httpx.Client) -> None:
    batch = record_batch(3)
    targets = pa.array([0, -100, 2])
    content = stream_bytes(
        pa.record_batch({"logits": batch["logits"], "targets": targets}), outputs=["loss", "p_t", "prediction"]
    )
    (part, metadata), _ = read_batches(client.post("/loss", content=content, headers=ARROW).content)
    assert metadata["num_ignored"] == "1"
    assert part["loss"].to_pylist()[1] == 0
    assert part["p_t"].to_pylist()[1] is None
    assert part["prediction"].to_pylist()[1] is None
    labels = pa.record_batch(
        {"logits": pa.array([[1.0, -1.0], [2.0, 0.5]]), "targets": pa.array([[1.0, 0.0], [-100.0, 1.0]])}
    )
    content = stream_bytes(labels, config={"mode": "sigmoid"}, outputs=["prediction"])
    (part, _), _ = read_batches(client.post("/loss", content=content, headers=ARROW).content)
    assert part["prediction"].to_pylist() == [[1, 0], [None, 1]]
    flat = pa.record_batch({"logits": pa.array([1.0, -1.0]), "targets": pa.array([1, 1])})
    content = stream_bytes(flat, config={"mode": "sigmoid"}, outputs=["prediction"])
    (part, _), _ = read_batches(client.post("/loss", content=content, headers=ARROW).content)
    assert part["prediction"].to_pylist() == [1, 0]


def test_a_stream_without_batches_has_totals(client: httpx.Client) -> None:
    schema = record_batch().schema
    content = b"".join(ipc_pieces(with_request(schema, config={"reduction": "sum"}), []))
    ((last, totals),) = read_batches(client.post("/loss", content=content, headers=ARROW).content)
    assert len(last) == 0
    assert (totals["loss"], totals["num_examples"]) == ("0.0", "0")


def test_an_error_before_the_first_answer_is_a_problem(client: httpx.Client) -> None:
    batch = record_batch()
    bad = pa.record_batch({"logits": batch["logits"], "targets": pa.array([0] * 19 + [5])})
    problem = check_problem(client.post("/loss", content=stream_bytes(bad), headers=ARROW), 422, "invalid_target")
    assert "batch 0, row 19: target 5" in problem["detail"]
    check_problem(client.post("/loss", content=b"nonsense" * 9, headers=ARROW), 400, "malformed_body")
    check_problem(client.post("/loss", content=b"", headers=ARROW), 400, "malformed_body")
    check_problem(
        client.post("/loss", content=stream_bytes(batch, config={"gamma": -1}), headers=ARROW), 422, "invalid_config"
    )
    check_problem(
        client.post("/loss", content=stream_bytes(batch), headers=ARROW, params={"config_id": "fl_0"}),
        404,
        "unknown_config",
    )


def test_an_error_in_the_middle_ends_the_stream_without_its_mark(client: httpx.Client) -> None:
    batch = record_batch()
    bad = pa.record_batch({"logits": batch["logits"], "targets": pa.array([0] * 19 + [5])})
    reply = client.post("/loss", content=stream_bytes(batch, batch, bad, batch), headers=ARROW)
    assert reply.status_code == 200
    assert not reply.content.endswith(b"\xff\xff\xff\xff\0\0\0\0")
    *parts, (last, metadata) = read_batches(reply.content)
    assert [len(part) for part, _ in parts] == [20, 20]
    assert len(last) == 0
    problem = json.loads(metadata["error"])
    assert problem["code"] == "invalid_target"
    assert "batch 2, row 19" in problem["detail"]
    good = client.post("/loss", content=stream_bytes(batch), headers=ARROW)
    assert good.content.endswith(b"\xff\xff\xff\xff\0\0\0\0")


def test_a_truncated_stream_is_an_error(client: httpx.Client) -> None:
    content = stream_bytes(record_batch(), record_batch(seed=1))
    reply = client.post("/loss", content=content[: len(content) - 200], headers=ARROW)
    *_, (_, metadata) = read_batches(reply.content)
    assert json.loads(metadata["error"])["code"] == "malformed_body"


@pytest.mark.parametrize(
    ("batch", "code", "says"),
    [
        (pa.record_batch({"logits": pa.array([[1.0, 2.0]])}), "invalid_request", "targets missing"),
        (pa.record_batch({"logits": pa.array([["1"]]), "targets": pa.array([0])}), "invalid_logit", "not a number"),
        (
            pa.record_batch({"logits": pa.array([[1.0, 2.0]]), "targets": pa.array(["cat"])}),
            "invalid_target",
            "row 0: 'cat' is not a number",
        ),
        (
            pa.record_batch({"logits": pa.array([[1.0, 2.0]]), "targets": pa.array([0]), "label": pa.array([0])}),
            "invalid_request",
            "both 'targets' and 'label'",
        ),
        (
            pa.record_batch({"logits": pa.array([[1.0, 2.0]]), "targets": pa.array([0]), "id": pa.array([1.5])}),
            "invalid_ids",
            "a string or an integer, got 1.5",
        ),
        (
            pa.record_batch({"logits": pa.array([[1.0, 2.0], [1.0]]), "targets": pa.array([0, 0])}),
            "invalid_shape",
            "row 1, column 'logits': 1 values, row 0 has 2",
        ),
        (
            pa.record_batch({"logits": pa.array([[1.0, 2.0], [1.0, None]]), "targets": pa.array([0, 0])}),
            "invalid_logit",
            "row 1, column 1",
        ),
        (
            pa.record_batch({"logits": pa.array([[1.0, 2.0], None]), "targets": pa.array([0, 0])}),
            "invalid_logit",
            "row 1",
        ),
        (
            pa.record_batch({"logits": pa.array([[1.0, 2.0], [1.0, 2.0]]), "targets": pa.array([0, None])}),
            "invalid_target",
            "row 1",
        ),
        (
            pa.record_batch(
                {"logits": pa.array([[1.0, 2.0]] * 2), "targets": pa.array([0, 0]), "id": pa.array(["a", None])}
            ),
            "invalid_ids",
            "row 1",
        ),
        (
            pa.record_batch(
                {"logits": pa.array([[1.0, 2.0]] * 2), "targets": pa.array([0, 0]), "id": pa.array(["a", "a"])}
            ),
            "invalid_ids",
            "'a'",
        ),
        (
            pa.record_batch({"logits": pa.array([[1.0, np.nan]]), "targets": pa.array([0])}),
            "invalid_logit",
            "column 1: logit NaN",
        ),
    ],
)
def test_bad_streams_are_named(client: httpx.Client, batch: pa.RecordBatch, code: str, says: str) -> None:
    for accept in (MEDIA_TYPE, "application/json"):
        reply = client.post("/loss", content=stream_bytes(batch), headers=ARROW | {"Accept": accept})
        assert says in check_problem(reply, 422, code)["detail"]


def test_a_compressed_request_is_inflated(client: httpx.Client) -> None:
    content = stream_bytes(*(record_batch(seed=seed) for seed in range(3)))
    plain = client.post("/loss", content=content, headers=ARROW).content
    for coding, coded in (("gzip", gzip.compress(content)), ("zstd", pa.compress(content, codec="zstd", asbytes=True))):
        reply = client.post("/loss", content=coded, headers=ARROW | {"Content-Encoding": coding})
        assert reply.content == plain
    broken = client.post("/loss", content=gzip.compress(content)[:-20], headers=ARROW | {"Content-Encoding": "gzip"})
    *_, (_, metadata) = read_batches(broken.content)
    assert json.loads(metadata["error"])["code"] == "malformed_body"


def test_a_compressed_request_is_inflated_as_it_arrives(client: httpx.Client, server: ServerProcess) -> None:
    content = stream_bytes(*(record_batch(seed=seed) for seed in range(3)))
    plain = client.post("/loss", content=content, headers=ARROW).content
    with duplex(server, [gzip.compress(content)], Content_Encoding="gzip") as response:
        assert response.read() == plain


def test_the_batch_at_hand_counts_among_the_bytes_held(server_with: ServerWith) -> None:
    server = server_with(max_body_bytes="100000", max_queued_bytes="100000")
    with httpx.Client(base_url=server.url) as client:
        # 20 batches of 40 kB each pass, one at a time.
        batches = [record_batch(1400, seed=seed) for seed in range(20)]
        *parts, _ = read_batches(client.post("/loss", content=stream_bytes(*batches), headers=ARROW).content)
        assert len(parts) == 20
        large = stream_bytes(record_batch(5000))
        check_problem(client.post("/loss", content=large, headers=ARROW), 413, "body_too_large")
        two = stream_bytes(record_batch(2800))
        with half_sent(server, 90_000):
            wait_for(lambda: held_requests(client) == 1, "a request is held")
            check_problem(client.post("/loss", content=two, headers=ARROW), 429, "queue_full")
        wait_for(lambda: held_requests(client) == 0, "the place is free")
        assert client.post("/loss", content=two, headers=ARROW).status_code == 200


def test_a_client_that_leaves_in_the_middle_frees_its_place(server: ServerProcess, client: httpx.Client) -> None:
    batch = record_batch()

    def endless() -> Iterator[bytes]:
        schema, part, _ = ipc_pieces(batch.schema, [batch])
        yield schema
        while True:
            yield part

    for _ in range(3):
        with duplex(server, endless()) as response:
            assert len(next(read_batches(response))[0]) == 20
            response.fp.raw._sock.shutdown(2)  # type: ignore[attr-defined]
    wait_for(lambda: held_requests(client) == 0, "the places are free")


def test_a_stream_that_stops_times_out(server_with: ServerWith) -> None:
    batch, stop = record_batch(), threading.Event()

    def stalling() -> Iterator[bytes]:
        schema, part, _ = ipc_pieces(batch.schema, [batch])
        yield schema
        yield part
        stop.wait(30)

    with duplex(server_with(body_timeout_s="0.5"), stalling()) as response:
        *_, (_, metadata) = read_batches(response)
        stop.set()
    assert json.loads(metadata["error"])["code"] == "body_timeout"


def test_a_long_stream_takes_constant_memory(server: ServerProcess) -> None:
    batch = record_batch(20_000, 10)
    count = 60

    def pieces() -> Iterator[bytes]:
        schema, part, end = ipc_pieces(batch.schema, [batch])
        yield schema
        for _ in range(count):
            yield part
        yield end

    def rows_of_a_stream() -> int:
        with duplex(server, pieces()) as response:
            return sum(len(part) for part, _ in read_batches(response))

    assert rows_of_a_stream() == count * 20_000
    before = server.memory_bytes()
    assert rows_of_a_stream() == count * 20_000
    # The stream itself has 60 MB.
    assert server.memory_bytes() - before < 20_000_000


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array([b"a", b"b"]), ["a", "b"]),
        (pa.array([7, 2**64 - 1], pa.uint64()), [7, 2**64 - 1]),
        (pa.array([7, 8], pa.int8()).dictionary_encode(), [7, 8]),
        (pa.array([Decimal("7.0"), Decimal("18446744073709551615.0")]), [7, 2**64 - 1]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_reply_has_the_ids_in_any_encoding(client: httpx.Client, column: pa.Array, ids: list[Any]) -> None:
    batch = pa.record_batch({"logits": pa.array([[1.0, 2.0]] * 2), "label": pa.array([True, False]), "ids": column})
    in_json = json.dumps({"logits": [[1, 2]] * 2, "targets": [1, 0], "ids": ids}).encode()
    for media_type, content in ((MEDIA_TYPE, stream_bytes(batch)), ("application/json", in_json)):
        reply = client.post("/loss", content=content, headers={"Content-Type": media_type, "Accept": MEDIA_TYPE})
        assert reply.status_code == 200, reply.text
        first = next(iter(pa.ipc.open_stream(reply.content)))
        assert first["id"].to_pylist() == ids
        assert first["loss"].to_pylist()[0] < first["loss"].to_pylist()[1]
