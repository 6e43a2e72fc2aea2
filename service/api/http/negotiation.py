"""Content negotiation of a loss request: formats and codings from its headers, options from its query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from starlette.datastructures import QueryParams
from starlette.requests import Request

from service.api.http.encoding import reply_coding, request_coding
from service.api.http.query_types import integer_of, single_values
from service.api.http.timing import Timing
from service.codecs.base import Codec, Reader
from service.codecs.negotiation import reader, writer
from service.errors import InvalidRequestError
from service.formats.name_lists import split_names
from service.schema.faults import fault
from service.schema.request import RequestOptions

QUERY_PARAMETERS = ("config_id", "outputs", "top_k")
HEADERS = (b"content-type", b"accept", b"content-encoding", b"accept-encoding")


@dataclass(frozen=True)
class Negotiation:
    """Formats and codings of a request and its reply.

    Args:
        reader: Decodes the body.
        writer: Encodes the reply.
        request_coding: `Content-Encoding` of the body, or `identity`.
        reply_coding: `Content-Encoding` of the reply, or `identity`.
        overrides: Options of the query, which override those of the body.
        timing: Durations of the phases of the request.
    """

    reader: Reader
    writer: Codec
    request_coding: str
    reply_coding: str
    overrides: dict[str, object]
    timing: Timing

    @classmethod
    def of(cls, request: Request, *own: str) -> Negotiation:
        """Negotiate by headers and query, before the body is received; raises if they are invalid.

        Args:
            request: The request.
            own: Names of query parameters that the route reads itself.
        """
        # The first of repeated headers counts, as it does in Starlette.
        headers = dict(reversed(request.scope["headers"]))
        formats_and_codings = _negotiated(*map(headers.get, HEADERS))
        overrides = _overrides(request.query_params, own) if request.scope["query_string"] else {}
        return cls(*formats_and_codings, overrides=overrides, timing=Timing())

    def options(self, options: RequestOptions) -> RequestOptions:
        """The options of the body, overridden by those of the query."""
        if not self.overrides:
            return options
        fields: dict[str, object] = {name: getattr(options, name) for name in type(options).model_fields}
        if "config_id" in self.overrides:
            fields["config"] = None
        return RequestOptions.parse(fields | self.overrides)

    def reply_headers(self) -> dict[str, str]:
        """Headers of the reply, with the duration of each phase."""
        headers = {"Server-Timing": self.timing.header(), "Vary": "Accept, Accept-Encoding"}
        return headers if self.reply_coding == "identity" else headers | {"Content-Encoding": self.reply_coding}


# A client sends the same four headers with every request.
@lru_cache(maxsize=64)
def _negotiated(*headers: bytes | None) -> tuple[Reader, Codec, str, str]:
    content_type, accept, content_encoding, accept_encoding = (
        None if value is None else value.decode("latin-1") for value in headers
    )
    body_reader = reader(content_type)
    return body_reader, writer(accept, body_reader), request_coding(content_encoding), reply_coding(accept_encoding)


def _overrides(query: QueryParams, own: Sequence[str]) -> dict[str, object]:
    """The options of a query, the same for every format of the body."""
    overrides: dict[str, object] = {}
    for name, text in single_values(query).items():
        if name in own:
            continue
        if name not in QUERY_PARAMETERS:
            known = ", ".join((*QUERY_PARAMETERS, *own))
            detail = f"unknown query parameter {name[:100]!r}; known are {known}"
            raise fault(InvalidRequestError, "unknown query parameter", "query", name[:100], detail=detail)
        overrides[name] = text
        if name == "outputs":
            overrides[name] = split_names(text)
        elif name == "top_k" and (number := integer_of(text)) is not None:
            overrides[name] = number
    # An invalid option is an error before the body is received.
    RequestOptions.parse(overrides)
    return overrides
