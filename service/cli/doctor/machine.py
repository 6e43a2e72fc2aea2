"""Versions, CUDA, and the kernels."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
import time
import warnings
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from service import __version__
from service.cli.doctor.finding import Finding, Problem, existing_parent, write_error

PACKAGES = ("torch", "triton", "numpy", "numba", "pyarrow", "duckdb", "fastapi", "uvicorn")
# Triton is needed on CUDA alone; the self-check says if it is missing there.
OPTIONAL = ("triton",)
SERVER = "Install the server's packages: pip install 'focal-loss-service[server]'"
NVIDIA_SMI_ENDS_WITHIN_S = 10.0


def examine_versions() -> Finding:
    """Versions of the service, Python and the packages; None for a package that is not installed."""
    packages = {name: _version(name) for name in PACKAGES}
    missing = [name for name, found in packages.items() if found is None and name not in OPTIONAL]
    problems = [Problem(f"Not installed: {', '.join(missing)}.", SERVER)] if missing else []
    python = platform.python_version()
    facts = {"service": __version__, "python": python, "platform": platform.platform(), "packages": packages}
    return Finding(facts, problems)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine_cuda(wanted: str) -> Finding:
    """The NVIDIA driver, torch's CUDA devices, and the device that the service takes.

    Args:
        wanted: The setting `device`.
    """
    driver, gpus = _nvidia_smi()
    facts: dict[str, Any] = {"wanted": wanted, "device": None, "driver": driver, "built_for": None, "cuda_devices": []}
    try:
        import torch

        from service.compute.device import resolve_device
        from service.errors import DeviceUnavailableError
    except Exception as err:  # a library that does not load is an OSError; a missing package is named elsewhere
        missing = isinstance(err, ModuleNotFoundError)
        return Finding(facts, [] if missing else [Problem(f"torch cannot be loaded: {err}", "Install torch again.")])
    problems = []
    # Of an old driver torch warns, each time that it is asked.
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        facts["built_for"] = torch.version.cuda
        facts["cuda_devices"] = [_device(number) for number in range(torch.cuda.device_count())]
        if gpus and wanted != "cpu" and not torch.cuda.is_available():
            problems.append(_not_found(gpus, torch.__version__, torch.version.cuda, [str(one.message) for one in said]))
        try:
            facts["device"] = resolve_device(wanted)
        except DeviceUnavailableError as err:
            fix = "Choose a device that is there (--device auto), or see the driver."
            problems.append(Problem(f"{err.detail}.", fix))
    return Finding(facts, problems)


def _not_found(gpus: list[str], torch_version: str, built_for: str | None, said: list[str]) -> Problem:
    what = f"The driver lists {', '.join(gpus)}, but torch {torch_version} finds no CUDA device"
    if built_for is None:
        fix = "Install PyPI's torch, which has CUDA, without PIP_EXTRA_INDEX_URL for CPU builds."
        return Problem(f"{what}: it is built without CUDA.", fix)
    reason = "; ".join(said) or "torch gives no reason"
    return Problem(f"{what}: {reason}.", f"Install an NVIDIA driver that supports CUDA {built_for}, or an older torch.")


def _nvidia_smi() -> tuple[str | None, list[str]]:
    """The version of the driver and the names of its GPUs; None and none without the driver's tool."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None, []
    query = [command, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        ended = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_ENDS_WITHIN_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None, []
    lines = [line.split(", ", 1) for line in ended.stdout.splitlines() if ", " in line]
    return (lines[0][0] if lines else None), [line[1] for line in lines]


def _device(number: int) -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(number)
    capability = f"{found.major}.{found.minor}"
    return {"name": found.name, "memory_bytes": found.total_memory, "compute_capability": capability}


def examine_kernels(device: str | None) -> Finding:
    """The self-check of the CPU kernel, and on CUDA that of the Triton kernels and what Triton needs.

    Args:
        device: The resolved device, or None if there is none.
    """
    facts: dict[str, Any] = {"cpu": [], "triton": [], "triton_needs": None, "seconds": None}
    try:
        from service.loss.kernels.choose import failures
        from service.loss.kernels.self_check import check_cpu, check_triton
    except Exception:  # torch is missing or does not load, which is named elsewhere
        return Finding(facts)
    problems: list[Problem] = []
    started = time.perf_counter()
    try:
        cpu = check_cpu()
    except Exception as err:  # numba is missing or does not load
        problems.append(Problem(f"The CPU kernel cannot be loaded: {type(err).__name__}: {err}.", SERVER))
    else:
        fix = "Let numba keep what it compiles in a folder that can be written to: NUMBA_CACHE_DIR."
        problems += [Problem(f"The CPU kernel fails its self-check: {line}.", fix) for line in failures(cpu)]
        facts["cpu"] = [asdict(check) for check in cpu]
    if device is not None and device != "cpu":
        needs = examine_triton_needs()
        triton = check_triton(device)
        fix = "The service computes by plain torch instead. " + (
            "See the other problems." if needs.problems else "Report this with the output of doctor --json."
        )
        problems += needs.problems
        problems += [Problem(f"Triton fails its self-check: {line}.", fix) for line in failures(triton)]
        facts["triton"], facts["triton_needs"] = [asdict(check) for check in triton], needs.facts
    facts["seconds"] = round(time.perf_counter() - started, 3)
    return Finding(facts, problems)


def examine_triton_needs() -> Finding:
    """The needs of Triton: a C compiler, Python's headers, a cache folder to write to and execute from."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    home = os.environ.get("TRITON_HOME") or str(Path.home())
    cache = Path(os.environ.get("TRITON_CACHE_DIR") or Path(home, ".triton", "cache"))
    facts = {"compiler": compiler, "headers": str(headers) if headers.exists() else None, "cache": str(cache)}
    problems = []
    if compiler is None:
        problems.append(Problem("Triton finds no C compiler.", "Install gcc (Debian: apt-get install gcc libc6-dev)."))
    if not headers.exists():
        what = f"Triton needs Python's headers, and {headers} is not there."
        problems.append(Problem(what, "Install them (Debian: apt-get install python3-dev)."))
    place = existing_parent(cache)
    if refused := write_error(place):
        what = f"Triton's cache folder {cache} cannot be written to ({place}: {refused})."
        problems.append(Problem(what, "Set TRITON_CACHE_DIR to a folder that can be."))
    elif _is_noexec(place):
        what = f"Triton's cache folder {cache} is on a disk that is mounted noexec."
        problems.append(Problem(what, "Set TRITON_CACHE_DIR to a folder that libraries may be loaded from."))
    if os.environ.get("TRITON_INTERPRET") == "1":
        what = "TRITON_INTERPRET=1 has the kernels interpreted on the CPU."
        problems.append(Problem(what, "Unset TRITON_INTERPRET."))
    return Finding(facts, problems)


def _is_noexec(folder: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
