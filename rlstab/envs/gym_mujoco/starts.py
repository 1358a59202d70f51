"""Random starts around a model's reference configuration, with gymnasium's order of draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlstab.envs.physics.interface import FloatArray


def uniform_start(model: Any, rng: np.random.Generator, scale: float) -> tuple[FloatArray, FloatArray]:
    """Uniform noise in ``[-scale, scale)`` on every position and velocity: ``qpos (nq,)``, ``qvel (nv,)``."""
    start = model.qpos0
    # One draw gives the numbers of two in a row.
    noise = rng.uniform(-scale, scale, len(start) + model.nv)
    return start + noise[: len(start)], noise[len(start) :]


def normal_velocity_start(model: Any, rng: np.random.Generator, scale: float) -> tuple[FloatArray, FloatArray]:
    """Uniform noise in ``[-scale, scale)`` on positions, normal noise of deviation ``scale`` on velocities."""
    qpos = model.qpos0 + rng.uniform(-scale, scale, model.nq)
    return qpos, scale * rng.standard_normal(model.nv)
