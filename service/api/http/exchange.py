"""What the head of a loss request says: formats, codings, and the query that wins over the body."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from starlette.requests import Request

from service.api.http.encoding import reply_coding, request_coding
from service.codecs.base import Codec, Reader
from service.codecs.negotiation import reader, writer
from service.errors import InvalidRequestError
from service.schema.request import RequestOptions

QUERY_PARAMETERS = ("config_id", "outputs", "top_k")
NEGOTIATED = (b"content-type", b"accept", b"content-encoding", b"accept-encoding")


@dataclass(frozen=True)
class Exchange:
    """What the head of a request says of its body and of the reply."""

    reader: Reader
    writer: Codec
    request_coding: str
    reply_coding: str
    overrides: dict[str, Any]
    timing: Timing

    @classmethod
    def of(cls, request: Request) -> Exchange:
        """Raises what is wrong with the head, before any of the body is read."""
        # Of a header that is given twice the first one counts, as everywhere.
        given = dict(reversed(request.scope["headers"]))
        found = _negotiated(*map(given.get, NEGOTIATED))
        overrides = _overrides(request.query_params) if request.scope["query_string"] else {}
        return cls(*found, overrides=overrides, timing=Timing())

    def options(self, options: RequestOptions) -> RequestOptions:
        """The options of the body with those of the query over them."""
        if not self.overrides:
            return options
        fields: dict[str, Any] = {name: getattr(options, name) for name in type(options).model_fields}
        if "config_id" in self.overrides:
            fields["config"] = None
        return RequestOptions.parse(fields | self.overrides)

    def reply_headers(self) -> dict[str, str]:
        headers = {"Server-Timing": self.timing.header(), "Vary": "Accept, Accept-Encoding"}
        return headers if self.reply_coding == "identity" else headers | {"Content-Encoding": self.reply_coding}


@dataclass
class Timing:
    """How long each phase of a request took, seconds."""

    phases: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def end(self, phase: str) -> None:
        """What has passed since the last phase ended belongs to this one."""
        now = time.perf_counter()
        self.phases[phase] = now - self._since
        self._since = now

    def header(self) -> str:
        """The phases as `Server-Timing` has them, milliseconds."""
        return ", ".join(f"{phase};dur={seconds * 1000:.3f}" for phase, seconds in self.phases.items())


# A client sends the same four headers again and again.
@lru_cache(maxsize=64)
def _negotiated(*given: bytes | None) -> tuple[Reader, Codec, str, str]:
    content_type, accept, content_encoding, accept_encoding = (
        None if value is None else value.decode("latin-1") for value in given
    )
    found = reader(content_type)
    return found, writer(accept, found), request_coding(content_encoding), reply_coding(accept_encoding)


def _overrides(query: Mapping[str, str]) -> dict[str, Any]:
    """The query parameters, which mean the same in every format."""
    for name in query:
        if name not in QUERY_PARAMETERS:
            raise InvalidRequestError(
                f"unknown query parameter {name[:100]!r}; known are {', '.join(QUERY_PARAMETERS)}",
                errors=[{"loc": ["query", name[:100]], "msg": "unknown query parameter"}],
            )
    overrides: dict[str, Any] = dict(query)
    if "outputs" in overrides:
        overrides["outputs"] = [name.strip() for name in overrides["outputs"].split(",") if name.strip()]
    if "top_k" in overrides:
        text = overrides["top_k"]
        overrides["top_k"] = int(text) if text.isascii() and text.isdigit() else text
    if overrides:
        RequestOptions.parse(overrides)
    return overrides
