"""Quality values of `Accept` and `Accept-Encoding`."""

from __future__ import annotations

import pytest

from service.formats.quality import qualities


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", {}),
        (" , ,", {}),
        ("gzip", {"gzip": 1.0}),
        ("gzip;q=0.5, zstd", {"gzip": 0.5, "zstd": 1.0}),
        ("GZIP ; Q = 0.25", {"gzip": 0.25}),
        ("text/html;level=1;q=0.3", {"text/html": 0.3}),
        ("text/html;level=1", {"text/html": 1.0}),
        ("a;q=2, b;q=-1, c;q=x, d;q=nan, e;q=", {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0}),
        ("a;q=0.1, a;q=0.9", {"a": 0.1}),
        ("*/*;q=0.1, *", {"*/*": 0.1, "*": 1.0}),
    ],
)
def test_qualities(header: str, expected: dict[str, float]) -> None:
    assert qualities(header) == expected
