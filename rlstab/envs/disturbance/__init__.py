"""What the world does to the robot: wrenches, changed parameters, noise and delays, as values with ranges."""

from __future__ import annotations

from rlstab.envs.disturbance.attachment import attach_all, required_fields
from rlstab.envs.disturbance.decided import DecidedForce
from rlstab.envs.disturbance.delay import ActionDelay, ObservationDelay
from rlstab.envs.disturbance.interface import Disturbance, Effect, EnvView
from rlstab.envs.disturbance.noise import ObservationNoise
from rlstab.envs.disturbance.parameters import GravityTilt, ParameterScale
from rlstab.envs.disturbance.ranges import Range
from rlstab.envs.disturbance.serialization import from_json, listed, parse, to_json
from rlstab.envs.disturbance.wrench import ExternalWrench, RandomForce

__all__ = [
    "ActionDelay",
    "DecidedForce",
    "Disturbance",
    "Effect",
    "EnvView",
    "ExternalWrench",
    "GravityTilt",
    "ObservationDelay",
    "ObservationNoise",
    "ParameterScale",
    "RandomForce",
    "Range",
    "attach_all",
    "from_json",
    "listed",
    "parse",
    "required_fields",
    "to_json",
]
