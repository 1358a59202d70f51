"""The linear system that a robot is close to a state, by finite differences of its simulator."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlstab.analysis.robustness.forced import Plant
from rlstab.envs.linear.systems import LinearSystem
from rlstab.envs.physics.interface import FloatArray


def linearize(plant: Plant, q: ArrayLike, r: ArrayLike, *, step: float = 1e-6) -> LinearSystem:
    """Linearise one control step about zero positions, velocities, controls and forces.

    Parameters
    ----------
    plant
        A robot whose positions and velocities are its state (no quaternions), close to rest at zero.
    q, r
        Weights of ``(qpos, qvel)`` and of the control, for the output.
    step
        Of the central differences, in each quantity's own unit.

    Returns
    -------
    LinearSystem
        With the force, newtons, as disturbance.
    """
    probe = plant.make([0], 1.0)
    state_size, controls = probe.model.nq + probe.model.nv, probe.model.nu
    probe.close()
    sizes = (state_size, controls, plant.point.channels)
    total = sum(sizes)
    inputs = np.concatenate([step * np.eye(total), -step * np.eye(total)])
    after = _step(plant, inputs, sizes)
    columns = ((after[:total] - after[total:]) / (2.0 * step)).T
    a, b, e = np.split(columns, np.cumsum(sizes)[:-1], axis=1)
    env = plant.make([0], 1.0)
    env.close()
    return LinearSystem(a, b, e, np.asarray(q, np.float64), np.asarray(r, np.float64), dt=env.dt)


def _step(plant: Plant, inputs: FloatArray, sizes: tuple[int, int, int]) -> FloatArray:
    """States ``(N, nq + nv)`` a control step after ``inputs (N, nq + nv + nu + channels)``."""
    states, controls, forces = np.split(inputs, np.cumsum(sizes)[:-1], axis=1)
    env = plant.make([0] * len(inputs), 1.0)
    try:
        env.reset()
        nq = env.model.nq
        env.physics.reset(np.arange(len(inputs)), states[:, :nq], states[:, nq:])
        effect = env.disturbances[0]
        effect.push(forces)  # pyright: ignore[reportAttributeAccessIssue]
        env.physics.step(controls, env.task.frame_skip, effect.wrench())
        return np.concatenate([env.physics.qpos, env.physics.qvel], axis=1)
    finally:
        env.close()
