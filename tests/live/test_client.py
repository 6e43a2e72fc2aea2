"""The Python client against a running service, and against mocked replies that a real service rarely sends."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch

from service import __version__
from service.client import (
    AsyncLossClient,
    ConnectionFailedError,
    LossClient,
    LossConfig,
    LossResult,
    RequestTimeoutError,
    RetryPolicy,
    UnexpectedReplyError,
)
from service.errors import (
    InvalidConfigError,
    InvalidLogitError,
    InvalidTargetError,
    LossServiceError,
    QueueFullError,
    UnauthorizedError,
    UnknownConfigError,
    UnknownOutputError,
)
from service.schema.request import OUTPUTS
from tests.live.server_process import ServerProcess
from tests.live.test_operations import KEY, half_sent, wait_for
from tests.services import ServerWith

RNG = np.random.default_rng(0)
LOGITS = (RNG.standard_normal((30, 5)) * 3).astype(np.float32)
TARGETS = RNG.integers(0, 5, 30)
IDS = [f"row-{row}" for row in range(30)]


@pytest.fixture
def loss_client(server: ServerProcess) -> Iterator[LossClient]:
    with LossClient(server.url) as client:
        yield client


def expected(logits: Any = LOGITS, gamma: float = 2.0) -> list[float]:
    p_t = torch.from_numpy(np.asarray(logits)).double().softmax(1)[torch.arange(len(logits)), torch.from_numpy(TARGETS)]
    return ((1 - p_t) ** gamma * -p_t.log()).tolist()


def test_the_scores_of_numpy_arrays_are_numpy_arrays(loss_client: LossClient) -> None:
    reply = loss_client.loss(LOGITS, TARGETS, ids=IDS, outputs=OUTPUTS, top_k=3)
    assert isinstance(reply, LossResult)
    assert set(reply.per_example) == set(OUTPUTS)
    assert reply.per_example["loss"].dtype == np.float32
    assert reply.per_example["loss"].tolist() == pytest.approx(expected(), rel=1e-5)
    assert reply.per_example["prediction"].tolist() == LOGITS.argmax(1).tolist()
    assert reply.loss == pytest.approx(np.mean(expected()), rel=1e-5)
    assert [hard.id for hard in reply.hardest] == [IDS[row] for row in np.argsort(expected())[::-1][:3]]
    assert reply.config_id == LossConfig().config_id


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (LOGITS.tolist(), TARGETS.tolist()),
        (LOGITS.astype(np.float64), TARGETS.astype(np.uint8)),
        (np.asfortranarray(LOGITS), TARGETS.astype(np.int32)),
        (torch.from_numpy(LOGITS), torch.from_numpy(TARGETS)),
        (torch.from_numpy(LOGITS).requires_grad_(), torch.from_numpy(TARGETS).short()),
        (pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.ravel()), 5), pa.array(TARGETS)),
    ],
    ids=["lists", "float64", "fortran", "torch", "torch with gradient", "arrow"],
)
def test_each_kind_of_array_gives_the_same_losses(loss_client: LossClient, logits: Any, targets: Any) -> None:
    assert loss_client.loss(logits, targets).per_example["loss"].tolist() == pytest.approx(expected(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_sent_unchanged(loss_client: LossClient, dtype: torch.dtype) -> None:
    stored = torch.from_numpy(LOGITS).to(dtype)
    loss = loss_client.loss(stored, torch.from_numpy(TARGETS)).per_example["loss"].tolist()
    assert loss == pytest.approx(expected(stored.double().numpy()), rel=1e-5)


def test_an_arrow_table_contains_targets_and_ids(loss_client: LossClient) -> None:
    table = pa.table(
        {"logits": pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.ravel()), 5), "targets": TARGETS, "id": IDS}
    )
    for batch in (table, table.to_batches()[0]):
        reply = loss_client.loss(batch, top_k=1)
        assert reply.per_example["loss"].tolist() == pytest.approx(expected(), rel=1e-5)
        assert reply.hardest[0].id == IDS[int(np.argmax(expected()))]


@pytest.mark.parametrize("spelling", [{"gamma": 0.5}, LossConfig(gamma=0.5), LossConfig(gamma=0.5).config_id])
def test_a_configuration_can_be_a_mapping_an_object_or_an_id(loss_client: LossClient, spelling: Any) -> None:
    loss_client.put_config({"gamma": 0.5})
    reply = loss_client.loss(LOGITS, TARGETS, config=spelling)
    assert reply.config_id == LossConfig(gamma=0.5).config_id
    assert reply.per_example["loss"].tolist() == pytest.approx(expected(gamma=0.5), rel=1e-5)


def test_configurations_are_stored_listed_and_deleted(loss_client: LossClient) -> None:
    stored = loss_client.put_config({"alpha": np.array([1.0, 3.0]), "gamma": 1.75})
    assert stored.alpha == (1.0, 3.0)
    assert loss_client.get_config(stored.config_id) == stored
    assert stored.config_id in {config.config_id for config in loss_client.configs()}
    loss_client.delete_config(stored.config_id)
    with pytest.raises(UnknownConfigError):
        loss_client.get_config(stored.config_id)


def test_an_error_of_the_service_is_raised_in_its_class(loss_client: LossClient) -> None:
    bad = LOGITS.copy()
    bad[7, 2] = np.nan
    with pytest.raises(InvalidLogitError, match="row 7, column 2: logit NaN") as raised:
        loss_client.loss(bad, TARGETS)
    assert raised.value.status == 422
    assert raised.value.errors[0]["loc"] == ["batches", 0, "logits", 7, 2]
    with pytest.raises(InvalidTargetError, match="target 9"):
        loss_client.loss(LOGITS, np.full(30, 9))
    with pytest.raises(UnknownOutputError):
        loss_client.loss(LOGITS, TARGETS, outputs=["margin"])
    with pytest.raises(InvalidConfigError):
        loss_client.loss(LOGITS, TARGETS, config={"gamma": -1})
    assert loss_client.loss(bad, TARGETS, on_invalid="exclude").num_excluded == 1


def test_the_results_of_a_stream_are_in_order_with_progress_and_totals(loss_client: LossClient) -> None:
    progress: list[tuple[int, int]] = []
    batches = ((LOGITS[row : row + 3], TARGETS[row : row + 3]) for row in range(0, 30, 3))
    stream = loss_client.stream(batches, top_k=2, progress=lambda done, rows: progress.append((done, rows)))
    losses = np.concatenate([result.per_example["loss"] for result in stream])
    assert losses.tolist() == pytest.approx(expected(), rel=1e-5)
    assert stream.totals.loss == pytest.approx(np.mean(expected()), rel=1e-5)
    assert stream.totals.num_examples == 30
    hardest = [hard.batch * 3 + hard.index for hard in stream.totals.hardest]
    assert hardest == np.argsort(expected())[::-1][:2].tolist()
    assert progress[-1] == (10, 30)


def test_a_long_stream_holds_at_most_three_groups(loss_client: LossClient) -> None:
    produced = used = furthest = 0
    rows = np.zeros((100_000, 16), np.float32)

    def batches() -> Iterator[Any]:
        nonlocal produced
        for _ in range(20):
            produced += 1
            yield rows, np.zeros(len(rows), np.int64)

    for _ in loss_client.stream(batches()):
        used += 1
        furthest = max(furthest, produced - used)
    assert used == 20
    # Groups of two batches (12.8 MB): one whose results are used, one in progress, one being filled.
    assert furthest <= 8


def test_an_error_in_a_stream_names_the_batch_of_the_stream(loss_client: LossClient) -> None:
    bad = LOGITS.copy()
    bad[1, 1] = np.inf
    with pytest.raises(InvalidLogitError, match="batch 2, row 1"):
        list(loss_client.stream([(LOGITS, TARGETS), (LOGITS, TARGETS), (bad, TARGETS)]))


def test_info_returns_version_and_readiness(loss_client: LossClient, server: ServerProcess) -> None:
    info = loss_client.info()
    assert (info.url, info.version, info.ready) == (server.url, __version__, True)
    assert loss_client.ready()
    with LossClient("http://127.0.0.1:9", retry=RetryPolicy(attempts=1)) as unreachable:
        assert not unreachable.ready()
        with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:9"):
            unreachable.info()


def test_the_api_key_is_an_argument_or_an_environment_variable(
    server_with: ServerWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server_with(api_keys=KEY).url
    with LossClient(url) as client, pytest.raises(UnauthorizedError):
        client.loss(LOGITS, TARGETS)
    with LossClient(url, api_key=KEY) as client:
        assert client.loss(LOGITS, TARGETS).loss
    monkeypatch.setenv("FOCAL_LOSS_API_KEY", KEY)
    with LossClient(url) as client:
        assert client.loss(LOGITS, TARGETS).loss


def test_a_full_service_gets_the_request_again_until_it_has_capacity(server_with: ServerWith) -> None:
    server = server_with(queue_size="1", processes="1")
    with httpx.Client(base_url=server.url) as metrics:
        held = half_sent(server, 100)
        wait_for(lambda: "focal_loss_requests_held 1.0" in metrics.get("/metrics").text, "the service is full")
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                held.close()
                wait_for(
                    lambda: "focal_loss_requests_held 0.0" in metrics.get("/metrics").text, "the service has capacity"
                )

        with LossClient(server.url, sleep=sleep) as client:
            assert client.loss(LOGITS, TARGETS).loss
        assert len(waits) == 2
        assert min(waits) >= 1  # the seconds of Retry-After
        with half_sent(server, 100), LossClient(server.url, retry=RetryPolicy(attempts=1)) as client:
            wait_for(lambda: "focal_loss_requests_held 1.0" in metrics.get("/metrics").text, "the service is full")
            with pytest.raises(QueueFullError):
                client.loss(LOGITS, TARGETS)


def all_errors(kind: type[LossServiceError] = LossServiceError) -> list[type[LossServiceError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in all_errors(child))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.code)
def test_every_code_raises_its_class(kind: type[LossServiceError]) -> None:
    problem = kind("what happened").problem()
    transport = httpx.MockTransport(
        lambda request: httpx.Response(
            kind.status, json=problem, headers={"Content-Type": "application/problem+json", "Retry-After": "3"}
        )
    )
    waits: list[float] = []
    client = LossClient(transport=transport, sleep=waits.append, retry=RetryPolicy(attempts=3))
    with client, pytest.raises(kind, match="what happened") as raised:
        client.loss(LOGITS, TARGETS)
    assert type(raised.value) is kind
    assert len(waits) == (2 if kind.status in (429, 503) else 0)
    assert all(wait >= 3 for wait in waits)


def test_unknown_codes_and_replies_of_other_servers() -> None:
    def client_of(reply: httpx.Response) -> LossClient:
        return LossClient(transport=httpx.MockTransport(lambda request: reply))

    unknown = httpx.Response(418, json={"code": "teapot", "detail": "short and stout", "status": 418})
    with client_of(unknown) as client, pytest.raises(LossServiceError, match="stout") as raised:
        client.loss(LOGITS, TARGETS)
    assert (raised.value.code, raised.value.status) == ("teapot", 418)
    with client_of(httpx.Response(502, text="<html>")) as client, pytest.raises(LossServiceError) as raised:
        client.loss(LOGITS, TARGETS)
    assert raised.value.status == 502
    with client_of(httpx.Response(200, text="<html>")) as client, pytest.raises(UnexpectedReplyError):
        client.loss(LOGITS, TARGETS)


def test_a_failed_connection_is_retried_and_a_timeout_is_not() -> None:
    def failing_client(error: type[httpx.TransportError]) -> tuple[LossClient, list[str], list[float]]:
        calls: list[str] = []
        waits: list[float] = []

        def reply(request: httpx.Request) -> httpx.Response:
            calls.append(request.url.path)
            raise error("no", request=request)

        transport = httpx.MockTransport(reply)
        return LossClient(transport=transport, sleep=waits.append, retry=RetryPolicy(attempts=4)), calls, waits

    client, calls, waits = failing_client(httpx.ReadError)
    with client, pytest.raises(ConnectionFailedError):
        client.loss(LOGITS, TARGETS)
    assert (len(calls), len(waits)) == (4, 3)
    assert [0.125 * 2**n <= wait <= 0.25 * 2**n for n, wait in enumerate(waits)] == [True] * 3
    client, calls, waits = failing_client(httpx.ReadError)
    with client, pytest.raises(ConnectionFailedError):
        client.delete_config("fl_0")
    assert len(calls) == 1
    client, calls, waits = failing_client(httpx.ConnectError)
    with client, pytest.raises(ConnectionFailedError):
        client.delete_config("fl_0")
    assert len(calls) == 4
    client, calls, waits = failing_client(httpx.ReadTimeout)
    with client, pytest.raises(RequestTimeoutError):
        client.loss(LOGITS, TARGETS)
    assert len(calls) == 1


def test_threads_can_share_a_client(loss_client: LossClient) -> None:
    results: list[float | None] = []

    def send() -> None:
        results.extend(loss_client.loss(LOGITS, TARGETS).loss for _ in range(20))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [results[0]] * 120


def test_the_asynchronous_client_returns_the_same(server: ServerProcess, loss_client: LossClient) -> None:
    async def batches() -> Any:
        for row in range(0, 30, 10):
            yield LOGITS[row : row + 10], TARGETS[row : row + 10]

    async def work() -> None:
        async with AsyncLossClient(server.url) as client:
            replies = await asyncio.gather(*(client.loss(LOGITS, TARGETS, outputs=OUTPUTS) for _ in range(10)))
            assert {reply.loss for reply in replies} == {loss_client.loss(LOGITS, TARGETS).loss}
            with pytest.raises(InvalidTargetError):
                await client.loss(LOGITS, np.full(30, 9))
            held = await client.put_config({"gamma": 4.5})
            assert held in await client.configs()
            await client.delete_config(held.config_id)
            assert await client.ready()
            stream = client.stream(batches())
            results = [result.per_example["loss"] async for result in stream]
            assert np.concatenate(results).tolist() == pytest.approx(expected(), rel=1e-5)
            assert stream.totals.num_examples == 30

    asyncio.run(work())


def test_the_client_needs_only_the_base_install() -> None:
    # None in sys.modules makes the import of a package fail.
    hidden = ("torch", "fastapi", "starlette", "uvicorn", "simdjson", "prometheus_client", "structlog")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
        "import service.client, service.cli.main, service.cli.score.run, service.cli.runs.upload\n"
        "print(sorted(name for name in ('torch', 'fastapi', 'uvicorn') if sys.modules[name]))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(shown) == []
