"""`focal-loss doctor`: the report on this machine, and on machines with problems."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from service import __version__
from service.cli import console
from service.cli.doctor import machine
from service.cli.doctor import settings as examined
from service.cli.doctor.command import examine
from service.cli.main import app
from service.loss.kernels import self_check
from service.loss.kernels.self_check import KernelCheck

HAS_CUDA = torch.cuda.is_available()
PASSED = (KernelCheck("softmax narrow", "float32", True, 1e-7, ""), KernelCheck("softmax wide", "float32", True, 0, ""))
FAILED = (PASSED[0], KernelCheck("softmax wide", "float16", False, 0.5, "the entropy differs by 0.5"))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove settings from the environment, and replace the self-check of the CPU kernel."""
    for name in os.environ:
        if name.startswith("FOCAL_LOSS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FOCAL_LOSS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(self_check, "check_cpu", lambda: PASSED)
    monkeypatch.setattr(console.output, "_width", 200)


def doctor(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["doctor", *arguments])
    return ended.exit_code, ended.output


def problems(**options: str | None) -> list[str]:
    """Problems and their fixes, one text each."""
    report = examine(options.get("data_dir"), options.get("device", "cpu"))
    return [f"{problem['what']} -> {problem['fix']}" for problem in report["problems"]]


@pytest.mark.slow
def test_no_problems_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "200")
    ended = subprocess.run(
        [sys.executable, "-m", "service", "doctor", "--data-dir", str(tmp_path / "new"), "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ended.stderr == ""
    assert "\x1b" not in ended.stdout
    rows = {
        name: " ".join(values) for name, *values in (line.split() for line in ended.stdout.splitlines() if line.strip())
    }
    assert rows["service"] == __version__
    assert rows["numpy"] == np.__version__
    assert "4 of 4 self-checks passed" in ended.stdout
    assert "not applicable" in ended.stdout
    assert "will be created at first use, writable" in ended.stdout
    assert "No problems found." in ended.stdout
    assert not (tmp_path / "new").exists()


def test_json_report(tmp_path: Path) -> None:
    status, shown = doctor("--json", "--device", "cpu")
    report = json.loads(shown)
    assert status == 0
    assert list(report) == ["versions", "settings", "device", "kernels", "data_dir", "problems"]
    assert set(report["versions"]["packages"]) == set(machine.PACKAGES)
    assert report["device"]["device"] == "cpu"
    assert report["kernels"]["cpu"][0] == {
        "kernel": "softmax narrow",
        "dtype": "float32",
        "ok": True,
        "largest_error": 1e-7,
        "message": "",
    }
    assert report["kernels"]["triton_needs"] is None
    assert report["data_dir"] == {
        "path": str(tmp_path),
        "exists": True,
        "writable": True,
        "free_bytes": pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1),
    }
    assert list(tmp_path.iterdir()) == []


class TestSettings:
    def test_an_invalid_value_names_its_variable_or_option(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FOCAL_LOSS_WORKERS", "many")
        monkeypatch.setenv("FOCAL_LOSS_DEVICE", "tpu")
        workers, device = sorted(problems(device=None), reverse=True)
        assert workers.startswith("workers: Input should be a valid integer")
        assert "Correct the variable FOCAL_LOSS_WORKERS" in workers
        assert "Correct the variable FOCAL_LOSS_DEVICE" in device
        assert "Correct the option --device" in " ".join(problems(device="gpu"))

    def test_other_settings_are_used_beside_an_invalid_one(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("FOCAL_LOSS_PORT", "http")
        assert examine(None, "cpu")["data_dir"]["path"] == str(tmp_path)

    def test_a_public_host_needs_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FOCAL_LOSS_HOST", "0.0.0.0")
        (problem,) = problems()
        assert "set api_keys" in problem

    def test_an_unknown_variable_gets_a_suggestion(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FOCAL_LOSS_PROT", "8001")
        monkeypatch.setenv("FOCAL_LOSS_API_KEY", "of the client, which is another variable")
        monkeypatch.setenv("FOCAL_LOSS_TEST_BROWSER", "required")
        (problem,) = problems()
        assert problem == (
            "The variable FOCAL_LOSS_PROT is not a setting and has no effect. -> "
            "Did you mean FOCAL_LOSS_PORT? Otherwise unset it."
        )

    @pytest.mark.parametrize("key", ["short", "long-enough-secret-key"])
    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_keys_are_not_printed(self, monkeypatch: pytest.MonkeyPatch, key: str, options: list[str]) -> None:
        monkeypatch.setenv("FOCAL_LOSS_API_KEYS", key)
        status, shown = doctor("--device", "cpu", *options)
        assert status == (key == "short")
        assert key not in shown.replace("shorter", "")
        assert "FOCAL_LOSS_API_KEYS" in shown


class TestDataDir:
    def test_a_file_is_not_a_data_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        (problem,) = problems(data_dir=str(tmp_path / "file"))
        assert "is not a folder" in problem

    def test_read_only_file_system(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(examined, "write_error", lambda folder: "Read-only file system")
        (problem,) = problems(data_dir=str(tmp_path / "a" / "b"))
        assert f"{tmp_path / 'a' / 'b'} cannot be written to ({tmp_path}: Read-only file system)" in problem
        status, shown = doctor("--device", "cpu")
        assert status == 1
        assert "Problems:\n1. The data directory" in shown

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that refuses root")
    def test_a_folder_that_root_cannot_write_to(self) -> None:
        assert any("/proc/x cannot be written to (/proc: " in problem for problem in problems(data_dir="/proc/x"))

    def test_a_full_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=3 * 2**20))
        (problem,) = problems()
        assert "has 3 MiB left" in problem

    def test_remote_data_directory(self) -> None:
        report = examine("memory://anywhere/runs", "cpu")
        assert report["data_dir"]["exists"]
        assert report["problems"] == []
        (problem,) = problems(data_dir="nowhere://user:password@bucket/runs")
        assert "nowhere://***@bucket/runs cannot be listed" in problem
        assert "password" not in problem

    def test_remote_data_directory_that_does_not_reply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(examined, "REMOTE_TIMEOUT_S", 0.0)
        monkeypatch.setattr("service.storage.files.open_files", lambda location: SimpleNamespace(folders=lambda _: []))
        monkeypatch.setattr(examined.Thread, "start", lambda thread: None)
        monkeypatch.setattr(examined.Thread, "join", lambda thread, timeout: None)
        (problem,) = problems(data_dir="s3://bucket/runs")
        assert "no reply within 0 s" in problem


class TestMachine:
    def test_missing_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def version(name: str) -> str:
            if name in ("numba", "triton", "uvicorn"):
                raise machine.PackageNotFoundError(name)
            return "1.0"

        monkeypatch.setattr(machine, "version", version)
        (problem,) = problems()
        assert problem.startswith("Not installed: numba, uvicorn. -> Install the server's packages: pip install")
        assert "numba " in doctor("--device", "cpu")[1]
        assert "not installed" in doctor("--device", "cpu")[1]

    @pytest.mark.slow
    def test_without_torch(self) -> None:
        code = """
import sys
from service.cli.doctor import machine
from service.cli.main import app

sys.modules["torch"] = None
version = machine._version
machine._version = lambda name: None if name == "torch" else version(name)
app(["doctor", "--json"])
"""
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (1, "")
        report = json.loads(ended.stdout)
        assert report["device"]["device"] is None
        assert report["kernels"]["cpu"] == []
        assert [problem["what"] for problem in report["problems"]] == ["Not installed: torch."]

    @pytest.mark.skipif(HAS_CUDA, reason="this machine has a CUDA device")
    def test_an_unavailable_device(self) -> None:
        status, shown = doctor("--device", "cuda")
        assert status == 1
        assert "there is no device cuda: torch finds 0 CUDA devices" in shown
        assert "Choose an available device" in shown

    def test_a_cpu_kernel_that_fails_or_cannot_be_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self_check, "check_cpu", lambda: FAILED)
        (problem,) = problems()
        assert problem.startswith("The CPU kernel fails its self-check: softmax wide float16: the entropy differs")

        def missing() -> None:
            raise ModuleNotFoundError("No module named 'numba'")

        monkeypatch.setattr(self_check, "check_cpu", missing)
        (problem,) = problems()
        assert "No module named 'numba'" in problem


@pytest.fixture
def nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Replace nvidia-smi by a script that lists two GPUs."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho '580.1, NVIDIA H200'\necho '580.1, NVIDIA H200'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)


@pytest.mark.usefixtures("nvidia_smi")
class TestCuda:
    @pytest.fixture
    def two_devices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make torch find both GPUs, and the self-check of the Triton kernels pass."""
        device = SimpleNamespace(name="NVIDIA H200", total_memory=141 * 2**30, major=9, minor=0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: device)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(self_check, "check_triton", lambda device: PASSED)
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    @pytest.mark.usefixtures("two_devices")
    def test_no_problems_with_two_gpus(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
        monkeypatch.setenv("CC", "/opt/bin/cc")
        monkeypatch.setattr(machine.sysconfig, "get_path", lambda name: str(tmp_path))
        (tmp_path / "Python.h").write_text("")
        status, shown = doctor()
        assert status == 0, shown
        rows = {line[:23].strip(): line[23:].strip() for line in shown.splitlines()}
        assert rows["device"] == "cuda:0 (for auto)"
        assert rows["NVIDIA driver"] == "580.1"
        assert rows["torch is built for"] == "CUDA 13.0"
        assert rows["cuda:1"] == "NVIDIA H200, 141 GiB, compute capability 9.0"
        assert rows["Triton kernels"] == "2 of 2 self-checks passed"
        assert rows["C compiler"] == "/opt/bin/cc"
        assert rows["Triton's cache"] == str(tmp_path / "triton")

    @pytest.mark.usefixtures("two_devices")
    def test_triton_is_not_checked_for_the_cpu(self) -> None:
        assert "not applicable: the device is cpu" in doctor("--device", "cpu")[1]

    @pytest.mark.usefixtures("two_devices")
    def test_failed_triton_kernels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self_check, "check_triton", lambda device: FAILED)
        failed = [problem for problem in problems(device="cuda:1") if "Triton fails" in problem]
        assert len(failed) == 1
        assert "softmax wide float16: the entropy differs by 0.5" in failed[0]
        assert "with plain torch" in failed[0]
        assert "1 of 2 self-checks passed; failed: softmax wide float16" in " ".join(doctor()[1].split())

    @pytest.mark.usefixtures("two_devices")
    def test_missing_needs_of_triton(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setattr(machine.sysconfig, "get_path", lambda name: "/nowhere")
        monkeypatch.setattr(machine, "_is_noexec", lambda place: True)
        shown = "\n".join(problem["what"] for problem in examine(None, "cuda")["problems"])
        assert "no C compiler" in shown
        assert "/nowhere/Python.h does not exist" in shown
        assert "mounted noexec" in shown
        assert "TRITON_INTERPRET=1" in shown
        monkeypatch.setattr(machine, "write_error", lambda folder: "Read-only file system")
        assert "triton cannot be written to" in "\n".join(
            problem["what"] for problem in examine(None, "cuda")["problems"]
        )

    @pytest.mark.parametrize(
        ("built_for", "what"), [(None, "it is built without CUDA"), ("13.0", "the driver is too old")]
    )
    def test_torch_finds_no_cuda_device(
        self, monkeypatch: pytest.MonkeyPatch, built_for: str | None, what: str
    ) -> None:
        def not_available() -> bool:
            if built_for:
                import warnings

                warnings.warn("the driver is too old", stacklevel=1)
            return False

        monkeypatch.setattr(torch.cuda, "is_available", not_available)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(torch.version, "cuda", built_for)
        (problem,) = problems(device=None)
        assert problem.startswith(f"The driver lists NVIDIA H200, NVIDIA H200, but torch {torch.__version__} finds no")
        assert what in problem
        assert problems(device="cpu") == []

    def test_nvidia_smi_fails(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
        report: dict[str, Any] = examine(None, "cpu")
        assert report["device"]["driver"] is None
