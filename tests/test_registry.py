"""Configurations to instances: one for each meaning, bounded, the least recently used out first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import torch

from service.errors import UnknownConfigError
from service.messages import LossConfig
from service.registry import LossRegistry


def config(gamma: float) -> LossConfig:
    return LossConfig(gamma=gamma)


def gammas(registry: LossRegistry) -> list[float]:
    """What is held, the most recently used first."""
    return [held.config.gamma for held in registry.snapshot()]


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
        (held,) = registry.snapshot()
        assert held.uses == 2
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
        held, new = registry.put(config(1))
        assert (held.uses, new) == (0, True)
        held, new = registry.put(config(1))
        assert (held.uses, new) == (0, False)
        config_id = held.config_id
        assert registry.get(config_id).uses == 0
        assert registry.use(config(1)) is held.module
        assert registry.use_id(config_id) is held.module
        assert registry.get(config_id).uses == 2
        assert registry.get(config_id).module is held.module

    def test_what_was_handed_out_does_not_change(self) -> None:
        registry = LossRegistry("cpu", 5)
        before, _ = registry.put(config(1))
        listed = registry.snapshot()
        registry.use(config(1))
        registry.use(config(2))
        assert before.uses == 0
        assert [held.uses for held in listed] == [0]

    def test_times(self) -> None:
        start = datetime.now(UTC)
        registry = LossRegistry("cpu", 5)
        held, _ = registry.put(config(1))
        registry.use(config(1))
        used = registry.get(held.config_id)
        assert start <= held.created_at == used.created_at <= used.last_used_at <= datetime.now(UTC)
        assert held.last_used_at == held.created_at


class TestBound:
    def test_the_least_recently_used_goes_first(self) -> None:
        registry = LossRegistry("cpu", 3)
        for gamma in (1, 2, 3, 4):
            registry.use(config(gamma))
        assert gammas(registry) == [4, 3, 2]
        with pytest.raises(UnknownConfigError):
            registry.get(config(1).config_id)

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
        registry.get(config(1).config_id)
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
        assert registry.get(config(1).config_id).uses == 1

    def test_drop(self) -> None:
        registry = LossRegistry("cpu", 3)
        for gamma in (1, 2, 3):
            registry.use(config(gamma))
        registry.drop(config(2).config_id)
        assert gammas(registry) == [3, 1]
        held, new = registry.put(config(2))
        assert (held.uses, new) == (0, True)


class TestUnknown:
    @pytest.mark.parametrize("config_id", ["fl_0123456789abcdef", "", "x" * 10_000, "\x00", "../etc"])
    def test_an_id_that_is_not_held(self, config_id: str) -> None:
        registry = LossRegistry("cpu", 3)
        registry.use(config(1))
        for ask in (registry.get, registry.use_id, registry.drop):
            with pytest.raises(UnknownConfigError) as caught:
                ask(config_id)
            assert caught.value.status == 404
            assert caught.value.errors[0]["loc"] == ["config_id"]
            assert repr(config_id[:100]) in caught.value.detail
            assert len(caught.value.detail) < 300
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
        uses = {held.config.gamma: held.uses for held in registry.snapshot()}
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
            return registry.put(config(1))[1]

        with ThreadPoolExecutor(threads) as pool:
            assert sum(pool.map(work, range(threads))) == 1
