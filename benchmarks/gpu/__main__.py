"""`make gpu-check`, and one of its measurements: `python -m benchmarks.gpu [--part NAME]`."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.gpu import kernels, over_http, transfer
from benchmarks.gpu.check import LIMIT_S, run
from benchmarks.gpu.summary import summary
from service.compute.device import resolve_device
from service.errors import DeviceUnavailableError

MEASUREMENTS = ("kernels", "http", "transfer")
FAILED, NO_GPU = 1, 2

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:N, or cpu to test the check itself.")] = "cuda",
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to test the check itself.")] = False,
    report: Annotated[Path, typer.Option(help="File for the JSON report.")] = Path("build/gpu_check.json"),
    limit_s: Annotated[float, typer.Option(help="Maximum seconds for all parts.")] = LIMIT_S,
    part: Annotated[
        str | None, typer.Option(help=f"Run only this measurement and print it as JSON: {', '.join(MEASUREMENTS)}.")
    ] = None,
) -> None:
    """Check and measure the service on a GPU. Exit status: 0 all passed, 1 something failed, 2 there is no GPU."""
    try:
        device = resolve_device(device)
    except DeviceUnavailableError as err:
        print(f"Nothing was checked: {err.detail}.")
        raise typer.Exit(NO_GPU) from err
    with tempfile.TemporaryDirectory() as folder:
        if part is not None:
            # Exit normally on SIGTERM, so that the service that it has started ends too.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILED))
            print(json.dumps(measure(part, device, Path(folder), quick)))
            return
        result = run(device, report, Path(folder), quick=quick, limit_s=limit_s)
    print(summary(result))
    print(f"The report is {report}.")
    raise typer.Exit(0 if result["ok"] else FAILED)


def measure(part: str, device: str, folder: Path, quick: bool) -> Any:
    """Return the figures of one part as JSON values."""
    if device != "cpu":
        torch.cuda.set_device(device)
    match part:
        case "kernels":
            return list(kernels.figures(device, quick=quick))
        case "http":
            return over_http.figures(device, folder, quick=quick)
        case "transfer":
            return transfer.figures(device, quick=quick)
    raise typer.BadParameter(f"{part}: not one of {', '.join(MEASUREMENTS)}", param_hint="--part")


if __name__ == "__main__":
    app()
