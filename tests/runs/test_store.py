from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.errors import UserError
from rlstab.runs import store as store_module
from rlstab.runs import tensors
from rlstab.runs.atomic import DiskError
from rlstab.runs.checkpoint import read_checkpoint
from rlstab.runs.store import CheckpointStore


def state(value: float) -> dict[str, Any]:
    return {"weights": np.full(1000, value)}


def value_at(path: Path | None) -> float:
    assert path is not None
    return float(read_checkpoint(path).state["weights"][0])


def names(store: CheckpointStore) -> set[str]:
    return set(os.listdir(store.folder))


def test_an_empty_store(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    assert (store.steps(), store.latest(), store.best()) == ([], None, None)
    assert not store.folder.exists()
    with pytest.raises(UserError, match="no checkpoint of step 5; there: none"):
        store.at(5)


def test_the_last_few_and_the_best_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=2)
    for step, score in [(10, 1.0), (20, 9.0), (30, None), (40, 2.0), (50, 3.0)]:
        store.save(step, state(step), score=score)
    assert store.steps() == [20, 40, 50]
    assert value_at(store.best()) == 20
    assert value_at(store.latest()) == 50
    assert value_at(store.at(40)) == 40
    with pytest.raises(UserError, match="there: 20, 40, 50"):
        store.at(30)


@given(scores=st.lists(st.none() | st.integers(-3, 3).map(float), min_size=1, max_size=8), keep=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_what_is_kept_depends_on_scores_and_steps_alone(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float | None], keep: int
) -> None:
    store = CheckpointStore(tmp_path_factory.mktemp("store"), keep_last=keep)
    for index, score in enumerate(scores):
        store.save(index, {}, score=score)
    measured = [(score, -index) for index, score in enumerate(scores) if score is not None]
    best = {-max(measured)[1]} if measured else set()
    assert set(store.steps()) == best | set(range(len(scores))[-keep:])


def test_without_scores_the_newest_is_the_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, state(1))
    store.save(2, state(2))
    assert store.best() == store.latest()


def test_an_extra_checkpoint_takes_no_place_and_goes_with_the_next(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=2)
    store.save(10, state(1))
    store.save(20, state(2))
    store.save(25, state(3), extra=True)
    store.save(27, state(4), extra=True)
    assert store.steps() == [10, 20, 25, 27]
    store.save(30, state(5))
    assert store.steps() == [20, 30]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(10, state(1), extra=True)
    store.save(10, state(2))
    assert value_at(store.latest()) == 2
    assert names(store) == {"step-000000000010"}


class FillingFile(io.FileIO):
    """A file on a disk that has room for so many bytes only."""

    room = 0

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def open_with_room(room: int) -> Any:
    def opened(path: Path, mode: str) -> FillingFile:
        file = FillingFile(path, mode)
        file.room = room
        return file

    return opened


@pytest.mark.parametrize("room", [0, 100, 5000])
def test_a_disk_that_fills_up_while_writing_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    store = CheckpointStore(tmp_path, keep_last=1)
    store.save(10, state(1))
    monkeypatch.setattr(tensors, "open", open_with_room(room), raising=False)
    with pytest.raises(DiskError) as caught:
        store.save(20, state(2))
    message = str(caught.value)
    assert f"step 20 to {tmp_path}: the disk is full" in message
    assert message.endswith("the previous checkpoint, step-000000000010, is intact")
    assert names(store) == {"step-000000000010"}
    monkeypatch.undo()
    assert value_at(store.latest()) == 1
    store.save(20, state(2))
    assert store.steps() == [20]


def test_a_really_full_disk_loses_nothing(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "checkpoints")
    store.save(10, state(1))
    with pytest.raises(DiskError, match="the disk is full: free some space; the previous checkpoint"):
        store.save(20, {"weights": np.zeros(1_000_000)})
    assert names(store) == {"step-000000000010"}
    assert value_at(store.latest()) == 1


def test_a_really_read_only_disk_loses_nothing(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "checkpoints")
    store.save(10, state(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(DiskError, match="the file system is read-only"):
        store.save(20, state(2))
    assert value_at(store.latest()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_loses_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(10, state(1))
    store.folder.chmod(0o555)
    try:
        with pytest.raises(DiskError, match="permission denied"):
            store.save(20, state(2))
    finally:
        store.folder.chmod(0o755)
    assert value_at(store.latest()) == 1


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
def test_a_refusal_at_the_first_step_names_no_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DiskError) as caught:
        CheckpointStore(tmp_path / "checkpoints").save(1, state(1))
    assert "previous" not in str(caught.value)


class Killed(BaseException):
    """Stands for SIGKILL: nothing that would clean up may run."""


def kill_at_call(monkeypatch: pytest.MonkeyPatch, calls: int) -> list[str]:
    """Let the process die at the n-th access that changes the folder, before or after it took effect."""
    trace: list[str] = []
    rename, rmtree, fsync = Path.rename, shutil.rmtree, os.fsync

    def step(name: str) -> None:
        trace.append(name)
        if len(trace) >= calls:
            raise Killed

    def killed_rename(self: Path, target: Path) -> Path:
        step("before rename")
        done = rename(self, target)
        step("after rename")
        return done

    def killed_rmtree(path: Path, ignore_errors: bool = False) -> None:
        step("before rmtree")
        # Half a deletion.
        (path / "meta.json").unlink(missing_ok=True)
        step("in rmtree")
        rmtree(path, ignore_errors=ignore_errors)

    def killed_fsync(descriptor: int) -> None:
        step("before fsync")
        fsync(descriptor)

    monkeypatch.setattr(Path, "rename", killed_rename)
    monkeypatch.setattr(store_module.shutil, "rmtree", killed_rmtree)
    monkeypatch.setattr(os, "fsync", killed_fsync)
    return trace


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("calls", range(1, 16))
def test_death_at_any_access_leaves_only_whole_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int, replace: bool
) -> None:
    store = CheckpointStore(tmp_path, keep_last=1)
    store.save(10, state(1))
    with monkeypatch.context() as patch:
        kill_at_call(patch, calls)
        with contextlib.suppress(Killed):
            store.save(10 if replace else 20, state(2))
    # The next process.
    revived = CheckpointStore(tmp_path, keep_last=1)
    revived.recover()
    assert revived.steps()
    for step in revived.steps():
        assert value_at(revived.at(step)) in (1, 2)
    revived.save(30, state(3))
    assert names(revived) == {"step-000000000030"}


def test_a_damaged_checkpoint_is_set_aside_and_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(10, state(1))
    assert store.set_aside(store.at(10)).name == "damaged-step-000000000010"
    assert store.steps() == []
    store.save(10, state(2))
    assert store.set_aside(store.at(10)).name == "damaged-step-000000000010-2"
    store.save(20, state(2))
    assert len(names(store)) == 3


def test_none_to_keep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one"):
        CheckpointStore(tmp_path, keep_last=0)


def test_a_checkpoint_by_the_name_a_person_gives_it(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    with pytest.raises(UserError, match=r"run has no checkpoint yet; train it further: .* train --resume"):
        store.find("best")
    store.save(1000, {}, score=2.0)
    store.save(2000, {}, score=1.0)
    names = {"best": 1000, "last": 2000, 1000: 1000, "2_000": 2000, "2,000": 2000}
    assert {name: store.find(name).name for name in names} == {
        name: f"step-{step:012d}" for name, step in names.items()
    }
    for wrong in ("newest", "", "-1", "²", "1.5"):
        with pytest.raises(UserError, match="must be best, last or a step number"):
            store.find(wrong)
    with pytest.raises(UserError, match="no checkpoint of step 7; there: 1000, 2000"):
        store.find("7")
