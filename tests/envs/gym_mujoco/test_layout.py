"""Names and units of observation entries."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from rlstab.envs.gym_mujoco import layout
from rlstab.envs.registry import make_vec
from rlstab.envs.task import ObservationTerm
from rlstab.envs.tasks import TASKS

EVERY_JOINT = mujoco.MjModel.from_xml_string(
    """<mujoco><worldbody>
    <body name="box"><freejoint name="free"/><geom size="1"/></body>
    <body><joint type="ball" name="ball"/><geom size="1"/>
      <body><joint type="slide" name="rail"/><joint type="hinge"/><geom size="1"/></body></body>
    </worldbody></mujoco>"""
)


def test_every_kind_of_joint_is_described() -> None:
    positions, velocities = layout.position_terms(EVERY_JOINT), layout.velocity_terms(EVERY_JOINT)
    assert [term.name.removeprefix("position/") for term in positions] == [
        *("free/x", "free/y", "free/z", "free/qw", "free/qx", "free/qy", "free/qz"),
        *("ball/qw", "ball/qx", "ball/qy", "ball/qz", "rail", "joint3"),
    ]
    assert [term.frame for term in positions] == ["world"] * 7 + [""] * 6
    assert [term.frame for term in velocities] == ["world"] * 3 + ["base"] * 3 + [""] * 5
    assert len(positions) == EVERY_JOINT.nq
    assert len(velocities) == EVERY_JOINT.nv
    assert [term.unit for term in velocities] == ["m/s"] * 3 + ["rad/s"] * 6 + ["m/s", "rad/s"]
    assert [term.unit for term in layout.force_terms(EVERY_JOINT, "force")] == ["N"] * 3 + ["N m"] * 6 + ["N", "N m"]
    assert [term.name for term in layout.body_terms(EVERY_JOINT, "twist", 6, "m/s")] == [
        *("twist/box", "twist/body2", "twist/body3"),
    ]


def test_hopper_reads_as_documented() -> None:
    task = TASKS["Hopper-v5"]()
    model = mujoco.MjModel.from_xml_path(str(task.model_path()))
    terms = task.observation_terms(model)
    assert terms[0] == ObservationTerm("position/rootz", 1, "m")
    assert terms[1] == ObservationTerm("position/rooty", 1, "rad")
    assert terms[5] == ObservationTerm("velocity/rootx", 1, "m/s", clip=(-10.0, 10.0))
    assert terms[-1] == ObservationTerm("velocity/foot_joint", 1, "rad/s", clip=(-10.0, 10.0))


@pytest.mark.parametrize("id", TASKS)
def test_velocities_and_forces_keep_the_limits_that_are_stated_and_no_others(id: str) -> None:
    env = make_vec(id, 1)
    env.reset(seed=0)
    terms = env.observation_terms  # type: ignore[attr-defined]
    env.physics.qvel[:] = 1e5  # type: ignore[attr-defined]
    for field in env.task.fields:  # type: ignore[attr-defined]
        if field in ("cfrc_ext", "qfrc_constraint"):
            env.physics.field(field)[:] = 1e5  # type: ignore[attr-defined]
    (observation,) = env.task.observe(env.physics)  # type: ignore[attr-defined]
    entries = np.split(observation, np.cumsum([term.dim for term in terms])[:-1])
    for term, values in zip(terms, entries, strict=True):
        if term.name.split("/")[0] in ("velocity", "contact_force", "constraint_force"):
            np.testing.assert_array_equal(values, 1e5 if term.clip is None else term.clip[1], err_msg=term.name)
    env.close()


@pytest.mark.parametrize("id", ["Ant-v5", "Humanoid-v5"])
def test_body_blocks_leave_out_the_world(id: str) -> None:
    task = TASKS[id]()
    model = mujoco.MjModel.from_xml_path(str(task.model_path()))
    forces = [term for term in task.observation_terms(model) if term.name.startswith("contact_force/")]
    assert len(forces) == model.nbody - 1
    assert np.sum([term.dim for term in forces]) == 6 * (model.nbody - 1)
