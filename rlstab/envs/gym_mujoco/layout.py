"""Names and units of observation entries, read off a compiled model (the attributes of ``mjModel``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rlstab.envs.task import ObservationTerm

# Values of mjtJoint.
_FREE, _BALL, _SLIDE = 0, 1, 2

_QUATERNION = (("/qw", "1"), ("/qx", "1"), ("/qy", "1"), ("/qz", "1"))
_POSITION = {
    _FREE: (("/x", "m"), ("/y", "m"), ("/z", "m"), *_QUATERNION),
    _BALL: _QUATERNION,
    _SLIDE: (("", "m"),),
}
_VELOCITY = {
    _FREE: (("/x", "m/s"), ("/y", "m/s"), ("/z", "m/s"), ("/wx", "rad/s"), ("/wy", "rad/s"), ("/wz", "rad/s")),
    _BALL: (("/wx", "rad/s"), ("/wy", "rad/s"), ("/wz", "rad/s")),
    _SLIDE: (("", "m/s"),),
}
# A free joint moves in the world, and turns in its own frame.
_FRAMES = {"/x": "world", "/y": "world", "/z": "world", "/wx": "base", "/wy": "base", "/wz": "base"} | {
    suffix: "world" for suffix, _ in _QUATERNION
}


def position_terms(model: Any, skip: int = 0) -> tuple[ObservationTerm, ...]:
    """One term for each entry of ``qpos`` but the first ``skip``; quaternions are w, x, y, z."""
    return _joint_terms(model, "position", _POSITION, (("", "rad"),))[skip:]


def velocity_terms(model: Any) -> tuple[ObservationTerm, ...]:
    """One term for each entry of ``qvel``; a free joint's ``/x`` is in the world frame, its ``/wx`` in the body's."""
    return _joint_terms(model, "velocity", _VELOCITY, (("", "rad/s"),))


def without_velocities(terms: tuple[ObservationTerm, ...]) -> tuple[ObservationTerm, ...]:
    """All but those of `velocity_terms`, for a task that hides them."""
    return tuple(term for term in terms if not term.name.startswith("velocity/"))


def clipped(terms: tuple[ObservationTerm, ...], limits: tuple[float, float]) -> tuple[ObservationTerm, ...]:
    """The same terms, kept within ``limits`` by the task."""
    return tuple(replace(term, clip=limits) for term in terms)


def joint_names(model: Any) -> tuple[str, ...]:
    """Names of the joints in the order of ``qpos``; a nameless one gets its index."""
    return tuple(model.joint(index).name or f"joint{index}" for index in range(model.njnt))


def body_terms(model: Any, quantity: str, dim: int, unit: str) -> tuple[ObservationTerm, ...]:
    """One term of ``dim`` entries for every body but the world."""
    names = [model.body(index).name or f"body{index}" for index in range(1, model.nbody)]
    return tuple(ObservationTerm(f"{quantity}/{name}", dim, unit) for name in names)


def force_terms(model: Any, quantity: str, skip: int = 0) -> tuple[ObservationTerm, ...]:
    """One term for the generalised force on each degree of freedom but the first ``skip``."""
    units = {"m/s": "N", "rad/s": "N m"}
    velocities = velocity_terms(model)[skip:]
    return tuple(
        ObservationTerm(quantity + term.name.removeprefix("velocity"), 1, units[term.unit]) for term in velocities
    )


def _joint_terms(
    model: Any,
    quantity: str,
    entries: dict[int, tuple[tuple[str, str], ...]],
    hinge: tuple[tuple[str, str], ...],
) -> tuple[ObservationTerm, ...]:
    return tuple(
        ObservationTerm(f"{quantity}/{name}{suffix}", 1, unit, frame=_FRAMES.get(suffix, "") if kind == _FREE else "")
        for name, kind in zip(joint_names(model), model.jnt_type, strict=True)
        for suffix, unit in entries.get(int(kind), hinge)
    )
