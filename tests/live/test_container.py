"""The image, built and run by a real container engine as docker-compose.yml runs it.

Runs only if one of these variables is set, since a build takes minutes and downloads torch:

FOCAL_LOSS_TEST_IMAGE       tests this image, or
FOCAL_LOSS_TEST_CONTAINER   =1 builds one (tagged focal-loss-service:test) and tests that
FOCAL_LOSS_TEST_ENGINE      the engine's command with its global options; default: podman or docker, whichever answers
FOCAL_LOSS_TEST_BUILD_ARGS  more options for `build`, e.g. "--network host --build-arg PIP_INDEX_URL=..."
FOCAL_LOSS_TEST_RUN_ARGS    more options for `run`, e.g. "--ulimit nproc=4096:4096"
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
IMAGE = os.environ.get("FOCAL_LOSS_TEST_IMAGE")
KEY = "a-key-for-this-test-only"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
START_TIMEOUT_S = 60.0
# The service waits drain_delay_s, 1 s, before it ends; an engine kills after this many seconds (exit code 137).
STOP_TIMEOUT_S = 20
# Example of the wire contract, with p_t by hand: softmax of the rows at their targets.
REQUEST = {
    "config": {"alpha": [1.0, 2.0, 4.0], "gamma": 2.0},
    "logits": [[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]],
    "targets": [0, 1],
    "ids": ["a", "b"],
}
PER_EXAMPLE = [0.0050225, 1.6233421]

pytestmark = pytest.mark.skipif(
    not (IMAGE or os.environ.get("FOCAL_LOSS_TEST_CONTAINER") == "1"),
    reason="builds or needs an image: set FOCAL_LOSS_TEST_CONTAINER=1 or FOCAL_LOSS_TEST_IMAGE",
)

Engine = Callable[..., subprocess.CompletedProcess[str]]


def _run(command: list[str], timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT)


def _options(name: str) -> list[str]:
    return shlex.split(os.environ.get(name, ""))


def _engine_command() -> list[str]:
    configured = _options("FOCAL_LOSS_TEST_ENGINE")
    failures = []
    for command in [configured] if configured else [["podman"], ["docker"]]:
        if shutil.which(command[0]) is None:
            failures.append(f"{command[0]}: not found")
            continue
        info = _run([*command, "info"])
        if info.returncode == 0:
            return command
        failures.append(f"{command[0]}: {_last_line(info)}")
    pytest.skip("no container engine: " + "; ".join(failures))


def _last_line(result: subprocess.CompletedProcess[str]) -> str:
    lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
    return lines[-1] if lines else f"exit code {result.returncode}"


@pytest.fixture(scope="module")
def engine() -> Engine:
    command = _engine_command()

    def call(*arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        return _run([*command, *arguments], timeout)

    return call


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    if IMAGE:
        inspected = engine("image", "inspect", IMAGE)
        assert inspected.returncode == 0, f"FOCAL_LOSS_TEST_IMAGE={IMAGE}: {_last_line(inspected)}"
        return IMAGE
    # The default format of podman's builds has no health check.
    docker_format = ["--format", "docker"] if "--format" in engine("build", "--help").stdout else []
    options = [*docker_format, *_options("FOCAL_LOSS_TEST_BUILD_ARGS")]
    base = engine("build", *options, "--target", "base", str(ROOT), timeout=600)
    if base.returncode:
        pytest.skip(f"the base image cannot be built: {_last_line(base)}")
    tag = "focal-loss-service:test"
    built = engine("build", *options, "--tag", tag, str(ROOT), timeout=3600)
    assert built.returncode == 0, (built.stdout + built.stderr)[-4000:]
    return tag


def _start(engine: Engine, image: str, *options: str) -> str:
    """Start a container that is locked down as in docker-compose.yml, and return its name."""
    name = f"focal-loss-test-{uuid.uuid4().hex[:12]}"
    started = engine(
        *("run", "--detach", "--name", name, "--read-only", "--tmpfs", "/tmp:size=256m"),
        *("--memory", "8g", "--pids-limit", "1024"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *_options("FOCAL_LOSS_TEST_RUN_ARGS"),
        *options,
        image,
    )
    if started.returncode:
        engine("rm", "--force", "--volumes", name)
        pytest.fail(f"the container does not start: {_last_line(started)}")
    return name


@contextmanager
def _container(engine: Engine, image: str) -> Iterator[tuple[str, httpx.Client]]:
    """A container with a key, and a client of it; the container is removed after the block, also after an error."""
    # With no number before the second colon the engine picks a free port.
    name = _start(engine, image, "--publish", "127.0.0.1::8000", "--env", f"FOCAL_LOSS_API_KEYS={KEY}")
    try:
        address = engine("port", name, "8000/tcp").stdout.split()[0]
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=30) as client:
            _wait_until_ready(engine, name, client)
            yield name, client
    finally:
        engine("rm", "--force", "--volumes", name)


def _state(engine: Engine, name: str) -> dict[str, object]:
    state: dict[str, object] = json.loads(engine("container", "inspect", name).stdout)[0]["State"]
    return state


def _wait_until_ready(engine: Engine, name: str, client: httpx.Client) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    last = "no answer"
    while time.monotonic() < deadline:
        try:
            reply = client.get("/readyz")
        except httpx.TransportError as err:
            last = repr(err)
        else:
            last = reply.text
            if reply.status_code == httpx.codes.OK:
                return
        if _state(engine, name)["Status"] == "exited":
            break
        time.sleep(0.2)
    logs = engine("logs", name)
    pytest.fail(f"not ready within {START_TIMEOUT_S:.0f} s: {last}\n{logs.stdout}{logs.stderr}")


@pytest.fixture(scope="module")
def running(engine: Engine, image: str) -> Iterator[tuple[str, httpx.Client]]:
    with _container(engine, image) as container:
        yield container


def _python(engine: Engine, name: str, code: str, *options: str) -> str:
    """The output of `code` inside the container."""
    done = engine("exec", *options, name, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_key_it_refuses_to_start_and_names_the_variable(engine: Engine, image: str) -> None:
    name = _start(engine, image)
    try:
        exited = engine("wait", name)
        logs = engine("logs", name)
    finally:
        engine("rm", "--force", "--volumes", name)
    assert int(exited.stdout) not in (0, 137)
    assert "FOCAL_LOSS_API_KEYS" in (logs.stdout + logs.stderr).replace("\n", "")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_answered_without_a_key(running: tuple[str, httpx.Client], path: str) -> None:
    _, client = running
    assert client.get(path).status_code == httpx.codes.OK


def test_loss_requires_the_key(running: tuple[str, httpx.Client]) -> None:
    _, client = running
    reply = client.post("/loss", json=REQUEST)
    assert reply.status_code == httpx.codes.UNAUTHORIZED
    assert reply.headers["Content-Type"] == "application/problem+json"


def test_loss_of_the_contracts_example(running: tuple[str, httpx.Client]) -> None:
    _, client = running
    reply = client.post("/loss", json=REQUEST, headers=AUTHORIZED)
    assert reply.status_code == httpx.codes.OK, reply.text
    body = reply.json()
    assert body["loss"] == pytest.approx(sum(PER_EXAMPLE) / 2, rel=1e-5)
    assert body["batches"][0]["per_example"]["loss"] == pytest.approx(PER_EXAMPLE, rel=1e-5)


def test_it_runs_as_an_ordinary_user_without_capabilities(engine: Engine, running: tuple[str, httpx.Client]) -> None:
    name, _ = running
    # Process 1 is the service; the process of `exec` may have other rights.
    status = _python(engine, name, "print(open('/proc/1/status').read())")
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    assert "0" not in lines["Uid"].split()
    assert "0" not in lines["Gid"].split()
    assert int(lines["CapEff"], 16) == 0


def test_only_data_and_tmp_are_writable(engine: Engine, running: tuple[str, httpx.Client]) -> None:
    name, _ = running
    code = """
import tempfile
for folder in ("/data", "/tmp", "/", "/etc", "/opt/venv", "/home"):
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        continue
    print(folder)
"""
    assert _python(engine, name, code).split() == ["/data", "/tmp"]


def test_the_image_holds_no_compiler_installer_or_cache(engine: Engine, running: tuple[str, httpx.Client]) -> None:
    name, _ = running
    code = """
import importlib.util, pathlib, shutil
# Triton compiles its interface to the driver; an image without it has no compiler.
for_triton = ("cc", "gcc", "ld") if importlib.util.find_spec("triton") else ()
for tool in ("cc", "gcc", "g++", "clang", "make", "ld"):
    if shutil.which(tool) and tool not in for_triton:
        print(tool)
if importlib.util.find_spec("pip"):
    print("pip in the environment of the service")
for place in ("/root/.cache", "/tmp/.cache", "/src", "/opt/pip"):
    if pathlib.Path(place).exists():
        print(place)
"""
    # As root: /root is closed to the user of the service.
    assert _python(engine, name, code, "--user", "0") == ""


def test_the_images_health_check_passes_in_the_container(
    engine: Engine, image: str, running: tuple[str, httpx.Client]
) -> None:
    name, _ = running
    inspected = json.loads(engine("image", "inspect", image).stdout)[0]
    check = inspected["Config"].get("Healthcheck") or inspected.get("Healthcheck") or inspected.get("HealthCheck")
    if not check:
        pytest.skip("the image has no health check: podman builds it in with --format docker only")
    kind, *command = check["Test"]
    assert kind == "CMD"
    done = engine("exec", name, *command)
    assert done.returncode == 0, done.stderr


def test_a_run_survives_a_kill_of_the_container(engine: Engine, image: str) -> None:
    batch = {name: REQUEST[name] for name in ("logits", "targets", "ids")}
    with _container(engine, image) as (name, client):
        assert client.put("/runs/r", json={}, headers=AUTHORIZED).status_code == httpx.codes.CREATED
        stored = client.put("/runs/r/epochs/0/batches/b", json=batch, headers=AUTHORIZED)
        assert stored.status_code == httpx.codes.CREATED, stored.text
        assert engine("kill", name).returncode == 0
        assert engine("start", name).returncode == 0
        address = engine("port", name, "8000/tcp").stdout.split()[0]
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=30) as again:
            _wait_until_ready(engine, name, again)
            rows = again.get("/runs/r/examples", headers=AUTHORIZED).json()["rows"]
            assert {row["id"] for row in rows} == {"a", "b"}
            assert again.get("/runs/r/diagnostics", headers=AUTHORIZED).status_code == httpx.codes.OK


def test_sigterm_ends_it_with_0(engine: Engine, image: str) -> None:
    with _container(engine, image) as (name, client):
        assert client.post("/loss", json=REQUEST, headers=AUTHORIZED).status_code == httpx.codes.OK
        started = time.monotonic()
        stopped = engine("stop", "--time", str(STOP_TIMEOUT_S), name)
        took = time.monotonic() - started
        logs = engine("logs", name)
        assert stopped.returncode == 0, stopped.stderr
        assert _state(engine, name)["ExitCode"] == 0, logs.stdout + logs.stderr
        assert took < STOP_TIMEOUT_S / 2
