"""A model of Unitree's Go1 written from its published figures: masses, link lengths, motors, limits of the joints.

Shapes are boxes, capsules and spheres of about the robot's size, and principal axes of inertia are taken along the
links' own, so this is a Go1-like robot and not Unitree's own description; that one comes with ``rlstab[robots]``
(`rlstab.envs.locomotion.packaged`).

References
----------
Unitree Robotics, go1_description (masses, inertias, link lengths, limits); the rotor's inertia is that of mjlab 1.6.
"""

from __future__ import annotations

import mujoco

from rlstab.envs.locomotion.legs import LEGS

HIP_PLACE = (0.1881, 0.04675)
"""Hip joints from the trunk's centre, metres: forward, sideways."""
HIP_LENGTH, THIGH_LENGTH, CALF_LENGTH = 0.08, 0.213, 0.213
"""Sideways to the thigh joint, down to the knee, down to the foot, metres."""
FOOT_RADIUS = 0.023
TRUNK_MASS = 5.204
"""kg."""
TORQUE_LIMIT = {"hip": 23.7, "thigh": 23.7, "calf": 35.55}
"""N m."""
_RANGE = {"hip": (-0.863, 0.863), "thigh": (-0.686, 4.501), "calf": (-2.818, -0.888)}
"""rad."""
_ROTOR_INERTIA = 1.118e-4
_GEAR = {"hip": 6.0, "thigh": 6.0, "calf": 9.0}
_DRY_FRICTION = 0.2
"""N m."""
_DARK, _LIGHT = (0.15, 0.16, 0.18, 1.0), (0.75, 0.76, 0.78, 1.0)
_CAPSULE, _BOX, _SPHERE = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE


def go1_spec() -> mujoco.MjSpec:
    """Trunk on a free joint, four legs of three joints, foot geoms named after `LEGS`; no floor and no motors."""
    spec = mujoco.MjSpec()
    spec.modelname = "go1_like"
    spec.compiler.degree = False
    trunk = spec.worldbody.add_body(name="trunk", pos=[0.0, 0.0, 0.3])
    trunk.add_freejoint(name="base")
    _inertia(trunk, TRUNK_MASS, (0.0223, 0.002, -0.0005), (0.0168, 0.0630, 0.0717))
    trunk.add_geom(name="trunk", type=_BOX, size=[0.19, 0.047, 0.057], rgba=_LIGHT)
    trunk.add_geom(name="head", type=_BOX, size=[0.045, 0.04, 0.04], pos=[0.235, 0.0, 0.005], rgba=_DARK)
    for leg in LEGS:
        _add_leg(trunk, leg)
    return spec


def _add_leg(trunk: mujoco.MjsBody, leg: str) -> None:
    front, left = (1.0 if leg[0] == "F" else -1.0), (1.0 if leg[1] == "L" else -1.0)
    hip = trunk.add_body(name=f"{leg}_hip", pos=[front * HIP_PLACE[0], left * HIP_PLACE[1], 0.0])
    _joint(hip, leg, "hip", (1.0, 0.0, 0.0))
    _inertia(hip, 0.68, (front * -0.0049, left * -0.0076, 0.0), (0.000399, 0.000734, 0.000468))
    reach = [0.0, left * 0.02, 0.0, 0.0, left * HIP_LENGTH, 0.0]
    hip.add_geom(name=f"{leg}_hip", type=_CAPSULE, size=[0.035, 0.0, 0.0], fromto=reach, rgba=_DARK)

    thigh = hip.add_body(name=f"{leg}_thigh", pos=[0.0, left * HIP_LENGTH, 0.0])
    _joint(thigh, leg, "thigh", (0.0, 1.0, 0.0))
    _inertia(thigh, 1.009, (-0.0030, left * -0.0193, -0.0305), (0.00461, 0.00479, 0.000709))
    reach = [0.0, 0.0, 0.0, 0.0, 0.0, -THIGH_LENGTH]
    thigh.add_geom(name=f"{leg}_thigh", type=_CAPSULE, size=[0.017, 0.0, 0.0], fromto=reach, rgba=_LIGHT)

    calf = thigh.add_body(name=f"{leg}_calf", pos=[0.0, 0.0, -THIGH_LENGTH])
    _joint(calf, leg, "calf", (0.0, 1.0, 0.0))
    _inertia(calf, 0.195862, (0.0043, 0.0, -0.1462), (0.001485, 0.001498, 0.0000358))
    foot = [0.0, 0.0, -CALF_LENGTH]
    reach = [0.0, 0.0, 0.0, *foot]
    calf.add_geom(name=f"{leg}_calf", type=_CAPSULE, size=[0.011, 0.0, 0.0], fromto=reach, rgba=_DARK)
    calf.add_geom(name=leg, type=_SPHERE, size=[FOOT_RADIUS, 0.0, 0.0], pos=foot, rgba=_DARK)


def _joint(body: mujoco.MjsBody, leg: str, part: str, axis: tuple[float, float, float]) -> None:
    body.add_joint(
        name=f"{leg}_{part}_joint",
        axis=axis,
        range=_RANGE[part],
        armature=_ROTOR_INERTIA * _GEAR[part] ** 2,
        frictionloss=_DRY_FRICTION,
    )


def _inertia(
    body: mujoco.MjsBody, mass: float, centre: tuple[float, float, float], moments: tuple[float, float, float]
) -> None:
    body.mass, body.ipos, body.inertia = mass, centre, moments
    body.explicitinertial = True
