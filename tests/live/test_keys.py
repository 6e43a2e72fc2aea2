"""Keys at a real start: their file, delays for wrong ones, Basic, and the sessions of two services on one host."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest

from service.api.middleware.guesses import FREE_GUESSES, delay_s
from tests.contract.test_errors import check_problem
from tests.live.server_process import ServerProcess, running_server, service_environment
from tests.services import ServerWith

KEY, OTHER_KEY = "a-key-of-twenty-four-letters", "another-key-for-the-service"
COMMENT = "# a comment of more than sixteen characters"
SHORT_KEY = "too-short-a-key"
# Wrong keys count for their address.
ADDRESS = "127.0.0.3"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service with keys in a file that every user of the machine can read."""
    folder = tmp_path_factory.mktemp("keys")
    file = folder / "keys.txt"
    file.write_text(f"{COMMENT}\n\n{KEY}\r\n  {OTHER_KEY}\t\n")
    file.chmod(0o644)
    with running_server(folder, api_keys_file=str(file)) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as connected:
        yield connected


def test_the_keys_of_a_file(server: ServerProcess, client: httpx.Client) -> None:
    for key in (KEY, OTHER_KEY):
        assert client.get("/runs", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert client.get("/runs", auth=("label-studio", key)).status_code == 200
    for wrong in ({"headers": {"Authorization": f"Bearer {COMMENT}"}}, {"auth": (KEY, "no key")}):
        check_problem(client.get("/runs", **wrong), 401, "unauthorized")
    log = server.log_path.read_text()
    assert "every user of this machine can read the API keys" in log
    assert not any(key in log for key in (KEY, OTHER_KEY))


def test_replies_to_wrong_keys_are_delayed_and_those_to_right_keys_are_not(
    server: ServerProcess, client: httpx.Client
) -> None:
    def guess(count: int) -> float:
        """The seconds until the reply to the wrong key of this number."""
        with httpx.Client(
            base_url=server.url, timeout=60, transport=httpx.HTTPTransport(local_address=ADDRESS)
        ) as other:
            started = time.monotonic()
            reply = other.get("/runs", headers={"Authorization": f"Bearer wrong-key-number-{count}"})
        check_problem(reply, 401, "unauthorized")
        assert ("retry-after" in reply.headers) == (count >= FREE_GUESSES)
        return time.monotonic() - started

    for count in range(1, FREE_GUESSES + 4):
        assert guess(count) >= delay_s(count)
    thread = Thread(target=guess, args=(FREE_GUESSES + 4,))
    thread.start()
    assert client.get("/runs", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert thread.is_alive()
    thread.join(60)


def test_services_on_two_ports_of_a_host_have_sessions_of_their_own(
    server: ServerProcess, server_with: ServerWith
) -> None:
    other = server_with(api_keys=KEY)
    # One browser: it sends the cookies of a host to all of its ports.
    with httpx.Client(timeout=60) as browser:
        for service in (server, other):
            origin = {"Origin": service.url}
            assert browser.post(f"{service.url}/session", json={"key": KEY}, headers=origin).status_code == 204
        assert len(browser.cookies) == 2
        for service in (server, other):
            assert browser.get(f"{service.url}/session").json()["signed_in"] is True
            assert browser.get(f"{service.url}/runs").status_code == 200
        assert browser.delete(f"{server.url}/session", headers={"Origin": server.url}).status_code == 204
        check_problem(browser.get(f"{server.url}/runs"), 401, "unauthorized")
        assert browser.get(f"{other.url}/runs").status_code == 200


def test_a_file_without_safe_keys_ends_the_start(tmp_path: Path) -> None:
    contents = {
        "missing": None,
        "empty": f"{COMMENT}\n".encode(),
        "damaged": b"\xff\xfe\0key",
        "short": SHORT_KEY.encode(),
    }
    ended = {}
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        command = [sys.executable, "-m", "service", "serve", "--port", "0", "--api-keys-file", str(tmp_path / name)]
        ended[name] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=service_environment())
    for name, process in ended.items():
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 2, errors
        assert "api_keys_file" in errors or name in errors
        assert "Traceback" not in errors
        assert SHORT_KEY not in errors
