"""Go1VelocityRough: tiles, the curriculum, and heights around the robot."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from rlstab.envs.carried import nothing_yet, row_of
from rlstab.envs.locomotion.rough import Go1VelocityRough
from rlstab.envs.registry import make_task, make_vec
from rlstab.errors import UserError

ID = "rlstab/Go1VelocityRough-v0"
SMALL: dict[str, Any] = {"terrains": "slope=0.5,stairs_up=0.5", "levels": 4, "start_levels": 2}


def made(num_envs: int = 1, **kwargs: Any) -> Any:
    return make_vec(ID, num_envs, **{"num_threads": 1, "env_kwargs": SMALL, **kwargs})


def test_robots_start_in_the_middle_of_their_tiles():
    env = made(40)
    env.reset(seed=0)
    carried, task = env.state.carried, env.task
    assert set(carried["kind"]) == {0.0, 1.0}
    assert set(carried["level"]) == {0.0, 1.0}
    for world in range(40):
        origin = task.terrain.origin(int(carried["level"][world]), int(carried["kind"][world]))
        np.testing.assert_array_equal(carried["origin"][world], origin)
        assert np.abs(env.physics.qpos[world, :2] - origin[:2]).max() <= 0.5
    above = env.physics.qpos[:, 2] - task.ground_height(env.state, env.physics.qpos[:, None, :2])[:, 0]
    assert (above >= 0.29 - 1e-9).all()
    assert not env.step(np.zeros((40, 12)))[2].any()


def test_shares_of_kinds_are_those_asked_for():
    task = Go1VelocityRough(terrains="slope=1,wave=3", levels=2, start_levels=1)
    carried = nothing_yet(task.carried(None), 400)
    env = make_vec(ID, 400, num_threads=1, env_kwargs={"terrains": "slope=1,wave=3", "levels": 2, "start_levels": 1})
    env.reset(seed=2)
    assert env.state.carried["kind"].mean() == pytest.approx(0.75, abs=0.06)
    assert carried["kind"].shape == (400,)


@pytest.mark.parametrize(
    ("farthest", "progress", "expected"),
    [(4.5, 0.0, 1), (3.0, 2.0, -1), (3.0, 6.0, 0), (3.9, 4.9, -1)],
)
def test_who_gets_far_goes_up_and_who_does_not_do_half_goes_down(farthest, progress, expected):
    task = Go1VelocityRough(**SMALL)
    row = row_of(nothing_yet(task.carried(None), 1), 0)
    # Asked for 0.5 m/s in the 4 s until it fell: 10 m in a whole episode of 20 s.
    row["steps"][...], row["asked"][...] = 200.0, 200 * 0.01
    row["farthest"][...], row["progress"][...] = farthest, progress
    assert task.promotion(row) == expected


def test_levels_change_at_the_end_of_an_episode_and_stay_within_bounds():
    env = made(12, max_episode_steps=2)
    env.reset(seed=0)
    seen = [env.state.carried["level"].copy()]
    for _ in range(30):
        # Far away, or not at all.
        env.state.carried["farthest"][:6], env.state.carried["farthest"][6:] = 5.0, 0.0
        env.state.carried["progress"][6:] = -1.0
        env.step(np.zeros((12, 12)))
        seen.append(env.state.carried["level"].copy())
    levels = np.array(seen)
    assert (levels[-1, 6:] == 0).all()
    assert levels.min() == 0
    assert levels.max() == 3
    assert set(levels[8:, :6].ravel()) == {0.0, 1.0, 2.0, 3.0}


def test_without_curriculum_a_world_stays():
    env = made(6, max_episode_steps=2, env_kwargs={**SMALL, "curriculum": False})
    env.reset(seed=0)
    before = env.state.carried["level"].copy()
    for _ in range(5):
        env.state.carried["farthest"][:] = 5.0
        env.step(np.zeros((6, 12)))
    np.testing.assert_array_equal(env.state.carried["level"], before)


def test_progress_is_counted_along_the_command():
    env = made()
    env.reset(seed=0)
    qvel = np.zeros((1, env.model.nv))
    qvel[0, :2] = 1.0, 0.5
    qpos = env.physics.qpos.copy()
    qpos[0, 3:7] = 1.0, 0.0, 0.0, 0.0
    env.physics.reset(np.arange(1), qpos, qvel)
    env.state.carried["command"][:] = 0.0, 2.0, 0.0
    env.task.advance(env.state, np.zeros((1, 12)), np.zeros((1, 12)), env._numbers, env.dt)
    assert env.state.carried["progress"][0] == pytest.approx(0.5 * env.dt)
    assert env.state.carried["asked"][0] == pytest.approx(2.0 * env.dt)


def test_the_scan_sees_steps_ahead_and_turns_with_the_robot():
    env = made(env_kwargs={"terrains": "stairs_up", "levels": 1, "start_levels": 1, "max_forward": 1.0})
    env.reset(seed=0)
    qpos, qvel = env.model.key_qpos[0].copy(), np.zeros(env.model.nv)
    origin = env.task.terrain.origin(0, 0)
    qpos[:3] = origin + np.array([1.2, 0.0, 0.29])  # The first step begins 0.3 m ahead.
    for facing in (0.0, np.pi):
        qpos[3:7] = np.cos(facing / 2), 0.0, 0.0, np.sin(facing / 2)
        env.physics.reset(np.arange(1), qpos[None], qvel[None])
        scan = env.task.observe(env.state)[0, 48:].reshape(17, 11)
        rows = scan if facing == 0.0 else scan[::-1, ::-1]
        np.testing.assert_allclose(rows[8:], 0.0, atol=1e-9)  # Below and behind: the bottom of the pit.
        np.testing.assert_allclose(rows[0], -0.10, atol=1e-9)  # 0.8 m ahead: the second step of 5 cm.
        np.testing.assert_allclose(rows[3], -0.05, atol=1e-9)


def test_a_world_is_the_same_alone_and_resumes_bit_for_bit():
    plan = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 5, 12))
    crowd = made(5, num_threads=2, max_episode_steps=12)
    crowd.reset(seed=1)
    parts = []
    saved = None
    for number, action in enumerate(plan):
        if number == 20:
            saved = crowd.state_dict()
        parts.append([np.array(part) for part in crowd.step(action)[:4]])
    alone = made(1, world_offset=3, max_episode_steps=12)
    alone.reset(seed=1)
    resumed = made(5, max_episode_steps=12)
    resumed.reset(seed=9)
    assert saved is not None
    for number, action in enumerate(plan):
        for mine, theirs in zip(alone.step(action[[3]])[:4], parts[number], strict=True):
            np.testing.assert_array_equal(mine[0], theirs[3])
    resumed.load_state_dict(saved)
    for number in range(20, 50):
        for mine, theirs in zip(resumed.step(plan[number])[:4], parts[number], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_gymnasium_makes_it():
    env = gymnasium.make(ID, terrains="flat", levels=1, start_levels=1, height_scan=False)
    assert env.reset(seed=0)[0].shape == (48,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terrains": "slope=x"}, "written as"),
        ({"terrains": "slope=0"}, "must be above 0"),
        ({"terrains": "lava"}, "no terrain 'lava'"),
        ({"start_levels": 11}, "start_levels must be 1 to levels"),
        ({"levels": 2.5}, "levels must be a whole number"),
        ({"curriculum": 1}, "curriculum must be true or false"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make_task(ID, **settings)
