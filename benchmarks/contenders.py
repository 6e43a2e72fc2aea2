"""The service and its peers: the command that starts each, and the paths and formats that it accepts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.bodies import JSON, SAFETENSORS, TRITON, Batch, Body, is_correct, write
from benchmarks.process import ROOT, Process, StartError, running

START_TIMEOUT_S = 120.0


@dataclass(frozen=True, eq=False)
class Contender:
    """A server to measure.

    Args:
        name: Name in the table.
        arguments: Arguments of its Python, after -m and before the port.
        paths: Path for each of our formats, JSON and safetensors.
        setting: Description of its settings for two cores.
        distribution: Package whose version is reported.
        venv: Folder of its virtual environment; empty for that of the service.
        computes: True if it computes losses, which are checked.
        tensor_format: Media type that it needs in place of safetensors.
    """

    name: str
    arguments: tuple[str, ...]
    paths: Mapping[str, str]
    setting: str
    distribution: str
    venv: str = ""
    computes: bool = True
    tensor_format: str = SAFETENSORS

    @property
    def python(self) -> str:
        return str(ROOT / self.venv / "bin" / "python") if self.venv else sys.executable

    def version(self) -> str:
        """Return the version of its package, or `not installed`."""
        code = f"from importlib.metadata import version; print(version('{self.distribution}'))"
        try:
            ended = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return "not installed"
        return ended.stdout.strip()

    def body(self, batch: Batch, media_type: str, folder: Path) -> Body:
        """Return the body of a batch in the format of this server."""
        return write(batch, self.tensor_format if media_type == SAFETENSORS else media_type, folder)

    def fault(self, process: Process, batch: Batch, media_type: str, folder: Path) -> str:
        """Post a batch and return the fault of the reply, or an empty string if it is correct."""
        body = self.body(batch, media_type, folder)
        try:
            reply = httpx.post(
                process.url + self.paths[media_type], content=body.path.read_bytes(), headers=body.headers, timeout=60
            )
        except httpx.HTTPError as err:
            return f"{type(err).__name__} {err}"
        if reply.status_code != 200:
            return f"status {reply.status_code}: {reply.text[:200]}"
        if self.computes and not is_correct(batch, reply.content, reply.headers):
            return "wrong reply"
        return ""

    @contextmanager
    def running(self, folder: Path, **settings: object) -> Iterator[Process]:
        """Start the server and wait until its replies are correct in all of its formats.

        Args:
            folder: Folder for bodies, data and log.
            settings: Settings of the service.

        Raises:
            StartError: The server did not start, or its replies are wrong.
        """
        if not Path(self.python).exists():
            raise StartError(f"{self.venv} is missing")
        small = Batch.random(64, 10)

        def fault(process: Process) -> str:
            faults = (self.fault(process, small, media_type, folder) for media_type in self.paths)
            return next(filter(None, faults), "")

        command = [self.python, "-m", *self.arguments]
        log = folder / f"{self.arguments[0]}.log"
        environment = {f"FOCAL_LOSS_{name.upper()}": str(value) for name, value in settings.items()}
        environment.setdefault("FOCAL_LOSS_DATA_DIR", str(folder / "data"))
        with running(command, log, fault=fault, timeout_s=START_TIMEOUT_S, **environment) as process:
            yield process


OURS = Contender(
    "ours",
    ("service", "serve", "--port"),
    {JSON: "/loss", SAFETENSORS: "/loss"},
    "defaults",
    "focal-loss-service",
)
FLOOR = Contender(
    "floor",
    ("benchmarks.peers.floor",),
    {SAFETENSORS: "/"},
    "bare ASGI on uvicorn, uvloop, httptools; reads the body, replies with 2 bytes",
    "uvicorn",
    computes=False,
)
TEN_MINUTE = Contender(
    "ten-minute FastAPI app",
    ("benchmarks.peers.ten_minute",),
    {JSON: "/loss"},
    "uvicorn, 1 process",
    "fastapi",
)
LITSERVE = Contender(
    "LitServe",
    ("benchmarks.peers.litserve_app",),
    {JSON: "/predict", SAFETENSORS: "/predict"},
    "2 workers of 1 thread, fast queue",
    "litserve",
    ".venv-peers",
)
BENTOML = Contender(
    "BentoML",
    ("benchmarks.peers.bentoml_app",),
    {JSON: "/json", SAFETENSORS: "/safetensors"},
    "2 workers of 1 thread",
    "bentoml",
    ".venv-peers",
)
MOSEC = Contender(
    "mosec",
    ("benchmarks.peers.mosec_app",),
    {JSON: "/json", SAFETENSORS: "/safetensors"},
    "2 workers of 1 thread",
    "mosec",
    ".venv-peers",
)
RAY_SERVE = Contender(
    "Ray Serve",
    ("benchmarks.peers.ray_serve_app",),
    {JSON: "/json", SAFETENSORS: "/safetensors"},
    "2 replicas of 1 thread",
    "ray",
    ".venv-peers",
)
PYTRITON = Contender(
    "PyTriton",
    ("benchmarks.peers.pytriton_app",),
    {SAFETENSORS: "/v2/models/focal/infer"},
    "1 model instance of 2 threads, Triton's binary tensors in place of safetensors",
    "nvidia-pytriton",
    ".venv-pytriton",
    tensor_format=TRITON,
)
PEERS = (TEN_MINUTE, LITSERVE, BENTOML, MOSEC, RAY_SERVE, PYTRITON)
