"""Log lines: their fields, their level, and lines that cannot be written."""

from __future__ import annotations

import errno
import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from service.logs import configure_logs


@pytest.fixture(autouse=True)
def restored_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_lines_of_structlog_and_the_standard_library_have_the_same_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    structlog.get_logger("service.access").info("request", path="/a\x9b\n")
    logging.getLogger("uvicorn.error").warning("bound to %s", "127.0.0.1")
    written = capsys.readouterr().err
    first, second = (json.loads(line) for line in written.splitlines())
    assert first.pop("timestamp") <= second.pop("timestamp")
    assert first == {"path": "/a\x9b\n", "event": "request", "logger": "service.access", "level": "info"}
    assert second == {"event": "bound to 127.0.0.1", "logger": "uvicorn.error", "level": "warning"}
    assert written.isascii()


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("warning", "console")
    log = structlog.get_logger("service.access")
    log.info("quiet")
    log.error("loud", error="ValueError")
    (line,) = capsys.readouterr().err.splitlines()
    assert "loud" in line
    assert "service.access" in line


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "no space left")


def test_a_failed_write_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", FullDisk())
    configure_logs("info", "json")
    log = structlog.get_logger("service.access")
    log.info("request")
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written := io.StringIO())
    log.info("request again")
    assert "request again" in written.getvalue()
