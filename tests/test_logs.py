"""Log lines: their fields, their level, and lines that cannot be written."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
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


HOSTILE = "\x1b]0;title\x07/\x1b]52;c;ZXZpbA==\x07/\x9b2J/\u202etxt\r"
# Colours of the renderer itself.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE + " with a space", HOSTILE + "\n2026-01-01 [info] another line"])
def test_texts_of_clients_are_no_commands_to_the_terminal(capsys: pytest.CaptureFixture[str], text: str) -> None:
    configure_logs("debug", "console")
    structlog.get_logger("service.access").info("request", path=text, status=404)
    structlog.get_logger("service.access").info(text.replace("\n", ""), host=[text])
    logging.getLogger("uvicorn.error").warning("unexpected %s", text.replace("\n", ""))
    written = COLOURS.sub("", capsys.readouterr().err)
    assert len(written.splitlines()) == 3
    assert all(character.isprintable() or character == "\n" for character in written)
    assert written.count("x1b]0;title") == 4


def test_exceptions_are_no_commands_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(logits: list[float]) -> None:
        raise ValueError(HOSTILE, len(logits))

    configure_logs("info", "console")
    try:
        fail([1.25, 2.5])
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    written = COLOURS.sub("", capsys.readouterr().err)
    assert "ValueError: (" in written
    assert all(character.isprintable() or character == "\n" for character in written)
    # Local variables may be data.
    assert "2.5]" not in written.replace("fail([1.25, 2.5])", "")


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
