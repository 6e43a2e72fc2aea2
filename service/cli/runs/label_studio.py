"""Pulls the annotations of a Label Studio project: those that its webhook could not deliver, and deletions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from service.cli.console import fail
from service.cli.errors import SERVICE_FAILED
from service.errors import InvalidRequestError, LossServiceError, UnknownExampleError

if TYPE_CHECKING:
    from service.client import RunClient
    from service.schema.replies.exports import AnnotationsReply, RefusedAnnotation

TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"
TASKS_AT_ONCE, DELETIONS_AT_ONCE = 500, 10_000
# Label Studio writes the export of a project while the client waits.
EXPORT_TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 10.0
Task = Mapping[str, Any]


def pull_annotations(run: RunClient, url: str, project: int) -> Iterator[AnnotationsReply]:
    """Send the annotations of a project to a run, and the deletions of those that the project no longer has.

    Args:
        run: The run.
        url: Address of Label Studio.
        project: Number of the project.

    Yields:
        The reply to each request.
    """
    # Before the export, so that an annotation that is made meanwhile is not taken for a deleted one.
    known = _known_annotations(run, project)
    tasks = exported_tasks(url, project)
    present = {annotation.get("id") for task in tasks for annotation in task["annotations"]}
    annotated = [task for task in tasks if task["annotations"]]
    for start in range(0, len(annotated), TASKS_AT_ONCE):
        part = annotated[start : start + TASKS_AT_ONCE]
        try:
            yield run.send_label_studio_event(_event(part, project))
        except (InvalidRequestError, UnknownExampleError) as err:
            yield _refused(part, err)
    deleted = [{"id": number} for number in known if number not in present]
    for start in range(0, len(deleted), DELETIONS_AT_ONCE):
        some = deleted[start : start + DELETIONS_AT_ONCE]
        yield run.send_label_studio_event(
            {"action": "ANNOTATIONS_DELETED", "annotations": some, "project": {"id": project}}
        )


def _refused(tasks: Sequence[Task], err: LossServiceError) -> AnnotationsReply:
    """The reply for tasks of which the service refuses all annotations, the first one for this reason."""
    numbers = [str(annotation.get("id")) for task in tasks for annotation in task["annotations"]]
    first: RefusedAnnotation = {"annotation": numbers[0], "code": err.code, "detail": err.detail}
    return {"status": "ignored", "added": 0, "num_refused": len(numbers), "refused": [first]}


def exported_tasks(url: str, project: int) -> Sequence[Task]:
    """The tasks with annotations of a project, as Label Studio exports them; ends the command if it does not."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        fail(f"set {TOKEN_VARIABLE} to an access token of Label Studio (Account & Settings)")
    timeout = httpx.Timeout(EXPORT_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        with httpx.Client(base_url=url.rstrip("/"), timeout=timeout) as client:
            client.headers["Authorization"] = _authorization(client, token)
            reply = client.get(f"/api/projects/{project}/export", params={"exportType": "JSON"})
            tasks = _json(reply)
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        fail(f"Label Studio at {url}: {err or type(err).__name__}", SERVICE_FAILED)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "annotations" in task for task in tasks):
        fail(f"Label Studio at {url}: the export is no list of tasks with annotations", SERVICE_FAILED)
    return tasks


def _authorization(client: httpx.Client, token: str) -> str:
    """The header for a token. A personal access token, a JSON Web Token, is exchanged."""
    if token.count(".") != 2:
        return f"Token {token}"
    access = _json(client.post("/api/token/refresh/", json={"refresh": token})).get("access")
    return f"Bearer {access}"


def _json(reply: httpx.Response) -> Any:
    if reply.status_code in (401, 403):
        fail(f"Label Studio at {reply.url.copy_with(path='/', query=None)} refuses {TOKEN_VARIABLE}", SERVICE_FAILED)
    reply.raise_for_status()
    try:
        return reply.json()
    except ValueError:
        fail(f"{reply.url} does not answer in JSON: is this the address of Label Studio?", SERVICE_FAILED)


def _known_annotations(run: RunClient, project: int) -> list[int]:
    """The numbers of all annotations of a project that have made reviews, also of those that do not count now."""
    sources = (review.get("source") for review in run.reviews(history=True)["reviews"])
    numbers = (source.get("annotation") for source in sources if source and source.get("project") == project)
    return sorted({number for number in numbers if number is not None})


def _event(tasks: Sequence[Task], project: int) -> dict[str, object]:
    """The event that Label Studio sends for several new annotations."""
    annotations = [{**annotation, "task": task["id"]} for task in tasks for annotation in task["annotations"]]
    shown = [{name: task.get(name) for name in ("id", "data", "meta", "project")} for task in tasks]
    return {"action": "ANNOTATIONS_CREATED", "annotation": annotations, "task": shown, "project": {"id": project}}
