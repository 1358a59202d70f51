"""What differs from one real robot to the next, as disturbances for training: noise of sensors, and parameters.

References
----------
MuJoCo Playground (Zakka et al. 2025, arXiv:2502.08844), Go1 joystick task: sizes of noise, ranges of friction, dry
friction, rotor inertia and masses. The range of the servos' strength is HIMLoco's. Places of centres of mass and
offsets of joints are varied there and not here.
"""

from __future__ import annotations

from rlstab.envs.disturbance import Disturbance, ObservationNoise, ParameterScale, Range
from rlstab.envs.locomotion.go1 import TRUNK_MASS
from rlstab.envs.task import ObservationTerm

SENSOR_NOISE = {
    "base_linear_velocity": 0.1,
    "base_angular_velocity": 0.2,
    "projected_gravity": 0.05,
    "position_offset": 0.03,
    "velocity": 1.5,
    "height_scan": 0.1,
}
"""Largest error of each part of the observation, in its unit; what is not named has none."""
_PAYLOAD = 1.0
"""kg that the trunk may be heavier or lighter."""


def sensor_noise(terms: tuple[ObservationTerm, ...], level: float = 1.0) -> ObservationNoise:
    """Uniform noise on all that is sensed, for observations laid out as ``terms``; actions and commands are known.

    Examples
    --------
    >>> from rlstab.envs import make_vec
    >>> terms = make_vec("rlstab/Go1Velocity-v0").observation_terms
    >>> noisy = make_vec("rlstab/Go1Velocity-v0", disturbances=sensor_noise(terms))
    """
    scale = tuple(SENSOR_NOISE.get(term.name.partition("/")[0], 0.0) for term in terms for _ in range(term.dim))
    return ObservationNoise(level, "uniform", scale)


def go1_randomisation() -> tuple[Disturbance, ...]:
    """Another robot and another floor in every episode."""
    payload = _PAYLOAD / TRUNK_MASS
    return (
        ParameterScale("friction", Range(0.5, 1.25)),  # Of the feet's 0.8: 0.4 to 1.
        ParameterScale("frictionloss", Range(0.9, 1.1)),
        ParameterScale("armature", Range(1.0, 1.05)),
        ParameterScale("mass", Range(0.9, 1.1)),
        ParameterScale("mass", Range(1.0 - payload, 1.0 + payload), names=("trunk",)),
        ParameterScale("gain", Range(0.9, 1.1)),
    )
