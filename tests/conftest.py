"""Markers and options of the test lanes, and the environment of all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

# Examples of each property test: HYPOTHESIS_PROFILE is `quick` (of `make quick`), `full` (the default) or `fuzz`.
for profile, examples in (("quick", 10), ("full", 25), ("fuzz", 5000)):
    settings.register_profile(profile, max_examples=examples, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "full"))

pytest_plugins = ["tests.services"]
FOLDER = Path(__file__).parent
MARKED_FOLDERS = ("live", "browser")
REPLY_WITHIN_S = 60.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--in-process",
        action="store_true",
        help="call the app in this process instead of a service over TCP in contract tests, except in live ones",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set httpx's timeout, and the variables that torch and Triton read at import, before test modules are imported."""
    # On a loaded machine a reply may take longer than the 5 s for which httpx waits.
    default = httpx._config.DEFAULT_TIMEOUT_CONFIG
    default.connect = default.read = default.write = default.pool = REPLY_WITHIN_S
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # The controller of pytest-xdist runs no test.
    # Two pytest processes share the cores: idle threads must not spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    import torch

    # Without a GPU the kernels of `service.loss.kernels.cuda` run in Triton's interpreter. Triton reads the variable at
    # import, and more than one package imports it.
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave modules and tests out of garbage collections: they are a million objects, and live to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and tests whose fixtures start a service process as `live`."""
    process_fixtures = {"server", "server_with"} | (set() if config.getoption("in_process") else {"client_with"})
    for item in items:
        folder = item.path.relative_to(FOLDER).parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(folder)
        if process_fixtures & set(getattr(item, "fixturenames", ())):
            item.add_marker("live")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of tests that passed: `record_property("figures", text)`."""
    lines = [
        f"{report.nodeid}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "figures" and report.when == "call"
    ]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(lines))
