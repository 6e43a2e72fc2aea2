"""Examination of versions, CUDA, and the kernels."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from service import __version__
from service.cli.doctor.folders import existing_parent, write_error
from service.cli.doctor.report import (
    CudaDevice,
    DeviceFacts,
    Finding,
    KernelFacts,
    Problem,
    SelfCheck,
    TritonNeeds,
    Versions,
)

if TYPE_CHECKING:
    from service.loss.kernels.self_check import KernelCheck

PACKAGES = ("torch", "triton", "numpy", "numba", "pyarrow", "duckdb", "fastapi", "uvicorn")
# Only CUDA needs Triton; its self-check reports if it is missing there.
OPTIONAL = ("triton",)
SERVER = "Install the server's packages: pip install 'focal-loss-service[server]'"
NVIDIA_SMI_TIMEOUT_S = 10.0


def examine_versions() -> Finding[Versions]:
    """Examine the versions of the service, Python and the packages."""
    packages = {name: _version(name) for name in PACKAGES}
    missing = [name for name, installed in packages.items() if installed is None and name not in OPTIONAL]
    problems = [_problem(f"Not installed: {', '.join(missing)}.", SERVER)] if missing else []
    python = platform.python_version()
    facts: Versions = {
        "service": __version__,
        "python": python,
        "platform": platform.platform(),
        "packages": packages,
    }
    return Finding(facts, problems)


def _problem(what: str, fix: str) -> Problem:
    return {"what": what, "fix": fix}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine_cuda(wanted: str) -> Finding[DeviceFacts]:
    """Examine the NVIDIA driver, torch's CUDA devices, and the device that the service would use.

    Args:
        wanted: The setting `device`.
    """
    driver, gpus = _nvidia_smi()
    facts: DeviceFacts = {
        "wanted": wanted,
        "device": None,
        "driver": driver,
        "built_for": None,
        "cuda_devices": [],
    }
    try:
        import torch

        from service.compute.device import resolve_device
        from service.errors import DeviceUnavailableError
    except Exception as err:  # OSError for a library that does not load; examine_versions reports missing packages
        missing = isinstance(err, ModuleNotFoundError)
        return Finding(facts, [] if missing else [_problem(f"torch cannot be loaded: {err}", "Install torch again.")])
    problems = []
    # torch warns about an old driver.
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        facts["built_for"] = torch.version.cuda
        facts["cuda_devices"] = [_device(number) for number in range(torch.cuda.device_count())]
        if gpus and wanted != "cpu" and not torch.cuda.is_available():
            reasons = [str(warning.message) for warning in messages]
            problems.append(_no_device(gpus, torch.__version__, torch.version.cuda, reasons))
        try:
            facts["device"] = resolve_device(wanted)
        except DeviceUnavailableError as err:
            fix = "Choose an available device (--device auto), or check the driver."
            problems.append(_problem(f"{err.detail}.", fix))
    return Finding(facts, problems)


def _no_device(gpus: list[str], torch_version: str, built_for: str | None, reasons: list[str]) -> Problem:
    what = f"The driver lists {', '.join(gpus)}, but torch {torch_version} finds no CUDA device"
    if built_for is None:
        fix = "Install torch from PyPI, which has CUDA: unset PIP_EXTRA_INDEX_URL."
        return _problem(f"{what}: it is built without CUDA.", fix)
    reason = "; ".join(reasons) or "torch gives no reason"
    return _problem(f"{what}: {reason}.", f"Install an NVIDIA driver for CUDA {built_for}, or an older torch.")


def _nvidia_smi() -> tuple[str | None, list[str]]:
    """The version of the driver and the names of its GPUs; None and an empty list without nvidia-smi."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None, []
    query = [command, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        process = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None, []
    lines = [line.split(", ", 1) for line in process.stdout.splitlines() if ", " in line]
    return (lines[0][0] if lines else None), [line[1] for line in lines]


def _device(number: int) -> CudaDevice:
    import torch

    device = torch.cuda.get_device_properties(number)
    capability = f"{device.major}.{device.minor}"
    return {"name": device.name, "memory_bytes": device.total_memory, "compute_capability": capability}


def examine_kernels(device: str | None) -> Finding[KernelFacts]:
    """Run the self-check of the CPU kernel; on CUDA also that of the Triton kernels, and examine Triton's needs.

    Args:
        device: The resolved device, or None if there is none.
    """
    facts: KernelFacts = {"cpu": [], "triton": [], "triton_needs": None, "seconds": None}
    try:
        from service.loss.kernels.choose import failures
        from service.loss.kernels.self_check import check_cpu, check_triton
    except Exception:  # torch is missing or does not load: see examine_versions and examine_cuda
        return Finding(facts)
    problems: list[Problem] = []
    started = time.perf_counter()
    try:
        cpu = check_cpu()
    except Exception as err:  # numba is missing or does not load
        problems.append(_problem(f"The CPU kernel cannot be loaded: {type(err).__name__}: {err}.", SERVER))
    else:
        fix = "Set NUMBA_CACHE_DIR to a writable folder, for the code that numba compiles."
        problems += [_problem(f"The CPU kernel fails its self-check: {line}.", fix) for line in failures(cpu)]
        facts["cpu"] = [_self_check(check) for check in cpu]
    if device is not None and device != "cpu":
        needs = examine_triton_needs()
        triton = check_triton(device)
        fix = "Until then the service computes with plain torch. " + (
            "See the other problems." if needs.problems else "Report this with the output of doctor --json."
        )
        problems += needs.problems
        problems += [_problem(f"Triton fails its self-check: {line}.", fix) for line in failures(triton)]
        facts["triton"], facts["triton_needs"] = [_self_check(check) for check in triton], needs.facts
    facts["seconds"] = round(time.perf_counter() - started, 3)
    return Finding(facts, problems)


def _self_check(check: KernelCheck) -> SelfCheck:
    return {
        "kernel": check.kernel,
        "dtype": check.dtype,
        "ok": check.ok,
        "largest_error": check.largest_error,
        "message": check.message,
    }


def examine_triton_needs() -> Finding[TritonNeeds]:
    """Examine the needs of Triton: a C compiler, Python's headers, a cache folder to write to and execute from."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    home = os.environ.get("TRITON_HOME") or str(Path.home())
    cache = Path(os.environ.get("TRITON_CACHE_DIR") or Path(home, ".triton", "cache"))
    facts: TritonNeeds = {
        "compiler": compiler,
        "headers": str(headers) if headers.exists() else None,
        "cache": str(cache),
    }
    problems = []
    if compiler is None:
        problems.append(_problem("Triton finds no C compiler.", "Install gcc (Debian: apt-get install gcc libc6-dev)."))
    if not headers.exists():
        what = f"Triton needs Python's headers, but {headers} does not exist."
        problems.append(_problem(what, "Install them (Debian: apt-get install python3-dev)."))
    parent = existing_parent(cache)
    if error := write_error(parent):
        what = f"Triton's cache folder {cache} cannot be written to ({parent}: {error})."
        problems.append(_problem(what, "Set TRITON_CACHE_DIR to a writable folder."))
    elif _is_noexec(parent):
        what = f"Triton's cache folder {cache} is on a disk that is mounted noexec."
        problems.append(_problem(what, "Set TRITON_CACHE_DIR to a folder on a disk that is not."))
    if os.environ.get("TRITON_INTERPRET") == "1":
        what = "TRITON_INTERPRET=1 makes Triton interpret the kernels on the CPU."
        problems.append(_problem(what, "Unset TRITON_INTERPRET."))
    return Finding(facts, problems)


def _is_noexec(folder: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
