"""The command `focal-loss doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from service.cli.console import add_row, output, show_json, show_text, table
from service.cli.doctor.report import DataDirFacts, DeviceFacts, KernelFacts, Report, SelfCheck, Versions
from service.cli.options import AsJson

Row = tuple[str, str]


def doctor(
    data_dir: Annotated[str | None, typer.Option(help="Data directory, as for serve.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N, as for serve.")] = None,
    as_json: AsJson = False,
) -> None:
    """Examine this machine and print problems with their fixes.

    Checks the versions, device, kernels, data directory and settings.

    Exit status: 0 no problems, 1 problems.
    """
    report = examine(data_dir, device)
    if as_json:
        show_json(report)
    else:
        _print(report)
    raise typer.Exit(1 if report["problems"] else 0)


def examine(data_dir: str | None, device: str | None) -> Report:
    """Examine all parts of this machine.

    Args:
        data_dir: The data directory; None: the setting from the environment, or its default.
        device: The device, likewise.
    """
    from service.cli.doctor.machine import examine_cuda, examine_kernels, examine_versions
    from service.cli.doctor.settings import examine_data_dir, examine_settings

    values, settings = examine_settings(data_dir, device)
    cuda = examine_cuda(values.device)
    versions, kernels = examine_versions(), examine_kernels(cuda.facts["device"])
    folder = examine_data_dir(values.data_dir)
    return {
        "versions": versions.facts,
        "settings": settings.facts,
        "device": cuda.facts,
        "kernels": kernels.facts,
        "data_dir": folder.facts,
        "problems": [
            *versions.problems,
            *settings.problems,
            *cuda.problems,
            *kernels.problems,
            *folder.problems,
        ],
    }


def _print(report: Report) -> None:
    shown = table("part", "value")
    rows = [
        *_version_rows(report["versions"]),
        *_device_rows(report["device"]),
        *_kernel_rows(report["kernels"], report["device"]),
        _data_dir_row(report["data_dir"]),
        ("environment variables", ", ".join(report["settings"]["variables"]) or "none"),
    ]
    for row in rows:
        add_row(shown, *row)
    output.print(shown)
    problems = enumerate(report["problems"], start=1)
    lines = [f"{number}. {problem['what']}\n   {problem['fix']}" for number, problem in problems]
    show_text("\n".join(["Problems:", *lines]) if lines else "No problems found.")


def _version_rows(versions: Versions) -> list[Row]:
    packages = [(name, version or "not installed") for name, version in versions["packages"].items()]
    own = [("service", versions["service"]), ("Python", versions["python"]), ("platform", versions["platform"])]
    return [*own, *packages]


def _device_rows(device: DeviceFacts) -> list[Row]:
    resolved = device["device"] or "none"
    rows = [
        ("device", resolved if device["wanted"] == resolved else f"{resolved} (for {device['wanted']})"),
        ("NVIDIA driver", device["driver"] or "none found"),
        ("torch is built for", f"CUDA {device['built_for']}" if device["built_for"] else "the CPU only"),
    ]
    for number, gpu in enumerate(device["cuda_devices"]):
        memory = f"{gpu['memory_bytes'] / 2**30:.0f} GiB"
        rows.append((f"cuda:{number}", f"{gpu['name']}, {memory}, compute capability {gpu['compute_capability']}"))
    return rows


def _kernel_rows(kernels: KernelFacts, device: DeviceFacts) -> list[Row]:
    rows = [("CPU kernel", _check_text(kernels["cpu"]))]
    needs = kernels["triton_needs"]
    if needs is None:
        reason = f"the device is {device['device']}" if device["cuda_devices"] else "no CUDA device"
        return [*rows, ("Triton kernels", f"not applicable: {reason}")]
    rows.append(("Triton kernels", _check_text(kernels["triton"])))
    return [*rows, ("C compiler", needs["compiler"] or "none found"), ("Triton's cache", needs["cache"])]


def _check_text(checks: Sequence[SelfCheck]) -> str:
    if not checks:
        return "not checked"
    failed = [f"{check['kernel']} {check['dtype']}" for check in checks if not check["ok"]]
    passed = f"{len(checks) - len(failed)} of {len(checks)} self-checks passed"
    return f"{passed}; failed: {', '.join(failed)}" if failed else passed


def _data_dir_row(folder: DataDirFacts) -> Row:
    if folder["writable"] is None:
        state = "can be listed, writing was not tried" if folder["exists"] else "cannot be listed"
    else:
        exists = "exists" if folder["exists"] else "will be created at first use"
        state = f"{exists}, {'writable' if folder['writable'] else 'not writable'}"
    free = "" if folder["free_bytes"] is None else f", {folder['free_bytes'] / 2**30:.1f} GiB free"
    return "data directory", f"{folder['path']} ({state}{free})"
