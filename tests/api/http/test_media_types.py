"""Media types of bodies that a web page may or may not send."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from service.api.http.media_types import require_media_type
from service.errors import UnsupportedMediaTypeError
from tests.services import ClientWith

FROM_PROGRAM: dict[str, str] = {}
FROM_PAGE = {"Sec-Fetch-Site": "same-origin"}


def is_refused(headers: dict[str, str], *, may_be_absent: bool) -> bool:
    try:
        require_media_type(
            Headers(headers), "application/json", "application/octet-stream", may_be_absent=may_be_absent
        )
    except UnsupportedMediaTypeError:
        return True
    return False


@pytest.mark.parametrize("sent", ["application/json", "Application/JSON; charset=utf-8", " application/octet-stream "])
def test_allowed_types_may_have_parameters(sent: str) -> None:
    for may_be_absent in (False, True):
        for origin in (FROM_PROGRAM, FROM_PAGE):
            assert not is_refused({"Content-Type": sent} | origin, may_be_absent=may_be_absent)


@pytest.mark.parametrize(
    "sent",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "json"],
)
def test_other_types_are_refused(sent: str) -> None:
    for may_be_absent in (False, True):
        assert is_refused({"Content-Type": sent}, may_be_absent=may_be_absent)


def test_only_programs_may_leave_the_type_out() -> None:
    assert not is_refused(FROM_PROGRAM, may_be_absent=True)
    assert is_refused(FROM_PROGRAM, may_be_absent=False)
    for browser in (FROM_PAGE, {"Origin": "http://localhost:8000"}, {"Origin": "null"}):
        assert is_refused(browser, may_be_absent=True)
        assert is_refused(browser | {"Content-Type": ""}, may_be_absent=True)


@pytest.mark.parametrize("path", ["/v2/models/focal_loss/infer", "/v2/models/focal_loss/versions/1/infer"])
def test_the_open_inference_protocol_reads_its_own_types_only(client_with: ClientWith, path: str) -> None:
    client = client_with()
    reply = client.post(path, content=b"{}", headers={"Content-Type": "text/plain"})
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media_type")
    assert reply.headers["accept"] == "application/json, application/octet-stream"
    assert reply.json()["error"]
    assert client.post(path, content=b"{}").status_code == 422
