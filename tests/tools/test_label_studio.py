"""The real Label Studio: import, order, annotations by webhook, and the pull, in an environment of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.client import LossClient, RunClient
from tests.cli import command
from tests.live.server_process import ServerProcess
from tests.services import ServerWith
from tests.tools.conftest import CLASS_NAMES, IDS, LABELS, LOGITS, ROWS, TEXTS
from tests.tools.label_studio import TOKEN, Project, running_label_studio, sent

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(os.environ.get("FOCAL_LOSS_TEST_LABEL_STUDIO", ROOT / ".venv-label-studio" / "bin" / "label-studio"))
OWNER, REVIEWER = "owner-key-0123456789", "label-studio-key-0123456789"
WITHIN_S = 1.0

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM.exists(), reason=f"{PROGRAM} is not there: make tools installs Label Studio"),
]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with running_label_studio(PROGRAM, tmp_path_factory.mktemp("label-studio")) as client:
        yield client


@pytest.fixture(scope="module")
def keyed(server_with: ServerWith) -> ServerProcess:
    return server_with(api_keys=f"owner:owner:{OWNER},studio:reviewer:{REVIEWER}", processes="2")


@pytest.fixture
def texts(keyed: ServerProcess) -> Iterator[RunClient]:
    """A run with a queue of all examples, the most suspicious one first."""
    with LossClient(keyed.url, api_key=OWNER) as client:
        run = client.put_run("texts", class_names=CLASS_NAMES)
        run.push(0, "all", LOGITS, LABELS, IDS, attributes={"text": TEXTS})
        run.create_queue("logit_margin", ROWS, name="all")
        yield run
        run.delete()


@pytest.fixture
def project(studio: httpx.Client, keyed: ServerProcess, texts: RunClient) -> Project:
    """A project with the tasks of the queue and a webhook."""
    config = httpx.get(f"{keyed.url}/runs/texts/label-studio/config", auth=("owner", OWNER)).text
    project = Project.create(studio, "texts", config)
    imported = project.import_tasks(texts.export(format="label-studio", queue="all"))
    assert (imported["task_count"], imported["prediction_count"]) == (ROWS, ROWS)
    project.add_webhook(f"{keyed.url}/runs/texts/label-studio/webhook", {"Authorization": f"Bearer {REVIEWER}"})
    return project


def verdicts(run: RunClient) -> dict[str, tuple[str, int | None]]:
    return {review["id"]: (review["verdict"] or "", review["label"]) for review in run.reviews()["reviews"]}


def expect(run: RunClient, expected: dict[str, tuple[str, int | None]]) -> None:
    """Wait until the verdicts are those, for a second at most."""
    deadline = time.monotonic() + WITHIN_S
    while verdicts(run) != expected and time.monotonic() < deadline:
        pass
    assert verdicts(run) == expected


def test_annotations_are_verdicts_within_a_second(project: Project, texts: RunClient, keyed: ServerProcess) -> None:
    rows = texts.queue("all")["rows"]
    tasks = project.tasks_in_order("tasks:predictions_score")
    assert [task["data"]["external_id"] for task in tasks] == [row["id"] for row in rows]
    (first, second, third), given = tasks[:3], [row["target"] for row in rows[:3]]
    ids = [row["id"] for row in rows[:3]]
    other = (given[0] + 1) % 3

    created = project.annotate(first["id"], CLASS_NAMES[other])
    expect(texts, {ids[0]: ("wrong", other)})
    project.update(created, CLASS_NAMES[given[0]])
    expect(texts, {ids[0]: ("ok", None)})
    skipped = project.annotate(second["id"], None, was_cancelled=True)
    expect(texts, {ids[0]: ("ok", None), ids[1]: ("unsure", None)})
    project.update(skipped, CLASS_NAMES[given[1]], was_cancelled=False)
    expect(texts, {ids[0]: ("ok", None), ids[1]: ("ok", None)})
    project.annotate(third["id"], None)
    project.delete(created)
    expect(texts, {ids[1]: ("ok", None)})
    (review,) = texts.reviews()["reviews"]
    assert (review["reviewer"], review["queue"]) == ("label-studio:1", "all")
    # Events have the project's credentials.
    kept = [keyed.log_path, *(path for path in keyed.data_dir.rglob("*") if path.is_file())]
    assert not any(b"task_data_password" in path.read_bytes() for path in kept)


def test_the_command_pulls_what_the_webhook_lost(
    studio: httpx.Client, project: Project, texts: RunClient, keyed: ServerProcess
) -> None:
    tasks = project.tasks_in_order("tasks:predictions_score")
    for webhook in sent(studio.get(f"/api/webhooks/?project={project.number}")):
        studio.delete(f"/api/webhooks/{webhook['id']}/").raise_for_status()
    ids = [task["data"]["external_id"] for task in tasks[:3]]
    labels = [LABELS[IDS.index(identity)] for identity in ids]
    kept, deleted = (project.annotate(task["id"], CLASS_NAMES[labels[n]]) for n, task in enumerate(tasks[:2]))
    assert verdicts(texts) == {}

    def pull() -> str:
        options = ("--label-studio", str(studio.base_url), "--project", project.number, "--url", keyed.url)
        done = command.run("review", "texts", *options, api_key=REVIEWER)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
        assert pull() == "Stored 2 reviews."
        # A personal access token, a JSON Web Token.
        patch.setenv("LABEL_STUDIO_API_KEY", sent(studio.post("/api/token/"))["token"])
        assert pull() == "Stored 0 reviews."
        project.delete(deleted)
        project.update(kept, None, was_cancelled=True)
        assert pull() == "Stored 2 reviews."
        assert verdicts(texts) == {ids[0]: ("unsure", None)}
        patch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
        options = ("--label-studio", str(studio.base_url), "--project", project.number, "--url", keyed.url)
        done = command.run("review", "texts", *options, api_key=REVIEWER)
        assert (done.returncode, "refuses LABEL_STUDIO_API_KEY" in done.stderr) == (1, True)


def test_the_command_reads_the_json_export_and_refuses_the_others(
    studio: httpx.Client, project: Project, texts: RunClient, keyed: ServerProcess, tmp_path: Path
) -> None:
    first = project.tasks_in_order("tasks:predictions_score")[0]
    created = project.annotate(first["id"], CLASS_NAMES[0])
    before = verdicts(texts)
    project.delete(created)
    expect(texts, {})
    for webhook in sent(studio.get(f"/api/webhooks/?project={project.number}")):
        studio.delete(f"/api/webhooks/{webhook['id']}/").raise_for_status()
    project.annotate(first["id"], CLASS_NAMES[0])

    def review(kind: str, ending: str) -> command.Ended:
        file = tmp_path / f"{kind}.{ending}"
        file.write_bytes(studio.get(f"/api/projects/{project.number}/export?exportType={kind}").content)
        return command.run("review", "texts", file, "--url", keyed.url, api_key=REVIEWER)

    for kind, ending in (("CSV", "csv"), ("JSON_MIN", "json")):
        done = review(kind, ending)
        assert (done.returncode, "Label Studio" in done.stderr) == (3, True), done.stderr
    assert verdicts(texts) == {}
    assert review("JSON", "json").stdout.startswith("Stored 1 review.")
    assert verdicts(texts) == before


def test_sentences_have_a_control_for_the_verdict(studio: httpx.Client, keyed: ServerProcess, texts: RunClient) -> None:
    url, auth = f"{keyed.url}/runs/sentences/label-studio", ("owner", OWNER)
    with LossClient(keyed.url, api_key=OWNER) as client:
        run = client.put_run("sentences", task="tokens", class_names=["O", "B-PER", "I-PER"])
        logits = [[[0, 4, 0], [0, 0, 4], [4, 0, 0]]]
        batch = {"logits": logits * 3, "targets": [[0, 0, 0], [1, 2, 0], [0, 0, 0]], "ids": ["a", "b", "c"]}
        run.push(0, "all", batch, attributes={"tokens": [["Ada", "King", "ran"]] * 3})
        project = Project.create(studio, "sentences", httpx.get(f"{url}/config", auth=auth).text)
        project.import_tasks(run.export(format="label-studio"))
        project.add_webhook(f"{url}/webhook", {"Authorization": f"Bearer {REVIEWER}"})
        tasks = {task["data"]["external_id"]: task for task in project.tasks_in_order("tasks:id")}
        span = {"from_name": "label", "to_name": "text", "type": "labels", "id": "s1"}
        name = {**span, "value": {"start": 0, "end": 8, "text": "Ada King", "labels": ["PER"]}}
        verdict = {"from_name": "verdict", "to_name": "text", "type": "choices", "id": "v1"}
        for identity, result in (("a", [name]), ("b", [name]), ("c", [{**verdict, "value": {"choices": ["exclude"]}}])):
            sent(studio.post(f"/api/tasks/{tasks[identity]['id']}/annotations/", json={"result": result}))
        expect(run, {"a": ("wrong", None), "b": ("ok", None), "c": ("exclude", None)})
        run.delete()


def test_a_backend_titled_like_its_version_orders_the_tasks(
    studio: httpx.Client, keyed: ServerProcess, texts: RunClient
) -> None:
    url = f"{keyed.url}/runs/texts/label-studio"
    auth = ("owner", OWNER)
    project = Project.create(studio, "backend", httpx.get(f"{url}/config", auth=auth).text)
    tasks = [{"data": {"external_id": identity, "text": identity}} for identity in IDS]
    sent(studio.post(f"/api/projects/{project.number}/import", json=tasks))
    (version,) = httpx.get(f"{url}/versions", auth=auth).json()["versions"]
    backend = {
        "project": project.number,
        "url": url,
        "title": version,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": "studio",
        "basic_auth_pass": OWNER,
    }
    number = sent(studio.post("/api/ml/", json=backend))["id"]
    assert sent(studio.get(f"/api/ml/{number}/versions"))["versions"] == [version]

    def retrieved() -> list[str]:
        sent(studio.post(f"/api/dm/actions?id=retrieve_tasks_predictions&project={project.number}"))
        ordered = project.tasks_in_order("tasks:predictions_score")
        assert all(task["predictions_score"] is not None for task in ordered)
        return [task["data"]["external_id"] for task in ordered]

    assert retrieved() == [row["id"] for row in texts.all_examples()]
    # The next epoch has a version of its own, which becomes the title.
    texts.push(1, "all", LOGITS[::-1].copy(), LABELS, IDS)
    (version,) = httpx.get(f"{url}/versions", auth=auth).json()["versions"]
    sent(studio.patch(f"/api/ml/{number}", json={**backend, "title": version}))
    assert retrieved() == [row["id"] for row in texts.all_examples()]
