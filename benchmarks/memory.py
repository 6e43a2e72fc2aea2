"""How much memory a server takes."""

from __future__ import annotations

import threading

from tests.live.server_process import ServerProcess


class PeakMemory:
    """The largest memory of a server while the block runs, looked at ten times a second."""

    def __init__(self, server: ServerProcess) -> None:
        self.peak = server.memory_bytes()
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.peak = max(self.peak, self._server.memory_bytes())
