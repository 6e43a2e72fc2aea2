"""Run every check of a GPU machine, each in its own process with a time limit, and collect one report.

The report contains the error of a part that fails or takes too long; the next part runs nevertheless.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from benchmarks.process import ROOT

LIMIT_S = 480.0
SHUTDOWN_TIMEOUT_S = 20.0
TAIL_CHARACTERS = 3000
TEST_FILES = (
    "tests/loss/kernels/test_cuda.py",
    "tests/loss/kernels/test_self_check.py",
    "tests/compute/test_transfer.py",
    "tests/compute/test_device.py",
)
QUICK_TEST_FILES = ("tests/compute/test_transfer.py",)
# Compiling the kernels for other GPUs is tested without a GPU.
DESELECTED = "not it_compiles_to"
MAX_TEST_PROCESSES = 4


@dataclass(frozen=True)
class Part:
    """One part of the check.

    Args:
        name: Key in the report.
        command: Returns the command for a folder, which its files go to.
        limit_s: Maximum seconds; fewer if the whole check runs out of time.
        result: Reads the result, a JSON value, from standard output and the folder.
        fault: Returns the fault that a result describes; empty if there is none.
    """

    name: str
    command: Callable[[Path], list[str]]
    limit_s: float
    result: Callable[[str, Path], Any]
    fault: Callable[[Any], str] = lambda result: ""


def parts(device: str, *, quick: bool) -> list[Part]:
    """Return the parts in order. The tests take longest and are last: if time runs out, the figures are complete."""
    options = ["--device", device, *(["--quick"] if quick else [])]

    def measure(name: str, limit_s: float) -> Part:
        def command(folder: Path) -> list[str]:
            return [sys.executable, "-m", "benchmarks.gpu", *options, "--part", name]

        return Part(name, command, limit_s, lambda output, folder: json.loads(output))

    def doctor(folder: Path) -> list[str]:
        command = [sys.executable, "-m", "service", "doctor", "--json"]
        return [*command, "--device", device, "--data-dir", str(folder / "data")]

    return [
        Part("doctor", doctor, 120, lambda output, folder: json.loads(output), _problems),
        measure("kernels", 90),
        measure("http", 110),
        measure("transfer", 60),
        Part("tests", lambda folder: _pytest(folder, quick=quick), 300, lambda output, folder: _tests(folder)),
    ]


def run(device: str, report_path: Path, folder: Path, *, quick: bool, limit_s: float) -> dict[str, Any]:
    """Run all parts and write the report.

    Args:
        device: `cuda`, `cuda:N` or `cpu`.
        report_path: File for the report. It is written after every part, in case the machine is withdrawn.
        folder: Empty folder for the files of the parts.
        quick: Use small sizes, to test the check itself.
        limit_s: Maximum seconds for all parts.

    Returns:
        The report: `ok`, `device`, `quick`, `machine`, `seconds`, and under `parts` for each one `ok`, `seconds`,
        `error` (null if `ok`) and `result` (null if there is none).
    """
    started = time.monotonic()
    report: dict[str, Any] = {
        "ok": False,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "quick": quick,
        "machine": machine(device),
        "seconds": 0.0,
        "parts": {},
    }
    report_path.parent.mkdir(parents=True, exist_ok=True)
    for part in parts(device, quick=quick):
        left = limit_s - (time.monotonic() - started)
        print(f"running {part.name} ...", flush=True)
        report["parts"][part.name] = run_part(part, folder / part.name, min(part.limit_s, left))
        if part.name == "doctor":
            report["parts"]["self_check"] = _self_check(report["parts"]["doctor"]["result"], device)
        report["seconds"] = round(time.monotonic() - started, 3)
        report["ok"] = all(result["ok"] for result in report["parts"].values())
        report_path.write_text(json.dumps(report, indent=2) + "\n")
    return report


def machine(device: str) -> dict[str, Any]:
    """Describe the machine: versions, processor, GPU, and the commit of the code if git knows it."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {
        "commit": commit,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpu": None if device == "cpu" else torch.cuda.get_device_name(device),
    }


def run_part(part: Part, folder: Path, limit_s: float) -> dict[str, Any]:
    """Run one part and return its entry of the report; see `run`."""
    started = time.monotonic()
    folder.mkdir(parents=True)
    result, errors = None, []
    if limit_s <= 0:
        errors.append("not run: no time was left")
    else:
        status, output, errors_text = _run(part.command(folder), folder, limit_s)
        if status is None:
            errors.append(f"ended after {limit_s:.0f} s, its limit: {errors_text}".strip())
        try:
            result = part.result(output, folder)
        except (ValueError, OSError, KeyError, ElementTree.ParseError) as err:
            errors.append(f"no result ({type(err).__name__}): exit status {status}: {errors_text or output}".strip())
        else:
            if status:
                errors.append(part.fault(result) or f"exit status {status}: {errors_text or output}".strip())
    error = "; ".join(errors)[:TAIL_CHARACTERS] or None
    return {"ok": error is None, "seconds": round(time.monotonic() - started, 3), "error": error, "result": result}


def _run(command: list[str], folder: Path, limit_s: float) -> tuple[int | None, str, str]:
    """Return the exit status (None after the limit), standard output, and the end of standard error."""
    # For pytest and for a server that the part starts.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    output, errors_text = folder / "stdout", folder / "stderr"
    with output.open("wb") as out, errors_text.open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT, env=environment, process_group=0)
        status: int | None = None
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            # SIGTERM first, so that it ends the service that it may have started.
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(SHUTDOWN_TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return status, output.read_text(errors="replace"), errors_text.read_text(errors="replace")[-TAIL_CHARACTERS:]


def _pytest(folder: Path, *, quick: bool) -> list[str]:
    processes = min(MAX_TEST_PROCESSES, os.cpu_count() or 1)
    parallel = [] if quick or processes < MAX_TEST_PROCESSES else ["-n", str(processes)]
    options = ["-q", "-p", "no:cacheprovider", "-k", DESELECTED, f"--junitxml={folder / 'tests.xml'}", *parallel]
    return [sys.executable, "-m", "pytest", *options, *(QUICK_TEST_FILES if quick else TEST_FILES)]


def _tests(folder: Path) -> dict[str, Any]:
    """Return the numbers of tests, the reasons of skipped ones, and the messages of failed ones."""
    suite = next(ElementTree.parse(folder / "tests.xml").getroot().iter("testsuite"))
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    skipped = {skip.attrib.get("message", "") for skip in suite.iter("skipped")}
    failed = {
        f"{case.attrib['classname']}.{case.attrib['name']}": fault.attrib.get("message", "")[:500]
        for case in suite.iter("testcase")
        for fault in [*case.iter("failure"), *case.iter("error")]
    }
    return {**counts, "skipped_because": sorted(skipped), "failed": failed}


def _problems(report: Mapping[str, Any]) -> str:
    return "; ".join(problem["what"] for problem in report["problems"])


def _self_check(doctor: Mapping[str, Any] | None, device: str) -> dict[str, Any]:
    """Return the self-check of the kernels in the doctor's report as a separate part."""
    kernels = (doctor or {}).get("kernels") or {}
    checks = kernels.get("cpu" if device == "cpu" else "triton") or []
    failed = [f"{check['kernel']} {check['dtype']}: {check['message']}" for check in checks if not check["ok"]]
    error = "; ".join(failed) or (None if checks else "the doctor did not check the kernels")
    return {"ok": error is None, "seconds": kernels.get("seconds"), "error": error, "result": checks}
