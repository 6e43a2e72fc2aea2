"""The service and its peers: how each is started, and what it takes where."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.bodies import JSON, SAFETENSORS, TRITON, Batch, Body, is_right, write
from benchmarks.process import ROOT, Process, StartError, running

STARTS_WITHIN_S = 120.0


@dataclass(frozen=True, eq=False)
class Contender:
    """A server to measure.

    Args:
        name: As the table has it.
        arguments: Of its Python, after -m and before the port.
        paths: The path that takes each of our formats, JSON and safetensors.
        setting: How it is hosted on two cores, in words.
        distribution: Whose version counts.
        venv: The folder of its virtual environment; empty: the one of the service.
        answers: Whether it computes anything.
        speaks: The format that it wants instead of safetensors.
    """

    name: str
    arguments: tuple[str, ...]
    paths: Mapping[str, str]
    setting: str
    distribution: str
    venv: str = ""
    answers: bool = True
    speaks: str = SAFETENSORS

    @property
    def python(self) -> str:
        return str(ROOT / self.venv / "bin" / "python") if self.venv else sys.executable

    def version(self) -> str:
        """Of its distribution, or why there is none."""
        code = f"from importlib.metadata import version; print(version('{self.distribution}'))"
        try:
            ended = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return "not installed"
        return ended.stdout.strip()

    def body(self, batch: Batch, media_type: str, folder: Path) -> Body:
        """The batch as this one wants it."""
        return write(batch, self.speaks if media_type == SAFETENSORS else media_type, folder)

    def fault(self, process: Process, batch: Batch, media_type: str, folder: Path) -> str:
        """What is wrong with its answer; empty where it is right."""
        body = self.body(batch, media_type, folder)
        try:
            reply = httpx.post(
                process.url + self.paths[media_type], content=body.path.read_bytes(), headers=body.headers, timeout=60
            )
        except httpx.HTTPError as err:
            return f"{type(err).__name__} {err}"
        if reply.status_code != 200:
            return f"status {reply.status_code}: {reply.text[:200]}"
        if self.answers and not is_right(batch, reply.content, reply.headers):
            return "wrong answer"
        return ""

    @contextmanager
    def running(self, folder: Path, **settings: object) -> Iterator[Process]:
        """The server, once it answers right in all of its formats; settings are those of the service.

        Raises:
            StartError: It does not.
        """
        if not Path(self.python).exists():
            raise StartError(f"{self.venv} is not there")
        small = Batch.random(64, 10)

        def fault(process: Process) -> str:
            faults = (self.fault(process, small, media_type, folder) for media_type in self.paths)
            return next(filter(None, faults), "")

        command = [self.python, "-m", *self.arguments]
        log = folder / f"{self.arguments[0]}.log"
        environment = {f"FOCAL_LOSS_{name.upper()}": str(value) for name, value in settings.items()}
        environment.setdefault("FOCAL_LOSS_DATA_DIR", str(folder / "data"))
        with running(command, log, fault=fault, within_s=STARTS_WITHIN_S, **environment) as process:
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
    "bare ASGI on uvicorn, uvloop, httptools; reads the body, answers 2 bytes",
    "uvicorn",
    answers=False,
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
    "1 model instance of 2 threads, Triton's binary tensors instead of safetensors",
    "nvidia-pytriton",
    ".venv-pytriton",
    speaks=TRITON,
)
PEERS = (TEN_MINUTE, LITSERVE, BENTOML, MOSEC, RAY_SERVE, PYTRITON)
