"""The report of `make gpu-check` as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def summary(report: Mapping[str, Any]) -> str:
    """Write a few lines for each part: its figures, and its error if it failed."""
    machine = report["machine"]
    lines = [
        f"{machine['gpu'] or 'no GPU'}, torch {machine['torch']}, CUDA {machine['cuda']}, Python {machine['python']}, "
        f"{machine['cores']} cores; {report['seconds']:.0f} s"
    ]
    for name, part in report["parts"].items():
        seconds = f" ({part['seconds']:.1f} s)" if part["seconds"] is not None else ""
        lines.append(f"{name}: {'ok' if part['ok'] else 'FAILED'}{seconds}")
        if part["error"]:
            lines.append(f"  {' '.join(part['error'].split())[:1000]}")
        if part["result"] and name in _LINES:
            lines += [f"  {line}" for line in _LINES[name](part["result"])]
    lines.append("Everything passed." if report["ok"] else "Something failed.")
    return "\n".join(lines)


def _doctor_lines(result: Any) -> Iterator[str]:
    packages = result["versions"]["packages"]
    yield ", ".join(f"{name} {version or 'missing'}" for name, version in packages.items())
    yield f"driver {result['device']['driver'] or 'none found'}"


def _self_check_lines(result: Any) -> Iterator[str]:
    for check in result:
        error = "-" if check["largest_error"] is None else f"{check['largest_error']:.2g}"
        yield f"{check['kernel']} {check['dtype']}: {'ok' if check['ok'] else 'FAILED'}, largest error {error}"


def _kernels_lines(result: Any) -> Iterator[str]:
    for row in result:
        what = f"{row['size']} {row['dtype']}"
        if "not_measured" in row:
            yield f"{what}: not measured, {row['not_measured']}"
            continue
        memory = row["extra_memory_share"]
        yield (
            f"{what}: {row['kernel_gb_s']:.0f} GB/s, copy {row['copy_gb_s']:.0f} GB/s "
            f"(share {row['share_of_copy']:.2f}); loss {row['loss_ms']:.3g} ms, eager {row['eager_ms']:.3g} ms "
            f"({row['times_eager']:.1f} times)" + ("" if memory is None else f"; extra memory {memory:.1%}")
        )


def _http_lines(result: Any) -> Iterator[str]:
    for row in result["rows"]:
        yield (
            f"{row['format']} {row['rows']} x {row['classes']}, {row['clients']} clients: "
            f"{row['requests_s']:.4g} req/s, {row['gb_s']:.2g} GB/s, median {row['p50_ms']:.3g} ms"
        )
    yield from (f"log: {line}" for line in result["warnings"])


def _transfer_lines(result: Any) -> Iterator[str]:
    for row in result:
        overlap = "not applicable" if row["overlap"] is None else f"{row['overlap']:.0%} of the shorter hidden"
        yield (
            f"{row['chunks']} chunks, {row['memory']}: upload {row['upload_ms']:.3g} ms, "
            f"compute {row['compute_ms']:.3g} ms, together {row['together_ms']:.3g} ms; {overlap}"
        )


def _tests_lines(result: Any) -> Iterator[str]:
    yield ", ".join(f"{result[name]} {name}" for name in ("tests", "failures", "errors", "skipped"))
    yield from (f"skipped: {reason}" for reason in result["skipped_because"])
    yield from (f"failed: {name}: {message}" for name, message in result["failed"].items())


_LINES = {
    "doctor": _doctor_lines,
    "self_check": _self_check_lines,
    "kernels": _kernels_lines,
    "http": _http_lines,
    "transfer": _transfer_lines,
    "tests": _tests_lines,
}
