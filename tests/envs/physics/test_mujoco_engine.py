"""The native engine gives MuJoCo's own numbers, whatever the number of worlds and threads."""

from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.envs.physics.mujoco_engine import MujocoPhysics
from rlstab.errors import UserError

FREE_BODY = """
<mujoco>
  <option timestep="0.01" gravity="0 0 -9.81"/>
  <worldbody>
    <body name="brick" pos="0 0 5"><freejoint/><geom type="box" size=".1 .2 .3" mass="2"/></body>
  </worldbody>
</mujoco>
"""
# Contacts, limits, friction and actuation: everything whose solution is iterative.
WALKER = """
<mujoco>
  <option timestep="0.004" integrator="RK4"/>
  <worldbody>
    <geom type="plane" size="5 5 1" friction="0.8"/>
    <body name="torso" pos="0 0 0.6">
      <freejoint/><geom type="capsule" size=".06" fromto="-.2 0 0 .2 0 0" mass="3"/>
      <body pos=".2 0 0"><joint name="front" axis="0 1 0" range="-60 60" damping="1"/>
        <geom type="capsule" size=".04" fromto="0 0 0 0 0 -.4"/></body>
      <body pos="-.2 0 0"><joint name="back" axis="0 1 0" range="-60 60" damping="1"/>
        <geom type="capsule" size=".04" fromto="0 0 0 0 0 -.4"/></body>
    </body>
  </worldbody>
  <actuator><motor joint="front" gear="30" ctrllimited="true" ctrlrange="-1 1"/>
            <motor joint="back" gear="30" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


def compiled(xml: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(xml)


def reset_random(physics: MujocoPhysics, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, model = physics.num_envs, physics.model
    qpos = np.tile(model.qpos0, (n, 1))
    qpos[:, 7:] += rng.uniform(-0.4, 0.4, (n, model.nq - 7))
    physics.reset(np.arange(n), qpos, rng.normal(0.0, 0.5, (n, model.nv)))


def rollout(physics: MujocoPhysics, controls: np.ndarray) -> np.ndarray:
    trace = []
    for ctrl in controls:
        physics.step(ctrl, 3)
        trace.append(
            np.concatenate([physics.qpos, physics.qvel, physics.field("cfrc_ext").reshape(physics.num_envs, -1)], 1)
        )
    return np.array(trace)


def controls_for(n: int, steps: int = 40) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1.5, 1.5, (steps, n, 2))


def test_equals_a_python_loop_over_mjdata():
    physics = MujocoPhysics(compiled(WALKER), 3, ("cfrc_ext", "xpos"), num_threads=2)
    reset_random(physics, 0)
    controls = controls_for(3)
    datas = []
    for world in range(3):
        data = mujoco.MjData(compiled(WALKER))
        data.qpos[:], data.qvel[:] = physics.qpos[world], physics.qvel[world]
        mujoco.mj_forward(physics.model, data)
        datas.append(data)
    for ctrl in controls:
        physics.step(ctrl, 3)
        for world, data in enumerate(datas):
            data.ctrl[:] = ctrl[world]
            mujoco.mj_step(physics.model, data, nstep=3)
            mujoco.mj_rnePostConstraint(physics.model, data)
            np.testing.assert_allclose(physics.qpos[world], data.qpos, atol=1e-12)
            np.testing.assert_allclose(physics.qvel[world], data.qvel, atol=1e-10)
            np.testing.assert_allclose(physics.field("xpos")[world], data.xpos, atol=1e-12)
            np.testing.assert_allclose(physics.field("cfrc_ext")[world], data.cfrc_ext, atol=1e-7)
    assert any(data.ncon for data in datas), "the test must exercise contacts"


@settings(max_examples=10)
@given(num_envs=st.integers(1, 9), threads=st.integers(1, 4))
def test_worlds_do_not_depend_on_threads_or_company(num_envs, threads):
    controls = controls_for(num_envs, 25)
    together = MujocoPhysics(compiled(WALKER), num_envs, ("cfrc_ext",), num_threads=threads)
    reset_random(together, 3)
    starts = together.qpos.copy(), together.qvel.copy()
    trace = rollout(together, controls)
    together.close()
    for world in {0, num_envs - 1}:
        alone = MujocoPhysics(compiled(WALKER), 1, ("cfrc_ext",), num_threads=1)
        alone.reset(np.array([0]), starts[0][[world]], starts[1][[world]])
        np.testing.assert_array_equal(rollout(alone, controls[:, [world]])[:, 0], trace[:, world])


def test_many_short_jobs_leave_no_world_behind():
    """Hammers the hand-over between threads: every world is stepped exactly once per call."""
    physics = MujocoPhysics(compiled(FREE_BODY), 7, num_threads=3)
    for _ in range(3000):
        physics.step(np.zeros((7, 0)), 1)
    np.testing.assert_allclose(physics.time, 30.0, atol=1e-9)


def test_wrench_obeys_newton_and_does_not_persist():
    physics = MujocoPhysics(compiled(FREE_BODY), 2)
    wrench = np.zeros((2, 2, 6))
    wrench[1, 1, :3] = 3.0, -4.0, 5.0
    physics.step(np.zeros((2, 0)), 10, wrench)
    gravity = np.array([0.0, 0.0, -9.81])
    dt = 10 * physics.timestep
    np.testing.assert_allclose(physics.qvel[0, :3], gravity * dt, atol=1e-9)
    np.testing.assert_allclose(physics.qvel[1, :3], (gravity + np.array([3.0, -4.0, 5.0]) / 2.0) * dt, atol=1e-9)
    before = physics.qvel[1, :3].copy()
    physics.step(np.zeros((2, 0)), 10)
    np.testing.assert_allclose(physics.qvel[1, :3] - before, gravity * dt, atol=1e-9)


def test_parameters_belong_to_one_world():
    physics = MujocoPhysics(compiled(FREE_BODY), 3)
    mass = physics.model.body_mass.copy()
    physics.set_parameters(np.array([1]), {"body_mass": (2.0 * mass)[None], "opt.gravity": np.zeros((1, 3))})
    wrench = np.zeros((3, 2, 6))
    wrench[:, 1, 0] = 4.0
    physics.step(np.zeros((3, 0)), 1, wrench)
    np.testing.assert_allclose(physics.qvel[:, 0], [0.02, 0.01, 0.02], atol=1e-12)
    np.testing.assert_allclose(physics.qvel[:, 2], [-0.0981, 0.0, -0.0981], atol=1e-12)
    # Derived constants follow the mass: they scale the softness of contacts.
    assert physics.world_model(1).body_subtreemass[0] == pytest.approx(2.0 * physics.model.body_subtreemass[0])


def test_statistics_of_the_model_stay_when_masses_change():
    physics = MujocoPhysics(compiled(WALKER), 2)
    before = {name: np.copy(getattr(physics.model.stat, name)) for name in ("meaninertia", "meanmass", "extent")}
    physics.set_parameters(np.array([1]), {"body_mass": 3.0 * physics.model.body_mass[None]})
    stat = physics.world_model(1).stat
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(stat, name), value, err_msg=name)


def test_reset_touches_only_the_named_worlds():
    physics = MujocoPhysics(compiled(WALKER), 4, ("cfrc_ext",))
    reset_random(physics, 0)
    rollout(physics, controls_for(4))
    before = physics.qpos.copy()
    start = physics.model.qpos0[None]
    physics.reset(np.array([2]), start, np.zeros((1, physics.model.nv)))
    np.testing.assert_array_equal(physics.qpos[2], start[0])
    np.testing.assert_array_equal(np.delete(physics.qpos, 2, 0), np.delete(before, 2, 0))
    assert physics.time[2] == 0.0
    assert not physics.field("cfrc_ext")[2].any()


def test_state_continues_bit_for_bit():
    controls = controls_for(4)
    physics = MujocoPhysics(compiled(WALKER), 4, ("cfrc_ext",))
    reset_random(physics, 5)
    physics.set_parameters(np.array([2]), {"body_mass": 1.5 * physics.model.body_mass[None]})
    rollout(physics, controls[:20])
    state = physics.state_dict()
    expected = rollout(physics, controls[20:])
    fresh = MujocoPhysics(compiled(WALKER), 4, ("cfrc_ext",))
    fresh.load_state_dict(state)
    np.testing.assert_array_equal(rollout(fresh, controls[20:]), expected)


def test_divergence_is_not_hidden():
    physics = MujocoPhysics(compiled(FREE_BODY), 1)
    physics.reset(np.array([0]), physics.model.qpos0[None], np.full((1, 6), np.nan))
    physics.step(np.zeros((1, 0)), 1)
    assert np.isnan(physics.qvel).any()


def test_bad_input_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        MujocoPhysics(tmp_path / "none.xml", 1)
    (tmp_path / "bad.xml").write_text("<mujoco><worldbody><bogus/></worldbody></mujoco>")
    with pytest.raises(UserError, match="not a valid MuJoCo model"):
        MujocoPhysics(tmp_path / "bad.xml", 1)
    with pytest.raises(UserError, match="'nonsense' is not"):
        MujocoPhysics(compiled(FREE_BODY), 1, ("nonsense",))
    physics = MujocoPhysics(compiled(FREE_BODY), 2)
    with pytest.raises(UserError, match="'no_such'"):
        physics.set_parameters(np.array([0]), {"no_such": np.zeros((1, 2))})
    with pytest.raises(UserError, match="needs shape"):
        physics.set_parameters(np.array([0]), {"body_mass": np.zeros((1, 5))})
