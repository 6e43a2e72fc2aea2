"""`make gpu-check` on the CPU: its report, without a GPU, and with a part that fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.check import QUICK_TEST_FILES, TEST_FILES, Part, parts, run, run_part
from benchmarks.gpu.requirements import requirements
from benchmarks.gpu.summary import summary
from benchmarks.process import ROOT
from service.loss.kernels.self_check import DTYPES


def gpu_check(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=400, check=False)


@pytest.mark.slow
def test_a_quick_check_of_the_cpu_reports_every_part(tmp_path: Path) -> None:
    ended = gpu_check("--device", "cpu", "--quick", "--report", str(tmp_path / "folder" / "report.json"))
    report = json.loads((tmp_path / "folder" / "report.json").read_text())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert report["ok"]
    assert (report["device"], report["quick"], report["machine"]["gpu"]) == ("cpu", True, None)
    assert list(report["parts"]) == ["doctor", "self_check", "kernels", "http", "transfer", "tests"]
    results = {name: part["result"] for name, part in report["parts"].items()}
    assert results["doctor"]["device"]["device"] == "cpu"
    assert len(results["self_check"]) == len(DTYPES)
    assert {row["dtype"] for row in results["kernels"]} == {"float32", "float16", "bfloat16"}
    assert all(row["kernel_gb_s"] > 0 and row["copy_gb_s"] > 0 and row["times_eager"] > 0 for row in results["kernels"])
    assert [row["format"] for row in results["http"]["rows"]] == ["JSON", "safetensors"]
    assert all(row["requests_s"] > 0 and row["gb_s"] > 0 for row in results["http"]["rows"])
    assert results["http"]["readiness"]["device"] == "cpu"
    assert results["http"]["warnings"] == []
    assert [(row["memory"], row["chunks"]) for row in results["transfer"]] == [("pageable", 8)]
    assert results["tests"]["tests"] > 10
    assert results["tests"]["failures"] == results["tests"]["errors"] == 0
    for line in ("Everything passed.", "JSON 8 x 3, 4 clients: ", "512 x 10 float16: ", "softmax float64: ok"):
        assert line in ended.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.slow
def test_without_a_gpu_it_prints_one_line(tmp_path: Path) -> None:
    ended = gpu_check("--report", str(tmp_path / "report.json"))
    assert ended.returncode == 2
    assert ended.stdout == "Nothing was checked: there is no device cuda: torch finds 0 CUDA devices.\n"
    assert not (tmp_path / "report.json").exists()


def part(code: str, name: str = "part", limit_s: float = 60) -> Part:
    """A part that runs this code and prints its result."""
    return Part(name, lambda folder: [sys.executable, "-c", code], limit_s, lambda output, folder: json.loads(output))


def test_a_part_that_passes(tmp_path: Path) -> None:
    entry = run_part(part("print([1, 2])"), tmp_path / "part", 60)
    assert (entry["ok"], entry["error"], entry["result"]) == (True, None, [1, 2])


@pytest.mark.parametrize(
    ("code", "result", "error"),
    [
        ("raise ValueError('no kernel')", None, "exit status 1: Traceback"),
        ("raise ValueError('no kernel')", None, "ValueError: no kernel"),
        ("print('[1]'); raise SystemExit(3)", [1], "exit status 3"),
        ("print('not JSON')", None, "no result (JSONDecodeError): exit status 0: not JSON"),
        ("import os; os.kill(os.getpid(), 9)", None, "exit status -9"),
    ],
)
def test_a_part_that_fails(tmp_path: Path, code: str, result: Any, error: str) -> None:
    entry = run_part(part(code), tmp_path / "part", 60)
    assert (entry["ok"], entry["result"]) == (False, result)
    assert error in entry["error"]


@pytest.mark.slow
def test_a_part_over_its_limit_is_ended_and_keeps_its_result(tmp_path: Path) -> None:
    started = time.monotonic()
    entry = run_part(part("import time; print('[1]', flush=True); time.sleep(60)"), tmp_path / "part", 2)
    assert time.monotonic() - started < 30
    assert (entry["ok"], entry["result"]) == (False, [1])
    assert "ended after 2 s, its limit" in entry["error"]


def test_the_problems_of_the_doctor_are_the_error() -> None:
    doctor = parts("cpu", quick=True)[0]
    assert doctor.fault({"problems": [{"what": "No compiler."}, {"what": "No disk."}]}) == "No compiler.; No disk."


def test_the_next_part_runs_after_one_that_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checks = {"kernel": "softmax", "dtype": "float32", "ok": False, "largest_error": None, "message": "no compiler"}
    device = {"driver": "580.1"}
    doctor = {"kernels": {"cpu": [checks], "seconds": 1.5}, "versions": {"packages": {"torch": None}}, "device": device}
    failing_parts = [
        part(f"print({json.dumps(json.dumps(doctor))})", "doctor"),
        part("import absent"),
        part("print(1)", "next"),
    ]
    monkeypatch.setattr("benchmarks.gpu.check.parts", lambda device, quick: failing_parts)
    report = run("cpu", tmp_path / "report.json", tmp_path / "files", quick=True, limit_s=60)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert {name: entry["ok"] for name, entry in report["parts"].items()} == {
        "doctor": True,
        "self_check": False,
        "part": False,
        "next": True,
    }
    assert report["parts"]["self_check"]["error"] == "softmax float32: no compiler"
    assert not report["ok"]
    shown = summary(report)
    assert "self_check: FAILED (1.5 s)\n  softmax float32: no compiler\n" in shown
    assert "torch missing" in shown
    assert "No module named 'absent'" in shown
    assert shown.endswith("Something failed.")


def test_without_time_no_part_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.gpu.check.parts", lambda device, quick: [part("print(1)")])
    report = run("cpu", tmp_path / "report.json", tmp_path / "files", quick=True, limit_s=0)
    assert report["parts"]["part"]["error"].startswith("not run: no time was left")


def test_the_test_files_exist() -> None:
    assert [path for path in (*TEST_FILES, *QUICK_TEST_FILES) if not (ROOT / path).is_file()] == []


def test_the_requirements_exclude_torch_and_its_packages() -> None:
    names = requirements()
    assert not [name for name in names if name.startswith(("torch", "triton", "nvidia"))]
    for needed in ("fastapi", "numba", "pytest", "hypothesis", "mpmath", "httpx"):
        assert any(name.startswith(needed) for name in names), needed
