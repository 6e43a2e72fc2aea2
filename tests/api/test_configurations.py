"""Configurations in memory and on disk; two objects with one data directory represent two worker processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.api import configurations as module
from service.api.configurations import Configurations
from service.compute.registry import LossRegistry
from service.errors import StorageFullError, StorageUnavailableError, UnknownConfigError
from service.schema.config import LossConfig
from service.settings import MIB
from service.storage.config_files import ConfigFiles
from service.storage.files import open_files

ONE, TWO, THREE, FOUR = (LossConfig(gamma=gamma) for gamma in (1, 2, 3, 4))


def process(folder: Path, capacity: int = 9) -> Configurations:
    """The configurations of one worker process."""
    return Configurations(LossRegistry("cpu", capacity, MIB), ConfigFiles(open_files(str(folder)), capacity, MIB))


def test_an_id_is_valid_in_every_process_and_after_a_restart(tmp_path: Path) -> None:
    assert process(tmp_path).put(ONE)
    other = process(tmp_path)
    assert other.use_id(ONE.config_id).config == ONE
    assert not other.put(ONE)


def test_the_configuration_of_a_loss_request_is_stored_as_well(tmp_path: Path) -> None:
    assert process(tmp_path).use(TWO).config == TWO
    assert process(tmp_path).use_id(TWO.config_id).config == TWO


@pytest.mark.parametrize("config_id", ["fl_0000000000000000", "", "../configs/fl_0000000000000000"])
def test_an_unknown_id_is_named(tmp_path: Path, config_id: str) -> None:
    configurations = process(tmp_path)
    for call in (configurations.use_id, configurations.get, configurations.check, configurations.drop):
        with pytest.raises(UnknownConfigError) as caught:
            call(config_id)
        assert repr(config_id) in caught.value.detail
        assert caught.value.status == 404


def test_dropped_in_one_process_it_is_unknown_in_the_others_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = process(tmp_path), process(tmp_path)
    first.put(ONE)
    second.use_id(ONE.config_id)
    first.drop(ONE.config_id)
    with pytest.raises(UnknownConfigError):
        first.use_id(ONE.config_id)
    second.use_id(ONE.config_id)  # within CHECK_EVERY_S
    monkeypatch.setattr(module, "CHECK_EVERY_S", 0.0)
    with pytest.raises(UnknownConfigError):
        second.use_id(ONE.config_id)
    with pytest.raises(UnknownConfigError):
        second.get(ONE.config_id)


def test_used_by_its_content_again_it_is_stored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = process(tmp_path), process(tmp_path)
    second.use(ONE)
    first.drop(ONE.config_id)
    monkeypatch.setattr(module, "CHECK_EVERY_S", 0.0)
    second.use(ONE)
    assert process(tmp_path).use_id(ONE.config_id).config == ONE


def test_each_process_counts_its_own_uses(tmp_path: Path) -> None:
    first, second = process(tmp_path), process(tmp_path)
    first.use(ONE)
    first.use_id(ONE.config_id)
    second.use_id(ONE.config_id)
    assert (first.get(ONE.config_id).uses, second.get(ONE.config_id).uses) == (2, 1)
    assert process(tmp_path).get(ONE.config_id).uses == 0
    assert first.get(ONE.config_id).created_at == second.get(ONE.config_id).created_at


def test_the_least_recently_used_is_dropped_first(tmp_path: Path) -> None:
    configurations = process(tmp_path, capacity=3)
    for config in (ONE, TWO, THREE):
        configurations.put(config)
    configurations.use_id(ONE.config_id)
    configurations.use(TWO)
    configurations.put(FOUR)
    assert [stored.config.gamma for stored in configurations.all()] == [4, 2, 1]
    with pytest.raises(UnknownConfigError):
        configurations.use_id(THREE.config_id)


@pytest.mark.parametrize("error", [StorageFullError("full"), StorageUnavailableError("read-only"), PermissionError()])
def test_where_nothing_can_be_stored_losses_are_computed_and_one_warning_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    configurations = process(tmp_path)

    def fail(self: ConfigFiles, config: LossConfig) -> bool:
        raise error

    monkeypatch.setattr(ConfigFiles, "add", fail)
    monkeypatch.setattr(module, "CHECK_EVERY_S", 0.0)
    with capture_logs() as logs:
        for _ in range(3):
            assert configurations.use(ONE).config == ONE
            assert configurations.use_id(ONE.config_id).config == ONE
            configurations.check(ONE.config_id)
    assert [line["log_level"] for line in logs] == ["warning"]
    with pytest.raises(type(error)):
        configurations.put(ONE)
    monkeypatch.undo()
    monkeypatch.setattr(module, "CHECK_EVERY_S", 0.0)
    configurations.use(ONE)
    assert process(tmp_path).use_id(ONE.config_id).config == ONE
