"""Structured logs: one JSON object per line, or coloured lines on a terminal."""

from __future__ import annotations

import io
import logging
import sys
from functools import partial
from typing import Literal, TextIO

import structlog

from service.visible import visible


class StreamLogger:
    """Writes structlog's lines to the stream of a handler, under the handler's lock.

    structlog's own `WriteLogger` has no name, another lock, and fails a request whose line cannot be written.

    Args:
        handler: Writes the standard library's lines to the same stream.
        name: Name of the logger, e.g. `service.access`.
    """

    def __init__(self, handler: logging.StreamHandler[TextIO], name: str) -> None:
        self._handler = handler
        self.name = name

    def msg(self, line: str) -> None:
        """Write a line; drop it if it cannot be written."""
        self._handler.acquire()
        try:
            self._handler.stream.write(line + "\n")
            self._handler.flush()
        except (OSError, ValueError):
            pass
        finally:
            self._handler.release()

    debug = info = warning = error = critical = msg


def _visible_exception(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    text = io.StringIO()
    # Not rich's, which shows local variables: they may hold data.
    structlog.dev.plain_traceback(text, exc_info)
    stream.write(visible(text.getvalue()))


_RENDERER = structlog.dev.ConsoleRenderer(exception_formatter=_visible_exception)


def _console_renderer(logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict) -> str:
    """A line for a terminal; texts of clients, such as paths, cannot send commands to it."""
    return _RENDERER(
        logger, name, {key: visible(value) if isinstance(value, str) else value for key, value in event.items()}
    )


def configure_logs(level: str, log_format: Literal["auto", "json", "console"]) -> None:
    """Send structlog's and the standard library's logs, including uvicorn's, to standard error in one format."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer = _console_renderer if console else structlog.processors.JSONRenderer()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=partial(StreamLogger, handler),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
