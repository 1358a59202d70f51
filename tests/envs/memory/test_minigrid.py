"""MiniGrid's memory rooms as vectors, entry by entry, and what is said where MiniGrid is missing."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlstab.envs.check import check_env
from rlstab.envs.memory import ROOMS
from rlstab.envs.registry import make_vec, own_ids, runs_natively
from rlstab.errors import UserError

needs_minigrid = pytest.mark.skipif(importlib.util.find_spec("minigrid") is None, reason="MiniGrid is not installed")


def test_the_ids_are_known_without_minigrid() -> None:
    assert set(ROOMS) <= set(own_ids())
    assert set(ROOMS) <= set(gymnasium.registry)
    assert not any(map(runs_natively, ROOMS))


def test_without_minigrid_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "minigrid"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(UserError, match=r"^MiniGrid's rooms need 'minigrid.*pip install 'rlstab\[minigrid\]'$"):
        make_vec("rlstab/MiniGridMemoryS7-v0")


@pytest.mark.parametrize("setting", [{"agent_view_size": 4}, {"agent_view_size": 1}, {"max_steps": 0}])
def test_settings_that_make_no_sense_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be "):
        make_vec("rlstab/MiniGridMemoryS7-v0", env_kwargs=setting)


@needs_minigrid
@pytest.mark.parametrize("view", [3, 5, 7])
@pytest.mark.parametrize("env_id", ROOMS)
def test_it_is_minigrids_room_step_by_step(env_id: str, view: int) -> None:
    importlib.import_module("minigrid")  # It registers its rooms.

    ours: Any = gymnasium.make(env_id, agent_view_size=view)
    theirs: Any = gymnasium.make(env_id.replace("rlstab/MiniGrid", "MiniGrid-"), agent_view_size=view)
    assert ours.observation_space.shape == (20 * view * view + 4,)
    assert ours.action_space == gymnasium.spaces.Discrete(3)
    assert ours.unwrapped.max_steps == theirs.unwrapped.max_steps == 5 * ROOMS[env_id] ** 2
    rng = np.random.default_rng(0)
    ends = rewards = 0
    for seed in range(6):
        mine, full = ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0]
        over = False
        while not over:
            assert mine.dtype == np.float32
            assert ours.observation_space.contains(mine)
            parts = mine[:-4].reshape(view, view, 20)
            kinds = [parts[..., :11], parts[..., 11:17], parts[..., 17:]]
            for channel, part in enumerate(kinds):
                np.testing.assert_array_equal(part.sum(axis=-1), 1)
                np.testing.assert_array_equal(part.argmax(axis=-1), full["image"][..., channel])
            np.testing.assert_array_equal(mine[-4:], np.eye(4)[full["direction"]])
            action = rng.choice(3, p=[0.2, 0.2, 0.6])
            mine, *result, _ = ours.step(action)
            full, *expected, _ = theirs.step(action)
            assert result == expected
            over = result[1] or result[2]
            rewards += result[0] > 0
            ends += over
    assert ends == 6
    if env_id == "rlstab/MiniGridMemoryS7-v0":
        assert rewards


@needs_minigrid
def test_make_vec_gives_a_batch_with_the_seeds_and_limits_asked_for() -> None:
    env: Any = make_vec("rlstab/MiniGridMemoryS9", 3, seed=1, env_kwargs={"max_steps": 5})
    alone: Any = make_vec("rlstab/MiniGridMemoryS9-v0", 1, seed=1, world_offset=2, env_kwargs={"max_steps": 5})
    first = env.reset()[0]
    assert first.shape == (3, 184)
    np.testing.assert_array_equal(first[2], alone.reset()[0][0])
    for step in range(10):
        observation, _, _, truncated, infos = env.step(np.zeros(3, np.int64))
        np.testing.assert_array_equal(observation[2], alone.step(np.zeros(1, np.int64))[0][0])
        assert truncated.all() == (step % 5 == 4)
        assert ("final_obs" in infos) == truncated.any()


@needs_minigrid
def test_it_draws_and_checkers_are_content() -> None:
    env: Any = gymnasium.make("rlstab/MiniGridMemoryS7-v0", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape[2] == 3
    assert [finding for finding in check_env("rlstab/MiniGridMemoryS7-v0", steps=60) if finding.level == "error"] == []


@needs_minigrid
def test_nothing_is_printed_by_the_import() -> None:
    code = "from rlstab.envs import make_vec\nmake_vec('rlstab/MiniGridMemoryS7-v0')\n"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout == ""
