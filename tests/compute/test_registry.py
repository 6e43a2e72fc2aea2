"""Instances on the device: one for each meaning of a configuration, in a bounded least-recently-used cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.compute.registry import LossRegistry
from service.schema.config import LossConfig, memory_bytes
from service.settings import MIB


def config(gamma: float) -> LossConfig:
    return LossConfig(gamma=gamma)


@pytest.fixture
def registry() -> LossRegistry:
    return LossRegistry("cpu", 3, MIB)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"gamma": 2}, {"gamma": 2.0}),
        ({"gamma": 0.0}, {"gamma": -0.0}),
        ({"alpha": {"class_counts": [1, 3]}}, {"alpha": [4.0, 4 / 3]}),
        ({}, {"reduction": "mean", "ignore_index": -100}),
    ],
)
def test_spellings_of_one_meaning_share_an_instance(
    registry: LossRegistry, first: dict[str, Any], second: dict[str, Any]
) -> None:
    instance = registry.add(LossConfig.parse(first))
    assert registry.add(LossConfig.parse(second)) is instance
    assert len(registry) == 1


def test_an_instance_computes_its_configuration_on_its_device(registry: LossRegistry) -> None:
    module = registry.add(LossConfig(alpha=(1.0, 4.0), gamma=0.5)).module
    assert module.config == LossConfig(alpha=(1.0, 4.0), gamma=0.5)
    assert {buffer.device.type for buffer in module.buffers()} <= {"cpu"}


def test_only_uses_are_counted(registry: LossRegistry) -> None:
    instance = registry.add(config(1))
    registry.get(config(1).config_id)
    assert registry.uses(config(1).config_id) == 0
    assert registry.count_use(instance) is instance.module
    registry.count_use(instance)
    assert registry.uses(config(1).config_id) == 2
    assert registry.uses("fl_0000000000000000") == 0


def test_the_least_recently_used_is_dropped_first(registry: LossRegistry) -> None:
    for gamma in (1, 2, 3):
        registry.add(config(gamma))
    registry.get(config(1).config_id)
    registry.add(config(2))
    registry.add(config(4))
    assert registry.get(config(3).config_id) is None
    assert all(registry.get(config(gamma).config_id) for gamma in (1, 2, 4))
    assert len(registry) == 3


def test_a_dropped_instance_can_still_be_used(registry: LossRegistry) -> None:
    instance = registry.add(config(1))
    assert registry.drop(config(1).config_id)
    assert not registry.drop(config(1).config_id)
    assert registry.get(config(1).config_id) is None
    assert registry.count_use(instance).config == config(1)


def test_threads_share_one_instance_and_every_use_counts() -> None:
    registry = LossRegistry("cpu", 2, MIB)
    with ThreadPoolExecutor(8) as pool:
        modules = set(pool.map(lambda _: registry.count_use(registry.add(config(1))), range(400)))
    assert len(modules) == 1
    assert registry.uses(config(1).config_id) == 400


def test_the_bound_holds_while_threads_add_different_configurations() -> None:
    registry = LossRegistry("cpu", 3, MIB)
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda number: (registry.add(config(number % 17)), len(registry))[1], range(300)))
    assert max(sizes) <= 3


def weights(count: int, first: float) -> LossConfig:
    return LossConfig(alpha=(first, *[1.0] * (count - 1)))


def test_large_configurations_are_dropped_by_their_bytes() -> None:
    registry = LossRegistry("cpu", 100, memory_bytes(1000) + memory_bytes(2000))
    large = [weights(1000, 1), weights(2000, 2), weights(3, 3)]
    registry.add(large[0])
    registry.add(large[1])
    assert len(registry) == 2
    assert registry.num_bytes == memory_bytes(1000) + memory_bytes(2000)
    registry.add(large[2])
    assert registry.get(large[0].config_id) is None
    assert registry.num_bytes == memory_bytes(2000) + memory_bytes(3)
    registry.drop(large[1].config_id)
    assert registry.num_bytes == memory_bytes(3)


def test_one_that_is_larger_than_the_limit_stays_until_the_next() -> None:
    registry = LossRegistry("cpu", 100, 1)
    registry.add(config(1))
    registry.add(weights(1000, 1))
    assert registry.get(weights(1000, 1).config_id) is not None
    assert len(registry) == 1
    registry.add(config(1))
    assert registry.num_bytes == memory_bytes(0)
