"""The command: examine every part, print a table or JSON, and end with 1 if anything is wrong."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from service.cli.console import add_row, json_text, output, table
from service.cli.doctor.machine import examine_cuda, examine_kernels, examine_versions
from service.cli.doctor.settings import examine_data_dir, examine_settings
from service.cli.options import AsJson


def doctor(
    data_dir: Annotated[str | None, typer.Option(help="Data directory, as for serve.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N, as for serve.")] = None,
    as_json: AsJson = False,
) -> None:
    """Examine this machine: versions, device, kernels, data directory, settings; say what is wrong and what to do.

    Exit status: 0 nothing is wrong, 1 something is.
    """
    report = examine(data_dir, device)
    if as_json:
        typer.echo(json_text(report))
    else:
        _print(report)
    raise typer.Exit(1 if report["problems"] else 0)


def examine(data_dir: str | None, device: str | None) -> dict[str, Any]:
    """The report as JSON values.

    Args:
        data_dir: The option, or None for the environment's or the default.
        device: The same.

    Returns:
        `versions`, `settings`, `device`, `kernels` and `data_dir` with the facts of each part, and `problems`, a list
        of `what` is wrong and its `fix`.
    """
    chosen, settings = examine_settings(data_dir, device)
    cuda = examine_cuda(chosen.device)
    parts = {
        "versions": examine_versions(),
        "settings": settings,
        "device": cuda,
        "kernels": examine_kernels(cuda.facts["device"]),
        "data_dir": examine_data_dir(chosen.data_dir),
    }
    problems = [asdict(problem) for part in parts.values() for problem in part.problems]
    return {name: part.facts for name, part in parts.items()} | {"problems": problems}


def _print(report: dict[str, Any]) -> None:
    shown = table("what", "found")
    for name, found in [*_versions(report), *_device(report), *_kernels(report), *_storage(report)]:
        add_row(shown, name, found)
    output.print(shown)
    problems = report["problems"]
    lines = [f"{number}. {problem['what']}\n   {problem['fix']}" for number, problem in enumerate(problems, start=1)]
    text = "\n".join(["Problems:", *lines]) if lines else "Nothing is wrong."
    output.print(text, markup=False, highlight=False, soft_wrap=True)


def _versions(report: dict[str, Any]) -> list[tuple[str, str]]:
    versions = report["versions"]
    packages = [(name, found or "not installed") for name, found in versions["packages"].items()]
    own = [("service", versions["service"]), ("Python", versions["python"]), ("platform", versions["platform"])]
    return [*own, *packages]


def _device(report: dict[str, Any]) -> list[tuple[str, str]]:
    device = report["device"]
    resolved = device["device"] or "none"
    rows = [("device", resolved if device["wanted"] == resolved else f"{resolved} (for {device['wanted']})")]
    rows.append(("NVIDIA driver", device["driver"] or "none found"))
    rows.append(("torch is built for", f"CUDA {device['built_for']}" if device["built_for"] else "the CPU alone"))
    for number, gpu in enumerate(device["cuda_devices"]):
        memory = f"{gpu['memory_bytes'] / 2**30:.0f} GiB"
        rows.append((f"cuda:{number}", f"{gpu['name']}, {memory}, compute capability {gpu['compute_capability']}"))
    return rows


def _kernels(report: dict[str, Any]) -> list[tuple[str, str]]:
    kernels, device = report["kernels"], report["device"]
    rows = [("CPU kernel", _checked(kernels["cpu"]))]
    if kernels["triton_needs"] is None:
        reason = f"the device is {device['device']}" if device["cuda_devices"] else "no CUDA device"
        return [*rows, ("Triton kernels", f"not applicable: {reason}")]
    rows.append(("Triton kernels", _checked(kernels["triton"])))
    needs = kernels["triton_needs"]
    return [*rows, ("C compiler", needs["compiler"] or "none found"), ("Triton's cache", needs["cache"])]


def _checked(checks: list[dict[str, Any]]) -> str:
    if not checks:
        return "not checked"
    failed = [f"{check['kernel']} {check['dtype']}" for check in checks if not check["ok"]]
    passed = f"{len(checks) - len(failed)} of {len(checks)} self-checks passed"
    return f"{passed}; failed: {', '.join(failed)}" if failed else passed


def _storage(report: dict[str, Any]) -> list[tuple[str, str]]:
    place = report["data_dir"]
    if place["writable"] is None:
        state = "can be listed, writing was not tried" if place["exists"] else "cannot be listed"
    else:
        exists = "exists" if place["exists"] else "is made when it is first needed"
        state = f"{exists}, {'writable' if place['writable'] else 'not writable'}"
    free = "" if place["free_bytes"] is None else f", {place['free_bytes'] / 2**30:.1f} GiB free"
    variables = ", ".join(report["settings"]["variables"]) or "none"
    return [("data directory", f"{place['path']} ({state}{free})"), ("variables that are set", variables)]
