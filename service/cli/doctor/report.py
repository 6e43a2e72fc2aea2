"""The report of `focal-loss doctor`, as it is printed with `--json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypedDict, TypeVar

Facts = TypeVar("Facts")


class Problem(TypedDict):
    """Something that prevents the service from working, or from working well.

    - `what`: what is wrong, in one sentence;
    - `fix`: what to do about it.
    """

    what: str
    fix: str


class Versions(TypedDict):
    """Versions of the service, Python and the packages; null for a package that is not installed."""

    service: str
    python: str
    platform: str
    packages: dict[str, str | None]


class SettingsFacts(TypedDict):
    """Names of the environment variables with the prefix of the settings. Values can be keys and are left out."""

    variables: list[str]


class CudaDevice(TypedDict):
    """A CUDA device that torch finds."""

    name: str
    memory_bytes: int
    compute_capability: str


class DeviceFacts(TypedDict):
    """The device of the service.

    - `wanted`: the setting; `device`: the device that it resolves to, null if there is none;
    - `driver`: version of the NVIDIA driver; `built_for`: version of CUDA that torch is built for; null for none.
    """

    wanted: str
    device: str | None
    driver: str | None
    built_for: str | None
    cuda_devices: list[CudaDevice]


class SelfCheck(TypedDict):
    """Result of the self-check of a kernel; see `service.loss.kernels.self_check.KernelCheck`."""

    kernel: str
    dtype: str
    ok: bool
    largest_error: float | None
    message: str


class TritonNeeds(TypedDict):
    """Paths of a C compiler, of Python's headers and of the cache folder; null if missing."""

    compiler: str | None
    headers: str | None
    cache: str


class KernelFacts(TypedDict):
    """Self-checks of the kernels; `triton_needs` is null on the CPU, `seconds` if nothing was checked."""

    cpu: list[SelfCheck]
    triton: list[SelfCheck]
    triton_needs: TritonNeeds | None
    seconds: float | None


class DataDirFacts(TypedDict):
    """The data directory; null for facts that are unknown of a remote one."""

    path: str
    exists: bool
    writable: bool | None
    free_bytes: int | None


class Report(TypedDict):
    """The whole report."""

    versions: Versions
    settings: SettingsFacts
    device: DeviceFacts
    kernels: KernelFacts
    data_dir: DataDirFacts
    problems: list[Problem]


@dataclass(frozen=True)
class Finding(Generic[Facts]):
    """Facts about one part of the machine, and its problems."""

    facts: Facts
    problems: list[Problem] = field(default_factory=list)
