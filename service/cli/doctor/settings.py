"""Examination of the settings, from options and environment variables, and of the data directory."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from pydantic import ValidationError

from service.cli.doctor.folders import existing_parent, write_error
from service.cli.doctor.report import DataDirFacts, Finding, Problem, SettingsFacts
from service.schema.faults import error_items
from service.settings import ENV_PREFIX, Settings

# Variables with the prefix that are not settings of `serve`: of the client, docker-compose and the tests.
OTHER_VARIABLES = frozenset({"API_KEY", "PUBLISH", "SCREENSHOTS"})
TESTS_PREFIX = "TEST_"
MIN_FREE_BYTES = 2**30
REMOTE_TIMEOUT_S = 15.0


class Values(NamedTuple):
    """Values of the two settings that are examined further; the default value if the setting is invalid."""

    data_dir: str
    device: str


def examine_settings(data_dir: str | None, device: str | None) -> tuple[Values, Finding[SettingsFacts]]:
    """Read the settings as `serve` does: options override `FOCAL_LOSS_*` variables.

    Args:
        data_dir: The option `--data-dir`, or None.
        device: The option `--device`, or None.
    """
    options = {name: value for name, value in (("data_dir", data_dir), ("device", device)) if value is not None}
    variables = sorted(name for name in os.environ if name.startswith(ENV_PREFIX))
    problems = [problem for name in variables if (problem := _unknown_variable(name))]
    try:
        settings = Settings(**options)  # type: ignore[arg-type]
        values = Values(settings.data_dir, settings.device)
    except ValidationError as err:
        items = error_items(err, [])
        for item in items:
            name = ".".join(map(str, item["loc"])) or "settings"
            variable = f"the variable {ENV_PREFIX}{name.upper()}" if item["loc"] else "these settings"
            fix = f"Correct the option --{name.replace('_', '-')}" if name in options else f"Correct {variable}"
            fix = f"{fix}; `focal-loss serve --help` lists all settings."
            problems.append({"what": f"{name}: {item['msg']}", "fix": fix})
        values = _valid_values(options, {str(item["loc"][0]) for item in items if item["loc"]})
    # Names only: a value can be a key.
    return values, Finding({"variables": variables}, problems)


def _valid_values(options: Mapping[str, str], invalid: set[str]) -> Values:
    values = []
    for name in Values._fields:
        default = Settings.model_fields[name].default
        value = options.get(name, os.environ.get(f"{ENV_PREFIX}{name.upper()}", default))
        values.append(default if name in invalid else value)
    return Values(*values)


def _unknown_variable(variable: str) -> Problem | None:
    name = variable.removeprefix(ENV_PREFIX)
    settings = [setting.upper() for setting in Settings.model_fields]
    if name in settings or name in OTHER_VARIABLES or name.startswith(TESTS_PREFIX):
        return None
    similar = get_close_matches(name, settings, 1)
    fix = f"Did you mean {ENV_PREFIX}{similar[0]}? Otherwise unset it." if similar else "Unset it."
    return {"what": f"The variable {variable} is not a setting and has no effect.", "fix": fix}


def examine_data_dir(location: str) -> Finding[DataDirFacts]:
    """Examine the data directory: write a file to a local folder, list a remote one."""
    if "://" in location and not location.startswith("file://"):
        return _examine_remote(location)
    folder = Path(location.removeprefix("file://")).expanduser()
    facts: DataDirFacts = {"path": str(folder), "exists": folder.exists(), "writable": False, "free_bytes": None}
    if folder.exists() and not folder.is_dir():
        what = f"The data directory {folder} is not a folder."
        return Finding(facts, [{"what": what, "fix": "Choose another one: --data-dir or FOCAL_LOSS_DATA_DIR."}])
    parent = existing_parent(folder)
    facts["free_bytes"] = free = shutil.disk_usage(parent).free
    problems: list[Problem] = []
    if error := write_error(parent):
        what = f"The data directory {folder} cannot be written to ({parent}: {error})."
        user = f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"
        problems.append({"what": what, "fix": f"Allow {user} to write there, or choose another one: --data-dir."})
    facts["writable"] = not problems
    if free < MIN_FREE_BYTES:
        what = f"The disk of the data directory {folder} has {free / 2**20:.0f} MiB left."
        problems.append({"what": what, "fix": "Free some space, or choose another one: --data-dir."})
    return Finding(facts, problems)


def _examine_remote(location: str) -> Finding[DataDirFacts]:
    shown = re.sub(r"//[^/@]*@", "//***@", location)
    errors = [f"no reply within {REMOTE_TIMEOUT_S:g} s"]

    def list_runs() -> None:
        try:
            from service.storage.files import open_files

            open_files(location).folders("runs")
            errors.clear()
        except Exception as err:  # each file system of fsspec raises its own
            errors[:] = [f"{type(err).__name__}: {err}".replace(location, shown)]

    thread = Thread(target=list_runs, daemon=True)
    thread.start()
    thread.join(REMOTE_TIMEOUT_S)
    facts: DataDirFacts = {"path": shown, "exists": not errors, "writable": None, "free_bytes": None}
    if not errors:
        return Finding(facts)
    what = f"The data directory {shown} cannot be listed: {errors[0]}"
    fix = "Install its fsspec package (s3fs, gcsfs, adlfs, ...), and check address, network and permissions."
    return Finding(facts, [{"what": what, "fix": fix}])
