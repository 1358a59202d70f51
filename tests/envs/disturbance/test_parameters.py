from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest

from rlstab.envs.disturbance import ExternalWrench, GravityTilt, ParameterScale, Range
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError


def hopper(*arguments: Any, **settings: Any) -> Any:
    return make_vec("Hopper-v5", *arguments, **settings)


def final_state(disturbances, steps=60):
    env = hopper(1, seed=0, disturbances=disturbances, num_threads=1)
    env.reset(seed=0)
    for _ in range(steps):
        env.step(np.full((1, 3), 0.3))
    return env.physics.qpos.copy()


def contact_friction(disturbances):
    """Sliding friction of the contact between foot and floor, as the engine resolves it."""
    env = hopper(1, disturbances=disturbances, num_threads=1)
    env.reset(seed=0)
    model = env.physics.world_model(0)
    data = mujoco.MjData(model)
    data.qpos[:] = model.qpos0
    data.qpos[1] -= 0.06
    mujoco.mj_forward(model, data)
    foot = model.geom("foot_geom").id
    found = {round(float(contact.friction[0]), 6) for contact in data.contact if foot in contact.geom}
    assert found
    return found


def test_mass_and_inertia_scale_alike(make_box):
    env = make_box([ParameterScale("mass", 3.0)], 2)
    env.reset(seed=0)
    model = env.physics.world_model(1)
    np.testing.assert_allclose(model.body_mass, 3 * env.model.body_mass)
    np.testing.assert_allclose(model.body_inertia, 3 * env.model.body_inertia)
    np.testing.assert_allclose(model.body_subtreemass, 3 * env.model.body_subtreemass)


def test_a_heavier_body_is_pushed_less(make_box):
    push = ExternalWrench("box", force=(3.0, 0.0, 0.0))
    speeds = []
    for factor in (1.0, 2.0):
        env = make_box([push, ParameterScale("mass", factor)], 1)
        env.reset(seed=0)
        env.step(np.zeros((1, 1)))
        speeds.append(env.physics.qvel[0, 0])
    assert speeds[0] == pytest.approx(2 * speeds[1], rel=1e-9)


def test_only_the_named_body_changes(make_box):
    env = make_box([ParameterScale("mass", 2.0, names=("arm",))], 1)
    env.reset(seed=0)
    ratio = env.physics.world_model(0).body_mass[1:] / env.model.body_mass[1:]
    np.testing.assert_allclose(ratio, [1.0, 2.0])


def test_scaling_friction_changes_the_contact():
    assert contact_friction([]) == {2.0}
    assert contact_friction([ParameterScale("friction", 0.2)]) == {0.4}
    assert not np.allclose(final_state([]), final_state([ParameterScale("friction", 0.2)]))


def test_scaling_the_floor_alone_downwards_changes_nothing():
    # The larger coefficient of the pair counts, and the foot's is 2.0: the trap that scaling all geoms avoids.
    assert contact_friction([ParameterScale("friction", 0.2, names=("floor",))]) == {2.0}


@pytest.mark.parametrize(
    ("parameter", "field"),
    [
        ("damping", "dof_damping"),
        ("armature", "dof_armature"),
        ("frictionloss", "dof_frictionloss"),
        ("stiffness", "jnt_stiffness"),
        ("gravity", "opt.gravity"),
    ],
)
def test_each_parameter_reaches_its_field(parameter, field):
    env = hopper(1, disturbances=[ParameterScale(parameter, 0.5)], num_threads=1)
    env.reset(seed=0)
    get = lambda model: model.opt.gravity if field == "opt.gravity" else getattr(model, field)  # noqa: E731
    np.testing.assert_allclose(get(env.physics.world_model(0)), 0.5 * get(env.model))


def test_gain_scales_the_force_of_a_motor(make_box):
    speeds = []
    for factor in (1.0, 0.5):
        env = make_box([ParameterScale("gain", factor, names=("muscle",)), ParameterScale("damping", 0.0)], 1)
        env.reset(seed=0)
        env.step(np.ones((1, 1)))
        speeds.append(env.physics.qvel[0, 6])
    assert speeds[1] == pytest.approx(0.5 * speeds[0], rel=1e-2)


def test_joints_are_named_for_damping(make_box):
    env = make_box([ParameterScale("damping", 4.0, names=("elbow",))], 1)
    env.reset(seed=0)
    assert env.physics.world_model(0).dof_damping.tolist() == [0, 0, 0, 0, 0, 0, 2.0]


def test_changes_of_one_parameter_multiply(make_box):
    env = make_box([ParameterScale("mass", 2.0), ParameterScale("mass", 3.0, names=("box",))], 1)
    env.reset(seed=0)
    ratio = env.physics.world_model(0).body_mass[1:] / env.model.body_mass[1:]
    np.testing.assert_allclose(ratio, [6.0, 2.0])


def test_worlds_and_episodes_get_their_own_factor(make_box):
    env = make_box([ParameterScale("mass", Range(0.5, 2.0, "log")), ParameterScale("damping", Range(0.5, 2.0))], 5)
    masses, dampings = [], []
    for _ in range(2):
        env.reset()
        masses += [env.physics.world_model(world).body_mass[1] / 2 for world in range(5)]
        dampings += [env.physics.world_model(world).dof_damping[6] / 0.5 for world in range(5)]
    assert len(np.unique(masses)) == 10
    assert all(0.5 <= mass <= 2.0 for mass in masses)
    # Two parameters with the same range must not be drawn alike.
    assert abs(np.corrcoef(masses, dampings)[0, 1]) < 0.9


def test_fixed_factors_are_set_once(make_box, monkeypatch):
    env = make_box([ParameterScale("mass", 2.0)], 2)
    calls = []
    original = env.physics.set_parameters
    monkeypatch.setattr(env.physics, "set_parameters", lambda *args: (calls.append(args), original(*args)))
    env.reset(seed=0)
    env.reset()
    assert len(calls) == 1


def test_tilted_gravity_pulls_sideways_with_the_same_size(make_box):
    env = make_box([GravityTilt(30.0, 90.0)], 1, gravity=-10.0)
    env.reset(seed=0)
    env.step(np.zeros((1, 1)))
    np.testing.assert_allclose(env.physics.qvel[0, :3] / 0.01, [0.0, 5.0, -10 * np.sqrt(0.75)], atol=1e-6)


def test_tilt_and_scaled_gravity_combine(make_box):
    env = make_box([ParameterScale("gravity", 0.5), GravityTilt(90.0)], 1, gravity=-10.0)
    env.reset(seed=0)
    np.testing.assert_allclose(env.physics.world_model(0).opt.gravity, [5.0, 0.0, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fricton", 0.5), "did you mean 'friction'"),
        (("mass", -1.0), "at least 1e-06"),
        (("mass", 0.0), "at least 1e-06"),
        (("damping", -1.0), "at least 0"),
        (("mass", 2.0, "box"), r"write names=\('box',\)"),
        (("gravity", 0.5, ("box",)), "no names"),
    ],
)
def test_nonsense_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        ParameterScale(*arguments)


def test_an_unknown_part_is_refused(make_box):
    with pytest.raises(UserError, match="no joint named 'elbw'; did you mean 'elbow'"):
        make_box([ParameterScale("damping", 2.0, names=("elbw",))])


def test_gravity_that_is_not_vertical_cannot_be_tilted(make_box):
    env = make_box()
    env.model.opt.gravity[:] = 1.0, 0.0, -9.0
    with pytest.raises(UserError, match="needs a model whose gravity is vertical"):
        GravityTilt(5.0).selection(env.model)


def test_a_state_from_before_the_first_reset_can_be_loaded(make_box):
    changes = [ParameterScale("mass", 2.0)]
    env = make_box(changes, 2)
    env.load_state_dict(make_box(changes, 2).state_dict())
    np.testing.assert_array_equal(env.physics.world_model(0).body_mass, env.model.body_mass)
    env.reset(seed=0)
    np.testing.assert_allclose(env.physics.world_model(0).body_mass, 2 * env.model.body_mass)
