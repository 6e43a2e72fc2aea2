"""The README tells the truth: settings, routes, outputs, errors, layers, and its commands run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from service import __version__
from service.api.app import create_app
from service.errors import LossServiceError
from service.schema.config import LossConfig
from service.schema.request import OUTPUTS
from service.settings import ENV_PREFIX, Settings
from tests.live.server_process import ServerProcess

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


def test_every_setting_is_listed_with_its_default_and_meaning() -> None:
    for name, field in Settings.model_fields.items():
        default = "none" if field.default == () else field.default
        row = f"| `--{name.replace('_', '-')}` | `{ENV_PREFIX}{name.upper()}` | {default} | {field.description} |"
        assert row in section("Settings")
    assert len(first_cells(section("Settings"))) == len(Settings.model_fields)


def test_every_route_is_listed() -> None:
    listed = set(re.findall(r"`((?:GET|PUT|POST|DELETE) [^`]+)`", section("API")))
    paths = create_app(Settings()).openapi()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert listed == served | {"GET /openapi.json", "GET /docs", "GET /"}


def test_every_output_field_and_error_is_listed() -> None:
    request = section("Request")
    assert [cell for cell in first_cells(request) if cell in OUTPUTS] == list(OUTPUTS)
    assert first_cells(section("Configuration")) == list(LossConfig.model_fields)

    def kinds(kind: type[LossServiceError]) -> list[type[LossServiceError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in kinds(child))]

    rows = re.findall(r"^\| ([\d, ]+) \| (.+) \|$", section("Errors"), re.MULTILINE)
    for kind in kinds(LossServiceError):
        assert any(str(kind.status) in status and f"`{kind.code}`" in codes for status, codes in rows), kind.code


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    table = section("Architecture")
    for requirement in [*project["dependencies"], *extras["server"], *extras["label-studio"], *extras["demo"]]:
        name = re.split(r"[<>=;\[]", requirement)[0]
        if name == project["name"]:
            continue
        assert re.search(rf"^\| .*\b{re.escape(name)}\b.* \| .+ \|$", table, re.MULTILINE), name


def test_the_drawn_layers_are_the_checked_ones() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    drawing, lowest = section("Architecture"), 0
    for layer in contracts[0]["layers"][1:]:
        names = [name.strip() for name in layer.split("|")]
        places = [max(drawing.find(f"service/{name}/"), drawing.find(f"service/{name}.py")) for name in names]
        assert min(places) > lowest, layer
        lowest = max(places)


def test_the_changelog_has_the_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def shell_blocks(title: str) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", section(title), re.DOTALL)


def run(block: str, server: ServerProcess, folder: Path) -> str:
    block = block.replace("http://127.0.0.1:8000", server.url)
    block = block.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    return subprocess.run(["bash", "-euc", block], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_json_example_answers_as_printed(server: ServerProcess, tmp_path: Path) -> None:
    _, json_block, *_ = shell_blocks("Ask it yourself")
    printed = re.search(r"```json\n(.*?)```", section("Ask it yourself"), re.DOTALL)
    assert printed
    got, expected = json.loads(run(json_block, server, tmp_path)), json.loads(printed[1])
    assert got.keys() == expected.keys()
    assert got["config_id"] == expected["config_id"]
    assert got["batches"][0]["per_example"]["loss"] == pytest.approx(expected["batches"][0]["per_example"]["loss"])


def test_the_safetensors_example_runs(server: ServerProcess, tmp_path: Path) -> None:
    _, _, safetensors_block, _, _ = shell_blocks("Ask it yourself")
    loss, shape = run(safetensors_block, server, tmp_path).split(maxsplit=1)
    assert 4 < float(loss) < 6
    assert shape.strip() == "(4096,)"


def test_the_arrow_example_runs(server: ServerProcess, tmp_path: Path) -> None:
    *_, arrow_block, _ = shell_blocks("Ask it yourself")
    assert run(arrow_block, server, tmp_path).split(maxsplit=1) == ["1000000", "['index', 'loss', 'prediction']\n"]


def test_the_file_example_runs(server: ServerProcess, tmp_path: Path) -> None:
    *_, file_block = shell_blocks("Ask it yourself")
    reply = json.loads(run(file_block, server, tmp_path))
    assert reply["batches"][0]["per_example"]["prediction"] == [0, 2]
    assert reply["hardest"][0]["id"] == "b"


def run_python(title: str, server: ServerProcess, folder: Path) -> str:
    example = re.search(r"```python\n(.*?)```", section(title), re.DOTALL)
    assert example
    script = folder / "example.py"
    script.write_text(example[1].replace("127.0.0.1:8000", server.url.removeprefix("http://")))
    return subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_python_example_runs(server: ServerProcess, tmp_path: Path) -> None:
    shown = run_python("From Python", server, tmp_path).splitlines()
    assert "(1000,)" in shown[0]
    assert "1000 rows" in shown
    assert shown[-1] == "batch 0, row 3, column 4: logit NaN"


def test_the_score_example_runs(server: ServerProcess, tmp_path: Path) -> None:
    (block,) = shell_blocks("Score files")
    assert "ready    yes" in run(block, server, tmp_path)
    assert (tmp_path / "scored.parquet").exists()


def test_the_example_of_a_run_runs(server: ServerProcess, tmp_path: Path) -> None:
    (block,) = shell_blocks("Keep runs, find wrong labels")
    answers = run(block, server, tmp_path)
    assert '"next_cursor":"' in answers
    (task,) = json.loads((tmp_path / "pets.json").read_text())
    assert task["data"]["given_label"] == "dog"
    shown = run_python("Keep runs, find wrong labels", server, tmp_path).splitlines()
    assert int(shown[0].split()[0]) > 30
    assert shown[1].startswith("Over the epochs the label's logit margin was -")
    assert int(shown[2].split()[0]) > 40


def test_the_commands_for_runs_run(server: ServerProcess, tmp_path: Path) -> None:
    (block,) = shell_blocks("On the command line")
    shown = run(block, server, tmp_path)
    assert "wrong labels" in shown
    assert "<html" in (tmp_path / "report.html").read_text()
    assert len((tmp_path / "monday.csv").read_text().splitlines()) == 51
    assert len(json.loads((tmp_path / "monday.label-studio.json").read_text())) == 50
    assert "mail" in shown


def test_the_training_loop_runs(server: ServerProcess, tmp_path: Path) -> None:
    assert run_python("In a training loop", server, tmp_path) == "3 epochs are kept\n"


def test_the_triton_example_runs(server: ServerProcess, tmp_path: Path) -> None:
    shown = run_python("Open Inference Protocol", server, tmp_path)
    loss, contributions = shown.replace("[", "").replace("]", "").split()
    assert float(contributions) == pytest.approx(float(loss), rel=1e-4)


def test_the_printed_error_is_the_services_own(server: ServerProcess, tmp_path: Path) -> None:
    printed = re.search(r"```json\n(.*?)```", section("Errors"), re.DOTALL)
    assert printed
    body = json.dumps({"logits": [[0] * 10] * 18, "targets": [0] * 17 + [12]})
    block = f"curl -s http://127.0.0.1:8000/loss -H 'Content-Type: application/json' -d '{body}'"
    assert json.loads(run(block, server, tmp_path)) == json.loads(printed[1])
