"""A JSON body has the same request or the same error, with its arrays read by the scanners or by simdjson."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.base import MAX_BATCHES
from service.codecs.json import JsonCodec
from service.codecs.json_numbers import LOOKAHEAD
from service.codecs.json_split import MAX_ARRAYS, PLACEHOLDER, split_arrays
from service.errors import LossServiceError
from service.schema.request import LossRequest
from tests.codecs.outcomes import outcome
from tests.codecs.splitting import NEVER, bodies_split_from
from tests.lanes import mostly_slow
from tests.strategies import at_most

ONE = b'{"logits": [[1.5, -2], [0.1, 3e-5]], "targets": [0, 1], "ids": ["a", "[\\""], "outputs": ["p_t"]}'
BATCHES = (
    b'{"batches": [{"logits": [[1.25, -2.0]], "targets": [0]}, {"targets": [1, 0], "logits" : [3.5, 4]}], '
    b'"config": {"gamma": 1.5, "mode": "sigmoid"}, "top_k": 3}'
)
ATTRIBUTES = (
    b'{"on_invalid": "exclude", "logits": [[1, 2],[3, 4]], "targets": [0, 1], "attributes": {"x": ["\xc3\xa9", 1]}}'
)
DENSE = b'{"layout": "dense", "logits": [[[1.5, -2], [0.1, 3e-5]]], "targets": [[0, -100]]}'
RAGGED = (
    b'{"layout": "ragged", "batches": [{"logits": [[[1.5, -2], [0, 1]], [], [[3, 4]]], "labels": [[0, 1], [], [1]]}, '
    b'{"y" : [[1], [0, 1]], "logits" : [[0.25], [1, 2]]}]}'
)
LABELS = b'{"logits": [[1.5, -2], [0.1, 3e-5]], "label": [ [0, 1], [0.5, 1]], "config": {"mode": "sigmoid"}}'
NAMED = (
    b'{"logits": [[1, 2],[3, 4]], "attributes": {"label": [-0, 1.5], "z": ["a", "b"], "y": [7, -0.0]}, '
    b'"targets": [0, 1]}'
)
BODIES = [NAMED, ONE, BATCHES, ATTRIBUTES, DENSE, RAGGED, LABELS]
ARRAYS = {NAMED: 4, ONE: 2, BATCHES: 4, ATTRIBUTES: 2, DENSE: 2, RAGGED: 4, LABELS: 2}
# Bytes and words that mean something to JSON's grammar or to this reader.
TOKENS = [bytes([byte]) for byte in b'[]{},:"\\0123456789.-+eE \t\n\r\0\f\x80\xff\xc3/nutf']
TOKENS += [
    b"null",
    b"true",
    b'"logits"',
    b'"logits":',
    b"[[",
    b"]]",
    b"1e400",
    b"-0",
    b"\\u0073",
    b'"logits": [1, 2], ',
    b'"targets": [[1, 2]], ',
    b"[],",
    b'"ragged"',
    b'"dense"',
]
TOKENS += [
    b"\xef\xbb\xbf",
    b"702431915286134",
    b"7024319152861340000",
    b"[1",
    b"[1.5]",
    b'\\"logits":[',
    b'{"logits":[1]}',
]


def plain(got: LossRequest | LossServiceError) -> Any:
    """All of a request or an error, as values that can be compared."""
    if isinstance(got, LossServiceError):
        return type(got), got.problem(), got.headers
    batches = [
        [(tensor.dtype, tensor.shape, content(tensor)) for tensor in (batch.logits, batch.targets)]
        + [repr(batch.ids), repr(batch.attributes), None if batch.offsets is None else batch.offsets.tolist()]
        for batch in got.batches
    ]
    return got.options, batches


def content(tensor: np.ndarray[Any, Any]) -> Any:
    """The bits of numbers, or the values of objects."""
    return repr(tensor.tolist()) if tensor.dtype == object else tensor.tobytes()


def same(body: bytes) -> Any:
    """The outcomes of a body, split and not split."""
    whole, split = [], []
    for attributes in (False, True):
        for size, outcomes in ((NEVER, whole), (0, split)):
            with bodies_split_from(size):
                outcomes.append(plain(outcome(JsonCodec(), body, with_attributes=attributes)))
    assert whole == split
    return whole[0]


def mutated(body: bytes, chance: random.Random, changes: int) -> bytes:
    """Replace, insert, remove or repeat bytes or tokens."""
    for _ in range(changes):
        place, token = chance.randrange(len(body) + 1), chance.choice(TOKENS)
        kind = chance.randrange(6)
        end = min(len(body), place + (chance.randrange(12) if kind > 1 else 1))
        body = {
            0: body[:place] + token + body[end:],
            1: body[:place] + token + body[place:],
            2: body[:place] + body[end:],
            3: body[:end] + body[place:],
            4: body[:place] + token + body[end:],
            5: body[:place] + body[place:end].swapcase() + body[end:],
        }[kind]
    return body


def with_room(body: bytes) -> bytes:
    """Insert spaces before the last brace, so that no number is too close to it to be read in the usual way."""
    head, brace, tail = body.rpartition(b"}")
    return head + b" " * LOOKAHEAD + brace + tail


@at_most(300, deadline=None)
@given(st.sampled_from(BODIES), st.randoms(use_true_random=False), st.integers(0, 4))
def test_random_changes(body: bytes, chance: random.Random, changes: int) -> None:
    changed = mutated(body, chance, changes)
    same(changed)
    same(with_room(changed))


@pytest.mark.parametrize("body", mostly_slow(BODIES, quick=2))
def test_each_byte_replaced_or_removed(body: bytes) -> None:
    for place in range(len(body)):
        for token in (b"", b'"', b"[", b"]", b",", b" ", b"1"):
            same(with_room(body[:place] + token + body[place + 1 :]))
        same(body[:place])


@pytest.mark.parametrize("body", BODIES)
def test_bodies_that_are_split(body: bytes) -> None:
    split = split_arrays(bytearray(body + b'{"logits":' + b"[" + b"1," * 200 + b"1]}"))
    assert split is not None
    assert len(split.arrays) == 1 + ARRAYS[body]


@pytest.mark.parametrize(
    "body",
    [
        b'{"logits": [1, 2], "logits": [1, 2], "targets": [0, 1]}',
        b'{"logits": [1, 2], "logit\\u0073": [1, 2], "targets": [0, 1]}',
        b'{"logit\\u0073": [1, 2], "targets": [0, 1]}',
        b'{"config": {"logits": [1, 2]}, "logits": [1, 2], "targets": [0, 1]}',
        b'{"attributes": {"logits": [1, 2]}, "logits": [1, 2], "targets": [0, 1]}',
        b'{"logits": [1, 2], "targets": [0, 1], "attributes": {"logits": [[1], 2]}}',
        b'{"logits": [1, 2], "targets": {"logits": [0, 1]}}',
        b'{"logits": {"logits": [1, 2]}, "targets": [0, 1]}',
        b'{"ids": ["\\"logits\\":[1,2]", "logits"], "logits": [1, 2], "targets": [0, 1]}',
        b'{"ids": ["\\\\", "logits"], "logits": [1, 2], "targets": [0, 1]}',
        b'{"ids": ["\\"logits": [1, 2], "b"], "logits": [1, 2], "targets": [0, 1]}',
        b'{"outputs": ["logits"], "logits": [1, 2], "targets": [0, 1]}',
        b'{"logits": [1, 2], "targets": [0, 1], "ids": ["\xff", "b"]}',
        b'{"logits": [1, 2], "targets": [0, 1], "attributes": {"x\\"logits": [1, 2]}}',
        b'{"batches": [{"logits": %d, "targets": [0, 1]}, {"logits": [1, 2], "targets": [0, 1]}]}' % PLACEHOLDER,
        b'{"batches": [{"logits": [1, 2], "targets": [0, 1]}, {"logits": %d, "targets": [0, 1]}]}' % PLACEHOLDER,
        b'{"batches": [{"logits": %d, "targets": [0]}, {"logits": [1, 2], "targets": [0, 1]}, '
        b'{"logits": [3, 1, 2], "targets": [0, 1]}]}' % (PLACEHOLDER + 1),
        b'{"logits": [1, 2] 3, "targets": [0, 1]}',
        b'{"logits": [1, 2]3, "targets": [0, 1]}',
        b'{"logits": [1, 2].5, "targets": [0, 1]}',
        b'{"logits": [1, 2]e5, "targets": [0, 1]}',
        b'{"logits": [1, 2], "targets": [0, 1]} x',
        b'{"logits": [1, 2], "targets": [0, 1]}\0',
        b'{"logits": [1, 2], "targets": [0, 1]',
        b'\xef\xbb\xbf{"logits": [1, 2], "targets": [0, 1]}',
        b'{"logits": [1, null], "targets": [0, 1], "on_invalid": "exclude"}',
        b'{"logits": [[1, [2]], [3, 4]], "targets": [0, 1]}',
        b'{"logits": [[1, 2], [3, 4]], "targets": [0, [1]]}',
        b'{"logits": [[1, 2], [3, 4]], "targets": [0, 1, [2]], "ids": ["[", "]"]}',
        b'{"logits": [[1, 2], [3]], "targets": [0, 1]}',
        b'{"logits": [9007199254740993, 1e23], "targets": [0, 1]}',
        b'{"logits": [1e400, 1], "targets": [0, 1]}',
        b'{"logits": [1e-400, 5e-324], "targets": [0, 1]}',
        b'{"logits": [-0, -0.0, -0e0, 18446744073709551615, -9223372036854775808], "targets": [0, 1]}',
        b'{"logits": [-9223372036854775809], "targets": [0, 1]}',
        b'{"logits": [18446744073709551616], "targets": [0, 1]}',
        b'[{"logits": [1, 2], "targets": [0, 1]}]',
        b'"logits": [1, 2]',
        b'"logits":[1,2]',
        b'{"batches": {"logits": [1, 2]}}',
        b'{"batches": [{"logits": [1, 2], "targets": [0, 1]}], "logits": [1, 2]}',
        b'{"batches": [{"logits": [1, 2], "targets": [0, 1]}, {"logits": [1, "2"], "targets": [0, 1]}]}',
        b'{"batches": [{"logits": [1, 2], "targets": [0, 1], "logits": [1, 2]}]}',
        b'{"layout": "dense", "logits": [[1, 2]], "targets": [[0, 1]], "y": [[1, 2]]}',
        b'{"layout": "dense", "logits": [[[1, 2]]], "targets": [[0, true]]}',
        b'{"layout": "dense", "logits": [[[1, 2]]], "targets": [[0, 1.0]]}',
        b'{"layout": "dense", "logits": [[[1, 2]]], "targets": [[0, 9007199254740993]]}',
        b'{"layout": "dense", "logits": [[[1, 2]]], "targets": [[-0, -0]]}',
        b'{"layout": "dense", "logits": [[[1, 2], [3]]], "targets": [[0, 1]]}',
        b'{"layout": "dense", "logits": [[[1, 2]], [[3, 4], [5, 6]]], "targets": [[0, 1], [0, 1]]}',
        b'{"layout": "dense", "logits": [[[1, 2], []]], "targets": [[0, 1]]}',
        b'{"layout": "ragged", "logits": [[], []], "targets": [[], []]}',
        b'{"layout": "ragged", "logits": [1, 2], "targets": [[1], [2]]}',
        b'{"layout": "ragged", "logits": [[1, 2]], "targets": [[1], [2]]}',
        b'{"layout": "ragged", "logits": [[[[1, 2]]]], "targets": [[[1, 2]]]}',
        b'{"layout": "ragged", "logits": [[[1, 2], [3]]], "targets": [[1, 2]]}',
        b'{"layout": "ragged", "logits": [[1, 2,], [3]], "targets": [[1, 2], [3]]}',
        b'{"logits": [[[1, 2]], [[3, 4]]], "targets": [[0], [1]]}',
        b'{"logits": [[1, 2], [3, 4]], "targets": [[0, 1], [1]]}',
        b'{"logits": [[1, 2], [3, 4]], "targets": [0, 1], "attributes": {"label": [[1, 2], [3]]}}',
        b'{"logits": %d, "targets": [0, 1], "x": {"logits": [1, 2]}}' % PLACEHOLDER,
        b'{"logits": %d, "targets": [0, 1], "attributes": {"logits": [1, 2]}}' % PLACEHOLDER,
        b'{"logits": %d, "targets": [0, 1], "config": {"logits": [1, 2]}}' % PLACEHOLDER,
        b'{"logits": [1, 2], "targets": [0, 1], "ids": ["%d", "b"]}' % PLACEHOLDER,
        b'{"logits": [1, 2], "targets": [0, 1], "ids": [%d, 1]}' % PLACEHOLDER,
    ],
)
def test_misleading_bodies(body: bytes) -> None:
    for text in (body, body.replace(b"1, 2]", b"1.5, 2" + b", -0.25" * 300 + b"]")):
        same(text)


def test_tensors_own_their_memory() -> None:
    body = bytearray(ONE)
    with bodies_split_from(0):
        (batch,) = JsonCodec().decode(memoryview(body)).batches
    body[:] = b" " * len(body)
    batch.logits[:] += 1
    assert batch.logits.tolist() == [[2.5, -1], [1.1, 1.00003]]
    # Nothing holds on to the body.
    body.extend(b"more")


@pytest.mark.parametrize("count", mostly_slow([MAX_BATCHES, MAX_BATCHES - 1], quick=1))
def test_as_many_batches_as_placeholders(count: int) -> None:
    assert MAX_BATCHES <= MAX_ARRAYS
    batch = b'{"logits": [[1.5, 2]], "targets": [0]}'
    body = b'{"batches": [%s]}' % b", ".join([batch] * count)
    with bodies_split_from(0):
        batches = JsonCodec().decode(bytearray(body)).batches
    assert len(batches) == count
    assert all(batch.logits.tolist() == [[1.5, 2]] for batch in (*batches[:2], *batches[-2:]))


@pytest.mark.parametrize("layout", [b"dense", b"ragged"])
def test_memory_of_nested_lists_is_bounded_by_the_body(layout: bytes) -> None:
    lists = b"[" + b"[[1,0],[0,1],[1,1]]," * 40_000 + b"[[1,0],[0,1],[1,1]]]"
    body = bytearray(b'{"layout": "%s", "logits": %s, "targets": %s}' % (layout, lists, lists))
    tracemalloc.start()
    try:
        with bodies_split_from(0):
            JsonCodec().decode(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4.1 * len(body) + 100_000


@pytest.mark.parametrize("array", [b"[" + b"1," * 400_000 + b"1]", b"[" + b"[1.25, -3.5]," * 80_000 + b"[1, 2]]"])
@pytest.mark.parametrize("behind", [b"", b', "ids": ["a"]'])
def test_memory_is_bounded_by_the_body(array: bytes, behind: bytes) -> None:
    body = bytearray(b'{"logits": %s, "targets": [0]%s}' % (array, behind))
    np.frombuffer(body, np.uint8)
    tracemalloc.start()
    try:
        with bodies_split_from(0):
            (batch,) = JsonCodec().decode(body).batches
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The scanner allocates for a number per two bytes, and then shrinks the array.
    assert peak < 4.1 * len(body) + 100_000
    assert current < 8 * batch.logits.size + 100_000
