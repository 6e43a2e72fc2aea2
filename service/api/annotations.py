"""Stores the annotations that labelling tools send."""

from __future__ import annotations

from starlette.responses import Response

from service.api.http.responses import json_response
from service.api.state import Service
from service.queries.view import View
from service.schema.replies.exports import AnnotationsReply
from service.tool_reviews.annotation import ToolEvent
from service.tool_reviews.storing import add_annotations


async def store_annotations(service: Service, run: str, event: ToolEvent) -> Response:
    """Store the annotations of an event, and reply with 201 if that adds reviews.

    An annotator waits for the reply for up to a second, and the tool may close the connection then: the work neither
    waits behind queries, nor ends with the connection.

    Raises:
        UnknownRunError: No run has this name.
        InvalidRequestError, UnknownExampleError: All annotations are refused, for this reason.
    """
    store = service.runs.store
    if not (event.annotations or event.deleted or event.refused):
        await service.runs.do(lambda: store.manifest(run), at_once=True)
        ignored: AnnotationsReply = {"status": "ignored", "added": 0, "num_refused": 0, "refused": []}
        return json_response(ignored if event.hint is None else {**ignored, "hint": event.hint})

    def work(view: View) -> AnnotationsReply:
        reply = add_annotations(store, view, event)
        folder = store.review_folder(view.snapshot)
        service.runs.merge_later(folder, len(folder.live()))
        return reply

    reply = await service.runs.do(lambda: service.runs.queries.ask(run, work), at_once=True)
    return json_response(reply, 201 if reply["added"] else 200)
