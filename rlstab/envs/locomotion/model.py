"""From a robot's bare description to the model that a task steps: servos, contacts, sensors, ground."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np

from rlstab.envs.locomotion.legs import JOINTS, LEGS
from rlstab.envs.physics.interface import FloatArray

Collisions = Literal["feet", "all"]
Ground = Callable[[mujoco.MjSpec], None]
"""Adds to the world what the robot stands on."""

HOME = "home"
"""Name of the keyframe with the reference pose."""
TIMESTEP = 0.004
"""Seconds."""

# The ground collides with whatever has this bit in its conaffinity; parts of the robot never with each other.
GROUND_BIT = 1
FOOT_FRICTION = (0.8, 0.02, 0.01)
"""Sliding, torsional, rolling."""
_FOOT_SOLIMP = (0.015, 1.0, 0.023, 0.5, 2.0)
"""Soft at first touch, as a rubber foot is (MuJoCo Playground's)."""


@dataclass(frozen=True)
class Servo:
    """What an action in -1 to 1 means at one joint: a target ``rest + scale * action`` for a servo.

    Its torque is ``stiffness (target - q) - damping q'``, computed at every physics substep, up to ``torque_limit``.
    """

    rest: float
    """rad."""
    scale: float
    """rad per unit of action."""
    stiffness: float
    """N m/rad."""
    damping: float
    """N m s/rad."""
    torque_limit: float
    """N m."""


def flat_ground(spec: mujoco.MjSpec) -> None:
    """One endless plane."""
    texture = spec.add_texture(
        name="ground",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        width=128,
        height=128,
        rgb1=[0.32, 0.38, 0.42],
        rgb2=[0.26, 0.31, 0.35],
    )
    material = spec.add_material(name="ground", texrepeat=[2.0, 2.0], texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture.name
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0.0, 0.0, 0.05],
        material=material.name,
        contype=GROUND_BIT,
        conaffinity=0,
        friction=FOOT_FRICTION,
    )


def complete(
    spec: mujoco.MjSpec, servos: tuple[Servo, ...], height: float, collisions: Collisions, ground: Ground
) -> mujoco.MjModel:
    """Compile a robot with servos, sensors of its feet and something to stand on.

    Parameters
    ----------
    spec
        The robot: joints named as in `JOINTS`, foot geoms as in `LEGS`. It is changed.
    servos
        One for each of `JOINTS`.
    height
        Of the base in the reference pose, metres above the ground.
    collisions
        Which parts of the robot touch the ground: ``"feet"`` alone, which is fastest, or ``"all"``.
    ground
        Adds it.
    """
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.iterations, spec.option.ls_iterations = 10, 20
    spec.stat.extent = 1.0
    for geom in spec.geoms:
        _collide(geom, collisions)
    ground(spec)
    spec.worldbody.add_light(
        pos=[0.0, 0.0, 3.0], dir=[0.2, 0.1, -1.0], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=False
    )
    # Small: every world with parameters of its own has a copy.
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        width=32,
        height=192,
        rgb1=[0.55, 0.68, 0.80],
        rgb2=[0.85, 0.89, 0.92],
    )
    for leg in LEGS:
        _feel(spec, leg)
    for name, servo in zip(JOINTS, servos, strict=True):
        _drive(spec, name, servo)
    model = spec.compile()
    return _with_home(spec, model, servos, height)


def _collide(geom: mujoco.MjsGeom, collisions: Collisions) -> None:
    foot = geom.name in LEGS
    geom.contype, geom.priority = 0, 0  # So that a slippery floor can decide.
    geom.conaffinity = GROUND_BIT if foot or (collisions == "all" and geom.conaffinity) else 0
    geom.condim = 3
    geom.friction = FOOT_FRICTION
    if foot:
        geom.solimp = _FOOT_SOLIMP


def _feel(spec: mujoco.MjSpec, leg: str) -> None:
    """Sensors of one foot: touch force, then place and velocity in the world (`foot_readings`)."""
    geom = spec.geom(leg)
    site = geom.parent.add_site(name=f"{leg}_foot", pos=geom.pos, size=[1.3 * geom.size[0], 0.0, 0.0], group=5)
    kinds = mujoco.mjtSensor
    for kind in (kinds.mjSENS_TOUCH, kinds.mjSENS_FRAMEPOS, kinds.mjSENS_FRAMELINVEL):
        spec.add_sensor(
            name=f"{leg}_{kind.name.removeprefix('mjSENS_').lower()}",
            type=kind,
            objtype=mujoco.mjtObj.mjOBJ_SITE,
            objname=site.name,
        )


def _drive(spec: mujoco.MjSpec, joint: str, servo: Servo) -> None:
    """Let the servo's formula be the actuator's own, so that an action needs no translation before it is stepped."""
    actuator = spec.add_actuator(
        name=joint.removesuffix("_joint"),
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        ctrlrange=[-1.0, 1.0],
        forcerange=[-servo.torque_limit, servo.torque_limit],
    )
    actuator.gainprm[0] = servo.stiffness * servo.scale
    actuator.biasprm[:3] = servo.stiffness * servo.rest, -servo.stiffness, -servo.damping


def _with_home(spec: mujoco.MjSpec, model: mujoco.MjModel, servos: tuple[Servo, ...], height: float) -> mujoco.MjModel:
    """Compile again with the reference pose as a keyframe: only a compiled model says where joints are in ``qpos``."""
    from rlstab.envs.locomotion.legs import joint_positions

    qpos = model.qpos0.copy()
    qpos[:3], qpos[3:7] = (0.0, 0.0, height), (1.0, 0.0, 0.0, 0.0)
    qpos[joint_positions(model)] = [servo.rest for servo in servos]
    spec.add_key(name=HOME, qpos=qpos)
    return spec.compile()


def foot_readings(sensordata: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sort the sensors of `complete`.

    Parameters
    ----------
    sensordata
        ``(n, 28)``.

    Returns
    -------
    force, place, velocity
        Of each of the `LEGS`: touch force ``(n, 4)``, N; ``(n, 4, 3)``, m; ``(n, 4, 3)``, m/s; both in the world frame.
    """
    readings = np.reshape(sensordata, (len(sensordata), len(LEGS), 7))
    return readings[..., 0], readings[..., 1:4], readings[..., 4:7]
