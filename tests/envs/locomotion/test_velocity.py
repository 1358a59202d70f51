"""Go1Velocity: what is observed, rewarded and ends, and that a world is a function of its seed and number."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from rlstab.envs.check import check_env
from rlstab.envs.disturbance import ActionDelay, ExternalWrench, ParameterScale, Range
from rlstab.envs.locomotion.legs import JOINTS, joint_positions
from rlstab.envs.locomotion.velocity import Go1Velocity
from rlstab.envs.registry import make_task, make_vec, own_ids
from rlstab.errors import UserError
from rlstab.sim2real.layout import layout_of

ID = "rlstab/Go1Velocity-v0"


def made(num_envs: int = 1, **kwargs: Any) -> Any:
    return make_vec(ID, num_envs, **{"num_threads": 1, **kwargs})


def actions(steps: int, worlds: int, seed: int = 0, size: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-size, size, (steps, worlds, 12)).astype(np.float32)


def place(env: Any, qpos: np.ndarray, qvel: np.ndarray | None = None) -> None:
    """Put all worlds of ``env``, which has been reset, at one state."""
    worlds = np.arange(env.num_envs)
    speed = np.zeros(env.model.nv) if qvel is None else qvel
    env.physics.reset(worlds, np.tile(qpos, (env.num_envs, 1)), np.tile(speed, (env.num_envs, 1)))


def part(env: Any, observation: np.ndarray, name: str) -> np.ndarray:
    """A named part of observations."""
    start = 0
    for term in env.observation_terms:
        if term.name == name:
            return observation[:, start : start + term.dim]
        start += term.dim
    raise KeyError(name)


def test_the_base_is_observed_in_its_own_frame():
    env = made()
    env.reset(seed=0)
    qpos, qvel = env.model.key_qpos[0].copy(), np.zeros(env.model.nv)
    # Facing along y and rolled by a right angle to its right: its left side points up.
    half = np.sqrt(0.5)
    turn = np.zeros(4)
    mujoco.mju_mulQuat(turn, np.array([half, 0.0, 0.0, half]), np.array([half, half, 0.0, 0.0]))
    qpos[3:7] = turn
    qvel[:3] = 1.0, 2.0, 3.0  # World.
    qvel[3:6] = 0.1, 0.2, 0.3  # The free joint's own turning speed is the body's already.
    place(env, qpos, qvel)
    seen = env.task.observe(env.state)
    data = mujoco.MjData(env.model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(env.model, data)
    expected = np.zeros(6)
    mujoco.mj_objectVelocity(env.model, data, mujoco.mjtObj.mjOBJ_XBODY, env.model.body("trunk").id, expected, 1)
    np.testing.assert_allclose(part(env, seen, "base_linear_velocity")[0], expected[3:], atol=1e-12)
    np.testing.assert_allclose(part(env, seen, "base_angular_velocity")[0], expected[:3], atol=1e-12)
    np.testing.assert_allclose(part(env, seen, "base_angular_velocity")[0], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(part(env, seen, "base_linear_velocity")[0], [2.0, 3.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(part(env, seen, "projected_gravity")[0], [0.0, -1.0, 0.0], atol=1e-12)


def test_joints_are_observed_from_the_reference_pose_under_their_names():
    env = made()
    env.reset(seed=0)
    qpos = env.model.key_qpos[0].copy()
    qpos[env.model.joint("RR_thigh_joint").qposadr[0]] += 0.25
    place(env, qpos)
    seen = env.task.observe(env.state)
    for name in JOINTS:
        expected = 0.25 if name == "RR_thigh_joint" else 0.0
        assert part(env, seen, f"position_offset/{name}")[0, 0] == pytest.approx(expected, abs=1e-12)
    assert sum(term.dim for term in env.observation_terms) == seen.shape[1] == 48


def test_the_last_action_is_observed_as_it_was_chosen():
    env = made(disturbances=ActionDelay(steps=2))
    env.reset(seed=0)
    action = np.full((1, 12), 0.4, np.float32)
    action[0, 3] = 3.0
    observation, *_ = env.step(action)
    np.testing.assert_allclose(part(env, observation, "last_action")[0, :4], [0.4, 0.4, 0.4, 1.0])
    # What has not arrived is not charged.
    assert env.reward_terms["action_rate"][0] == 0.0


def test_perfect_tracking_gives_the_documented_maximum():
    task = Go1Velocity()
    env = made()
    env.reset(seed=0)
    env.state.carried["command"][:] = 0.0, 0.0, 0.0
    place(env, env.model.key_qpos[0])
    terms, fallen = task.outcome(task.measure(env.state), env.state, np.zeros((1, 12)), env.dt)
    assert not fallen[0]
    tracked = terms["tracking_linear"] + terms["tracking_angular"]
    assert tracked[0] == pytest.approx(task.tracking_maximum(env.dt)) == pytest.approx(0.03)
    assert terms["pose"][0] == pytest.approx(0.5 * 0.02)
    for name in ("vertical_speed", "rolling", "orientation", "stand_still", "action_rate", "power", "termination"):
        assert terms[name][0] == 0.0, name


def test_terms_in_a_state_made_by_hand():
    task = Go1Velocity()
    env = made()
    env.reset(seed=0)
    qvel = np.zeros(env.model.nv)
    qvel[:6] = 0.5, 0.0, 0.4, 0.2, -0.1, 0.6
    place(env, env.model.key_qpos[0], qvel)
    env.state.carried["command"][:] = 1.0, 0.0, 0.1
    env.state.carried["last_arrived"][:] = 0.5
    terms, _ = task.outcome(task.measure(env.state), env.state, np.zeros((1, 12)), env.dt)
    expected = {
        "tracking_linear": np.exp(-0.25 / 0.25),
        "tracking_angular": 0.5 * np.exp(-0.25 / 0.25),
        "vertical_speed": -0.5 * 0.16,
        "rolling": -0.05 * 0.05,
        "action_rate": -0.01 * 12 * 0.25,
    }
    for name, rate in expected.items():
        assert terms[name][0] / env.dt == pytest.approx(rate), name


def test_the_reward_is_the_sum_of_its_terms_and_never_negative():
    env = made(16)
    env.reset(seed=1)
    floored = 0
    for action in actions(60, 16, size=1.0):
        _, reward, *_ = env.step(action)
        assert (reward >= 0).all()
        floored += np.count_nonzero(reward == 0.0)
        np.testing.assert_allclose(reward, sum(env.reward_terms.values()), atol=1e-15)
        assert {"tracking_linear", "tracking_angular"} <= env.reward_terms.keys()
    assert floored


@pytest.mark.parametrize("state", ["tilted", "low"])
def test_a_fallen_robot_ends_its_episode(state):
    env = made(2)
    env.reset(seed=0)
    qpos = env.model.key_qpos[0].copy()
    if state == "tilted":
        qpos[2], qpos[3:7] = 0.5, (np.cos(0.9), np.sin(0.9), 0.0, 0.0)
    else:
        qpos[2] = 0.1
        qpos[joint_positions(env.model)] = np.tile([0.0, 1.5, -2.7], 4)
    place(env, qpos)
    _, _, terminated, truncated, infos = env.step(np.zeros((2, 12)))
    assert terminated.all()
    assert not truncated.any()
    assert infos["_final_obs"].all()


def test_the_time_limit_is_no_fall():
    env = made(2, max_episode_steps=3)
    env.reset(seed=0)
    for step in range(3):
        _, _, terminated, truncated, _ = env.step(np.zeros((2, 12)))
        assert truncated.all() == (step == 2)
        assert not terminated.any()


def test_a_push_gives_the_robot_its_impulse():
    push = (20.0, -10.0, 30.0)
    speeds = []
    for force in ((0.0, 0.0, 0.0), push):
        env = made(disturbances=ExternalWrench("trunk", force))
        env.reset(seed=0)
        qpos = env.model.key_qpos[0].copy()
        qpos[2] = 5.0  # In the air, so that nothing else acts.
        place(env, qpos)
        env.step(np.zeros((1, 12)))
        data = mujoco.MjData(env.model)
        data.qpos[:], data.qvel[:] = env.physics.qpos[0], env.physics.qvel[0]
        mujoco.mj_forward(env.model, data)
        mujoco.mj_subtreeVel(env.model, data)
        speeds.append(data.subtree_linvel[0].copy())
    mass = env.model.body_mass.sum()
    np.testing.assert_allclose(speeds[1] - speeds[0], np.array(push) * env.dt / mass, rtol=1e-3)


def test_a_world_is_the_same_alone_in_a_crowd_and_on_any_threads():
    disturbances = (ParameterScale("mass", Range(0.8, 1.2)), ParameterScale("friction", Range(0.5, 1.2)))
    # Short, so that episodes end and commands change within the test.
    settings: dict[str, Any] = {
        "disturbances": disturbances, "max_episode_steps": 25, "env_kwargs": {"command_wait": 0.1}
    }  # fmt: skip
    plan = actions(60, 6, size=0.8)
    runs = []
    for threads in (1, 2):
        env = made(6, num_threads=threads, **settings)
        first, _ = env.reset(seed=5)
        runs.append([first, *(part for action in plan for part in env.step(action)[:4])])
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)
    for world in (0, 5):
        env = made(1, world_offset=world, **settings)
        first, _ = env.reset(seed=5)
        alone = [first, *(part for action in plan[:, [world]] for part in env.step(action)[:4])]
        for mine, crowd in zip(alone, runs[0], strict=True):
            np.testing.assert_array_equal(mine[0], crowd[world])


def test_a_saved_batch_goes_on_bit_for_bit():
    settings: dict[str, Any] = {"max_episode_steps": 30, "env_kwargs": {"command_wait": 0.2}}
    env, plan = made(4, seed=3, **settings), actions(80, 4)
    env.reset(seed=3)
    for action in plan[:40]:
        env.step(action)
    saved = env.state_dict()
    expected = [env.step(action)[:4] for action in plan[40:]]
    other = made(4, seed=77, **settings)
    other.reset()
    other.load_state_dict(saved)
    for action, parts in zip(plan[40:], expected, strict=True):
        for mine, theirs in zip(other.step(action)[:4], parts, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_new_seed_forgets_everything():
    env, plan = made(2, env_kwargs={"command_wait": 0.1}), actions(20, 2)
    runs = []
    for _ in range(2):
        first, _ = env.reset(seed=4)
        runs.append([first, *(env.step(action)[0] for action in plan)])
    np.testing.assert_array_equal(*runs)


def test_gymnasium_makes_it_and_the_check_passes():
    assert ID in own_ids()
    env = gymnasium.make(ID)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (48,)
    assert env.spec is not None
    assert env.spec.max_episode_steps == 1000
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (12,), np.float32)
    assert check_env(ID) == []


def test_the_contract_says_what_an_action_asks_for():
    layout = layout_of(made())
    assert layout.action.kind == "position"
    assert layout.action.scale == (0.5,) * 12
    assert layout.action.offset == (0.0, 0.9, -1.8) * 4
    assert [actuator.joint for actuator in layout.actuators] == list(JOINTS)
    assert {(actuator.kp, actuator.kd) for actuator in layout.actuators} == {(35.0, 0.5)}
    assert {joint.name: joint.default_pos for joint in layout.joints}["RL_calf_joint"] == (-1.8,)
    assert (layout.physics_dt, layout.decimation, layout.control_dt) == (0.004, 5, 0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"action_scale": 0.0}, "action_scale must be above 0"),
        ({"collisions": "legs"}, "'all' or 'feet'"),
        ({"robot": "spot"}, "no robot 'spot'"),
        ({"max_tilt": "far"}, "max_tilt must be a number"),
        ({"tracking_weight": 1.0}, "no setting tracking_weight"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make_task(ID, **settings)
