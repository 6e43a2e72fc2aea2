"""Digests of a corrected data set, which are known before it is written."""

from __future__ import annotations

from hashlib import blake2b

import orjson

from service import __version__
from service.queries.view import View
from service.runs.review_history import ReviewHistory


def data_digest(view: View, history: ReviewHistory, policy: str) -> str:
    """Digest of the source of labels and statuses: rows, class names, reviews, and for a consensus annotations.

    Args:
        view: The run.
        history: The reviews that the caller may see.
        policy: Source of the labels to use.
    """
    # Reviews are only added, so the last list of them and their number tell all.
    names = view.snapshot.description.class_names
    annotations = view.snapshot.annotations.live() if policy == "consensus" else []
    last_annotations = max((file.footer.last for file in annotations), default="")
    return _digest([view.snapshot.fingerprint, names, history.size, history.last, last_annotations, policy])


def file_digest(data: str, options: object) -> str:
    """Digest of a file: of its data and its format, and of the version of the service that writes it."""
    return _digest([data, options, __version__])


def _digest(value: object) -> str:
    return blake2b(orjson.dumps(value), digest_size=16).hexdigest()
