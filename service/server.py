"""Running the app under uvicorn, with a graceful end."""

from __future__ import annotations

import gc
import signal
import time
from types import FrameType

import structlog
import uvicorn

from service.api.state import Service
from service.app import create_app
from service.logs import configure_logs
from service.protocol import bounded_protocol
from service.settings import Settings

log = structlog.get_logger("service.server")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; returns when all requests in flight are answered."""
    configure_logs(settings.log_level, settings.log_format)
    app = create_app(settings)
    service: Service = app.state.service
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        http=bounded_protocol(max_head_bytes=settings.max_head_bytes, head_timeout_s=settings.head_timeout_s),
        timeout_graceful_shutdown=settings.drain_timeout_s,
    )
    log.info("starting", device=service.engine.device, keys=len(settings.api_keys))
    # What stands now stands to the end. Walking it again and again stopped every request for a quarter of a second.
    gc.collect()
    gc.freeze()
    DrainingServer(config, service).run()


class DrainingServer(uvicorn.Server):
    """Between SIGTERM and the end of accepting it answers as before while /readyz is 503, so that a balancer can
    take it out; a second signal, or SIGINT, ends accepting at once. The exit status is 0."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._stop_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's handler of SIGTERM and SIGINT."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        elif sig == signal.SIGINT or self._service.draining:
            self.should_exit = True
        else:
            self._stop_at = time.monotonic() + self._service.settings.drain_delay_s
        self._service.draining = True

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's main loop, ten times a second: True ends it."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)
