"""Stored configurations: shared by all processes, limited in number, read from their folder only."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import StorageUnavailableError
from service.schema.config import LossConfig, memory_bytes
from service.settings import MIB
from service.storage.config_files import ConfigFiles
from service.storage.files import Files, open_files


@pytest.fixture(params=["local", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return open_files(str(tmp_path) if request.param == "local" else f"memory://{uuid4().hex}")


def config(gamma: float) -> LossConfig:
    return LossConfig(gamma=gamma)


def test_another_process_reads_a_stored_configuration(files: Files) -> None:
    assert ConfigFiles(files, 9, MIB).add(config(1))
    assert not ConfigFiles(files, 9, MIB).add(config(1))
    other = ConfigFiles(files, 9, MIB)
    assert other.has(config(1).config_id)
    stored = other.get(config(1).config_id)
    assert stored is not None
    assert stored.config == config(1)
    assert stored.created_at <= stored.last_used_at or (stored.created_at - stored.last_used_at).total_seconds() < 1
    assert [stored.config for stored in other.all()] == [config(1)]


weights = st.floats(0, 1e6, allow_subnormal=False)
alphas = st.none() | st.floats(0, 1) | st.lists(weights, min_size=2, max_size=5).map(tuple)
softmax_configs = st.builds(
    LossConfig,
    alpha=alphas,
    gamma=st.floats(0, 10),
    reduction=st.sampled_from(["mean", "sum", "weighted_mean", "none"]),
    ignore_index=st.none() | st.integers(-(2**63), 2**63 - 1),
    label_smoothing=st.floats(0, 0.99),
)
counts = st.lists(st.integers(1, 2**40), min_size=2, max_size=4)
counted_configs = st.builds(
    lambda counts, scheme: LossConfig.parse({"alpha": {"class_counts": counts, "scheme": scheme}}),
    counts,
    st.sampled_from(["inverse", "effective"]),
)
sigmoid_configs = st.builds(
    LossConfig, mode=st.just("sigmoid"), alpha=st.none() | st.floats(0, 1), positive_class=st.integers(0, 1)
)


@given(softmax_configs | counted_configs | sigmoid_configs)
def test_every_configuration_is_read_back_with_its_id(original: LossConfig) -> None:
    configs = ConfigFiles(open_files(f"memory://{uuid4().hex}"), 1, MIB)
    configs.add(original)
    stored = configs.get(original.config_id)
    assert stored is not None
    assert (stored.config, stored.config.config_id) == (original, original.config_id)


def test_a_removed_configuration_is_unknown_to_all_processes(files: Files) -> None:
    first, second = ConfigFiles(files, 9, MIB), ConfigFiles(files, 9, MIB)
    first.add(config(1))
    assert second.remove(config(1).config_id)
    assert not first.has(config(1).config_id)
    assert first.get(config(1).config_id) is None
    assert not first.remove(config(1).config_id)
    assert first.all() == []


@pytest.mark.parametrize("config_id", ["", "fl_", "fl_0123456789abcdef", "../../../etc/passwd", "fl_0123456789ABCDEF"])
def test_an_invalid_id_reads_no_file(files: Files, config_id: str) -> None:
    configs = ConfigFiles(files, 9, MIB)
    configs.add(config(1))
    assert not configs.has(config_id)
    assert configs.get(config_id) is None
    assert not configs.remove(config_id)


def test_the_least_recently_used_configuration_is_deleted_first(tmp_path: Path) -> None:
    configs = ConfigFiles(open_files(str(tmp_path)), 3, MIB)
    for second, gamma in enumerate((1, 2, 3)):
        configs.add(config(gamma))
        os.utime(tmp_path / "configs" / f"{config(gamma).config_id}.json", (1000 + second, 1000 + second))
    configs.touch(config(1).config_id)
    configs.add(config(2))
    configs.add(config(4))
    assert {stored.config.gamma for stored in configs.all()} == {1, 2, 4}
    assert configs.all()[-1].config == config(1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"config": {}, "created_at": 3}', b"\xff"])
def test_a_damaged_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    configs = ConfigFiles(open_files(str(tmp_path)), 9, MIB)
    configs.add(config(1))
    configs.add(config(2))
    (tmp_path / "configs" / f"{config(1).config_id}.json").write_bytes(content)
    assert configs.get(config(1).config_id) is None
    assert [stored.config for stored in configs.all()] == [config(2)]


def test_a_file_under_another_id_is_ignored(tmp_path: Path) -> None:
    configs = ConfigFiles(open_files(str(tmp_path)), 9, MIB)
    configs.add(config(1))
    folder = tmp_path / "configs"
    (folder / f"{config(1).config_id}.json").rename(folder / f"{config(2).config_id}.json")
    assert configs.get(config(2).config_id) is None


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("counts", [True, False])
def test_large_configurations_are_deleted_by_their_bytes(tmp_path: Path, learned: bool, counts: bool) -> None:
    files = open_files(str(tmp_path))
    configs = ConfigFiles(files, 9, 2 * memory_bytes(1100))
    for number in range(5):
        numbers = [1 + number, *range(2, 1001)]
        if not learned:
            configs = ConfigFiles(files, 9, 2 * memory_bytes(1100))
        configs.add(LossConfig.parse({"alpha": {"class_counts": numbers} if counts else numbers}))
        time = 1000 + number
        newest = max((tmp_path / "configs").iterdir(), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (time, time))
        assert len(configs.all()) == min(2, number + 1)
    small = LossConfig.parse({"gamma": 1})
    configs.add(small)
    assert [len(stored.config.weights or ()) for stored in configs.all()] == [0, 1000, 1000]


def test_a_damaged_file_is_written_again(files: Files) -> None:
    configs, config_id = ConfigFiles(files, 9, MIB), config(1).config_id
    files.create(f"configs/{config_id}.json", lambda file: file.write(b"{"))
    assert configs.get(config_id) is None
    assert configs.all() == []
    assert configs.add(config(1))
    stored = ConfigFiles(files, 9, MIB).get(config_id)
    assert stored is not None
    assert stored.config == config(1)
    assert not configs.add(config(1))


def broken_reads(monkeypatch: pytest.MonkeyPatch, number: int, step: str) -> None:
    """Let all files fail to open for reading, or to be read, with an error of the operating system."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def broken(path: Path, mode: str = "r") -> object:
        if "x" in mode:
            return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "wb")
        return fail() if step == "open" else Broken(os.open(path, os.O_RDONLY), mode)

    class Broken(io.FileIO):
        read = fail  # type: ignore[assignment]

    monkeypatch.setattr("builtins.open", broken)


@pytest.mark.parametrize("step", ["open", "read"])
def test_a_machine_that_cannot_read_loses_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    configs = ConfigFiles(open_files(str(tmp_path)), 9, MIB)
    configs.add(config(1))
    with monkeypatch.context() as patch:
        broken_reads(patch, errno.EMFILE, step)
        for call in (lambda: configs.get(config(1).config_id), lambda: configs.add(config(1)), configs.all):
            with pytest.raises(StorageUnavailableError):
                call()
    assert [stored.config for stored in configs.all()] == [config(1)]


@pytest.mark.parametrize("step", ["open", "read"])
def test_a_damaged_configuration_does_not_affect_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    files = open_files(str(tmp_path))
    ConfigFiles(files, 9, MIB).add(config(1))
    configs = ConfigFiles(files, 9, MIB)
    with monkeypatch.context() as patch:
        broken_reads(patch, errno.EIO, step)
        assert configs.get(config(1).config_id) is None
        assert configs.all() == []
        assert configs.add(config(2))
    assert len(configs.all()) == 2
