"""The settings from options and environment variables, and the data directory that they name."""

from __future__ import annotations

import os
import re
import shutil
from difflib import get_close_matches
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from pydantic import ValidationError

from service.cli.doctor.finding import Finding, Problem, existing_parent, write_error
from service.schema.faults import error_items
from service.settings import ENV_PREFIX, Settings

# Variables with the prefix that are not settings of `serve`: the client's, compose's and the tests'.
OTHER_VARIABLES = frozenset({"API_KEY", "PUBLISH", "SCREENSHOTS"})
TESTS = "TEST_"
LEAST_FREE_BYTES = 2**30
REMOTE_ANSWERS_WITHIN_S = 15.0


class Chosen(NamedTuple):
    """The two settings that are examined further; the default where the setting is wrong."""

    data_dir: str
    device: str


def examine_settings(data_dir: str | None, device: str | None) -> tuple[Chosen, Finding]:
    """Read the settings as `serve` does: options win over `FOCAL_LOSS_*` variables.

    Args:
        data_dir: The option `--data-dir`, or None.
        device: The option `--device`, or None.
    """
    options: dict[str, Any] = {
        name: value for name, value in (("data_dir", data_dir), ("device", device)) if value is not None
    }
    variables = sorted(name for name in os.environ if name.startswith(ENV_PREFIX))
    problems = [problem for name in variables if (problem := _unknown_variable(name))]
    try:
        settings = Settings(**options)
        chosen = Chosen(settings.data_dir, settings.device)
    except ValidationError as err:
        items = error_items(err, [])
        for item in items:
            name = ".".join(map(str, item["loc"])) or "settings"
            variable = f"the variable {ENV_PREFIX}{name.upper()}" if item["loc"] else "the settings that it names"
            fix = f"Correct the option --{name.replace('_', '-')}" if name in options else f"Correct {variable}"
            problems.append(Problem(f"{name}: {item['msg']}", f"{fix}; `focal-loss serve --help` lists all settings."))
        chosen = _correct_values(options, {str(item["loc"][0]) for item in items if item["loc"]})
    # Names only: a value can be a key.
    return chosen, Finding({"variables": variables}, problems)


def _correct_values(options: dict[str, Any], wrong: set[str]) -> Chosen:
    values = []
    for name in Chosen._fields:
        default = Settings.model_fields[name].default
        given = options.get(name, os.environ.get(f"{ENV_PREFIX}{name.upper()}", default))
        values.append(default if name in wrong else given)
    return Chosen(*values)


def _unknown_variable(variable: str) -> Problem | None:
    name = variable.removeprefix(ENV_PREFIX)
    settings = [setting.upper() for setting in Settings.model_fields]
    if name in settings or name in OTHER_VARIABLES or name.startswith(TESTS):
        return None
    similar = get_close_matches(name, settings, 1)
    meant = f"Did you mean {ENV_PREFIX}{similar[0]}? Otherwise unset it." if similar else "Unset it."
    return Problem(f"The variable {variable} is no setting and has no effect.", meant)


def examine_data_dir(location: str) -> Finding:
    """The data directory: a local folder is written to, a remote one is listed."""
    if "://" in location and not location.startswith("file://"):
        return _remote(location)
    folder = Path(location.removeprefix("file://")).expanduser()
    facts = {"path": str(folder), "exists": folder.exists(), "writable": False, "free_bytes": None}
    if folder.exists() and not folder.is_dir():
        what = f"The data directory {folder} is not a folder."
        return Finding(facts, [Problem(what, "Choose another one: --data-dir or FOCAL_LOSS_DATA_DIR.")])
    place = existing_parent(folder)
    facts["free_bytes"] = free = shutil.disk_usage(place).free
    problems = []
    if refused := write_error(place):
        what = f"The data directory {folder} cannot be written to ({place}: {refused})."
        user = f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"
        problems.append(Problem(what, f"Give {user} the right to write there, or choose another one: --data-dir."))
    facts["writable"] = not problems
    if free < LEAST_FREE_BYTES:
        what = f"The disk of the data directory {folder} has {free / 2**20:.0f} MiB left."
        problems.append(Problem(what, "Free some space there, or choose another one: --data-dir."))
    return Finding(facts, problems)


def _remote(location: str) -> Finding:
    shown = re.sub(r"//[^/@]*@", "//***@", location)
    errors = ["it did not answer in time"]

    def list_runs() -> None:
        try:
            from service.runs.files import open_files

            open_files(location).folders("runs")
            errors.clear()
        except Exception as err:  # each file system of fsspec raises its own
            errors[:] = [f"{type(err).__name__}: {err}".replace(location, shown)]

    thread = Thread(target=list_runs, daemon=True)
    thread.start()
    thread.join(REMOTE_ANSWERS_WITHIN_S)
    facts = {"path": shown, "exists": not errors, "writable": None, "free_bytes": None}
    if not errors:
        return Finding(facts)
    fix = (
        "Install fsspec's package for it (s3fs, gcsfs, adlfs, ...), and check the address, the network and the rights."
    )
    return Finding(facts, [Problem(f"The data directory {shown} cannot be listed: {errors[0]}", fix)])
