"""The command `focal-loss verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.console import add_row, fail, info, output, show_json, table
from service.cli.errors import SERVICE_FAILED
from service.cli.options import AsJson


def verify(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Name of the run.", show_default=False)] = None,
    all_runs: Annotated[bool, typer.Option("--all", help="Verify all runs.")] = False,
    data_dir: Annotated[str | None, typer.Option(help="Data directory, as for serve.", show_default=False)] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read every file of a run in the data directory, and print the damaged ones. The service may run meanwhile.

    --repair moves damaged files to runs/RUN/damaged, so that the rest of the run can be used, and writes again what
    follows from other files.

    Exit status: 0 no damage or all repaired, 1 damage, 2 usage error.
    """
    from service.cli.doctor.settings import examine_settings
    from service.errors import LossServiceError, NotFoundError
    from service.mining.queue_file import read_queue
    from service.mining.queues import FOLDER
    from service.runs.store import RunStore
    from service.runs.verify import verify as find_damage
    from service.storage.files import open_files

    if (run is None) == (not all_runs):
        fail("name a run, or use --all")
    values, _ = examine_settings(data_dir, None)
    rows: list[dict[str, str | bool]] = []
    try:
        for finding in find_damage(RunStore(open_files(values.data_dir), 1), run, {FOLDER: read_queue}):
            repaired = False
            if repair and finding.repair is not None:
                finding.repair()
                repaired = True
            members = {name: getattr(finding, name) for name in ("run", "file", "problem", "remedy")}
            rows.append({**members, "repaired": repaired})
    except NotFoundError as err:
        fail(f"{values.data_dir}: {err}")
    except (LossServiceError, OSError) as err:
        fail(f"{values.data_dir}: {err}", SERVICE_FAILED)
    if as_json:
        show_json({"findings": rows})
    else:
        _print(rows)
    raise typer.Exit(0 if all(row["repaired"] for row in rows) else SERVICE_FAILED)


def _print(rows: list[dict[str, str | bool]]) -> None:
    if not rows:
        info("No damaged files.")
        return
    shown = table("run", "damage", "repair")
    for row in rows:
        remedy = f"done: {row['remedy']}" if row["repaired"] else row["remedy"]
        add_row(shown, row["run"], f"{row['file']} {row['problem']}", remedy)
    output.print(shown)
