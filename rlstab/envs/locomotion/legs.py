"""Names of a four-legged robot's legs and joints, in the one order that tasks, actions and observations use."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlstab.envs.physics.interface import IntArray
from rlstab.envs.physics.model_parts import index_of

LEGS = ("FR", "FL", "RR", "RL")
"""Front and rear, right and left, in the order of Unitree's own interface. Model files differ in theirs."""
PARTS = ("hip", "thigh", "calf")
"""Links and joints of a leg from the trunk outwards: abduction, hip flexion, knee."""
JOINTS = tuple(f"{leg}_{part}_joint" for leg in LEGS for part in PARTS)
FRONT_LEGS = (0, 1)
"""Places of the front legs in `LEGS`."""


def joint_positions(model: Any) -> IntArray:
    """Where the `JOINTS` are in ``qpos``, ``(12,)``, found by name."""
    return np.array([int(model.jnt_qposadr[index_of(model, "joint", name)]) for name in JOINTS])


def joint_velocities(model: Any) -> IntArray:
    """Where the `JOINTS` are in ``qvel``, ``(12,)``, found by name."""
    return np.array([int(model.jnt_dofadr[index_of(model, "joint", name)]) for name in JOINTS])
