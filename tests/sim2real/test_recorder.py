from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlstab.errors import UserError
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.recorder import Recorder
from rlstab.sim2real.robot import Reading
from rlstab.sim2real.timing import Tick


def fill(recorder: Recorder, episodes: int, length: int) -> None:
    for episode in range(episodes):
        recorder.begin()
        for index in range(length):
            reward = None if index == 0 else float(index)
            reading = Reading(1.0 + index, np.full(3, index), np.zeros(2), np.ones(2), reward)
            recorder.record(reading, np.array([0.1 * index]), Tick(index, 1.0 + index, 2.0, 3.0, 4.0, episode == 1))


def test_a_saved_log_has_one_row_a_tick_and_the_contract(tmp_path: Path, contract: Contract) -> None:
    recorder = Recorder()
    fill(recorder, 2, 5)
    with np.load(recorder.save(tmp_path / "log.npz", contract), allow_pickle=False) as log:
        assert log["observation"].shape == (10, 3)
        assert log["qpos"].shape == log["qvel"].shape == (10, 2)
        np.testing.assert_array_equal(log["episode"], np.repeat([0, 1], 5))
        np.testing.assert_array_equal(log["overrun"], np.repeat([False, True], 5))
        np.testing.assert_array_equal(log["reward"][:5], [np.nan, 1, 2, 3, 4])
        np.testing.assert_array_equal(log["t_sensor"][:5], [1, 2, 3, 4, 5])
        assert Contract.from_json(str(log["contract"]), "log") == contract


@pytest.mark.parametrize(("dtype", "filler"), [(np.float32, np.nan), (np.int64, 0)])
def test_a_last_reading_has_no_action_and_perhaps_no_joints(contract: Contract, dtype: type, filler: float) -> None:
    recorder = Recorder()
    recorder.begin()
    tick = Tick(0.0, 1.0, 2.0, 3.0, 4.0, False)
    recorder.record(Reading(1.0, np.zeros(3), np.zeros(2), np.ones(2)), np.array([5], dtype), tick)
    last = Tick(0.0, 1.0, np.nan, np.nan, np.nan, False)
    recorder.record(Reading(2.0, np.ones(3), reward=1.5), None, last, final=True)
    log = recorder.arrays(contract)
    assert log["final"].tolist() == [False, True]
    assert log["action"].dtype == dtype
    np.testing.assert_array_equal(log["action"], [[5], [filler]])
    np.testing.assert_array_equal(log["qpos"], [[0, 0], [np.nan, np.nan]])
    np.testing.assert_array_equal(log["reward"], [np.nan, 1.5])


def test_an_episode_without_a_single_command_can_be_saved(tmp_path: Path, contract: Contract) -> None:
    recorder = Recorder()
    recorder.begin()
    last = Tick(0.0, 1.0, np.nan, np.nan, np.nan, False)
    recorder.record(Reading(1.0, np.zeros(3)), None, last, final=True)
    with np.load(recorder.save(tmp_path / "log.npz", contract)) as log:
        np.testing.assert_array_equal(log["action"], [[np.nan]])
        assert log["qpos"].shape == (1, 0)


def test_the_newest_are_those_of_the_present_episode(contract: Contract) -> None:
    recorder = Recorder()
    fill(recorder, 2, 5)
    assert recorder.arrays(contract, newest=3)["t_start"].tolist() == [2, 3, 4]
    assert recorder.arrays(contract, newest=100)["episode"].tolist() == [1] * 5
    recorder.begin()
    assert recorder.arrays(contract, newest=3)["episode"].size == 0


def test_only_the_newest_ticks_are_kept(tmp_path: Path, contract: Contract) -> None:
    recorder = Recorder(capacity=3)
    fill(recorder, 1, 5)
    assert len(recorder) == 3
    with np.load(recorder.save(tmp_path / "log.npz", contract)) as log:
        np.testing.assert_array_equal(log["action"].ravel(), [0.2, 0.30000000000000004, 0.4])


def test_an_empty_log_can_be_saved(tmp_path: Path, contract: Contract) -> None:
    with np.load(Recorder().save(tmp_path / "log.npz", contract)) as log:
        assert log["action"].size == 0


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, contract: Contract) -> None:
    with pytest.raises(UserError, match=r"log\.npz"):
        Recorder().save(tmp_path / "absent" / "log.npz", contract)
