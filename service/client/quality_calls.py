"""Requests about the quality of the labels and reviews of a run: remaining errors, agreement and gain."""

from __future__ import annotations

from service.client.calls import Call, json_object
from service.client.run_calls import QueryValue, query_text, run_path
from service.schema.replies.agreement import Agreement
from service.schema.replies.gain import Gain
from service.schema.replies.remaining import Remaining


def remaining_call(name: str, **query: QueryValue) -> Call[Remaining]:
    """`GET /runs/{run}/remaining`."""
    return Call("GET", run_path(name, "remaining") + query_text(**query), json_object)


def agreement_call(name: str, **query: QueryValue) -> Call[Agreement]:
    """`GET /runs/{run}/agreement`."""
    return Call("GET", run_path(name, "agreement") + query_text(**query), json_object)


def gain_call(name: str, other: str, **query: QueryValue) -> Call[Gain]:
    """`GET /runs/{run}/gain/{other}`."""
    return Call("GET", run_path(name, "gain", other) + query_text(**query), json_object)
