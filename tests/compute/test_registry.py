"""Configurations to instances: one for each meaning, bounded, the least recently used out first."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import torch

from service.compute.registry import HeldLoss, LossRegistry, merged
from service.errors import UnknownConfigError
from service.schema.config import LossConfig


def config(gamma: float) -> LossConfig:
    return LossConfig(gamma=gamma)


def held(registry: LossRegistry, config: LossConfig) -> HeldLoss:
    """What the registry says of one configuration."""
    (found,) = [one for one in registry.snapshot() if one.config_id == config.config_id]
    return found


def gammas(registry: LossRegistry) -> list[float]:
    """What is held, the most recently used first."""
    return [one.config.gamma for one in registry.snapshot()]


class TestOneMeaningOneInstance:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({}, {"gamma": 2}),
            ({"gamma": 2}, {"gamma": 2.0, "reduction": "mean", "alpha": None}),
            ({"alpha": {"class_counts": [25, 75]}}, {"alpha": [4, 100 / 75]}),
            ({"alpha": 0.25}, {"alpha": [0.75, 0.25]}),
            ({"alpha": 0.25}, {"alpha": 0.75, "positive_class": 0}),
        ],
    )
    def test_spellings_share_it(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        registry = LossRegistry("cpu", 5)
        assert registry.use(LossConfig.parse(one)) is registry.use(LossConfig.parse(other))
        (only,) = registry.snapshot()
        assert only.uses == 2
        assert len(registry) == 1

    def test_another_meaning_has_its_own(self) -> None:
        registry = LossRegistry("cpu", 5)
        assert registry.use(config(1)) is not registry.use(config(2))
        assert len(registry) == 2

    def test_it_is_the_loss_that_was_asked_for(self) -> None:
        module = LossRegistry("cpu", 1).use(LossConfig(gamma=0.5, alpha=(1.0, 3.0), reduction="sum"))
        assert module.config == LossConfig(gamma=0.5, alpha=(1.0, 3.0), reduction="sum")
        assert module.device == "cpu"
        assert module.alpha is not None
        assert torch.equal(module.alpha, torch.tensor([1.0, 3.0], dtype=torch.float64))


class TestUses:
    def test_only_use_counts(self) -> None:
        registry = LossRegistry("cpu", 5)
        assert registry.put(config(1)) is True
        assert registry.put(config(1)) is False
        assert held(registry, config(1)).uses == 0
        module = registry.use(config(1))
        assert registry.use_id(config(1).config_id) is module
        registry.put(config(1))
        assert held(registry, config(1)).uses == 2
        assert registry.use(config(1)) is module

    def test_what_was_handed_out_does_not_change(self) -> None:
        registry = LossRegistry("cpu", 5)
        registry.put(config(1))
        before = held(registry, config(1))
        listed = registry.snapshot()
        registry.use(config(1))
        registry.use(config(2))
        assert before.uses == 0
        assert [one.uses for one in listed] == [0]

    def test_times(self) -> None:
        start = datetime.now(UTC)
        registry = LossRegistry("cpu", 5)
        registry.put(config(1))
        before = held(registry, config(1))
        registry.use(config(1))
        used = held(registry, config(1))
        assert start <= before.created_at == used.created_at <= used.last_used_at <= datetime.now(UTC)
        assert before.last_used_at == before.created_at


class TestBound:
    def test_the_least_recently_used_goes_first(self) -> None:
        registry = LossRegistry("cpu", 3)
        for gamma in (1, 2, 3, 4):
            registry.use(config(gamma))
        assert gammas(registry) == [4, 3, 2]
        with pytest.raises(UnknownConfigError):
            registry.use_id(config(1).config_id)

    @pytest.mark.parametrize(
        "touch",
        [
            lambda registry: registry.use(config(1)),
            lambda registry: registry.use_id(config(1).config_id),
            lambda registry: registry.put(config(1)),
        ],
    )
    def test_use_and_put_make_it_recent(self, touch: Callable[[LossRegistry], object]) -> None:
        registry = LossRegistry("cpu", 2)
        registry.use(config(1))
        registry.use(config(2))
        touch(registry)
        assert gammas(registry) == [1, 2]
        registry.use(config(3))
        assert gammas(registry) == [3, 1]

    def test_looking_at_it_does_not(self) -> None:
        registry = LossRegistry("cpu", 2)
        registry.use(config(1))
        registry.use(config(2))
        registry.snapshot()
        registry.use(config(3))
        assert gammas(registry) == [3, 2]

    def test_room_for_one(self) -> None:
        registry = LossRegistry("cpu", 1)
        first = registry.use(config(1))
        registry.put(config(2))
        assert gammas(registry) == [2]
        # Whoever computes with it goes on.
        assert first(torch.tensor([[1.0, 2.0]]), torch.tensor([0])) > 0
        again = registry.use(config(1))
        assert again is not first
        assert held(registry, config(1)).uses == 1

    def test_drop(self) -> None:
        registry = LossRegistry("cpu", 3)
        for gamma in (1, 2, 3):
            registry.use(config(gamma))
        assert registry.drop(config(2).config_id) is True
        assert gammas(registry) == [3, 1]
        assert registry.drop(config(2).config_id) is False
        assert registry.put(config(2)) is True
        assert held(registry, config(2)).uses == 0


class TestUnknown:
    @pytest.mark.parametrize("config_id", ["fl_0123456789abcdef", "", "x" * 10_000, "\x00", "../etc"])
    def test_an_id_that_is_not_held(self, config_id: str) -> None:
        registry = LossRegistry("cpu", 3)
        registry.use(config(1))
        with pytest.raises(UnknownConfigError) as caught:
            registry.use_id(config_id)
        assert caught.value.status == 404
        assert caught.value.errors[0]["loc"] == ["config_id"]
        assert repr(config_id[:100]) in caught.value.detail
        assert len(caught.value.detail) < 300
        assert registry.drop(config_id) is False
        assert gammas(registry) == [1]


class TestThreads:
    def test_all_get_one_instance_and_every_use_counts(self) -> None:
        registry = LossRegistry("cpu", 8)
        threads, rounds = 16, 25
        together = threading.Barrier(threads)

        def work(number: int) -> list[object]:
            together.wait()
            return [registry.use(config(gamma)) for _ in range(rounds) for gamma in (number % 2, 5)]

        with ThreadPoolExecutor(threads) as pool:
            modules = [module for found in pool.map(work, range(threads)) for module in found]
        assert len({id(module) for module in modules}) == 3
        uses = {one.config.gamma: one.uses for one in registry.snapshot()}
        assert uses == {0: threads // 2 * rounds, 1: threads // 2 * rounds, 5: threads * rounds}

    def test_the_bound_holds_while_all_ask_for_something_else(self) -> None:
        registry = LossRegistry("cpu", 3)
        threads = 16
        together = threading.Barrier(threads)

        def work(number: int) -> None:
            together.wait()
            for gamma in range(20):
                module = registry.use(config(gamma * threads + number))
                assert module.gamma == gamma * threads + number
                assert len(registry.snapshot()) <= 3

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
        assert len(registry) == 3

    def test_one_of_many_puts_is_new(self) -> None:
        registry = LossRegistry("cpu", 3)
        threads = 16
        together = threading.Barrier(threads)

        def work(_: int) -> bool:
            together.wait()
            return registry.put(config(1))

        with ThreadPoolExecutor(threads) as pool:
            assert sum(pool.map(work, range(threads))) == 1


class TestSeveralProcesses:
    """What each tells of its registry, and what that is together."""

    @pytest.mark.parametrize(
        "config",
        [LossConfig(), LossConfig(gamma=0.1, alpha=(0.1, 1 / 3, 7.0), reduction="sum"), LossConfig(alpha=0.25)],
    )
    def test_it_is_told_as_json_and_comes_out_equal(self, config: LossConfig) -> None:
        registry = LossRegistry("cpu", 1)
        registry.use(config)
        (one,) = registry.snapshot()
        told = HeldLoss.from_json(json.loads(json.dumps(one.to_json())))
        assert told.config == config
        assert told.config_id == one.config_id
        assert (told.uses, told.created_at, told.last_used_at) == (1, one.created_at, one.last_used_at)

    def test_each_configuration_once_the_most_recently_used_first(self) -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)

        def one(gamma: float, uses: int, created: int, used: int) -> HeldLoss:
            return HeldLoss(config(gamma), uses, start + timedelta(seconds=created), start + timedelta(seconds=used))

        together = merged([one(1, 3, 5, 30), one(2, 1, 0, 20), one(1, 4, 2, 10), one(3, 0, 8, 25), one(1, 5, 9, 12)])
        assert [each.config.gamma for each in together] == [1, 3, 2]
        assert [each.uses for each in together] == [12, 0, 1]
        assert together[0].created_at == start + timedelta(seconds=2)
        assert together[0].last_used_at == start + timedelta(seconds=30)

    def test_nothing_is_nothing(self) -> None:
        assert merged([]) == []
